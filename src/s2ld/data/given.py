"""Folders that only the user knows: a data config leaves them open, and what reads one asks for it in one line."""

from __future__ import annotations

from s2ld.config import CN, build_config, defaults, value_of
from s2ld.errors import S2LDError

ASKED = "???"
"""What a data config writes for a DATA.PHOTOS that must be given: there the empty text means drawn patterns."""

_PHOTOS = "a folder of photographs of anything, for instance BSDS500"
_POSED = "a folder of photographs with known cameras, for instance Strecha's fountain-P11, listed in its pairs.json"
_LIGHT = "a folder of photographs of one view in other light, for instance MEFB's, with its groups.json"
_SCENES = "the folder that build-dataset wrote, or MegaDepth's"
_WANTED = {
    "PHOTOS": _PHOTOS,
    "POSED_PAIRS.ROOT": _POSED,
    "LIGHT.ROOT": _LIGHT,
    **{f"MEGADEPTH.{split}ROOT": _SCENES for split in ("", "TEST_")},
}
"""Keys of the DATA node that may be open, and what they ask for; docs/data.md says where such data lies."""


def is_open(key: str, value: object) -> bool:
    """Tell whether the value of a key of the DATA node (`MEGADEPTH.ROOT`) stands for a folder yet to be given."""
    if key not in _WANTED:
        return False
    return value == ASKED or (key != "PHOTOS" and (not value or (isinstance(value, list) and "" in value)))


def given(value: str | list[str], key: str) -> str | list[str]:
    """Return the value of a key of the DATA node, a folder or several.

    Args:
        value: of the key.
        key: below DATA, e.g. ``POSED_PAIRS.ROOT``.

    Raises:
        S2LDError: the config leaves it open; the message says what to give and where such data lies.
    """
    if is_open(key, value):
        raise S2LDError(f"DATA.{key} is not given: add DATA.{key} and {_WANTED[key]} (docs/data.md)")
    return value


def inherit(own: CN, run: CN) -> CN:
    """Return a config whose open folders are those of another one, where that one names them, other than by default."""
    overrides: list[str] = []
    default = defaults().DATA
    for key in _WANTED:
        value = value_of(run.DATA, key)
        given_there = value != value_of(default, key) and not is_open(key, value)
        if given_there and is_open(key, value_of(own.DATA, key)):
            overrides += [f"DATA.{key}", str(value)]
    return build_config(overrides=overrides, base=own)
