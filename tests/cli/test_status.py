"""How the scripts end."""

from __future__ import annotations

import pytest

from s2ld.cli.status import BAD_INPUT, INTERRUPTED, TERMINATED, Stopped, exit_status
from s2ld.errors import S2LDError


def fails(error: BaseException) -> int:
    raise error


def test_status_is_the_bodys_own() -> None:
    assert exit_status("x.py", lambda: 1) == 1


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (S2LDError("a.jpg: broken"), BAD_INPUT, "x.py: a.jpg: broken"),
        (Stopped(TERMINATED, "SIGTERM; step 3 is saved"), 143, "x.py: SIGTERM; step 3 is saved"),
        (KeyboardInterrupt(), INTERRUPTED, "x.py: interrupted"),
        (KeyboardInterrupt("3 pairs are done"), INTERRUPTED, "x.py: interrupted; 3 pairs are done"),
    ],
)
def test_bad_input_and_an_interrupt_are_one_line(
    error: BaseException, status: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_status("x.py", lambda: fails(error)) == status
    assert capsys.readouterr().err.strip() == line


def test_a_defect_of_ours_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        exit_status("x.py", lambda: 1 // 0)
