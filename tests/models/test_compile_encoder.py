"""The compiled encoder against the network as it is."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tiny_networks import LITE_PARTS, random_images, tiny_network

from s2ld.errors import S2LDError
from s2ld.models.compiled import compile_encoder
from s2ld.models.inference import for_inference

CPU = torch.device("cpu")
SIZE = (64, 48)


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_it_says_the_same() -> None:
    plain = for_inference(tiny_network(*LITE_PARTS, "MODEL.MATCH.BORDER", "0"))
    fast = for_inference(plain)
    images = [random_images(1, SIZE[1], SIZE[0], seed) for seed in (1, 2)]
    with torch.inference_mode():
        compile_encoder(fast, SIZE, CPU)
        expected, found = plain(*images), fast(*images)
        apart = fast.predict(fast.encode_pair(*(fast.extract(image) for image in images)))
    assert len(expected.coarse) > 10
    for prediction in (found, apart):
        assert torch.equal(prediction.coarse.cell1, expected.coarse.cell1)
        torch.testing.assert_close(prediction.fine.points0, expected.fine.points0, rtol=0, atol=1e-3)
        torch.testing.assert_close(prediction.fine.points1, expected.fine.points1, rtol=0, atol=1e-3)
        torch.testing.assert_close(prediction.coarse.confidence, expected.coarse.confidence, rtol=0, atol=1e-4)


def test_all_of_the_encoder_is_compiled_for_the_size_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = []

    def record(function: Callable[..., Any], **options: object) -> Callable[..., Any]:
        def call(*inputs: Any) -> Any:
            shown.append(function.__name__)
            return function(*inputs)

        assert options["dynamic"] is False
        return call

    monkeypatch.setattr(torch, "compile", record)
    network = for_inference(tiny_network(*LITE_PARTS))
    with torch.inference_mode():
        compile_encoder(network, SIZE, CPU)
        assert shown == ["extract", "extract", "encode_pair"]
        network(random_images(1, 48, 64), random_images(1, 48, 64))
    assert shown == 2 * ["extract", "extract", "encode_pair"]


def test_without_a_compiler_one_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no such file: g++\nand much more")

    monkeypatch.setattr(torch, "compile", lambda *_, **__: fail)
    with pytest.raises(
        S2LDError, match=r"cannot be compiled here \(no such file: g\+\+\); .* leave out fast"
    ) as caught:
        compile_encoder(for_inference(tiny_network()), SIZE, CPU)
    assert "\n" not in str(caught.value)
