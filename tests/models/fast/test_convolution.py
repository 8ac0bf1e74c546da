"""`Conv3x3` against PyTorch's convolution, in the cases where it takes fewer products and where it does not."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from s2ld.models.fast import convolution as module
from s2ld.models.fast.convolution import FILTER_SUMS, Conv3x3
from s2ld.models.fast.inference import for_inference

SIDES = [(16, 12), (17, 9), (3, 5), (1, 1), (30, 7)]


@pytest.fixture(autouse=True)
def as_with_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LEAST_NUMBERS", module.LEAST_NUMBERS // torch.get_num_threads())


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LEAST_CHANNELS", 1)
    monkeypatch.setattr(module, "LEAST_NUMBERS", 0)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """The inputs of every convolution with fewer products."""
    seen: list[Tensor] = []
    real = module._convolve

    def counted(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        seen.append(x)
        return real(x, weight, bias)

    monkeypatch.setattr(module, "_convolve", counted)
    return seen


def layer(in_dim: int, out_dim: int, bias: bool = False, dtype: torch.dtype = torch.float64) -> Conv3x3:
    torch.manual_seed(0)
    conv = Conv3x3(in_dim, out_dim)
    if bias:
        conv.bias = nn.Parameter(torch.randn(out_dim))
    return conv.to(dtype)


def plainly(conv: Conv3x3, x: Tensor) -> Tensor:
    return F.conv2d(x, conv.weight, conv.bias, padding=1)


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("block", [1, 200, 2**17], ids=["a tile", "some tiles", "all tiles"])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("last", [False, True], ids=["channels first", "channels last"])
@pytest.mark.parametrize("sides", SIDES)
def test_outputs_and_gradients_are_those_of_the_plain_convolution(
    sides: tuple[int, int], last: bool, bias: bool, block: int, monkeypatch: pytest.MonkeyPatch, calls: list[Tensor]
) -> None:
    monkeypatch.setattr(module, "BLOCK", block)
    conv = layer(5, 3, bias)
    x = torch.randn(2, 5, *sides, dtype=torch.float64)
    x = (x.contiguous(memory_format=torch.channels_last) if last else x).requires_grad_()
    of = [x, *conv.parameters()]
    ours, reference = conv(x), plainly(conv, x)
    assert len(calls) == 1
    torch.testing.assert_close(ours, reference, rtol=0, atol=1e-13)
    grad = torch.randn_like(reference)
    for a, b in zip(torch.autograd.grad(ours, of, grad), torch.autograd.grad(reference, of, grad), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


@pytest.mark.usefixtures("always")
def test_gradients_are_those_of_differences() -> None:
    conv, x = layer(2, 3), torch.randn(1, 2, 5, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        module.convolve_3x3, (x, conv.weight, torch.randn(3, dtype=torch.float64, requires_grad=True))
    )


@pytest.mark.usefixtures("always")
def test_only_wanted_gradients_are_made(calls: list[Tensor]) -> None:
    conv, x = layer(4, 4), torch.randn(1, 4, 8, 8, dtype=torch.float64)
    conv(x).sum().backward()  # the first layer of a network: its input has no gradient
    assert len(calls) == 1
    assert conv.weight.grad is not None
    conv.requires_grad_(False)
    conv(x.requires_grad_()).sum().backward()
    assert len(calls) == 3
    assert x.grad is not None


def test_rounding_in_float32_is_a_few_times_that_of_the_plain_convolution(calls: list[Tensor]) -> None:
    conv, x = layer(128, 128, dtype=torch.float32), torch.randn(1, 128, 64, 64)
    with torch.no_grad():
        exact = F.conv2d(x.double(), conv.weight.double(), padding=1)
        apart, plain = (y.double() - exact for y in (conv(x), plainly(conv, x)))
    assert len(calls) == 1
    assert apart.norm() < 10 * plain.norm()
    assert apart.norm() < 2e-6 * exact.norm()


def test_the_sums_are_winograds() -> None:
    """Products of (filter sums) and (row sums) are the filter's outputs, at all six points, infinity among them."""
    rows = torch.eye(6, dtype=torch.float64)[:, None, :]  # six rows, W 1, the unit vectors as channels
    parts = module._analyse(rows, torch.empty(10, 1, 1, 6, dtype=torch.float64))
    b = torch.stack([part[0, :, 0, 0] for part in parts])
    products = list(torch.eye(6, dtype=torch.float64)[:, None, None, :])
    a = torch.empty(4, 1, 6, dtype=torch.float64)
    module._synthesise(products, a, torch.empty(10, 1, 1, 6, dtype=torch.float64))
    g = torch.tensor(FILTER_SUMS, dtype=torch.float64)
    outputs = torch.einsum("iu,uh,uj->ihj", a[:, 0], g, b)
    expected = torch.zeros(4, 3, 6, dtype=torch.float64)
    for i in range(4):
        expected[i, range(3), range(i, i + 3)] = 1
    torch.testing.assert_close(outputs, expected, rtol=0, atol=1e-15)


@pytest.mark.parametrize("case", ["stride", "channels", "small map", "half", "autocast", "switched off"])
def test_the_plain_convolution_stays_where_it_is_the_better_one(case: str, calls: list[Tensor]) -> None:
    conv, x = Conv3x3(96, 96, 2 if case == "stride" else 1), torch.randn(1, 96, 64, 48)
    if case == "channels":
        conv, x = Conv3x3(80, 96), torch.randn(1, 80, 64, 64)
    elif case == "small map":
        x = x[:, :, :16]
    elif case == "half":
        conv, x = conv.bfloat16(), x.bfloat16()
    elif case == "switched off":
        conv.minimal = False
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=case == "autocast"):
        expected = F.conv2d(x, conv.weight, None, conv.stride, 1)
        torch.testing.assert_close(conv(x), expected, rtol=0, atol=0)
    assert not calls


def test_batch_norms_go_into_it(calls: list[Tensor]) -> None:
    torch.manual_seed(0)
    block = nn.Sequential(Conv3x3(96, 96), nn.BatchNorm2d(96)).eval()
    nn.init.normal_(block[1].bias)
    x = torch.randn(1, 96, 64, 48)
    with torch.no_grad():
        torch.testing.assert_close(for_inference(block)(x), block(x), rtol=0, atol=5e-5)
    assert len(calls) == 2


def test_exported_graphs_hold_one_convolution(calls: list[Tensor]) -> None:
    exported = torch.export.export(Conv3x3(96, 96).eval(), (torch.randn(1, 96, 64, 48),), strict=False)
    assert not calls
    assert [str(node.target) for node in exported.graph.nodes if node.op == "call_function"] == ["aten.conv2d.default"]


@pytest.mark.parametrize("height", [64, 16], ids=["large", "small"])
def test_compiled_graphs_hold_it_as_one_operator(height: int, calls: list[Tensor]) -> None:
    conv, x = Conv3x3(96, 96).requires_grad_(False), torch.randn(1, 96, height, 48)
    torch._dynamo.reset()
    compiled = torch.compile(conv, backend="aot_eager", fullgraph=True, dynamic=False)
    torch.testing.assert_close(compiled(x), conv(x), rtol=0, atol=0)
    assert len(calls) == (2 if height == 64 else 0)
