"""S2LD: sparse-to-local-dense image matching with geometry-guided training.

Three lines to the first match::

    from s2ld import Matcher
    matches = Matcher.from_pretrained("s2ld-lite")("a.jpg", "b.jpg")
    matches.points0, matches.points1, matches.confidence
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from s2ld.errors import S2LDError

if TYPE_CHECKING:
    from s2ld.matcher import Matcher
    from s2ld.types import Extracted, Matches

__all__ = ["Extracted", "Matcher", "Matches", "S2LDError", "__version__"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:  # `import s2ld` stays cheap: torch is loaded when it is asked for
    if name == "Matcher":
        from s2ld.matcher import Matcher

        return Matcher
    if name in ("Extracted", "Matches"):
        from s2ld import types

        return getattr(types, name)
    raise AttributeError(f"module 's2ld' has no attribute {name!r}")
