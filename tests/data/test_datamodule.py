"""The order of the pairs: samplers, mixtures and the DataModule."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from s2ld.config import CN, build_config
from s2ld.data.datamodule import PairDataModule
from s2ld.data.index.files import SceneIndex, write_index
from s2ld.data.sample import PairSample, ViewSample
from s2ld.data.samplers import StepBatchSampler, StridedSampler
from s2ld.data.sources.by_name import build_mixture, build_source, split_seed
from s2ld.data.sources.megadepth import MegaDepthPairs
from s2ld.data.sources.mixture import ENDLESS, JoinedPairs, MixturePairs, SubsetPairs
from s2ld.errors import S2LDError


class Numbered:
    """Pairs that carry their name and index; no image to speak of."""

    def __init__(self, name: str, length: int = ENDLESS) -> None:
        self.name = name
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> PairSample:
        view = ViewSample(torch.zeros(1, 8, 8), torch.eye(3), None, name=str(index))
        return PairSample(view, view, torch.eye(4), self.name)


def index_of(pair: PairSample) -> int:
    return int(pair.view0.name)


@pytest.mark.parametrize("world", [1, 2, 3])
def test_all_processes_together_draw_each_pair_once_and_in_order(world: int) -> None:
    ranks = [list(islice(StepBatchSampler(2, rank, world, start=10), 4)) for rank in range(world)]
    drawn = [index for batches in zip(*ranks, strict=True) for batch in batches for index in batch]
    assert drawn == list(range(10, 10 + 8 * world))


def test_validation_is_dealt_without_repeats() -> None:
    shares = [list(StridedSampler(5, rank, 2)) for rank in range(2)]
    assert shares == [[0, 2, 4], [1, 3]]
    assert [len(StridedSampler(5, rank, 2)) for rank in range(2)] == [3, 2]


def test_mixture_keeps_the_shares_and_is_a_function_of_seed_and_index() -> None:
    sources = [Numbered("a"), Numbered("b")]
    mixture = MixturePairs(sources, [3, 1], seed=5)
    drawn = [mixture[i] for i in range(2000)]
    assert [index_of(pair) for pair in drawn] == list(range(2000))
    share = sum(pair.source == "a" for pair in drawn) / 2000
    assert share == pytest.approx(0.75, abs=0.03)
    again = MixturePairs(sources, [3, 1], seed=5)
    assert [again[i].source for i in (1999, 3, 700)] == [drawn[i].source for i in (1999, 3, 700)]
    other = MixturePairs(sources, [3, 1], seed=6)
    assert [other[i].source for i in range(200)] != [pair.source for pair in drawn[:200]]


def test_a_finite_source_is_gone_through_in_a_new_order_each_time() -> None:
    mixture = MixturePairs([Numbered("a", 7)], [1.0], seed=0)
    first, second = ([index_of(mixture[i]) for i in range(start, start + 7)] for start in (0, 7))
    assert sorted(first) == sorted(second) == list(range(7))
    assert first != second


@pytest.mark.parametrize(
    ("sources", "weights", "message"),
    [
        ([], [], "0 values"),
        ([Numbered("a")], [0.5, 0.5], "2 values for 1"),
        ([Numbered("a")], [0.0], "not all 0"),
        ([Numbered("a", 0)], [1.0], "no pair"),
    ],
)
def test_bad_mixtures_are_refused(sources: list[Numbered], weights: list[float], message: str) -> None:
    with pytest.raises(S2LDError, match=message):
        MixturePairs(sources, weights, 0)


def test_subset_is_spread_and_joined_pairs_follow_each_other() -> None:
    subset = SubsetPairs(Numbered("a", 100), 5)
    assert [index_of(subset[i]) for i in range(len(subset))] == [0, 25, 50, 74, 99]
    assert len(SubsetPairs(Numbered("a", 3), 5)) == 3
    joined = JoinedPairs([Numbered("a", 2), Numbered("b", 3)])
    pairs = [joined[i] for i in range(len(joined))]
    assert [(pair.source, index_of(pair)) for pair in pairs] == [("a", 0), ("a", 1), ("b", 0), ("b", 1), ("b", 2)]


def test_splits_have_seeds_of_their_own() -> None:
    seeds = {split_seed(seed, split) for seed in range(5) for split in ("train", "val", "test")}
    assert len(seeds) == 15


def config(*overrides: str) -> CN:
    return build_config(
        overrides=["DATA.WORKERS", "0", "DATA.BATCH_SIZE", "2", "DATA.IMAGE_SIZE", "[64,64]", *overrides]
    )


def test_a_resumed_datamodule_goes_on_with_the_next_pair_at_another_batch_size() -> None:
    module = PairDataModule(config("DATA.BATCH_SIZE", "3"), Numbered("a"), {})
    module.load_state_dict({"step": 4, "pairs": 8})
    names = [batch.names for batch in islice(module.train_dataloader(), 2)]
    assert [name for batch in names for name, _ in batch] == ["8", "9", "10", "11", "12", "13"]
    assert module.state_dict() == {"step": 4, "pairs": 8}


def test_loader_processes_do_not_change_the_order() -> None:
    orders = []
    for workers in ("0", "2"):
        module = PairDataModule(config("DATA.WORKERS", workers), Numbered("a"), {})
        orders.append([batch.names for batch in islice(module.train_dataloader(), 5)])
    assert orders[0] == orders[1]


def test_validation_pairs_of_all_sources_in_their_order() -> None:
    module = PairDataModule(config(), Numbered("a"), {"x": Numbered("x", 2), "y": Numbered("y", 1)})
    assert [batch.sources for batch in module.val_dataloader()] == [["x"], ["x"], ["y"]]
    assert module.val_layout == [("x", 2), ("y", 1)]
    assert PairDataModule(config(), Numbered("a"), {}).val_dataloader() == []
    module.trainer = SimpleNamespace(global_rank=0, world_size=4)  # type: ignore[assignment]
    with pytest.raises(S2LDError, match=r"DATA.VAL_PAIRS: 3 validation pair\(s\) for 4 processes"):
        module.val_dataloader()


@pytest.mark.parametrize("name", ["synthetic", "homography"])
def test_generated_sources_differ_by_split_and_repeat_by_index(name: str) -> None:
    tree = config("DATA.VAL_PAIRS", "3", "DATA.SYNTHETIC.SUPERSAMPLE", "1")
    train, val = build_source(name, tree, "train"), build_source(name, tree, "val")
    assert len(train) >= ENDLESS
    assert len(val) == 3
    pair = train[0]
    torch.testing.assert_close(pair.view0.image, build_source(name, tree, "train")[0].view0.image)
    assert not torch.equal(pair.view0.image, val[0].view0.image)
    assert pair.view0.image.shape == (1, 64, 64)


def test_sources_that_cannot_be_are_refused() -> None:
    with pytest.raises(S2LDError, match="unknown data source 'sintetic'"):
        build_source("sintetic", config(), "train")
    with pytest.raises(S2LDError, match="no depth"):
        build_mixture(config("DATA.TRAIN_SOURCES", "['posed_pairs']"))
    with pytest.raises(S2LDError, match="TEST_PAIRS"):
        build_source("homography", config("DATA.TEST_PAIRS", "0"), "test")


@pytest.fixture
def scenes(tmp_path: Path) -> list[str]:
    """Overrides for three scenes of which there is an index only."""
    paths, poses = np.array(["a.jpg", "b.jpg"]), np.tile(np.eye(4), (2, 1, 1))
    for name, count in (("one", 5), ("two", 12), ("three", 40)):
        pairs, overlap = np.tile([[0, 1]], (count, 1)), np.full(count, 0.5, np.float32)
        index = SceneIndex(name, paths, paths, np.tile(np.eye(3), (2, 1, 1)), poses, pairs, overlap, None)
        write_index(index, tmp_path / f"{name}.npz")
    named = {"ROOT": str(tmp_path), "INDEX": str(tmp_path), "PAIRS_PER_SCENE": "8"}
    return ["DATA.VAL_SOURCES", "[]", *(part for key in named for part in (f"DATA.MEGADEPTH.{key}", named[key]))]


def test_only_megadepth_alone_has_epochs(scenes: list[str]) -> None:
    for sources, weights, expected in (
        (["megadepth"], [1.0], 24),
        (["homography"], [1.0], None),
        (["megadepth", "homography"], [0.5, 0.5], None),
    ):
        shares = ["DATA.TRAIN_SOURCES", str(sources), "DATA.TRAIN_WEIGHTS", str(weights)]
        for noise in ("0.0", "1.0"):
            module = PairDataModule(config(*scenes, *shares, "DATA.NOISE.ROTATION", noise))
            assert module.epoch_pairs is None
            module.setup("fit")
            assert module.epoch_pairs == expected


@pytest.mark.parametrize(("batch_size", "world"), [(4, 1), (2, 2), (1, 4)])
def test_megadepth_is_shared_out_to_the_pairs_of_a_step(
    scenes: list[str], batch_size: int, world: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the module was set up before a trainer said how many processes there are."""
    tree = config(*scenes, "DATA.TRAIN_SOURCES", "['megadepth']", "DATA.BATCH_SIZE", str(batch_size))
    four_lanes = build_source("megadepth", tree, "train", lanes=4)
    module = PairDataModule(tree)
    module.setup("fit")
    monkeypatch.setattr(module, "trainer", SimpleNamespace(world_size=world, global_rank=0, global_step=0))
    module.setup("fit")
    assert isinstance(module._train_source, MixturePairs)
    (source,) = module._train_source.sources
    assert isinstance(source, MegaDepthPairs)
    assert isinstance(four_lanes, MegaDepthPairs)
    assert [source.locate(i) for i in range(72)] == [four_lanes.locate(i) for i in range(72)]
    built = module._train_source
    module.setup("fit")
    assert module._train_source is built


def test_a_few_pairs_are_all_there_is() -> None:
    few = ["DATA.OVERFIT_PAIRS", "3", "DATA.BATCH_SIZE", "2", "DATA.WORKERS", "0", "DATA.IMAGE_SIZE", "[64,64]"]
    sources = ["DATA.TRAIN_SOURCES", "['homography']", "DATA.VAL_SOURCES", "['posed_pairs']"]
    config = build_config(overrides=[*few, *sources])
    module = PairDataModule(config)
    module.setup("fit")
    assert module.val_layout == [("overfit", 3)]
    batches = list(islice(module.train_dataloader(), 3))
    validated = torch.cat([batch.view0.images.image for batch in module.val_dataloader()])
    assert torch.equal(torch.cat([batch.view0.images.image for batch in batches]), validated.repeat(2, 1, 1, 1))
    assert not torch.equal(validated[0], validated[1])
    first = build_source("homography", config, "train")[0]
    assert torch.equal(validated[0], first.view0.image)
