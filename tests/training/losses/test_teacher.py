"""The loss of the teacher, and runs with one."""

from __future__ import annotations

import math
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from test_ddp import run_unlucky
from test_resume import STEPS, content, differing, stop_after_two_steps
from tiny_runs import tiny_config, write_tiny
from torch import Tensor

from s2ld.cli.train.train import main
from s2ld.data.sample import collate
from s2ld.data.sources.by_name import build_mixture, build_source
from s2ld.data.teacher import TeacherInfo, TeacherWriter
from s2ld.errors import S2LDError
from s2ld.models.checkpoint import read_weights
from s2ld.training.loop.module import S2LDModule
from s2ld.training.losses.teacher import TeacherHead, teacher_losses
from s2ld.training.losses.total import with_teacher
from s2ld.types import EncodedPair, Features, ImageBatch, Keypoints, LossTerms, PairBatch, TeacherPoints, View

pytestmark = pytest.mark.filterwarnings("ignore:.*(in eval mode|LeafSpec|across ranks is zero)")
DIM = 4


def points(rows: list[tuple[int, float, float, int]]) -> TeacherPoints:
    """Points of (pair, x, y, label); a label's descriptor is one of the axes."""
    table = torch.tensor(rows, dtype=torch.float32).reshape(-1, 4)
    label = table[:, 3].long()
    return TeacherPoints(table[:, 0].long(), table[:, 1:3], torch.eye(DIM)[label], label)


def batch_of(first: TeacherPoints | None, second: TeacherPoints | None) -> PairBatch:
    views = [
        View(ImageBatch(torch.zeros(2, 1, 16, 24)), torch.ones(2, 2), torch.eye(3).repeat(2, 1, 1), None, own)
        for own in (first, second)
    ]
    return PairBatch(views[0], views[1], torch.eye(4).repeat(2, 1, 1))


def encoded_of(coarse0: Tensor, coarse1: Tensor) -> EncodedPair:
    nothing = torch.zeros(0)
    none = Keypoints(nothing, nothing, nothing)
    return EncodedPair(Features(coarse0, nothing), Features(coarse1, nothing), none, none, nothing, nothing)


def head_of(dim: int = DIM, temperature: float = 0.5) -> TeacherHead:
    """A head that projects by the identity."""
    head = TeacherHead(dim, dim, temperature, 0)
    with torch.no_grad():
        head.projection.weight.copy_(torch.eye(dim))
    return head


def slow_losses(features: Tensor, descriptors: Tensor, labels: list[int], scale: float) -> list[float]:
    """The definition, point by point."""
    cosines = [[scale * float(f @ d / f.norm()) for d in descriptors] for f in features]
    count, losses = len(labels), []
    for i in range(count):
        firsts = [labels.index(label) for label in sorted(set(labels))]
        among_descriptors = math.log(sum(math.exp(cosines[i][j]) for j in firsts)) - cosines[i][i]
        rivals = [j for j in range(count) if labels[j] != labels[i] or j == i]
        among_features = math.log(sum(math.exp(cosines[j][i]) for j in rivals)) - cosines[i][i]
        losses.append((among_descriptors + among_features) / 2)
    return losses


def test_two_points_by_hand() -> None:
    coarse = torch.zeros(2, DIM, 2, 3)
    coarse[0, :, 0, 0] = torch.tensor([3.0, 0, 0, 0])  # right
    coarse[1, :, 1, 2] = torch.tensor([5.0, 0, 0, 0])  # wrong: should be the second axis
    losses = teacher_losses(
        head_of(), encoded_of(coarse, coarse), batch_of(points([(0, 0, 0, 0), (1, 16, 8, 1)]), None)
    )
    # scale 2; logits [[2, 0], [2, 0]]: along rows, then down columns
    right, wrong, even = math.log(1 + math.exp(-2)), math.log(1 + math.exp(2)), math.log(2)
    assert losses.tolist() == pytest.approx([(right + even) / 2, (wrong + even) / 2])


def test_points_in_several_views_are_no_rivals_of_themselves() -> None:
    torch.manual_seed(0)
    coarse0, coarse1 = torch.randn(2, DIM, 2, 3), torch.randn(2, DIM, 2, 3)
    rows0 = [(0, 0.0, 0.0, 2), (0, 8.0, 0.0, 0), (1, 8.0, 8.0, 1)]
    rows1 = [(0, 16.0, 8.0, 2), (1, 0.0, 8.0, 3)]
    losses = teacher_losses(head_of(), encoded_of(coarse0, coarse1), batch_of(points(rows0), points(rows1)))
    features = [
        coarse[n, :, int(y) // 8, int(x) // 8]
        for coarse, rows in ((coarse0, rows0), (coarse1, rows1))
        for n, x, y, _ in rows
    ]
    labels = [row[3] for row in rows0 + rows1]
    expected = slow_losses(torch.stack(features), torch.eye(DIM)[labels], labels, 2.0)
    assert losses.tolist() == pytest.approx(expected, rel=1e-5)


def test_features_are_read_between_cells() -> None:
    coarse = torch.zeros(2, DIM, 2, 3)
    coarse[0, 0, 0, 0], coarse[0, 1, 0, 1] = 1.0, 1.0
    seen = []
    head = head_of()
    head.projection.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    teacher_losses(head, encoded_of(coarse, coarse), batch_of(points([(0, 2.0, 0.0, 0)]), None))
    torch.testing.assert_close(seen[0], torch.tensor([[0.75, 0.25, 0, 0]]))


@pytest.mark.parametrize("first", [None, points([])], ids=["none", "empty"])
def test_without_points_the_loss_is_zero_and_hangs_on_the_graph(first: TeacherPoints | None) -> None:
    coarse = torch.randn(2, DIM, 2, 3, requires_grad=True)
    head = head_of()
    losses = teacher_losses(head, encoded_of(coarse, coarse), batch_of(first, None))
    zero = torch.zeros(())
    terms = with_teacher(LossTerms(*[zero] * 12), losses, 0.5, lambda count: count)
    assert terms.teacher.item() == terms.total.item() == 0
    terms.total.backward()
    for parameter in head.parameters():
        assert parameter.grad is not None
        assert not parameter.grad.any()


def test_gradients_are_right_and_one_point_alone_is_finite() -> None:
    torch.manual_seed(0)
    head = head_of().double()
    two = points([(0, 3.0, 5.0, 0), (1, 9.0, 2.0, 1), (0, 14.0, 7.0, 2)])
    two = TeacherPoints(two.batch, two.points.double(), two.descriptors.double(), two.label)
    batch = batch_of(two, None)

    def total(coarse: Tensor, weight: Tensor, log_scale: Tensor) -> Tensor:
        parameters = {"projection.weight": weight, "log_scale": log_scale}
        call = lambda *inputs: torch.func.functional_call(head, parameters, inputs)  # noqa: E731
        call.projection = head.projection  # type: ignore[attr-defined]
        return teacher_losses(call, encoded_of(coarse, coarse), batch).sum()  # type: ignore[arg-type]

    leaves = [torch.randn(2, DIM, 2, 3), torch.randn(DIM, DIM), torch.tensor(0.5)]
    assert torch.autograd.gradcheck(total, [leaf.double().requires_grad_() for leaf in leaves])
    coarse = torch.randn(2, DIM, 2, 3, requires_grad=True)
    alone = teacher_losses(head_of(), encoded_of(coarse, coarse), batch_of(points([(0, 3.0, 5.0, 0)]), None))
    alone.sum().backward()
    assert alone.tolist() == [0.0]
    assert coarse.grad is not None
    assert bool(coarse.grad.isfinite().all())


def test_the_mean_is_that_of_all_processes() -> None:
    zero = torch.zeros(())
    terms = with_teacher(LossTerms(*[zero + 1] * 12), torch.tensor([1.0, 2.0]), 0.5, lambda count: (count + 4) / 2)
    assert float(terms.teacher) == pytest.approx(3 / 3)  # this one has 2 points, the other 4: 3 in the mean
    assert float(terms.total) == pytest.approx(1.5)


@pytest.fixture
def taught(tmp_path: Path) -> list[str]:
    """Photographs, a teacher's file of them, and the settings of a run with both."""
    return write_taught(tmp_path)


def write_taught(tmp_path: Path, broken: int = -1) -> list[str]:
    """As `taught`; the descriptors of photograph `broken` are not finite."""
    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    writer = TeacherWriter(tmp_path / "toy.h5", TeacherInfo("toy", "nobody", "CC0", "0", DIM, 64))
    for number in range(3):
        image = cv2.resize(rng.integers(0, 256, (12, 16, 3), np.uint8), (128, 96), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(tmp_path / f"photos/{number}.png"), image)
        descriptors = rng.normal(size=(64, DIM)).astype(np.float32)
        descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True) if number != broken else np.nan
        writer.write(f"{number}.png", (128, 96), rng.uniform(0, 95, (64, 2)).astype(np.float32), descriptors)
    writer.close()
    return ["DATA.PHOTOS", str(tmp_path / "photos"), "TRAIN.TEACHER.FILE", str(tmp_path / "toy.h5")]


def test_a_run_with_a_teacher_goes_on_bit_for_bit(
    tmp_path: Path, taught: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = [str(write_tiny(tmp_path)), "--accelerator", "cpu", *STEPS, "DATA.BATCH_SIZE", "1", *taught]
    whole = main([*settings, "--output", str(tmp_path / "whole")])
    halves = ["--output", str(tmp_path / "halves")]
    monkeypatch.setattr("s2ld.training.loop.callbacks.TimeLimit.on_train_batch_end", stop_after_two_steps)
    assert main([*settings, *halves, "--max-time", "1"]).steps == 2
    rest = main([*settings, *halves, "--resume", "auto"])
    assert whole.metrics["loss/teacher"] == rest.metrics["loss/teacher"] > 0
    a, b = content(tmp_path / "whole/last.ckpt"), content(tmp_path / "halves/last.ckpt")
    assert differing(a["state_dict"], b["state_dict"]) == []
    assert differing(a["optimizer_states"], b["optimizer_states"]) == []
    names = {key for key in a["state_dict"] if key.startswith("teacher.")}
    assert names == {"teacher.projection.weight", "teacher.log_scale"}
    assert any(value["exp_avg"].shape == (DIM, 32) for value in a["optimizer_states"][0]["state"].values())

    assert rest.weights is not None
    assert not any("teacher" in key for key in read_weights(rest.weights).state)
    assert not any("teacher" in key for key in read_weights(tmp_path / "halves/last.ckpt").state)
    with pytest.raises(S2LDError, match=r"unexpected \(teacher\.log_scale"):
        main([*settings, *halves, "--resume", "auto", "TRAIN.TEACHER.FILE", ""])


def test_a_teacher_changes_the_loss_and_nothing_else_of_the_first_step(tmp_path: Path, taught: list[str]) -> None:
    terms = []
    for settings in (taught, taught[:2]):
        config = tiny_config(tmp_path, *settings)
        torch.manual_seed(0)
        module = S2LDModule(config)
        source = build_source("homography", config, "train")
        batch = collate([source[0], source[1]])
        module._log = lambda *_, **__: None  # type: ignore[method-assign]
        module._generator = lambda _: torch.Generator().manual_seed(0)  # type: ignore[method-assign]
        terms.append(module.matcher_terms(batch, 0))
    with_one, without = terms
    assert with_one is not None
    assert without is not None
    assert without.teacher == 0
    assert torch.equal(with_one.coarse, without.coarse)
    assert torch.equal(with_one.total, without.total + 0.25 * with_one.teacher)


def test_processes_with_and_without_points_and_with_a_broken_loss_stay_together(tmp_path: Path) -> None:
    """Pairs of either source by chance, one a process; a loss that is not finite in one is skipped in both."""
    settings = [*write_taught(tmp_path, broken=0), "DATA.TRAIN_SOURCES", "['homography', 'synthetic']"]
    settings += ["DATA.TRAIN_WEIGHTS", "[0.5, 0.5]", "DATA.BATCH_SIZE", "1", "TRAIN.MAX_STEPS", "6"]
    sources = build_mixture(tiny_config(tmp_path, *settings))
    has_points = [sources[i].view0.teacher is not None for i in range(12)]
    assert len({(a, b) for a, b in zip(has_points[::2], has_points[1::2], strict=True)}) > 2
    output = ["--output", str(tmp_path / "run"), "--accelerator", "cpu", "--devices", "2"]
    done = run_unlucky("", [str(write_tiny(tmp_path)), *output, *settings])
    assert done.returncode == 0, done.stderr[-3000:]
    last = content(tmp_path / "run/last.ckpt")
    skipped = len(set(re.findall(r"step (\d+) is skipped: the loss is not finite \(homography\)", done.stderr)))
    assert 0 < skipped == last["skipped_steps"] < 6
    assert all(bool(value.isfinite().all()) for value in last["state_dict"].values())


@pytest.mark.parametrize("stage", ["detector", "consensus"])
def test_stages_that_do_not_train_the_coarse_map_have_no_teacher(tmp_path: Path, taught: list[str], stage: str) -> None:
    with pytest.raises(S2LDError, match=rf"TRAIN\.TEACHER\.FILE: the {stage} stage"):
        S2LDModule(tiny_config(tmp_path, *taught, "TRAIN.STAGE", stage, "MODEL.CONSENSUS.ENABLED", "True"))
