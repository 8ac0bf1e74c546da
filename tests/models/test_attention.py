from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from s2ld.errors import S2LDError
from s2ld.models.attention import (
    ATTENTIONS,
    EncoderLayer,
    LocalFeatureTransformer,
    full_attention,
    linear_attention,
    positional_encoding,
)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_positions_of_a_larger_grid_lie_between_those_of_the_training_grid() -> None:
    small = positional_encoding(16, 3, 4, "intended", torch.zeros(1), long_side=4)
    large = positional_encoding(16, 6, 8, "intended", torch.zeros(1), long_side=4)
    torch.testing.assert_close(small, positional_encoding(16, 3, 4, "intended", torch.zeros(1)))
    torch.testing.assert_close(large[:, 1::2, 1::2], small)


@pytest.mark.parametrize("form", ["intended", "released"])
def test_positional_encoding_by_its_formula(form: str) -> None:
    dim, h, w = 16, 3, 5
    encoding = positional_encoding(dim, h, w, form, torch.zeros(1))
    assert encoding.shape == (dim, h, w)
    for k in range(dim // 4):
        f = math.exp(-2 * k * math.log(1e4) / (dim / 2)) if form == "intended" else math.exp(-2 * k)
        for row, column in ((0, 0), (2, 4)):
            x, y = column + 1, row + 1
            expected = [math.sin(x * f), math.cos(x * f), math.sin(y * f), math.cos(y * f)]
            torch.testing.assert_close(encoding[4 * k : 4 * k + 4, row, column], torch.tensor(expected))


def test_unknown_form_is_named() -> None:
    with pytest.raises(S2LDError, match=r"MODEL\.POSITION\.FORM"):
        positional_encoding(8, 2, 2, "learned", torch.zeros(1))


def slow_attention(q: Tensor, k: Tensor, v: Tensor, kind: str, kv_mask: Tensor | None) -> Tensor:
    """One query, one head at a time."""
    out = torch.zeros_like(q)
    for n in range(q.shape[0]):
        for head in range(q.shape[2]):
            for i in range(q.shape[1]):
                a, b = q[n, i, head], k[n, :, head]
                if kind == "full":
                    weight = torch.exp(b @ a / math.sqrt(len(a)))
                else:
                    weight = (torch.nn.functional.elu(b) + 1) @ (torch.nn.functional.elu(a) + 1)
                if kv_mask is not None:
                    weight = weight * kv_mask[n]
                out[n, i, head] = weight @ v[n, :, head] / weight.sum()
    return out


@pytest.mark.parametrize("kind", ["linear", "full"])
@pytest.mark.parametrize("masked", [False, True])
def test_attention_agrees_with_the_slow_form(kind: str, masked: bool) -> None:
    q, k, v = draw(2, 5, 3, 4), draw(2, 7, 3, 4, seed=1), draw(2, 7, 3, 4, seed=2)
    kv_mask = torch.tensor([[True] * 4 + [False] * 3, [True] * 7]) if masked else None
    attention = ATTENTIONS[kind]
    torch.testing.assert_close(
        attention(q, k, v, None, kv_mask), slow_attention(q, k, v, kind, kv_mask), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("attention", [linear_attention, full_attention])
def test_padded_queries_get_no_message(attention: object) -> None:
    q, k, v = draw(1, 3, 2, 4), draw(1, 3, 2, 4), draw(1, 3, 2, 4)
    mask = torch.tensor([[True, True, False]])
    message = attention(q, k, v, mask, mask)  # type: ignore[operator]
    assert message[0, 2].abs().max() == 0
    assert message[0, :2].abs().min() > 0


def test_cross_layer_sees_the_updated_first_image() -> None:
    transformer = LocalFeatureTransformer(8, 2, ["cross"], "linear").double()
    x0, x1 = draw(1, 4, 8), draw(1, 5, 8, seed=1)
    y0, y1 = transformer(x0, x1)
    layer = transformer.layers[0]
    torch.testing.assert_close(y0, layer(x0, x1))
    torch.testing.assert_close(y1, layer(x1, y0))
    assert not torch.allclose(y1, layer(x1, x0))


def test_padding_changes_nothing_in_the_valid_part() -> None:
    transformer = LocalFeatureTransformer(8, 2, ["self", "cross"], "linear").double()
    x0, x1 = draw(1, 4, 8), draw(1, 5, 8, seed=1)
    plain0, plain1 = transformer(x0, x1)
    mask0, mask1 = torch.arange(7)[None] < 4, torch.arange(6)[None] < 5
    padded0 = torch.cat([x0, draw(1, 3, 8, seed=2)], 1)
    padded1 = torch.cat([x1, draw(1, 1, 8, seed=3)], 1)
    y0, y1 = transformer(padded0, padded1, mask0, mask1)
    torch.testing.assert_close(y0[:, :4], plain0, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(y1[:, :5], plain1, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: EncoderLayer(8, 3, "linear"), "do not divide"),
        (lambda: EncoderLayer(8, 2, "quadratic"), "linear or full"),
        (lambda: LocalFeatureTransformer(8, 2, ["self", "both"], "linear"), "'both'"),
    ],
)
def test_bad_settings_are_named(build: object, message: str) -> None:
    with pytest.raises(S2LDError, match=message):
        build()  # type: ignore[operator]


def test_strongly_negative_channels_keep_their_gradient_in_half_precision() -> None:
    """elu + 1 of -7 is 0 in bfloat16; a normaliser of nothing but its epsilon made gradients explode in training."""
    q, k, v = draw(1, 4, 2, 8) - 7, draw(1, 5, 2, 8, seed=1), draw(1, 5, 2, 8, seed=2)
    q_half, k_half, v_half = (x.bfloat16().requires_grad_() for x in (q, k, v))
    linear_attention(q_half, k_half, v_half).square().sum().backward()
    exact = [x.detach().double().requires_grad_() for x in (q_half, k_half, v_half)]
    linear_attention(*exact).square().sum().backward()
    for half, full in zip((q_half, k_half, v_half), exact, strict=True):
        assert half.grad is not None
        assert full.grad is not None
        torch.testing.assert_close(half.grad.double(), full.grad, rtol=0.02, atol=1e-3 * float(full.grad.abs().max()))


@pytest.mark.parametrize("masked", [False, True])
def test_linear_attention_learns_as_autograd_says(masked: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(2, 6, 2, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    k, v = torch.randn(2, 2, 5, 2, 4, generator=generator, dtype=torch.float64).unbind()
    k, v = k.requires_grad_(), v.requires_grad_()
    q_mask, kv_mask = (torch.arange(6)[None] < 4).expand(2, -1), (torch.arange(5)[None] < 3).expand(2, -1)
    masks = (q_mask, kv_mask) if masked else (None, None)
    assert torch.autograd.gradcheck(lambda *qkv: linear_attention(*qkv, *masks), (q, k, v))
    with torch.no_grad():
        expected = linear_attention(q, k, v, *masks)
    torch.testing.assert_close(linear_attention(q, k, v, *masks), expected)
