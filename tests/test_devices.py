"""Devices that cannot be used are told in one short line; forked processes do not wait for threads that are gone."""

from __future__ import annotations

import multiprocessing
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest
import torch

from s2ld import Matcher, S2LDError
from s2ld.config import build_config
from s2ld.devices import choose_device, float32_by_default
from s2ld.models.network import S2LD

LITE = Path(__file__).parents[1] / "configs/s2ld/outdoor/s2ld_lite.yaml"
IMAGE = np.random.default_rng(0).integers(0, 256, (96, 128), np.uint8)


@pytest.mark.parametrize("device", ["meta", "mps", "xpu", "toaster", "cuda:99", 3.5, None])
def test_what_is_not_there_is_one_short_line(device: object) -> None:
    if device == "mps" and torch.backends.mps.is_available():
        pytest.skip("it is there")
    with pytest.raises(S2LDError, match=f"device {str(device)!r} cannot be used") as caught:
        choose_device(device)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_float32_is_the_default_inside() -> None:
    torch.set_default_dtype(torch.float64)
    try:
        with float32_by_default():
            assert torch.zeros(1).dtype == torch.float32
        assert torch.zeros(1).dtype == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


def _match(matcher: Matcher, answer: Connection) -> None:
    answer.send(len(matcher(IMAGE, IMAGE).points0))


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs fork")
def test_a_forked_process_matches() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        torch.manual_seed(3)
        matcher = Matcher(S2LD(build_config([LITE]).MODEL), 0.0, 128, "cpu")
        expected = len(matcher(IMAGE, IMAGE))  # the threads of this process have worked
        ours, theirs = multiprocessing.Pipe()
        child = multiprocessing.get_context("fork").Process(target=_match, args=(matcher, theirs))
        child.start()
        try:
            assert ours.poll(60), "the forked process waits for ever"
            assert ours.recv() == pytest.approx(expected, rel=0.05)  # it has another number of threads
        finally:
            child.kill()
            child.join()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
