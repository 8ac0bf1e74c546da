"""Collections whose values are read from the disk when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Generic, TypeVar, overload

Key = TypeVar("Key")
Place = TypeVar("Place")
Value = TypeVar("Value")


class OnDiskMapping(Mapping[Key, Value], Generic[Key, Place, Value]):
    """Values by key, of which only the places are held in memory.

    Args:
        places: of the values, by key.
        read: gives the value at a place.
    """

    def __init__(self, places: dict[Key, Place], read: Callable[[Place], Value]) -> None:
        self.places, self._read = places, read

    def __getitem__(self, key: Key) -> Value:
        return self._read(self.places[key])

    def __iter__(self) -> Iterator[Key]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)

    def __contains__(self, key: object) -> bool:
        return key in self.places

    def only(self, keys: Iterable[Key]) -> OnDiskMapping[Key, Place, Value]:
        """Return those of some keys, in their order."""
        return OnDiskMapping({key: self.places[key] for key in keys}, self._read)


class OnDiskSequence(Sequence[Value]):
    """Values by number.

    Args:
        count: of the values.
        read: gives the value of a number.
    """

    def __init__(self, count: int, read: Callable[[int], Value]) -> None:
        self._count, self._read = count, read

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, number: int) -> Value: ...
    @overload
    def __getitem__(self, number: slice) -> Sequence[Value]: ...
    def __getitem__(self, number: int | slice) -> Value | Sequence[Value]:
        """Read the value of a number, or those of a slice."""
        chosen = range(self._count)[number]
        return [self._read(each) for each in chosen] if isinstance(chosen, range) else self._read(chosen)
