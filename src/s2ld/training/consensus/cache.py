"""The cache of candidates: one HDF5 file, a group for each pair and a header that says what they were made with.

While it is being made, the pairs so far lie beside it in a `Journal`, from which a run that was killed goes on.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any

import h5py
import torch
from torch import Tensor

from s2ld.config import defaults, value_of
from s2ld.errors import S2LDError
from s2ld.evaluation.predictions.journal import Journal, read_title
from s2ld.files import make_folder
from s2ld.hdf5 import find, new_hdf5, read_array, read_hdf5
from s2ld.locks import sole_writer
from s2ld.training.consensus.candidates import CandidatePair
from s2ld.training.consensus.labels import CandidateErrors
from s2ld.types import Candidates

CACHE_NAME = "candidates.h5"
"""Name of a cache in the output folder of a run."""
JOURNAL_SUFFIX = ".partial"
"""After the name of a cache, that of its journal."""
HEADER = "header"
MOST_CHANGES = 3  # that are named of a stale cache

Header = dict[str, Any]
"""What candidates depend on: config keys and their values, and more by other names. Caches with equal headers hold the
same candidates.
"""


def complete_cache(path: Path, header: Header, pairs: int, make: Callable[[int], Iterable[CandidatePair]]) -> bool:
    """See to it that a cache of this header is there.

    Each pair is on the disk, in the journal beside `path`, before the next one is asked for: a second call goes on from
    there, whatever ended the first.

    Args:
        path: of the cache.
        header: what the candidates depend on.
        pairs: number of pairs.
        make: yields the pairs from a number on.

    Returns:
        Whether anything was made; False when the cache was there.

    Raises:
        S2LDError: what is there was made with another header, the cache cannot be written, or another process makes it.
    """
    text = json.dumps(header, sort_keys=True)
    if path.exists():
        _refuse_another(path, _read_header(path), header)
        return False
    journal_path = path.with_name(path.name + JOURNAL_SUFFIX)
    if (title := read_title(journal_path)) is not None:
        _refuse_another(journal_path, json.loads(title), header)
    make_folder(path.parent)
    with sole_writer(journal_path):  # several runs may share a cache
        journal = Journal(journal_path, text.encode())
        for pair in make(len(journal)):
            journal.append(_to_bytes(pair))
        if len(journal) != pairs:
            raise S2LDError(f"{journal_path}: holds {len(journal)} of {pairs} pairs; run the same command again")
        _write(path, text, journal, journal_path.stat().st_size)
        journal_path.unlink()
    return True


def read_pair(path: Path, number: int) -> CandidatePair:
    """Return one pair of a cache; the file is not kept open, so that any process may read.

    Raises:
        S2LDError: there is no cache, or it is damaged.
    """
    with read_hdf5(path, "a cache of candidates must be whole: delete it") as file:
        return _read(find(file, _group_name(number)))


def _refuse_another(path: Path, old: Header, new: Header) -> None:
    changed = [key for key in sorted(old.keys() | new.keys()) if _setting(old, key) != _setting(new, key)]
    if changed:
        more = f" and {len(changed) - MOST_CHANGES} more" if len(changed) > MOST_CHANGES else ""
        raise S2LDError(
            f"{path}: these candidates were made with other {', '.join(changed[:MOST_CHANGES])}{more}; delete it, "
            "or set TRAIN.CANDIDATES.CACHE to another"
        )


def _setting(header: Header, key: str) -> Any:
    """Return a value of a header; a setting that was not known yet, when it was written, had the default's effect."""
    if key in header:
        return header[key]
    try:
        return value_of(defaults(), key)
    except KeyError:
        return None


def _read_header(path: Path) -> Header:
    with read_hdf5(path, "TRAIN.CANDIDATES.CACHE must be a cache of candidates, or a new file") as file:
        header: Header = dict(json.loads(file.attrs[HEADER]))
        return header


def _write(path: Path, header: str, records: Iterable[bytes], size: int) -> None:
    with new_hdf5(path, size) as file:
        file.attrs[HEADER] = header
        for number, record in enumerate(records):
            with h5py.File(io.BytesIO(record)) as pair:
                pair.copy(pair["/"], file, _group_name(number))


def _group_name(number: int) -> str:
    return f"{number:08d}"


def _to_bytes(pair: CandidatePair) -> bytes:
    memory = io.BytesIO()
    with h5py.File(memory, "w") as file:
        file.attrs["source"], file.attrs["names"], file.attrs["sizes"] = pair.source, list(pair.names), pair.sizes
        for part in (pair.candidates, pair.errors):
            for name, value in _tensors(part).items():
                file[name] = value.numpy()
    return memory.getvalue()


def _read(group: Any) -> CandidatePair:
    candidates, errors = (
        {field.name: torch.from_numpy(read_array(group, field.name)) for field in fields(kind) if field.name != "batch"}
        for kind in (Candidates, CandidateErrors)
    )
    name0, name1 = (str(name) for name in group.attrs["names"])
    (width0, height0), (width1, height1) = group.attrs["sizes"].tolist()
    return CandidatePair(
        Candidates(torch.zeros(len(candidates["points0"]), dtype=torch.int64), **candidates),
        CandidateErrors(**errors),
        str(group.attrs["source"]),
        (name0, name1),
        ((width0, height0), (width1, height1)),
    )


def _tensors(part: Candidates | CandidateErrors) -> dict[str, Tensor]:
    return {field.name: getattr(part, field.name) for field in fields(part) if field.name != "batch"}
