"""A file of records that only grows and that a kill, a full disk or a power failure at any moment cannot spoil."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from s2ld.errors import S2LDError

_LENGTH = struct.Struct(">Q")
_DIGEST_SIZE = sha256().digest_size
_HEAD_SIZE = _LENGTH.size + _DIGEST_SIZE


class Journal:
    """Records of bytes in one file, each behind its length and its SHA-256; the first one is the title.

    A record counts when all of it is there and its digest is right. The first that fails ends the journal: it and what
    follows is dropped. A journal of another title is emptied.

    Args:
        path: of the file; it need not exist.
        title: says what the records belong to.

    Raises:
        S2LDError: the file cannot be read or written.
    """

    def __init__(self, path: Path, title: bytes) -> None:
        self.path = path
        self._end = 0
        self._places: list[tuple[int, int]] = []  # where each record begins, and its length
        if read_title(path) == title:
            for place, record in records(path):
                self._places.append((place + _HEAD_SIZE, len(record)))
                self._end = place + _HEAD_SIZE + len(record)
        else:
            self.append(title)

    def __len__(self) -> int:
        return len(self._places) - 1

    def __iter__(self) -> Iterator[bytes]:
        whole = records(self.path)
        next(whole, None)
        return (record for _, record in whole)

    def read(self, number: int, length: int | None = None) -> bytes:
        """Return a record, or its first `length` bytes, from the disk; the first one behind the title has number 0.

        Raises:
            S2LDError: the file cannot be read any more.
        """
        start, whole = self._places[number + 1]
        wanted = whole if length is None else min(length, whole)
        try:
            with self.path.open("rb") as file:
                file.seek(start)
                record = file.read(wanted)
        except OSError as error:
            raise S2LDError(f"{self.path}: cannot read this file ({error.strerror}); run the command again") from error
        if len(record) < wanted:
            raise S2LDError(f"{self.path}: was cut while it was read; run the command again")
        return record

    def append(self, *new: bytes) -> None:
        """Write a record, or some together, and return when they are on the disk.

        Raises:
            S2LDError: they cannot be written; those before are kept.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as file:
                file.truncate(self._end)  # what a kill left of the next record
                for record in new:
                    file.write(_LENGTH.pack(len(record)) + sha256(record).digest() + record)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            kept = max(0, len(self))
            raise S2LDError(
                f"{self.path}: cannot write more than the {kept} records that it holds ({error.strerror}); "
                "make room and run the same command, which goes on from there"
            ) from error
        for record in new:
            self._places.append((self._end + _HEAD_SIZE, len(record)))
            self._end += _HEAD_SIZE + len(record)


def read_title(path: Path) -> bytes | None:
    """Return the title of a journal, None where there is no journal."""
    return next((record for _, record in records(path)), None)


def record_at(path: Path, place: int) -> bytes:
    """Return the record of a journal that begins at a byte, one of `records`.

    Raises:
        S2LDError: it cannot be read, or has changed since.
    """
    record = next(records(path, place), None)
    if record is None:
        raise S2LDError(f"{path}: its record at byte {place} has changed; delete it and predict again")
    return record[1]


def records(path: Path, start: int = 0) -> Iterator[tuple[int, bytes]]:
    """Yield the byte where it begins and the content of each whole record, the title too.

    Args:
        path: of the journal; without a file there are none.
        start: byte where the first one begins.

    Raises:
        S2LDError: it cannot be read.
    """
    if not path.exists():
        return
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            file.seek(start)
            while len(head := file.read(_HEAD_SIZE)) == _HEAD_SIZE:
                (length,) = _LENGTH.unpack_from(head)
                place = file.tell() - len(head)
                if length > size - file.tell():
                    return
                record = file.read(length)
                if sha256(record).digest() != head[_LENGTH.size :]:
                    return
                yield place, record
    except OSError as error:
        raise S2LDError(f"{path}: cannot read this file ({error.strerror}); delete it and predict again") from error
