"""The GPU's table, written so that all of it but CUDA itself runs here, on the CPU and at a small size."""

from __future__ import annotations

import pytest
import torch
from host_waits import HostWaits
from tiny_networks import LITE_PARTS, tiny_network

from s2ld.benchmarks import gpu_table
from s2ld.benchmarks.gpu_table import MODES, YARDSTICK, Mode, Speed, measure_gpu
from s2ld.benchmarks.timing import Match, Points, fixed_matches, loftr, noise, one_pass
from s2ld.models import sparse_matching
from s2ld.models.fast.inference import for_inference
from s2ld.models.network import S2LD
from s2ld.types import ImageBatch

CPU = torch.device("cpu")
SIZE = (64, 64)


def batch_of(count: int) -> tuple[ImageBatch, ImageBatch]:
    pairs = [noise(SIZE, seed) for seed in range(count)]
    return ImageBatch.joined([a for a, _ in pairs]), ImageBatch.joined([b for _, b in pairs])


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks and loops that take no time."""

    def build(lite: bool) -> S2LD:
        return for_inference(tiny_network(*(LITE_PARTS if lite else ())))

    monkeypatch.setattr(gpu_table, "build_network", build)
    monkeypatch.setattr(gpu_table, "loftr", lambda matches, _: one_pass(build(False), matches))
    monkeypatch.setattr(gpu_table, "WARM_UP", 1)
    monkeypatch.setattr(gpu_table, "LOOPS", 1)


@pytest.mark.usefixtures("tiny")
def test_every_mode_has_its_row_and_the_targets_follow(monkeypatch: pytest.MonkeyPatch) -> None:
    def compile_(match: Match, dynamic: bool) -> Match:
        def run(images0: ImageBatch, images1: ImageBatch) -> Points:
            if images0.image.shape[3] == 96:
                raise torch.OutOfMemoryError("so many bytes")
            raise RuntimeError("\n no compiler here\nsee there")

        return run

    monkeypatch.setattr(torch, "compile", compile_)
    monkeypatch.setattr(torch.compiler, "reset", lambda: None)  # the real one takes seconds to load
    outcomes = measure_gpu(20, CPU, [SIZE, (96, 64)], (2,), seconds=0.0)
    rows, targets = outcomes[:-2], outcomes[-2:]
    assert len(rows) == 2 * len(MODES) == 20
    by_title = {row.title: row for row in rows}
    failed = by_title["S2LD-Lite, bfloat16, compiled, 64x64 px, batch 2"]
    assert (failed.value, failed.note) == (None, "RuntimeError: no compiler here")
    assert by_title["paper configuration, bfloat16, compiled, 96x64 px, batch 2"].note == "out of memory"
    measured = [row for row in rows if "compiled" not in row.title]
    assert all(row.value is not None and row.value > 0 and row.unit == "pairs/s" for row in measured)
    assert all("x LoFTR of kornia, float32" in row.note for row in measured if row.title[:8] != "LoFTR of")
    paper = by_title["paper configuration, bfloat16, 64x64 px, batch 2"].value
    yardstick = by_title["LoFTR of kornia, float32, 64x64 px, batch 2"].value
    assert paper
    assert yardstick
    assert targets[0].value == pytest.approx(paper / yardstick)
    lite = [row.value or 0.0 for row in measured if "Lite" in row.title and "64x64 px, batch 2" in row.title]
    assert len(lite) == 3
    assert targets[1].value == max(lite)
    assert [(row.target, row.at_least) for row in targets] == [(5.0, True), (300.0, True)]
    assert targets[1].holds == (max(lite) >= 300)


def test_without_a_gpu_the_targets_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    outcomes = measure_gpu()
    assert [row.target for row in outcomes] == [5.0, 300.0]
    assert {(row.value, row.holds, row.note) for row in outcomes} == {(None, None, "no GPU on this machine")}
    assert all("640x480 px, batch 8" in row.title for row in outcomes)


@pytest.mark.usefixtures("tiny")
def test_a_target_without_its_yardstick_is_not_measured() -> None:
    outcomes = measure_gpu(20, CPU, [SIZE], (1,), [Mode("paper", "bf16")], 0.0)
    assert [row.note for row in outcomes[1:]] == ["not measured"] * 2
    assert outcomes[0].note == ""


def test_precision_is_that_of_the_mode_and_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def look(*_: object) -> float:
        flags = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
        seen.append((flags, torch.is_autocast_enabled("cpu"), torch.is_inference_mode_enabled()))
        return 1.0

    monkeypatch.setattr(gpu_table, "_rate", look)
    monkeypatch.setattr(gpu_table, "_build", lambda *_: None)
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    measure_gpu(20, CPU, [SIZE], (1,), [Mode("paper", precision) for precision in ("fp32", "tf32", "bf16")])
    assert seen == [((False,) * 2, False, True), ((True,) * 2, False, True), ((False,) * 2, True, True)]
    assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32) == before


def test_the_best_mode_stands_for_the_target() -> None:
    speeds = [
        Speed(YARDSTICK, SIZE, 8, 10.0, ""),
        Speed(Mode("paper", "bf16"), SIZE, 8, 40.0, ""),
        Speed(Mode("paper", "bf16", compiled=True), SIZE, 8, 60.0, ""),
        Speed(Mode("paper", "tf32"), SIZE, 8, 70.0, ""),
        Speed(Mode("paper", "bf16"), SIZE, 1, 90.0, ""),
        Speed(Mode("lite", "bf16"), SIZE, 8, None, "out of memory"),
        Speed(Mode("lite", "fp32"), SIZE, 8, 250.0, ""),
    ]
    paper, lite = gpu_table._targets(speeds, SIZE, 8, "")
    assert (paper.value, paper.holds, paper.note) == (6.0, True, "paper configuration, bfloat16, compiled")
    assert (lite.value, lite.holds) == (250.0, False)


def test_every_pair_of_a_batch_gets_the_matches() -> None:
    with torch.inference_mode():
        encoded = tiny_network().encode(*batch_of(3))
    matches = fixed_matches(encoded, 16)
    assert matches.batch.tolist() == sorted([0, 1, 2] * 16)
    for cells in (matches.cell0.view(3, 16), matches.cell1.view(3, 16)):
        assert cells[0].unique().numel() == 16
        assert (cells == cells[0]).all()
    assert len(fixed_matches(encoded, 1000)) == 3 * 64


def test_loftr_refines_as_many_in_every_pair_and_alone_as_in_a_batch() -> None:
    pytest.importorskip("kornia")
    match, (images0, images1) = loftr(16, CPU), batch_of(2)
    with torch.inference_mode():
        together = match(images0, images1)
        alone = [match(ImageBatch(images0.image[i : i + 1]), ImageBatch(images1.image[i : i + 1])) for i in range(2)]
    torch.testing.assert_close(together.points0, torch.cat([one.points0 for one in alone]))
    torch.testing.assert_close(together.points1, torch.cat([one.points1 for one in alone]), rtol=0, atol=1e-3)
    assert len(together.points0) == 32


@pytest.mark.parametrize("parts", [(), LITE_PARTS], ids=["paper", "lite"])
def test_what_is_timed_waits_for_the_device_once(parts: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sparse_matching, "FEW_ONLY", set())
    match, counter = one_pass(for_inference(tiny_network(*parts)), 16), HostWaits()
    with torch.inference_mode(), counter:
        match(*batch_of(2))
    assert counter.found == ["nonzero"]
