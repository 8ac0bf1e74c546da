"""A large file in pieces that a narrow way lets through, put together again and checked by SHA-256."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from s2ld.errors import S2LDError
from s2ld.files import read_text, whole_file

MIB = 1 << 20
MANIFEST = ".parts.json"
"""Ending of the list of a file's parts, after the file's name."""
_CHUNK = MIB  # bytes read at a time


@dataclass(frozen=True)
class Part:
    """A file and what it must hold."""

    name: str
    size: int
    """Bytes."""
    sha256: str


def describe(path: Path) -> Part:
    """Return name, size and hash of a file.

    Raises:
        S2LDError: it cannot be read.
    """
    digest, size = hashlib.sha256(), 0
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
                size += len(chunk)
    except OSError as error:
        raise S2LDError(f"{path}: cannot read this file ({error.strerror}); check the path") from error
    return Part(path.name, size, digest.hexdigest())


def check(path: Path, wanted: Part) -> None:
    """Raise `S2LDError` unless a file is there and holds what it must."""
    if not path.is_file():
        raise S2LDError(f"{path}: this part is missing; fetch it")
    found = describe(path)
    if (found.size, found.sha256) != (wanted.size, wanted.sha256):
        raise S2LDError(f"{path}: damaged ({found.size} bytes of {wanted.size}, or another SHA-256); fetch it again")


def split_file(path: Path, folder: Path, size: int) -> Path:
    """Write the parts of a file, ``NAME.part1of3`` ..., of at most `size` bytes each, and return their list.

    The list, ``NAME.parts.json``, has name, size and SHA-256 of the file and of each part.

    Raises:
        S2LDError: the file is missing or empty, `size` is not positive, or the folder cannot be written.
    """
    whole = describe(path)
    if size < 1 or not whole.size:
        raise S2LDError(f"{path}: {whole.size} bytes in parts of {size}: both must be at least 1")
    count = -(-whole.size // size)
    parts = []
    with path.open("rb") as source:
        for number in range(1, count + 1):
            piece = folder / f"{path.name}.part{number}of{count}"
            with whole_file(piece) as part:
                part.write_bytes(source.read(size))
            parts.append(describe(piece))
    return write_manifest(folder / (path.name + MANIFEST), {"file": asdict(whole), "parts": [asdict(p) for p in parts]})


def join_file(manifest: Path, output: Path | None = None) -> Path:
    """Put the parts beside their list together, each and the whole checked, and return the file.

    Args:
        manifest: what `split_file` returned.
        output: the file to write; by default its old name, beside the list.

    Raises:
        S2LDError: the list is none, a part is missing or damaged; nothing is written then.
    """
    content = read_manifest(manifest)
    wanted = Part(**content["file"])
    parts = [Part(**part) for part in content["parts"]]
    for part in parts:
        check(manifest.parent / part.name, part)
    output = manifest.parent / wanted.name if output is None else output
    with whole_file(output) as whole:
        with whole.open("wb") as target:
            for part in parts:
                with (manifest.parent / part.name).open("rb") as source:
                    shutil.copyfileobj(source, target, _CHUNK)
        check(whole, wanted)
    return output


def write_manifest(path: Path, content: dict[str, Any]) -> Path:
    """Write a list of parts as JSON and return its path."""
    with whole_file(path) as part:
        part.write_text(json.dumps(content, indent=1) + "\n")
    return path


def read_manifest(path: Path) -> dict[str, Any]:
    """Read a list of parts: a dict with ``parts`` and perhaps ``file``, each with what `Part` has.

    Raises:
        S2LDError: the file is missing, or no such list.
    """
    text = read_text(path, "list of parts", f"give a file that ends in {MANIFEST}")
    try:
        content = json.loads(text)
        entries = [*content["parts"], *([content["file"]] if "file" in content else [])]
        _check_names(Part(**entry).name for entry in entries)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise S2LDError(f"{path}: not a list of parts; give a file that ends in {MANIFEST}") from error
    return dict(content)


def _check_names(names: Iterator[str]) -> None:
    """Raise ValueError for a name that would lead out of the folder."""
    for name in names:
        if Path(name).name != name:
            raise ValueError(name)
