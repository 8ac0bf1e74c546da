"""The ground plan: each room imports only from the floors below it (docs/architecture.md)."""

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "src/s2ld"
BOTTOM = "config devices errors extras files geometry hdf5 locks log memory pretrained processes types"
FLOORS = (
    tuple(BOTTOM.split()),
    ("models",),
    ("data",),
    ("compat", "matcher", "matcher_options", "pair_matching", "turns", "viz"),
    ("evaluation", "video"),
    ("sfm", "training"),
    ("benchmarks", "web"),
    ("cli",),
    ("__main__",),
)
SHARED = {0, 3}
"""Floors whose rooms may import each other."""
MOST_FILES = 16
"""Files in one room, so that a newcomer who opens its door finds the right one."""


def rooms_of(path: Path) -> set[str]:
    """Return the rooms that a file imports anywhere in it, types included."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        found |= {name.split(".")[1] for name in names if name.startswith("s2ld.")}
    return found


def files() -> Iterator[tuple[str, Path]]:
    for path in PACKAGE.rglob("*.py"):
        room = path.relative_to(PACKAGE).with_suffix("").parts[0]
        if room != "__init__":
            yield room, path


def upward(floors: dict[str, int]) -> list[str]:
    """Return the imports that do not run downwards."""
    wrong = []
    for room, path in files():
        for other in rooms_of(path) - {room}:
            above = floors.get(other, -1) > floors[room]
            beside = floors.get(other) == floors[room] and floors[room] not in SHARED
            if above or beside:
                wrong.append(f"{path.relative_to(PACKAGE)} imports {other}")
    return sorted(wrong)


def test_every_room_has_a_floor() -> None:
    assert {room for room, _ in files()} - {room for floor in FLOORS for room in floor} == set()


def test_imports_run_downwards() -> None:
    assert upward({room: number for number, floor in enumerate(FLOORS) for room in floor}) == []


def test_an_import_that_runs_upwards_is_found() -> None:
    turned = {room: -number for number, floor in enumerate(FLOORS) for room in floor}
    assert "matcher.py imports models" in upward(turned)


def test_rooms_are_small_and_say_what_they_hold() -> None:
    for folder in {path.parent for _, path in files()}:
        modules = sorted(path.name for path in folder.glob("*.py") if path.name != "__init__.py")
        assert len(modules) <= MOST_FILES, f"{folder}: {len(modules)} files"
        docstring = ast.get_docstring(ast.parse((folder / "__init__.py").read_text()))
        assert docstring, f"{folder}: say what lives there and where to start"
