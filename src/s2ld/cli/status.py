"""How the commands end: one line and a status where a traceback would help nobody."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable

from s2ld.data.images.decoders import QUIET
from s2ld.errors import S2LDError, Stopped
from s2ld.files import printable
from s2ld.log import logger, telling

BAD_INPUT = 2
INTERRUPTED = 130
"""128 + SIGINT, as shells say it."""


def exit_status(command: str, body: Callable[[], int]) -> int:
    """Run `body` and return its exit status.

    Bad input (`S2LDError`) is one line on standard error and status 2, Ctrl-C one line and status 130, `Stopped` one
    line and its status. What decoders print of damaged pictures is dropped. What `body` tells is shown (`s2ld.log`).
    """
    os.environ[QUIET] = "1"
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names that are not UTF-8, as standard error shows them
    with telling(command):
        try:
            return body()
        except S2LDError as error:
            logger.error("{}", printable(error))
            return BAD_INPUT
        except Stopped as error:
            logger.error("{}", error)
            return error.status
        except KeyboardInterrupt as error:
            logger.error("{}", f"interrupted{f'; {error}' if str(error) else ''}")
            return INTERRUPTED
