"""Which precision pays where, with what PyTorch says of the machine replaced."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from s2ld.errors import S2LDError
from s2ld.models.fast.inference import computing_in
from s2ld.models.precision import bfloat16_support, resolve_precision

CPU = torch.device("cpu")


def with_cpu(monkeypatch: pytest.MonkeyPatch, *instructions: str, onednn: bool = True) -> None:
    """Let PyTorch find a CPU with these instructions."""
    known = {"avx512_f": True, "avx512_bf16": False, "amx_bf16": False} | dict.fromkeys(instructions, True)
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: known, raising=False)
    monkeypatch.setattr("torch.backends.mkldnn.is_available", lambda: onednn)


@pytest.mark.parametrize(
    ("instructions", "onednn", "supported", "reason"),
    [
        (["avx512_bf16"], True, True, "CPU has avx512_bf16"),
        (["amx_bf16"], True, True, "CPU has amx_bf16"),
        (["avx512_bf16", "amx_bf16"], True, True, "CPU has avx512_bf16 and amx_bf16"),
        ([], True, False, "CPU has no avx512_bf16 or amx_bf16"),
        (["neon", "bf16", "sve_bf16"], True, False, "CPU has no avx512_bf16 or amx_bf16"),  # ARM
        (["avx512_bf16"], False, False, "CPU runs a PyTorch without oneDNN"),
    ],
)
def test_cpus(
    monkeypatch: pytest.MonkeyPatch, instructions: list[str], onednn: bool, supported: bool, reason: str
) -> None:
    with_cpu(monkeypatch, *instructions, onednn=onednn)
    assert bfloat16_support(CPU) == (supported, reason)
    assert resolve_precision("auto", CPU) == ("bf16" if supported else "fp32")
    with computing_in("auto", CPU):
        assert torch.is_autocast_enabled("cpu") is supported


@pytest.mark.parametrize("supported", [True, False, None])
def test_older_pytorch_has_a_private_query_or_none(monkeypatch: pytest.MonkeyPatch, supported: bool | None) -> None:
    with_cpu(monkeypatch)
    monkeypatch.delattr("torch.cpu.get_capabilities")
    monkeypatch.delattr("torch.cpu._is_avx512_bf16_supported", raising=False)
    if supported is not None:
        monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: supported, raising=False)
    assert bfloat16_support(CPU)[0] is bool(supported)


@pytest.mark.parametrize("native", [True, False])
def test_gpus_count_without_emulation(monkeypatch: pytest.MonkeyPatch, native: bool) -> None:
    with_cpu(monkeypatch)
    asked: list[Any] = []

    class At:
        def __init__(self, device: torch.device) -> None:
            asked.append(device)

        def __enter__(self) -> None: ...
        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr("torch.cuda.device", At)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda including_emulation=True: native or including_emulation)
    device = torch.device("cuda", 1)
    assert bfloat16_support(device)[0] is native
    assert asked == [device]


def test_of_other_devices_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    with_cpu(monkeypatch, "avx512_bf16")
    assert bfloat16_support(torch.device("mps")) == (False, "device, mps, is not known to compute in bfloat16")


def test_the_machine_itself_is_understood() -> None:
    supported, reason = bfloat16_support(CPU)
    assert supported is ("has avx512_bf16" in reason or "has amx_bf16" in reason)


def test_what_is_asked_for_is_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    with_cpu(monkeypatch)
    assert [resolve_precision(name, CPU) for name in ("fp32", "bf16")] == ["fp32", "bf16"]
    with pytest.raises(S2LDError, match="precision is 'fp16'; use fp32 or bf16 or auto"):
        resolve_precision("fp16", CPU)
