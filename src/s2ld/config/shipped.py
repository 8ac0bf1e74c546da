"""From a name or a path to a config file, and to the lists of scenes that configs name."""

from __future__ import annotations

from difflib import get_close_matches
from functools import cache
from pathlib import Path, PurePath

from s2ld.errors import S2LDError

FOLDER = "configs"
SUFFIX = ".yaml"


def find_config(name: str | Path) -> Path:
    """Return the path of a config: of a file that is there, or of one that ships with this package.

    One that ships is known by its name, as `posed_pairs`, or by its path in a checkout, as
    `configs/data/posed_pairs.yaml`. Another path is returned as it is.

    Raises:
        S2LDError: a plain name that is neither a file nor known.
    """
    path = Path(name)
    if path.suffix or path.parent != Path() or path.exists():
        return find_shipped(path)
    known = _by_name()
    if path.name in known:
        return known[path.name]
    near = get_close_matches(path.name, known, 1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(known))}"
    raise S2LDError(f"{name}: no config of this name ships, and there is no such file; {hint}")


def find_shipped(path: str | Path) -> Path:
    """Return a path as it is, or that of the shipped file where ``configs/...`` is not below the working folder."""
    path = Path(path)
    if not path.exists() and path.parts[:1] == (FOLDER,) and ".." not in path.parts:
        inside = shipped_folder().joinpath(*PurePath(path).parts[1:])
        if inside.is_file():
            return inside
    return path


def shipped_folder() -> Path:
    """Return the folder of the configs that ship: of an installed wheel, or of a checkout."""
    package = Path(__file__).resolve().parents[1]
    inside = package / FOLDER
    return inside if inside.is_dir() else package.parents[1] / FOLDER


@cache
def _by_name() -> dict[str, Path]:
    """Return the shipped configs by their names, which are unlike each other (a test holds it)."""
    return {path.stem: path for path in sorted(shipped_folder().rglob(f"*{SUFFIX}"))}
