"""Checkpoints on disks that are full, and files that are not whole."""

from __future__ import annotations

from pathlib import Path

import pytest
from full_disk import largest_file
from test_resume import content, run

from s2ld.errors import S2LDError
from s2ld.training.loop.module import S2LDModule


def test_a_disk_without_room_leaves_the_last_checkpoint_and_is_one_line(tmp_path: Path) -> None:
    output = tmp_path / "run"
    run(tmp_path, "--output", str(output))
    last = output / "last.ckpt"
    whole = last.read_bytes()
    resumed = ["--output", str(output), "--resume", "auto"]
    with (
        largest_file(len(whole) // 2),
        pytest.raises(S2LDError, match=r"last\.ckpt: cannot write this file \(File too large\)") as caught,
    ):
        run(tmp_path, *resumed, steps=6)
    assert "\n" not in str(caught.value)
    assert last.read_bytes() == whole
    assert list(output.glob("*.part")) == []
    assert run(tmp_path, *resumed, steps=6).steps == 6
    assert content(last)["PairDataModule"] == {"step": 6, "pairs": 12}


def test_a_checkpoint_that_is_not_whole_is_one_line_that_names_the_best(tmp_path: Path) -> None:
    output = tmp_path / "run"
    run(tmp_path, "--output", str(output))
    last = output / "last.ckpt"
    last.write_bytes(last.read_bytes()[:-1000])
    with pytest.raises(S2LDError, match=r"last\.ckpt: damaged.*--resume \S+/best\.ckpt") as caught:
        run(tmp_path, "--output", str(output), "--resume", "auto")
    assert "\n" not in str(caught.value)
    assert run(tmp_path, "--output", str(output), "--resume", str(output / "best.ckpt")).steps == 4


def test_a_run_that_ends_amid_a_validation_goes_on_after_the_step_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: S2LDModule) -> None:
        raise S2LDError("the machine is taken away")

    output = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(S2LDModule, "on_validation_epoch_end", refuse)
        with pytest.raises(S2LDError, match="taken away"):
            run(tmp_path, "--output", str(output))
    assert content(output / "last.ckpt")["PairDataModule"] == {"step": 2, "pairs": 4}
    assert run(tmp_path, "--output", str(output), "--resume", "auto").steps == 4
