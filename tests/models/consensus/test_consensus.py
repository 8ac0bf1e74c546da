"""The consensus against plain loops, and what must change nothing: padding, batching, order, precision."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_networks import LITE_PARTS, random_images, tiny_config, tiny_network
from torch import Tensor

from s2ld.errors import S2LDError
from s2ld.matcher import Matcher
from s2ld.models.checkpoint import load_fitting, load_model, save_weights
from s2ld.models.consensus import neighbours
from s2ld.models.consensus.stage import EVIDENCE, Consensus, gather_candidates
from s2ld.models.fast.inference import computing_in, for_inference
from s2ld.models.network import S2LD
from s2ld.types import Candidates, ImageBatch

CHANNELS = 16
ON = ("MODEL.CONSENSUS.ENABLED", "True", "MODEL.CONSENSUS.FLOOR", "0.0", "MODEL.MATCH.BORDER", "0")


def consensus(dim: int = 16, neighbours: int = 5, rounds: int = 3) -> Consensus:
    torch.manual_seed(0)
    config = tiny_config().MODEL.CONSENSUS
    config.defrost()
    config.HIDDEN_DIM, config.NEIGHBOURS, config.ROUNDS = dim, neighbours, rounds
    return Consensus(config, CHANNELS).double()


def candidates(*counts: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Candidates:
    """Pairs of so many candidates, of which two in three follow one map."""
    generator = torch.Generator().manual_seed(seed)
    m = sum(counts)
    points0 = 200 * torch.rand(m, 2, generator=generator, dtype=dtype)
    points1 = 0.9 * points0 + 5
    wrong = torch.arange(m) % 3 == 0
    points1[wrong] = 200 * torch.rand(int(wrong.sum()), 2, generator=generator, dtype=dtype)
    evidence = torch.randn(m, EVIDENCE, generator=generator, dtype=dtype)
    descriptors = torch.randn(2, m, CHANNELS, generator=generator, dtype=dtype)
    batch = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    return Candidates(batch, points0, points1, evidence, descriptors[0], descriptors[1])


def squash(x: float) -> float:
    return math.copysign(math.log1p(abs(x)), x)


def edge_geometry(a: Tensor, b: Tensor) -> Tensor:
    (x0, y0), (x1, y1) = (a / neighbours.DISPLACEMENT).tolist(), (b / neighbours.DISPLACEMENT).tolist()
    ratio = complex(x1, y1) * complex(x0, -y0) / (x0 * x0 + y0 * y0 + 1e-3)
    turn = (min(max(part, -neighbours.MOST_RATIO), neighbours.MOST_RATIO) for part in (ratio.real, ratio.imag))
    difference = math.log1p((x1 - x0) ** 2 + (y1 - y0) ** 2)
    return torch.tensor([x0, y0, squash(x1), squash(y1), difference, math.log1p(x1 * x1 + y1 * y1), *turn]).double()


def fit(edges: list[tuple[Tensor, Tensor]], weights: list[float]) -> Tensor:
    """The affine fit of one neighbourhood by the normal equations; `edges`: displacements in px of both images."""
    unit = neighbours.DISPLACEMENT
    normal = torch.diag(torch.tensor([neighbours.RIDGE, neighbours.RIDGE, neighbours.EPS]).double())
    right, rows = torch.zeros(3, 2).double(), []
    for (a, b), w in zip(edges, weights, strict=True):
        x, moved = torch.cat([a / unit, torch.ones(1).double()]), (b - a) / unit
        normal, right = normal + w * torch.outer(x, x), right + w * torch.outer(x, moved)
        rows.append((w, x, moved))
    solution = torch.linalg.solve(normal, right)
    spread = sum(w * float((moved - x @ solution).square().sum()) for w, x, moved in rows)
    spread /= max(sum(weights), neighbours.EPS)
    x, y = (solution[2] * unit / neighbours.MISS).tolist()
    rough = math.log1p((unit / neighbours.MISS) ** 2 * spread)
    trust = sum(weights) / max(len(weights), 1)
    return torch.tensor([squash(x), squash(y), math.log1p(x * x + y * y), rough, trust]).double()


def by_loops(network: Consensus, pair: Candidates) -> Tensor:
    """What `network` says of the candidates of one pair, one candidate and one neighbour at a time."""
    count = len(pair)
    h = []
    for i in range(count):
        first, second = network.projection(pair.descriptors0[i]), network.projection(pair.descriptors1[i])
        alike = (first @ second / (first.norm() * second.norm()))[None]
        h.append(network.node(torch.cat([pair.evidence[i], alike])))
    near = []
    for points in (pair.points0, pair.points1):
        order = [sorted(range(count), key=lambda j: float((points[j] - points[i]).norm())) for i in range(count)]
        near.append([[j for j in order[i] if j != i][: network.neighbours] for i in range(count)])
    for one_round in network.rounds:
        table = torch.stack(h)
        context = one_round.of_context(torch.cat([table.mean(0), table.amax(0)]))
        updated = []
        for i in range(count):
            seen, fits = [h[i]], []
            for side in near:
                edges = [(pair.points0[j] - pair.points0[i], pair.points1[j] - pair.points1[i]) for j in side[i]]
                messages = [
                    one_round.message(
                        (one_round.of_itself(h[i]) + one_round.of_neighbour(h[j])
                         + one_round.of_edge(edge_geometry(*edge))).relu()
                    )
                    for j, edge in zip(side[i], edges, strict=True)
                ]  # fmt: skip
                nothing = torch.zeros_like(h[i])
                seen.append(torch.stack(messages).amax(0) if messages else nothing)
                seen.append(torch.stack(messages).mean(0) if messages else nothing)
                if one_round.weight is not None:
                    fits.append(fit(edges, [float(torch.sigmoid(one_round.weight(h[j]))) for j in side[i]]))
            change = one_round.update((one_round.of_seen(torch.cat(seen + fits)) + context).relu())
            updated.append(one_round.norm(h[i] + change))
        h = updated
    return torch.cat([network.head(row) for row in h])


@pytest.mark.parametrize("count", [1, 2, 4, 25])
def test_it_agrees_with_plain_loops(count: int) -> None:
    network, pair = consensus(), candidates(count)
    with torch.no_grad():
        torch.testing.assert_close(network(pair, 1), by_loops(network, pair), rtol=1e-8, atol=1e-8)


def test_batching_changes_nothing() -> None:
    network, counts = consensus(), (7, 0, 1, 2, 40, 0)
    together = candidates(*counts)
    with torch.no_grad():
        logits = network(together, len(counts))
        for pair, count in enumerate(counts):
            mine = together.at(together.batch == pair)
            alone = network(Candidates(mine.batch * 0, *list(vars(mine).values())[1:]), 1)
            assert alone.shape == (count,)
            torch.testing.assert_close(logits[together.batch == pair], alone, rtol=1e-9, atol=1e-9)


def test_what_padding_holds_changes_nothing() -> None:
    network, pair = consensus(), candidates(20)
    valid = torch.arange(20) % 4 != 1
    tables = [getattr(pair, name)[None] for name in ("points0", "points1", "evidence", "descriptors0", "descriptors1")]
    alone = pair.at(valid)
    with torch.no_grad():
        for garbage in (0.0, 1e4):
            spoilt = [table.masked_fill(~valid[None, :, None], garbage) for table in tables]
            logits = network.judge(*spoilt, valid=valid[None])[0, valid]
            torch.testing.assert_close(logits, network(alone, 1), rtol=1e-8, atol=1e-8)


def test_order_does_not_matter() -> None:
    network, pair = consensus(), candidates(30)
    order = torch.randperm(30, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(network(pair.at(order), 1), network(pair, 1)[order], rtol=1e-8, atol=1e-8)


def test_what_neighbours_say_matters() -> None:
    network, pair = consensus(), candidates(30)
    points1 = pair.points1.clone()
    points1[4] += 50
    moved = Candidates(pair.batch, pair.points0, points1, pair.evidence, pair.descriptors0, pair.descriptors1)
    with torch.no_grad():
        difference = (network(moved, 1) - network(pair, 1)).abs()
    assert difference[4] > 1e-3
    assert difference[torch.arange(30) != 4].max() > 1e-4


@pytest.mark.parametrize("counts", [(25, 3), (30,)])
def test_every_parameter_learns(counts: tuple[int, ...]) -> None:
    network = consensus()
    network(candidates(*counts), len(counts)).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("counts", [(0,), (0, 0), (1,), (0, 2)])
def test_gradients_exist_and_are_finite_whatever_is_found(counts: tuple[int, ...]) -> None:
    """Processes that train together wait for the gradient of every parameter."""
    network = consensus()
    logits = network(candidates(*counts), len(counts))
    assert logits.shape == (sum(counts),)
    logits.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize("padded", [False, True])
def test_gradcheck(padded: bool) -> None:
    network, pair = consensus(dim=4, neighbours=3, rounds=2), candidates(7, seed=3)
    valid = (torch.arange(7) < 6)[None] if padded else None
    tables = [t[None].clone().requires_grad_() for t in (pair.points0, pair.points1, pair.evidence)]
    descriptors = pair.descriptors0[None], pair.descriptors1[None]

    def judged(points0: Tensor, points1: Tensor, evidence: Tensor) -> Tensor:
        logits = network.judge(points0, points1, evidence, *descriptors, valid=valid)
        return logits if valid is None else logits[valid]

    assert torch.autograd.gradcheck(judged, tables, eps=1e-6, atol=1e-6)


def test_bf16_changes_nothing() -> None:
    network, pair = consensus().float(), candidates(30, dtype=torch.float32)
    with torch.no_grad():
        plain = network(pair, 1)
        with computing_in("bf16", torch.device("cpu")):
            reduced = network(pair, 1)
    assert reduced.dtype == torch.float32
    assert torch.equal(reduced, plain)


@pytest.mark.parametrize("key", ["NEIGHBOURS", "ROUNDS", "CANDIDATES"])
def test_impossible_settings_are_named(key: str) -> None:
    config = tiny_config().MODEL.CONSENSUS
    config.defrost()
    config[key] = 0
    with pytest.raises(S2LDError, match=rf"^MODEL\.CONSENSUS\.{key} is 0; use at least 1$"):
        Consensus(config, CHANNELS)


@pytest.fixture(scope="module")
def images() -> tuple[ImageBatch, ImageBatch]:
    return random_images(2, 96, 96), random_images(2, 96, 96, seed=1)


def halved(network: S2LD, images: tuple[ImageBatch, ImageBatch]) -> Tensor:
    """Put the threshold between the probabilities; return all of them, of all candidates."""
    with torch.no_grad():
        encoded = network.encode(*images)
        coarse, fine = network.candidates(encoded)
        probability, _ = network.judge(encoded, coarse, fine)
    ordered = probability.sort().values
    network.threshold = float(ordered[len(ordered) // 2 - 1 : len(ordered) // 2 + 1].mean())
    return probability


@pytest.mark.parametrize("parts", [(), LITE_PARTS])
def test_the_network_keeps_what_the_consensus_believes(
    parts: tuple[str, ...], images: tuple[ImageBatch, ImageBatch]
) -> None:
    network = tiny_network(*ON, "MODEL.FINE.THRESHOLD", "0.9", *parts)
    probability = halved(network, images)
    assert network.consensus is not None
    assert network.sparse_matching.threshold == 0
    with torch.no_grad():
        encoded = network.encode(*images)
        coarse, fine = network.candidates(encoded)
        logits = network.consensus(gather_candidates(encoded, coarse, fine), 2)
        kept = network(*images)
        slow = network(*images, keep_confidence=True)
    torch.testing.assert_close(torch.sigmoid(logits), probability)
    right = probability > network.threshold
    assert 4 < int(right.sum()) < len(coarse) - 4
    for prediction in (kept, slow):
        assert torch.equal(prediction.coarse.cell0, coarse.cell0[right])
        torch.testing.assert_close(prediction.coarse.confidence, probability[right])
        torch.testing.assert_close(prediction.fine.points1, fine.points1[right], rtol=1e-4, atol=1e-4)


def test_gradients_reach_the_whole_network(images: tuple[ImageBatch, ImageBatch]) -> None:
    network = tiny_network(*ON, *LITE_PARTS).train()
    prediction = network(*images)
    assert prediction.confidence is not None
    prediction.coarse.confidence.sum().backward()
    for name in ("consensus", "local_dense", "s2ld_coarse", "backbone"):
        gradients = [p.grad for p in getattr(network, name).parameters()]
        assert any(g is not None and g.abs().max() > 0 for g in gradients), name


def test_the_most_confident_candidates_of_each_pair_are_judged(images: tuple[ImageBatch, ImageBatch]) -> None:
    everything, few = tiny_network(*ON), tiny_network(*ON, "MODEL.CONSENSUS.CANDIDATES", "7")
    with torch.no_grad():
        encoded = few.encode(*images)
        all_coarse, coarse = everything.match(encoded), few.candidates(encoded)[0]
        matrix = few.confidence(encoded)
        assert torch.equal(few.select(matrix, encoded).cell0, coarse.cell0)
    for pair in range(2):
        of_pair = all_coarse.at(all_coarse.batch == pair)
        assert len(of_pair) > 7
        best = of_pair.at(of_pair.confidence.argsort(descending=True)[:7].sort().values)
        assert coarse.cell0[coarse.batch == pair].tolist() == best.cell0.tolist()


def test_the_score_filter_comes_last(images: tuple[ImageBatch, ImageBatch]) -> None:
    plain = tiny_network(*ON)
    filtered = tiny_network(
        *ON, "MODEL.SCORE_FILTER.ENABLED", "True", "MODEL.SCORE_FILTER.MIN_MATCHES", "2",
        "MODEL.SCORE_FILTER.THRESHOLD", "0.99",
    )  # fmt: skip
    halved(plain, images)
    filtered.threshold = plain.threshold
    with torch.no_grad():
        everything, part = plain(*images), filtered(*images)
    assert 4 < len(part.coarse) < len(everything.coarse)
    confidence = dict(zip(zip(everything.coarse.batch.tolist(), everything.coarse.cell0.tolist(), strict=True),
                          everything.coarse.confidence.tolist(), strict=True))  # fmt: skip
    for pair, cell, value in zip(
        part.coarse.batch.tolist(), part.coarse.cell0.tolist(), part.coarse.confidence.tolist(), strict=True
    ):
        assert confidence[pair, cell] == pytest.approx(value, abs=1e-5)


def test_a_threshold_of_the_matcher_is_that_of_the_probability() -> None:
    network = tiny_network(*ON, "MODEL.CONSENSUS.FLOOR", "0.0001")
    matcher = Matcher(network, threshold=0.3)
    assert matcher.model.threshold == 0.3
    assert matcher.model.sparse_matching.threshold == 0.0001
    assert network.threshold == 0.0
    plain = Matcher(tiny_network(), threshold=0.3)
    assert plain.model.sparse_matching.threshold == plain.model.threshold == 0.3


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_every_way_to_match_says_the_same(precision: str) -> None:
    network = tiny_network(*ON, *LITE_PARTS)
    pictures = [random_images(1, 96, 96, seed).image[0, 0].numpy() for seed in range(3)]
    halved(network, (random_images(1, 96, 96), random_images(1, 96, 96, seed=1)))
    matcher = Matcher(network, size=(96, 96), precision=precision)
    sides = [matcher.extract(picture) for picture in pictures]
    pairs = [(0, 1), (1, 2), (2, 0)]
    batched = matcher.match_many([(sides[a], sides[b]) for a, b in pairs], batch=3)
    for (a, b), many in zip(pairs, batched, strict=True):
        whole, parts = matcher(pictures[a], pictures[b]), matcher.match(sides[a], sides[b])
        assert len(whole) > 3
        for other in (parts, many):
            np.testing.assert_allclose(other.points1, whole.points1, rtol=0, atol=1e-2)
            np.testing.assert_allclose(other.confidence, whole.confidence, rtol=0, atol=1e-3)


def test_inference_computes_the_same() -> None:
    network, pair = consensus(), candidates(30)
    with torch.inference_mode():
        torch.testing.assert_close(for_inference(network)(pair, 1), network(pair, 1))


def test_weight_files(tmp_path: Path) -> None:
    """With a consensus they load into the same, without one into a network without one, or with a new one."""
    plain, config = tiny_network(), tiny_config(*ON)
    save_weights(tmp_path / "plain.safetensors", plain, tiny_config())
    old = load_model(tmp_path / "plain.safetensors")[0]
    assert old.consensus is None
    assert not any("consensus" in key for key in old.state_dict())
    network = tiny_network(*ON)
    new = load_fitting(network, plain.state_dict(), "plain")
    assert new
    assert all(name.startswith("consensus") for name in new)
    save_weights(tmp_path / "judging.safetensors", network, config)
    loaded = load_model(tmp_path / "judging.safetensors")[0]
    assert loaded.consensus is not None
    assert all(torch.equal(value, network.state_dict()[key]) for key, value in loaded.state_dict().items())
    save_weights(tmp_path / "wrong.safetensors", plain, config)
    with pytest.raises(S2LDError, match=r"missing \(consensus\."):
        load_model(tmp_path / "wrong.safetensors")
