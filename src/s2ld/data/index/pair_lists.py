"""Text files that list pairs: two names a line."""

from __future__ import annotations

from pathlib import Path

from s2ld.files import read_text


def read_pair_list(path: Path) -> list[tuple[int, list[str]]]:
    """Return number and names of each line, which may be more or less than two; empty ones and # comments are skipped.

    Names are separated by spaces or, where they hold spaces, by a tab or a comma.

    Raises:
        S2LDError: the file cannot be read as text.
    """
    lines = read_text(path, "list of pairs", "give a text file with two names a line").splitlines()
    used = [
        (number, line) for number, line in enumerate(lines, 1) if line.strip() and not line.lstrip().startswith("#")
    ]
    return [(number, _split(line)) for number, line in used]


def _split(line: str) -> list[str]:
    for separator in ("\t", ","):
        if separator in line:
            return [name.strip() for name in line.split(separator) if name.strip()]
    return line.split()
