"""What a request may ask for, and how it is told that it asked for too much."""

from __future__ import annotations

from dataclasses import dataclass

from s2ld.data.images.reading import MULTIPLE
from s2ld.errors import S2LDError

TOO_SLOW, TOO_LARGE, WRONG_TYPE, BAD_INPUT, BUSY = 408, 413, 415, 422, 503
"""HTTP statuses of what is refused."""
MOST_POINTS = 20_000
"""Matches that a model is fitted to."""


@dataclass(frozen=True)
class Limits:
    """Bounds of one request and of all together."""

    megabytes: float = 20.0
    """Of a photograph's file."""
    megapixels: float = 50.0
    """Of a photograph, as its file's header tells before it is decoded."""
    side: int = 2048
    """Longest side at which photographs are matched, resized px."""
    requests: int = 16
    """Requests at once: those whose upload arrives, those that wait, and the one that is worked on."""
    seconds: float = 60.0
    """That an upload may take."""

    def __post_init__(self) -> None:
        for name in ("megabytes", "megapixels", "requests", "seconds"):
            if not getattr(self, name) > 0:
                raise S2LDError(f"the limit of {name} must be positive, not {getattr(self, name)!r}")
        if self.side < MULTIPLE:
            raise S2LDError(f"the limit of the resolution must be at least {MULTIPLE} px, not {self.side!r}")

    @property
    def file_bytes(self) -> int:
        """Bytes of a photograph's file."""
        return round(self.megabytes * 2**20)


class Refused(S2LDError):  # noqa: N818 (as `Stopped`)
    """A request that is not answered, with the HTTP status that says why."""

    def __init__(self, status: int, line: str) -> None:
        super().__init__(line)
        self.status = status
