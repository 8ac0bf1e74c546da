"""Which pairs of a folder's photographs are matched."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations
from pathlib import Path

from s2ld.data.index.pair_lists import read_pair_list
from s2ld.errors import S2LDError

Pair = tuple[int, int]
"""Indices of two photographs, the smaller first."""
TILE = 8
"""Photographs that are matched with as many others before the next ones come."""
ROW = 8
"""Pairs of one photograph that are matched as one piece of work."""


def all_pairs(count: int) -> list[Pair]:
    """Return each photograph with each other one."""
    return list(combinations(range(count), 2))


def sequential_pairs(count: int, window: int) -> list[Pair]:
    """Return each photograph with the `window` next ones in the order of names."""
    return [(i, j) for i in range(count) for j in range(i + 1, min(count, i + window + 1))]


def listed_pairs(path: Path, names: Sequence[str]) -> tuple[list[Pair], list[str]]:
    """Read a text file with two names a line, relative to the folder of photographs; as hloc writes its lists.

    Empty lines and # comments are skipped; a name that holds spaces is separated from the other by a tab or a comma.

    Returns:
        The pairs, each once, and one line of text for each line that names no two usable photographs.

    Raises:
        S2LDError: the list is missing or has not one usable pair.
    """
    index = {name: number for number, name in enumerate(names)}
    pairs, refused = set(), []
    for number, words in read_pair_list(path):
        unknown = [word for word in words if word not in index]
        if len(words) != 2:
            refused.append(f"{path}:{number}: a line must hold two names, not {len(words)}")
        elif unknown:
            refused.append(f"{path}:{number}: no usable photograph of the name {unknown[0]}")
        elif words[0] == words[1]:
            refused.append(f"{path}:{number}: a photograph with itself")
        else:
            pairs.add(_ordered(index[words[0]], index[words[1]]))
    if not pairs:
        raise S2LDError(f"{path}: this list holds no usable pair{f'; the first line: {refused[0]}' if refused else ''}")
    return sorted(pairs), refused


def neighbour_pairs(neighbours: Iterable[Sequence[int]]) -> list[Pair]:
    """Return each photograph with its neighbours, each pair once."""
    return sorted({_ordered(i, int(j)) for i, others in enumerate(neighbours) for j in others if i != j})


def rows_of_pairs(pairs: Iterable[Pair]) -> list[list[Pair]]:
    """Return pairs as pieces of work, up to `ROW` of one photograph, in tiles: few features need be kept at a time."""
    ordered = sorted(pairs, key=lambda pair: (pair[0] // TILE, pair[1] // TILE, pair))
    rows: list[list[Pair]] = []
    for pair in ordered:
        if rows and rows[-1][0][0] == pair[0] and len(rows[-1]) < ROW:
            rows[-1].append(pair)
        else:
            rows.append([pair])
    return rows


def _ordered(i: int, j: int) -> Pair:
    return (i, j) if i < j else (j, i)
