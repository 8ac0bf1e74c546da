"""How the commands end."""

from __future__ import annotations

import pytest

from s2ld.cli.status import BAD_INPUT, INTERRUPTED, exit_status
from s2ld.errors import TERMINATED, S2LDError, Stopped


def fails(error: BaseException) -> int:
    raise error


def test_status_is_the_bodys_own() -> None:
    assert exit_status("s2ld x", lambda: 1) == 1


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (S2LDError("a.jpg: broken"), BAD_INPUT, "s2ld x: a.jpg: broken"),
        (Stopped(TERMINATED, "SIGTERM; step 3 is saved"), 143, "s2ld x: SIGTERM; step 3 is saved"),
        (KeyboardInterrupt(), INTERRUPTED, "s2ld x: interrupted"),
        (KeyboardInterrupt("3 pairs are done"), INTERRUPTED, "s2ld x: interrupted; 3 pairs are done"),
    ],
)
def test_bad_input_and_an_interrupt_are_one_line(
    error: BaseException, status: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_status("s2ld x", lambda: fails(error)) == status
    assert capsys.readouterr().err.strip() == line


def test_a_defect_of_ours_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        exit_status("s2ld x", lambda: 1 // 0)
