"""How much memory is left for this process: psutil knows the machine's, but nothing of a container's limit."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import psutil

CGROUP2 = ("memory.max", "memory.current")
CGROUP1 = ("memory.limit_in_bytes", "memory.usage_in_bytes")


def available_memory(root: Path = Path("/")) -> int:
    """Return the bytes that this process may still take without swapping: what the machine and its cgroups leave.

    Args:
        root: folder that holds `proc` and `sys`, where cgroups are looked for.
    """
    return min([psutil.virtual_memory().available, *(_left(folder) for folder in _cgroups(root))])


def _cgroups(root: Path) -> list[Path]:
    """Folders of the memory cgroups of this process, with those above them: a container shows its own at the top."""
    folders = []
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers or "memory" in controllers.split(","):
            top = root / "sys/fs/cgroup" / ("memory" if controllers else "")
            here = top / path.lstrip("/")
            folders += [folder for folder in (here, *here.parents) if folder.is_relative_to(top)]
    return folders


def _left(folder: Path) -> int:
    """Bytes below the limit of a cgroup, sys.maxsize where it has none; cached files that can go count as free."""
    for names in (CGROUP2, CGROUP1):
        limit, used = (_text(folder / name).strip() for name in names)
        if limit.isdecimal() and used.isdecimal():
            return max(0, int(limit) - int(used) + _numbers(folder / "memory.stat").get("inactive_file", 0))
    return sys.maxsize


def _numbers(path: Path) -> dict[str, int]:
    return {name: int(number) for name, number in re.findall(r"^(\w+):?\s+(\d+)", _text(path), re.MULTILINE)}


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
