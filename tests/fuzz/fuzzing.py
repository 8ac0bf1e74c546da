"""Damaged and odd copies of files, and what must become of them: an answer, or one `S2LDError` of one line."""

from __future__ import annotations

import os
import random
import time
import warnings
from collections.abc import Callable
from pathlib import Path

from s2ld.errors import S2LDError

SECONDS = float(os.environ.get("S2LD_FUZZ_SECONDS", "0"))
"""Time for each kind of file; 0: `ROUNDS` inputs of it, always the same."""
ROUNDS = 60
LONGEST = 700
"""Characters of a message, without the folder."""
_ODD = (b"\0", b"\xff", b"\xff\xff\xff\x7f", b"\x80", b"nan", b"1e999", b"-1", b"9" * 400, b"../", b"\n", b"{", b"&a ")
_ENDS = 4096  # bytes of a large file before and after its numbers, where most of its meaning is


def mutate(data: bytes, rng: random.Random) -> bytes:
    """Return a copy with some bits turned, bytes replaced, put in or cut out, or an end missing."""
    if len(data) > 4 * _ENDS and rng.random() < 0.7:
        if rng.random() < 0.5:
            return mutate(data[:_ENDS], rng) + data[_ENDS:]
        return data[:-_ENDS] + mutate(data[-_ENDS:], rng)
    changed, kind = bytearray(data), rng.random()
    place = rng.randrange(len(data))
    if kind < 0.5:
        for _ in range(rng.choice((1, 1, 2, 5, 20))):
            changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif kind < 0.6:
        del changed[place:]
    elif kind < 0.75:
        changed[place : place + rng.randrange(64)] = rng.randbytes(rng.randrange(64))
    elif kind < 0.9:
        odd = rng.choice(_ODD)
        changed[place : place + rng.choice((0, len(odd)))] = odd
    else:
        other = rng.randrange(len(data))
        changed[place:place] = changed[other : other + rng.randrange(200)]
    return bytes(changed)


def fuzz(data: bytes, path: Path, read: Callable[[Path], object], rounds: int = ROUNDS) -> None:
    """Read mutated copies of `data` at `path`; raise an AssertionError that names the seed of the first that ends in
    anything but an answer or one line. The copy stays where it was read.
    """
    start = time.monotonic()
    first = random.randrange(2**40) if SECONDS else 0
    for number in range(10**9):
        if time.monotonic() - start > SECONDS if SECONDS else number == rounds:
            return
        path.write_bytes(mutate(data, random.Random(first + number)))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                read(path)
        except S2LDError as error:
            line = str(error).replace(str(path.parent), "")
            assert len(line.splitlines()) == 1, f"seed {first + number}, {path}: not one line: {line[:1000]}"
            assert len(line) < LONGEST, f"seed {first + number}, {path}: {len(line)} characters: {line[:1000]}"
        except Exception as error:
            raise AssertionError(f"seed {first + number}, {path}: {type(error).__name__}: {error}") from error
