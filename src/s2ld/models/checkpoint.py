"""Weight files: our safetensors with the config inside, released state dicts and Lightning checkpoints."""

from __future__ import annotations

import re
import threading
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from s2ld.config import CN, build_config, config_from_text, config_to_text
from s2ld.devices import float32_by_default
from s2ld.errors import S2LDError, one_line
from s2ld.files import whole_file
from s2ld.models.network import S2LD

CONFIG_KEY = "s2ld_config"  # of the safetensors metadata and of our Lightning checkpoints
PREFIX = "matcher."  # of the network's keys in a Lightning checkpoint
RELEASED = ["MODEL.POSITION.FORM", "released", "MODEL.FINE.WINDOW_MODE", "rounded"]
"""What a released checkpoint was trained with, and carries no config to say."""

_DTYPES = frozenset(
    (
        *(torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.bool),
        *(torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
    )
)
_SPARE = 10_000_000  # parameters above twice those of a file at which building a network for it ends


@dataclass(frozen=True)
class WeightFile:
    """What a weight file holds."""

    state: dict[str, Tensor]
    config: CN | None
    """None for released files, which carry none."""
    metadata: dict[str, str]
    path: Path


def read_weights(path: str | Path) -> WeightFile:
    """Read a .safetensors file, a .pt state dict or a Lightning .ckpt; nothing in the file can execute.

    Raises:
        S2LDError: the file is missing, broken, of another kind, or holds more than tensors and plain values.
    """
    path = Path(path)
    if not path.is_file():
        raise S2LDError(f"{path}: no such weight file; check the path")
    return _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)


def save_weights(
    path: str | Path,
    weights: nn.Module | Mapping[str, Tensor],
    config: CN,
    metadata: Mapping[str, str] | None = None,
    half: bool = False,
) -> None:
    """Write a safetensors file, whole or not at all, with the config inside.

    Args:
        path: ends in .safetensors.
        weights: the network or its state dict.
        config: the whole config.
        metadata: further plain text (seed, steps, ...).
        half: store floating-point tensors as float16.

    Raises:
        S2LDError: the file cannot be written, or a finite weight is too large for float16.
    """
    state = weights.state_dict() if isinstance(weights, nn.Module) else weights
    tensors = {k: (v.half() if half and v.is_floating_point() else v).cpu().contiguous() for k, v in state.items()}
    for key, value in tensors.items():
        if half and not bool(value.isfinite().all()) and bool(state[key].isfinite().all()):
            raise S2LDError(f"{path}: {key} does not fit float16; write these weights as float32")
    with whole_file(path) as part:
        try:
            save_file(tensors, part, {**(metadata or {}), CONFIG_KEY: config_to_text(config), "format": "pt"})
        except SafetensorError as error:
            raise S2LDError(f"{path}: cannot write these weights ({error})") from error


def load_strict(model: nn.Module, state: Mapping[str, Tensor], origin: str | Path) -> None:
    """Copy `state` into `model`; every key must fit.

    Raises:
        S2LDError: one line that names missing, unexpected and misshapen keys, or one that is not finite or not dense.
    """
    check_dense(state, origin)
    own = model.state_dict()
    problems = []
    for label, keys in (
        ("missing", sorted(own.keys() - state.keys())),
        ("unexpected", sorted(state.keys() - own.keys())),
        ("of another shape", sorted(k for k in own.keys() & state.keys() if own[k].shape != state[k].shape)),
    ):
        if keys:
            first = keys[:3]
            shapes = [f" {tuple(state[k].shape)} for {tuple(own[k].shape)}" if "shape" in label else "" for k in first]
            shown = [one_line(key) + shape for key, shape in zip(first, shapes, strict=True)]
            problems.append(f"{len(keys)} {label} ({', '.join(shown)}{', ...' if len(keys) > 3 else ''})")
    if problems:
        raise S2LDError(
            f"{origin}: these weights do not fit this configuration: keys {'; '.join(problems)}; "
            "use the config that they were trained with"
        )
    broken = [key for key, value in state.items() if not bool(value.isfinite().all())]
    if broken:
        raise S2LDError(f"{origin}: {broken[0]} holds NaN or infinite values; take weights from before that happened")
    model.load_state_dict({k: v.to(own[k].dtype) for k, v in state.items()})


def load_fitting(model: nn.Module, state: Mapping[str, Tensor], origin: str | Path) -> list[str]:
    """Copy what fits `model` in name and shape; return the modules of which something was not in `state`.

    Raises:
        S2LDError: nothing fits, or a value is not finite.
    """
    own = model.state_dict()
    fitting = {key: state[key] for key in own if key in state and own[key].shape == state[key].shape}
    if not fitting:
        raise S2LDError(f"{origin}: none of these weights fits this configuration; empty TRAIN.INIT_WEIGHTS")
    load_strict(model, {**own, **fitting}, origin)
    return sorted({key.rpartition(".")[0] for key in own.keys() - fitting.keys()})


def load_model(
    path: str | Path,
    device: str | torch.device = "cpu",
    model_overrides: Sequence[str] = (),
) -> tuple[S2LD, CN]:
    """Build the network that a weight file describes, in eval mode on `device`, with its config.

    A released file carries no config: it gets the paper configuration in compatible mode. A config that asks for far
    more than the file holds is refused before it takes memory.

    Args:
        path: see `read_weights`.
        device: where the network goes.
        model_overrides: KEY VALUE pairs over the file's config, e.g. ("MODEL.MATCH.THRESHOLD", "0.1").

    Raises:
        S2LDError: what `read_weights`, `build_config` and `load_strict` say, or a config that makes no network.
    """
    file = read_weights(path)
    config = build_config(overrides=RELEASED) if file.config is None else file.config
    if model_overrides:
        config = build_config(overrides=model_overrides, base=config)
    try:
        with float32_by_default(), _at_most(2 * _stored(file.state, "numel") + _SPARE):
            model = S2LD(config.MODEL)
    except S2LDError as error:
        raise S2LDError(f"{file.path}: with its config, {error}") from error
    load_strict(model, file.state, file.path)
    return model.eval().to(device), config


def check_dense(state: Mapping[str, Tensor], origin: str | Path) -> None:
    """See to it that all tensors are dense ones of usual numbers, each of which a file holds.

    Raises:
        S2LDError: one is sparse, nested, quantised, without values, of eight-bit or complex floats, or larger than what
            is stored of it.
    """
    for key, value in state.items():
        if value.device.type == "meta":
            kind = "has no values"
        elif type(value) not in (Tensor, nn.Parameter) or value.is_nested or value.layout != torch.strided:
            kind = "is sparse or nested"
        elif value.dtype not in _DTYPES:
            kind = f"is of {str(value.dtype).removeprefix('torch.')}"
        elif value.numel() * value.itemsize > value.untyped_storage().nbytes():
            kind = "repeats its values"
        else:
            continue
        raise S2LDError(f"{origin}: {one_line(key)} {kind}; save plain dense tensors, e.g. of float32")


def _stored(state: Mapping[str, Tensor], unit: Literal["nbytes", "numel"]) -> int:
    """Return how many bytes or numbers a state holds in all, what is shared counted once."""
    sizes = {}
    for value in state.values():
        storage = value.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes() // (1 if unit == "nbytes" else value.itemsize)
    return sum(sizes.values())


@contextmanager
def _at_most(parameters: int) -> Iterator[None]:
    """End the building of modules in this thread, before memory is written to, once they have more parameters."""
    count, thread = 0, threading.get_ident()

    def add(_module: nn.Module, _name: str, parameter: nn.Parameter) -> None:
        nonlocal count
        if parameter is not None and threading.get_ident() == thread:
            count += parameter.numel()
            if count > parameters:
                raise S2LDError("the network is far larger than the weights; take a file whose config is its own")

    handle = register_module_parameter_registration_hook(add)
    try:
        yield
    finally:
        handle.remove()


def load_plain(path: Path) -> Any:
    """Return the content of a file of torch.save that holds only tensors and plain values; nothing else is executed.

    Raises:
        S2LDError: the file is damaged, of another kind, or holds more than that.
    """
    try:
        _refuse_bomb(path)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Detected pickle protocol")
            warnings.filterwarnings("ignore", ".*(beta state|prototype stage|TypedStorage)")  # exotic tensors
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever damaged or invented bytes may lead torch into
        asked = re.search(r"GLOBAL (\S{1,100})", str(error))
        if asked:
            raise S2LDError(
                f"{path}: not loaded, since it asks for {asked[1]}, which plain tensors do not need; if you trust it, "
                "re-save its state dict with torch.save(model.state_dict(), PATH)"
            ) from error
        raise S2LDError(
            f"{path}: damaged, or no checkpoint of tensors; give .safetensors, a .pt state dict or a Lightning .ckpt"
        ) from error


def _refuse_bomb(path: Path) -> None:
    """Refuse an archive that would be larger in memory than it is; torch stores what it saves as it is."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            total = sum(member.file_size for member in archive.infolist())
        if total > path.stat().st_size:
            raise ValueError("compressed")


def _read_safetensors(path: Path) -> WeightFile:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    except Exception as error:  # the file's, or that torch lacks a type of numbers or the memory
        raise S2LDError(f"{path}: not a readable safetensors file ({one_line(error)}); is it complete?") from error
    check_dense(state, path)
    text = metadata.pop(CONFIG_KEY, None)
    return WeightFile(state, None if text is None else config_from_text(text, str(path)), metadata, path)


def _read_torch(path: Path) -> WeightFile:
    content = load_plain(path)
    text = content.get(CONFIG_KEY) if isinstance(content, dict) else None
    state = content.get("state_dict", content) if isinstance(content, dict) else None
    plain = isinstance(state, dict) and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items())
    if not state or not plain or not isinstance(text, str | None):
        raise S2LDError(f"{path}: holds no state dict; expected a .pt state dict or a Lightning .ckpt")
    if any(key.startswith(PREFIX) for key in state):
        state = {key[len(PREFIX) :]: value for key, value in state.items() if key.startswith(PREFIX)}
    check_dense(state, path)
    if _stored(state, "nbytes") > path.stat().st_size:
        raise S2LDError(f"{path}: its tensors are larger than the file, so it is damaged; fetch it again")
    return WeightFile(state, None if text is None else config_from_text(text, str(path)), {}, path)
