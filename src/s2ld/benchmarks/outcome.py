"""One measured number of `s2ld benchmark speed` beside its target."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Outcome:
    """What was measured, and what was asked."""

    title: str
    value: float | None
    """None where it could not be measured here; `note` says why."""
    unit: str
    """"" for a ratio."""
    target: float | None = None
    """None where nothing was asked."""
    at_least: bool = False
    """Whether the target is the least value, not the largest."""
    note: str = ""
    """What a reader needs to know of it, in a few words."""

    @property
    def holds(self) -> bool | None:
        """Whether the target holds; None where there is none or nothing was measured."""
        if self.value is None or self.target is None:
            return None
        return self.value >= self.target if self.at_least else self.value <= self.target
