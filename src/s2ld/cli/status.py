"""How the scripts end: one line and a status where a traceback would help nobody."""

from __future__ import annotations

import sys
from collections.abc import Callable

from s2ld.errors import S2LDError

BAD_INPUT = 2
INTERRUPTED = 130
"""128 + SIGINT, as shells say it."""


def exit_status(script: str, body: Callable[[], int]) -> int:
    """Run `body` and return its exit status.

    Bad input (`S2LDError`) is one line on standard error and status 2, Ctrl-C one line and status 130.
    """
    try:
        return body()
    except S2LDError as error:
        print(f"{script}: {error}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt as error:
        print(f"\n{script}: interrupted{f'; {error}' if str(error) else ''}", file=sys.stderr)
        return INTERRUPTED
