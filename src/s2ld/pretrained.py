"""From a name, a path or an address of a hub to a weight file."""

from __future__ import annotations

import re
import warnings
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path

from s2ld.errors import S2LDError, first_sentence
from s2ld.extras import need

PAPER = "s2ld-e2e"
"""Name of this project's weights of the paper configuration."""
SHIPPED = {"s2ld-lite": "s2ld-lite.safetensors", PAPER: "s2ld-e2e-inference.safetensors"}
"""Names that `Matcher.from_pretrained` and `--weight` know, and their files; see `available`."""
DEFAULT = "s2ld-lite"
AUTHORS_FILE = "s2ld-e2e-inference.pt"
AUTHORS_LINK = "https://drive.google.com/drive/folders/1HwvPc3AzmjwxDsmBFIkWJmRdfF68_Hvw"
"""Where the authors of the paper keep their weights and the index of MegaDepth."""
HUB = "hf://"
"""With which the address of a hub begins: hf://user/name@REVISION."""
HUB_FILE = "model.safetensors"
"""Of a repository: nothing else is downloaded, so that nothing can execute."""
_ADDRESS = re.compile(r"hf://(?P<repository>[\w.-]+/[\w.-]+)(@(?P<revision>[^@\s]+))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")


def available() -> list[str]:
    """Return the names of `SHIPPED` whose files are there."""
    return [name for name in SHIPPED if _find(name) is not None]


def resolve(name_or_path: str | Path) -> Path:
    """Return the path of a shipped weight file by its name, of any by its path, or of one of a hub (`from_hub`).

    Where the authors' `AUTHORS_FILE` is not, this project's weights of the same configuration take its place if they
    are beside it or ship; a warning says so.

    Raises:
        S2LDError: the name is unknown, the file is missing, the path is a folder, or what `from_hub` says.
    """
    if str(name_or_path).startswith(HUB):
        return from_hub(str(name_or_path))
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
        raise S2LDError(
            f"unknown weights {path.name!r}: {hint}shipped: {names}; or give a path to a file, or hf://user/name@REVISION"
        )
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


def from_hub(address: str) -> Path:
    """Return the weight file of a repository, from the cache where it is there, else downloaded to it.

    A commit stays what it is, and is not asked for again once it is cached. A tag, a branch or no revision (the branch
    main) may mean another file tomorrow: a warning tells the commit that it is today. With HF_HUB_OFFLINE=1 the cache
    alone is looked at.

    Args:
        address: hf://user/name or hf://user/name@REVISION.

    Raises:
        S2LDError: another form, huggingface_hub is missing, there is no such repository, revision or file, or it is not
            cached and the hub cannot be reached.
    """
    found = _ADDRESS.fullmatch(address)
    if found is None:
        raise S2LDError(f"{address}: an address of weights is hf://user/name@REVISION, a commit, tag or branch")
    need("hub")
    repository, revision = found["repository"], found["revision"]
    path = _download(address, repository, revision)
    commit = path.parent.name  # the cache has a folder for each
    if revision is None or not _COMMIT.fullmatch(revision):
        warnings.warn(f"{address}: today this is {HUB}{repository}@{commit}, which will stay so", stacklevel=2)
    return path


def _download(address: str, repository: str, revision: str | None) -> Path:
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(repository, HUB_FILE, revision=revision))
    except Exception as error:  # its own, its client's, or of a full disk
        raise S2LDError(f"{address}: {_problem(error)}") from error


def _problem(error: Exception) -> str:
    from huggingface_hub import errors

    known = {  # the first that fits: some are kinds of others
        errors.LocalEntryNotFoundError: "not in the cache, and the hub is out of reach; go online once, or give a file",
        errors.GatedRepoError: "this repository asks for consent; give it on its page, then log in by: hf auth login",
        errors.RepositoryNotFoundError: "no such repository, or a private one; check the name, or: hf auth login",
        errors.RevisionNotFoundError: "no such revision; give a commit, tag or branch of the repository",
        errors.EntryNotFoundError: f"it has no {HUB_FILE}, the one file that is taken; s2ld export weights writes it",
    }
    other = f"it cannot be downloaded ({first_sentence(error)}); try again later, or give a file"
    return next((text for kind, text in known.items() if isinstance(error, kind)), other)
