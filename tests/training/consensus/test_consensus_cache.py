from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_runs import tiny_config

from s2ld.config import CN
from s2ld.data.sample import collate
from s2ld.data.sources.by_name import build_mixture
from s2ld.errors import S2LDError
from s2ld.models.consensus.stage import gather_candidates
from s2ld.models.network import S2LD
from s2ld.training.consensus import making
from s2ld.training.consensus.cache import JOURNAL_SUFFIX, complete_cache, read_pair
from s2ld.training.consensus.candidates import CandidatePair
from s2ld.training.consensus.labels import candidate_errors
from s2ld.training.consensus.making import header_of, make_cache, make_pairs
from s2ld.training.consensus.source import CachedCandidates
from s2ld.training.losses.targets import build_targets

PAIRS = 4
CONSENSUS = [
    *("MODEL.CONSENSUS.ENABLED", "True", "MODEL.CONSENSUS.FLOOR", "0.0", "TRAIN.CANDIDATES.PAIRS", str(PAIRS)),
    *("TRAIN.CANDIDATES.HELD_OUT", "0.25"),
]
CPU = torch.device("cpu")


def tiny(folder: Path, *overrides: str) -> CN:
    return tiny_config(folder, *CONSENSUS, *overrides)


def network(config: CN) -> S2LD:
    torch.manual_seed(0)
    return S2LD(config.MODEL).eval()


def tensors(pair: CandidatePair) -> dict[str, torch.Tensor]:
    parts = (pair.candidates, pair.errors)
    return {field.name: getattr(part, field.name) for part in parts for field in fields(part)}


def assert_same(first: CandidatePair, second: CandidatePair) -> None:
    assert (first.source, first.names, first.sizes) == (second.source, second.names, second.sizes)
    for name, value in tensors(first).items():
        other = tensors(second)[name]
        assert value.dtype == other.dtype
        assert torch.equal(value.nan_to_num(-9.0), other.nan_to_num(-9.0)), name


def interrupted(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """Let the making of pairs end with Ctrl-C."""

    def make(*arguments: Any) -> Iterator[CandidatePair]:
        for number, pair in enumerate(make_pairs(*arguments)):
            if number == after:
                raise KeyboardInterrupt
            yield pair

    monkeypatch.setattr(making, "make_pairs", make)


def test_a_cached_pair_is_what_the_network_finds(tmp_path: Path) -> None:
    config = tiny(tmp_path)
    model, path = network(config), tmp_path / "made/candidates.h5"
    make_cache(path, model, config, CPU)
    for number in range(PAIRS):
        batch = collate([build_mixture(config)[number]])
        with torch.no_grad():
            encoded = model.encode(batch.view0.images, batch.view1.images)
            coarse, fine = model.candidates(encoded)
        truth = gather_candidates(encoded, coarse, fine)
        errors = candidate_errors(coarse, fine, build_targets(encoded, batch, config.TARGETS), batch)
        pair = read_pair(path, number)
        assert (pair.source, pair.sizes) == ("homography", ((64, 64), (64, 64)))
        assert len(pair.candidates) == len(truth) > 5
        # a network for inference rounds otherwise
        assert torch.allclose(pair.candidates.points0, truth.points0, atol=1e-3)
        assert torch.allclose(pair.candidates.points1, truth.points1, atol=1e-3)
        assert torch.allclose(pair.candidates.evidence, truth.evidence, atol=1e-3)
        assert torch.allclose(pair.candidates.descriptors0.float(), truth.descriptors0, atol=2e-3, rtol=2e-3)
        assert torch.allclose(pair.candidates.descriptors1.float(), truth.descriptors1, atol=2e-3, rtol=2e-3)
        assert torch.allclose(pair.errors.distance, errors.distance, atol=1e-2, equal_nan=True)
        assert bool((pair.errors.distance.isfinite()).any())


def test_a_killed_run_goes_on_to_the_same_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny(tmp_path)
    whole, halves = tmp_path / "whole.h5", tmp_path / "halves.h5"
    make_cache(whole, network(config), config, CPU)
    interrupted(monkeypatch, after=2)
    with pytest.raises(KeyboardInterrupt):
        make_cache(halves, network(config), config, CPU)
    journal = halves.with_name(halves.name + JOURNAL_SUFFIX)
    assert not halves.exists()
    with journal.open("ab") as file:  # what a kill amid a pair leaves
        file.write(b"\x00\x00\x00\x00\x00\x00\x10\x00half of a record")

    drawn = []
    monkeypatch.setattr(making, "make_pairs", lambda *args: drawn.append(args[-1]) or make_pairs(*args))
    make_cache(halves, network(config), config, CPU)
    assert drawn == [2]
    assert not journal.exists()
    for number in range(PAIRS):
        assert_same(read_pair(whole, number), read_pair(halves, number))


def test_a_whole_cache_is_kept_and_a_stale_one_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, path = tiny(tmp_path), tmp_path / "candidates.h5"
    make_cache(path, network(config), config, CPU)
    monkeypatch.setattr(making, "make_pairs", lambda *_: pytest.fail("made again"))
    other = network(config)
    assert other.consensus is not None
    torch.nn.init.zeros_(other.consensus.head[0].weight)  # the consensus is what learns: it does not count
    harmless = ["DATA.WORKERS", "3", "LOSS.CONSENSUS_RIGHT", "2.0", "MODEL.CONSENSUS.ROUNDS", "2"]
    make_cache(path, other, tiny(tmp_path, *harmless), CPU)
    stale = tiny(tmp_path, "DATA.IMAGE_SIZE", "[80,64]", "MODEL.CONSENSUS.FLOOR", "0.1")
    with pytest.raises(S2LDError, match=r"with other DATA\.IMAGE_SIZE, MODEL\.CONSENSUS\.FLOOR; delete it"):
        make_cache(path, network(config), stale, CPU)
    with torch.no_grad():
        next(other.backbone.parameters()).mul_(2)
    with pytest.raises(S2LDError, match="with other weights"):
        make_cache(path, other, config, CPU)


def test_pairs_of_another_network_in_the_journal_are_refused_too(tmp_path: Path) -> None:
    path = tmp_path / "candidates.h5"
    with pytest.raises(S2LDError, match="holds 0 of 4 pairs"):
        complete_cache(path, {"weights": "a"}, PAIRS, lambda _: [])
    with pytest.raises(S2LDError, match=r"candidates\.h5\.partial: .* with other weights"):
        complete_cache(path, {"weights": "b"}, PAIRS, lambda _: [])


def test_a_cache_that_another_run_makes_is_left_alone(tmp_path: Path, take_output: Callable[[Path], None]) -> None:
    path, journal = tmp_path / "candidates.h5", tmp_path / f"candidates.h5{JOURNAL_SUFFIX}"
    journal.touch()
    take_output(journal)
    with pytest.raises(S2LDError, match=r"candidates\.h5\.partial: another process is writing to this output"):
        complete_cache(path, {"weights": "a"}, PAIRS, lambda _: [])
    assert journal.read_bytes() == b""


def test_a_setting_that_a_cache_does_not_know_counts_as_its_default(tmp_path: Path) -> None:
    path = tmp_path / "candidates.h5"
    assert complete_cache(path, {"weights": "a"}, 0, lambda _: [])
    assert not complete_cache(path, {"weights": "a", "MODEL.MATCH.BORDER": 2}, 0, lambda _: [])
    with pytest.raises(S2LDError, match=r"with other MODEL\.MATCH\.BORDER"):
        complete_cache(path, {"weights": "a", "MODEL.MATCH.BORDER": 1}, 0, lambda _: [])


def test_what_is_no_cache_is_named(tmp_path: Path) -> None:
    config, path = tiny(tmp_path), tmp_path / "candidates.h5"
    path.write_text("something else")
    with pytest.raises(S2LDError, match=r"candidates\.h5: not a readable HDF5 file .*must be a cache of candidates"):
        make_cache(path, network(config), config, CPU)
    with pytest.raises(S2LDError, match=r"candidates\.h5: not a readable HDF5 file .*delete it"):
        read_pair(path, 0)


def test_the_source_goes_through_the_pairs_and_changes_them_each_time(tmp_path: Path) -> None:
    config, path = tiny(tmp_path), tmp_path / "candidates.h5"
    make_cache(path, network(config), config, CPU)
    source = CachedCandidates(path, config)
    assert source.epoch_pairs == 3
    plain = [source._read(number) for number in range(PAIRS)]
    held = list(source.held_out())
    assert len(held) == 1
    assert torch.equal(held[0].candidates.points0, plain[3].candidates.points0)

    scores = [set(pair.candidates.evidence[:, 2].tolist()) for pair in plain]  # which no augmentation changes
    passes = [[source[3 * turn + place] for place in range(3)] for turn in range(4)]
    orders = []
    for one in passes:
        found = [next(i for i in range(PAIRS) if set(p.candidates.evidence[:, 2].tolist()) <= scores[i]) for p in one]
        assert sorted(found) == [0, 1, 2]
        orders.append(tuple(found))
    assert len(set(orders)) > 1
    again = CachedCandidates(path, config)[7]
    assert torch.equal(again.candidates.points1, passes[2][1].candidates.points1)
    assert torch.equal(again.labels, passes[2][1].labels)
    first, second = (passes[turn][orders[turn].index(0)].candidates.points0 for turn in (0, 1))
    assert first.shape != second.shape or not torch.equal(first, second)


def test_a_share_that_leaves_nothing_is_refused(tmp_path: Path) -> None:
    config = tiny(tmp_path, "TRAIN.CANDIDATES.PAIRS", "2", "TRAIN.CANDIDATES.HELD_OUT", "0.9")
    with pytest.raises(S2LDError, match=r"HELD_OUT leaves none of 2 pairs"):
        CachedCandidates(tmp_path / "none.h5", config)


def test_the_header_names_what_candidates_depend_on(tmp_path: Path) -> None:
    config = tiny(tmp_path)
    header = header_of(network(config), config)
    assert {"MODEL.CONSENSUS.CANDIDATES", "MODEL.MATCH.BORDER", "DATA.SEED", "TARGETS.CYCLE_RADIUS"} < header.keys()
    assert not {"MODEL.MATCH.THRESHOLD", "DATA.VAL_PAIRS", "TRAIN.MAX_STEPS"} & header.keys()
