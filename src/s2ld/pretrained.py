"""From a name or a path to a weight file."""

from __future__ import annotations

import warnings
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path

from s2ld.errors import S2LDError

PAPER = "s2ld-e2e"
"""Name of this project's weights of the paper configuration."""
SHIPPED = {"s2ld-lite": "s2ld-lite.safetensors", PAPER: "s2ld-e2e-inference.safetensors"}
"""Names that `Matcher.from_pretrained` and `--weight` know, and their files; see `available`."""
DEFAULT = "s2ld-lite"
AUTHORS_FILE = "s2ld-e2e-inference.pt"
AUTHORS_LINK = "https://drive.google.com/drive/folders/1HwvPc3AzmjwxDsmBFIkWJmRdfF68_Hvw"
"""Where the authors of the paper keep their weights and the index of MegaDepth."""


def available() -> list[str]:
    """Return the names of `SHIPPED` whose files are there."""
    return [name for name in SHIPPED if _find(name) is not None]


def resolve(name_or_path: str | Path) -> Path:
    """Return the path of a shipped weight file by its name, or of any weight file by its path.

    Where the authors' `AUTHORS_FILE` is not, this project's weights of the same configuration take its place if they
    are beside it or ship; a warning says so.

    Raises:
        S2LDError: the name is unknown, the file is missing, or the path is a folder.
    """
    if str(name_or_path) in SHIPPED:
        return _shipped(str(name_or_path))
    path = Path(name_or_path).expanduser()
    if path.is_dir():
        names = ", ".join(available())
        raise S2LDError(f"{name_or_path}: this is a folder; name a weight file in it, or one of: {names}")
    if path.is_file():
        return path
    if not path.suffix and path.parent == Path():
        near = get_close_matches(path.name, SHIPPED, 1)
        hint = f"did you mean {near[0]}? " if near else ""
        names = ", ".join(available())
        raise S2LDError(f"unknown weights {path.name!r}: {hint}shipped: {names}; or give a path to a file")
    own = _instead_of(path)
    if own is not None:
        warnings.warn(f"{name_or_path}: the authors' file is not here; {own} was trained by this project", stacklevel=2)
        return own
    raise S2LDError(
        f"{name_or_path}: no such weight file; the authors' {AUTHORS_FILE} is to be downloaded by hand from "
        f"{AUTHORS_LINK}; weights that ship with this package: {', '.join(available())}"
    )


def _instead_of(path: Path) -> Path | None:
    """Return this project's weights for the authors' missing file, those beside it first; None for another file."""
    if path.name != AUTHORS_FILE:
        return None
    beside = path.with_name(SHIPPED[PAPER])
    return beside if beside.is_file() else _find(PAPER)


def _places(name: str) -> tuple[Path, Path]:
    in_package = Path(str(files("s2ld"))) / "weights" / SHIPPED[name]  # an installed wheel
    in_checkout = Path(__file__).resolve().parents[2] / "weights" / SHIPPED[name]  # a checkout or an editable install
    return in_package, in_checkout


def _find(name: str) -> Path | None:
    return next((path for path in _places(name) if path.is_file()), None)


def _shipped(name: str) -> Path:
    path = _find(name)
    if path is None:
        remedy = "train them by scripts/train/train_paper.sh" if name == PAPER else "reinstall s2ld"
        raise S2LDError(
            f"the weights {name} are missing from this installation (looked for {_places(name)[0]}); {remedy}"
        )
    return path
