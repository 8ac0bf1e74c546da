"""What is compiled; that the code agrees is measured by `s2ld benchmark speed --sections fast`: too long for a test."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tiny_networks import LITE_PARTS, random_images, tiny_network

from s2ld.errors import S2LDError
from s2ld.models.fast.compiled import compile_encoder
from s2ld.models.fast.inference import for_inference

CPU = torch.device("cpu")
SIZE = (64, 48)


def test_all_of_the_encoder_is_compiled_for_the_size_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = []

    def record(function: Callable[..., Any], **options: object) -> Callable[..., Any]:
        def call(*inputs: Any) -> Any:
            shown.append(function.__name__)
            return function(*inputs)

        assert options["dynamic"] is False
        return call

    monkeypatch.setattr(torch, "compile", record)
    plain = for_inference(tiny_network(*LITE_PARTS, "MODEL.MATCH.BORDER", "0"))
    fast = for_inference(plain)
    images = random_images(1, 48, 64, 1), random_images(1, 48, 64, 2)
    with torch.inference_mode():
        compile_encoder(fast, SIZE, CPU)
        assert shown == ["extract", "extract", "encode_pair"]
        found, expected = fast(*images), plain(*images)
    assert shown == 2 * ["extract", "extract", "encode_pair"]
    assert len(expected.coarse) > 10
    assert torch.equal(found.fine.points1, expected.fine.points1)


def test_without_a_compiler_one_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no such file: g++\nand much more")

    monkeypatch.setattr(torch, "compile", lambda *_, **__: fail)
    with pytest.raises(
        S2LDError, match=r"cannot be compiled here \(no such file: g\+\+\); .* leave out fast"
    ) as caught:
        compile_encoder(for_inference(tiny_network()), SIZE, CPU)
    assert "\n" not in str(caught.value)
