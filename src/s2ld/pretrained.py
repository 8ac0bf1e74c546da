"""From a name or a path to a weight file."""

from __future__ import annotations

from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path

from s2ld.errors import S2LDError

SHIPPED = {"s2ld-lite": "s2ld-lite.safetensors"}
"""Names that `Matcher.from_pretrained` and `--weight` know, and their files."""
DEFAULT = "s2ld-lite"
AUTHORS_LINK = "https://drive.google.com/drive/folders/1HwvPc3AzmjwxDsmBFIkWJmRdfF68_Hvw"
"""Where the authors of the paper keep their weights and the index of MegaDepth."""


def resolve(name_or_path: str | Path) -> Path:
    """Return the path of a shipped weight file by its name, or of any weight file by its path.

    Raises:
        S2LDError: the name is unknown, the file is missing, or the path is a folder.
    """
    if str(name_or_path) in SHIPPED:
        return _shipped(str(name_or_path))
    path = Path(name_or_path).expanduser()
    if path.is_dir():
        raise S2LDError(f"{name_or_path}: this is a folder; name a weight file in it, or one of: {', '.join(SHIPPED)}")
    if path.is_file():
        return path
    if not path.suffix and path.parent == Path():
        near = get_close_matches(path.name, SHIPPED, 1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise S2LDError(f"unknown weights {path.name!r}: {hint}shipped: {', '.join(SHIPPED)}; or give a path to a file")
    raise S2LDError(
        f"{name_or_path}: no such weight file; the authors' s2ld-e2e-inference.pt is to be downloaded by hand from "
        f"{AUTHORS_LINK}; weights that ship with this package: {', '.join(SHIPPED)}"
    )


def _shipped(name: str) -> Path:
    in_package = Path(str(files("s2ld"))) / "weights" / SHIPPED[name]  # an installed wheel
    in_checkout = Path(__file__).resolve().parents[2] / "weights" / SHIPPED[name]  # a checkout or an editable install
    for path in (in_package, in_checkout):
        if path.is_file():
            return path
    raise S2LDError(f"the weights {name} are missing from this installation (looked for {in_package}); reinstall s2ld")
