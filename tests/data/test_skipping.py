"""Another pair comes in the place of one that cannot be read."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from s2ld.config import CN, build_config
from s2ld.data.datamodule import PairDataModule
from s2ld.data.sample import PairSample, ViewSample
from s2ld.data.skipping import IN_A_ROW, SkippingPairs
from s2ld.data.sources.homography_pairs import HomographyPairs
from s2ld.data.sources.mixture import ENDLESS
from s2ld.errors import S2LDError


class Numbered:
    """Pairs that carry their index; some cannot be read."""

    def __init__(self, length: int, bad: Callable[[int], bool]) -> None:
        self.length, self.bad = length, bad

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> PairSample:
        assert 0 <= index < self.length
        if self.bad(index):
            raise S2LDError(f"{index}.jpg: no such image")
        view = ViewSample(torch.zeros(1, 16, 16), torch.eye(3), None, name=str(index))
        return PairSample(view, view, torch.eye(4))


def config(*overrides: str) -> CN:
    return build_config([], ["DATA.WORKERS", "0", "DATA.BATCH_SIZE", "4", "DATA.IMAGE_SIZE", "[64, 64]", *overrides])


def test_a_pair_that_can_be_read_is_itself() -> None:
    sample = SkippingPairs(Numbered(ENDLESS, lambda index: False))[ENDLESS - 1]
    assert (sample.view0.name, sample.skipped) == (str(ENDLESS - 1), ())


@pytest.mark.parametrize("length", [ENDLESS, 50])
def test_others_come_from_anywhere_and_always_the_same_ones(length: int) -> None:
    pairs = SkippingPairs(Numbered(length, lambda index: index < 10))
    samples = [pairs[index] for index in range(10)]
    assert [sample.skipped[0] for sample in samples] == [f"{index}.jpg: no such image" for index in range(10)]
    names = [int(sample.view0.name) for sample in samples]
    assert min(names) >= 10
    assert len(set(names)) > 5
    assert [int(pairs[index].view0.name) for index in range(10)] == names


def test_every_pair_of_a_small_source_is_tried() -> None:
    for length in range(2, IN_A_ROW):
        pairs = SkippingPairs(Numbered(length, lambda index: index != 1))
        assert {pairs[index].view0.name for index in range(length)} == {"1"}


def test_many_in_a_row_stop_with_one_line() -> None:
    with pytest.raises(S2LDError, match=r"^16 pairs in a row .* \d+\.jpg: no such image; s2ld check-data"):
        SkippingPairs(Numbered(ENDLESS, lambda index: True))[3]


def test_batches_keep_their_size_and_say_what_is_missing() -> None:
    bad = Numbered(ENDLESS, lambda index: index % 5 == 2)
    batches = list(islice(PairDataModule(config(), bad, {}).train_dataloader(), 2))
    assert [batch.size for batch in batches] == [4, 4]
    assert batches[0].skipped[0] == "2.jpg: no such image"
    assert batches[1].skipped[0] == "7.jpg: no such image"
    assert [name for name, _ in batches[1].names][:3] == ["4", "5", "6"]
    assert batches[0].to("cpu").skipped == batches[0].skipped


def test_a_run_that_is_to_stop_does() -> None:
    module = PairDataModule(config("DATA.ON_BAD_PAIR", "stop"), Numbered(ENDLESS, lambda index: index == 2), {})
    with pytest.raises(S2LDError, match=r"^2\.jpg: no such image$"):
        next(iter(module.train_dataloader()))


def test_photographs_that_cannot_be_decoded_are_skipped(tmp_path: Path) -> None:
    photo = np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8)
    for name in "abcde":
        cv2.imwrite(str(tmp_path / f"{name}.jpg"), photo)
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:2000])
    source = HomographyPairs(config("DATA.PHOTOS", str(tmp_path)).DATA, seed=0, length=ENDLESS)
    samples = [SkippingPairs(source)[index] for index in range(12)]
    lines = {line for sample in samples for line in sample.skipped}
    assert lines == {f"{tmp_path / 'cut.jpg'}: not an image that OpenCV can decode; is the file complete?"}
    assert not all(sample.skipped for sample in samples)
