"""One stream for all that a command tells."""

import io
import logging
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from pytorch_lightning.utilities import rank_zero_info, rank_zero_warn

from s2ld import log
from s2ld.cli.parser import Parser
from s2ld.cli.status import BAD_INPUT, exit_status
from s2ld.errors import S2LDError
from s2ld.log import Progress, logger, telling


def test_all_sources_come_in_one_stream(capsys: pytest.CaptureFixture[str]) -> None:
    with telling("s2ld train"):
        logger.info("own {braces} stay")
        rank_zero_info("of Lightning, {braces} too")
        rank_zero_warn("Lightning warns")
        warnings.warn("torch warns", UserWarning, stacklevel=1)
        logging.getLogger("torch.somewhere").error("torch logs")
        logging.getLogger("torch.somewhere").info("below what Python's logging shows")
    shown = capsys.readouterr()
    assert shown.err.splitlines() == [
        "own {braces} stay",
        "of Lightning, {braces} too",
        "s2ld train: warning: Lightning warns",
        "s2ld train: warning: torch warns",
        "s2ld train: torch logs",
    ]
    assert not shown.out


def test_library_is_silent_without_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    logger.info("nobody asked")
    with telling("s2ld test"):
        pass
    logger.warning("nobody asks any more")
    assert capsys.readouterr().err == ""


def test_other_programs_get_their_logging_back() -> None:
    root, foreign = logging.getLogger(), logging.getLogger("pytorch_lightning")
    before = (warnings.showwarning, root.handlers[:], foreign.handlers[:], foreign.propagate)
    with pytest.raises(ZeroDivisionError), telling("s2ld test"):
        1 / 0  # noqa: B018
    assert (warnings.showwarning, root.handlers[:], foreign.handlers[:], foreign.propagate) == before


@pytest.mark.parametrize(
    ("option", "shown"), [("--quiet", ["careful"]), ("--verbose", ["fine", "usual", "careful"]), ("-q", ["careful"])]
)
def test_levels(option: str, shown: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    def body() -> int:
        Parser("match", "Match.", "a b").parse_args([option])
        for level, word in (("DEBUG", "fine"), ("INFO", "usual"), ("WARNING", "careful")):
            logger.log(level, word)
        return 0

    exit_status("s2ld match", body)
    lines = [line for line in capsys.readouterr().err.splitlines() if "ended after" not in line]
    assert [line.split(" ")[-1] for line in lines] == shown
    exit_status("s2ld match", lambda: logger.info("usual again") or 0)  # type: ignore[func-returns-value]
    assert capsys.readouterr().err == "usual again\n"


def test_quiet_and_verbose_exclude_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        Parser("match", "Match.", "a b").parse_args(["-q", "-v"])
    assert "not allowed with" in capsys.readouterr().err


def test_file_beside_the_outputs_has_all_levels_and_goes_on(tmp_path: Path) -> None:
    def body() -> int:
        log.keep(tmp_path)
        log.keep(tmp_path)  # once is enough
        logger.debug("fine")
        raise S2LDError("a.jpg: broken")

    for _ in range(2):
        assert exit_status("s2ld match", body) == BAD_INPUT
    lines = (tmp_path / "log.txt").read_text().splitlines()
    assert [line.split(" | ")[1] for line in lines] == ["DEBUG", "DEBUG", "ERROR", "DEBUG"] * 2
    assert lines[0].partition(" | log:")[2].split(" | ")[1].startswith("s2ld match ")
    assert lines[2].endswith(" | a.jpg: broken")


def test_process_of_another_rank_warns_only_and_keeps_its_own_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "3")
    with telling("s2ld train"):
        log.keep(tmp_path)
        logger.info("all of them say it")
        logger.warning("one file is missing")
    assert capsys.readouterr().err == "s2ld train: warning: process 3: one file is missing\n"
    assert "all of them say it" in (tmp_path / "log.rank3.txt").read_text()


def test_progress_of_a_batch_job_is_lines(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "EVERY", 0.0)
    with telling("s2ld test"):
        bar = Progress(range(2), desc="look", unit="pair", mininterval=0)
        bar.set_description("predict", refresh=False)
        assert list(bar) == [0, 1]
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("predict: 2/2 pair, 00:00 so far, 00:00 left, ")
    assert all(line.startswith(("look: ", "predict: ")) and "\r" not in line for line in lines)


def test_short_work_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with telling("s2ld test"):
        list(Progress(range(1000), desc="predict", unit="pair", mininterval=0))
        list(Progress(range(1000), desc="within", unit="pair", mininterval=0, leave=False))
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_messages_do_not_tear_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with telling("s2ld test"), Progress(total=2, desc="predict", file=terminal):
        logger.info("a line of its own")
    before, _, after = terminal.getvalue().partition("a line of its own\n")
    assert before.endswith("\r")  # the bar was cleared
    assert "predict" in after  # and drawn again


def test_a_room_can_be_hushed(capsys: pytest.CaptureFixture[str]) -> None:
    say = "from s2ld.log import logger\nlogger.info('of the room')\n"
    with telling("s2ld test"):
        with log.hushed("s2ld.room"):
            exec(say, {"__name__": "s2ld.room.file"})
        exec(say, {"__name__": "s2ld.room.file"})
    with log.hushed("s2ld.room"):
        pass
    exec(say, {"__name__": "s2ld.room.file"})
    assert capsys.readouterr().err == "of the room\n"


def test_quiet_shows_no_bar(capsys: pytest.CaptureFixture[str]) -> None:
    with telling("s2ld test"):
        log.set_level("WARNING")
        assert list(Progress(range(2), desc="predict")) == [0, 1]
    assert capsys.readouterr().err == ""


def test_command_in_a_job_writes_no_carriage_return(tmp_path: Path) -> None:
    small = "DATA.IMAGE_SIZE [160,120] EVAL.REPEATS 1"
    done = subprocess.run(
        [sys.executable, "-m", "s2ld", *f"test synthetic s2ld_lite --limit 2 --output {tmp_path} {small}".split()],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "\r" not in done.stderr + done.stdout
    assert "predict: 2/2 pair" in done.stderr
    assert (tmp_path / "log.txt").read_text().count("predict: 2/2 pair") == 1
