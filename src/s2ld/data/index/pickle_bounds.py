"""Whether a pickle names only places of its memo, and lengths, that its own length allows.

The unpickler of the standard library takes memory for every place below the largest one that a file names: nine bytes
can ask for gigabytes. So the instructions are walked first, runs of short ones by one regular expression.
"""

from __future__ import annotations

import re
import struct
from pickle import UnpicklingError

_BARE = b"(012N}])aedlstubRoQ\x81\x85\x86\x87\x88\x89\x8f\x90\x91\x92\x93\x94\x97\x98"
_FIXED = {1: b"Khq\x80\x82", 2: b"M\x83", 4: b"Jj\x84", 8: b"G\x95"}
"""Instructions by the length of their argument; LONG_BINPUT stands alone."""
_COUNTED = {"B": b"UC\x8c\x8a", "I": b"TBX\x8b", "Q": b"\x8d\x8e\x96"}
"""Instructions whose argument comes after its length, by the form of that."""
_LINES = {1: b"FILSVPgp", 2: b"ic"}
"""Instructions by the number of lines that their argument takes."""
_PUT, _LONG_PUT = b"pr"
_SHORT = 16  # bytes up to which counted arguments are in the regular expression
_FORMS = {code: struct.Struct(f"<{form}") for form, codes in _COUNTED.items() for code in codes}
_COUNTS = {code: count for count, codes in _LINES.items() for code in codes}


def check_bounds(data: bytes) -> None:
    """Walk the instructions of a pickle up to its end.

    Raises:
        UnpicklingError: it names a place of its memo beyond its length, is cut short, or is no pickle.
    """
    run, place = _run(len(data)), 0
    while place < len(data):
        found = run.match(data, place)
        place = place if found is None else found.end()
        if data[place : place + 1] == b".":
            return
        place = _after(data, place)
    raise UnpicklingError("pickle data was truncated")


def _run(size: int) -> re.Pattern[bytes]:
    """Return what matches instructions of a known length, with places of the memo below `size` or a little more."""
    shift = 16 if size < 2**24 else 24
    top = b"[\\x00-\\x%02x]" % (size >> shift)
    places = b"r.." + (top + b"\\x00" if shift == 16 else b"." + top)
    fixed = [b"[%s].{%d}" % (re.escape(codes), length) for length, codes in _FIXED.items()]
    short = [b"[%s]\\x%02x.{%d}" % (re.escape(_COUNTED["B"]), length, length) for length in range(_SHORT + 1)]
    one = b"|".join([b"[%s]" % re.escape(_BARE), *fixed, places, *short])
    return re.compile(b"(?:%s)*+" % one, re.DOTALL)


def _after(data: bytes, place: int) -> int:
    """Return the place after an instruction that `_run` does not match."""
    code, start = data[place] if place < len(data) else -1, place + 1
    if code in _FORMS and start + _FORMS[code].size <= len(data):
        (length,) = _FORMS[code].unpack_from(data, start)
        return int(start + _FORMS[code].size + length)
    if code in _COUNTS:
        for _ in range(_COUNTS[code]):
            end = data.find(b"\n", start)
            if end < 0:
                break
            if code == _PUT and not int(data[start:end]) <= len(data):
                raise UnpicklingError("it asks for more memory than it has bytes")
            start = end + 1
        else:
            return start
    if code == _LONG_PUT:
        raise UnpicklingError("it asks for more memory than it has bytes")
    raise UnpicklingError("pickle data was truncated, or is none")
