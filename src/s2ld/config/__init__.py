"""Configuration: one default tree, YAML files merged left to right, then KEY VALUE pairs, then frozen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path

import yaml
from yacs.config import CfgNode as CN

from s2ld.config.defaults import defaults
from s2ld.errors import S2LDError

__all__ = ["CN", "build_config", "config_from_text", "config_keys", "config_to_text", "defaults"]


def config_keys(node: CN, prefix: str = "") -> Iterator[str]:
    """Yield the dotted names of all leaves."""
    for key, value in node.items():
        if isinstance(value, CN):
            yield from config_keys(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def build_config(files: Sequence[str | Path] = (), overrides: Sequence[str] = (), base: CN | None = None) -> CN:
    """Merge YAML `files` left to right over `base` (the defaults), then `overrides` (KEY VALUE ...), and freeze.

    Nothing is merged into `base` itself.

    Raises:
        S2LDError: a file is missing, is not YAML, is Python; a key is unknown (the nearest known one is named);
            a value has another type than the default.
    """
    config = defaults() if base is None else base.clone()
    config.defrost()
    for file in map(Path, files):
        if file.suffix not in (".yaml", ".yml"):
            raise S2LDError(f"{file}: a config must be a .yaml file (a .py config would execute); rewrite it as YAML")
        try:
            text = file.read_text()
        except OSError as error:
            raise S2LDError(f"{file}: cannot read this config ({error.strerror}); check the path") from error
        _merge_text(config, text, str(file))
    if len(overrides) % 2:
        raise S2LDError(f"overrides must be KEY VALUE pairs, but {overrides[-1]!r} has no value")
    for key, value in zip(overrides[::2], overrides[1::2], strict=True):
        _check_keys(config, [key], "command line")
        try:
            config.merge_from_list([key, value])
        except ValueError as error:
            raise S2LDError(f"command line: {key} {value}: {_one_line(error)}") from error
    config.freeze()
    return config


def config_from_text(text: str, origin: str) -> CN:
    """Rebuild a config from `config_to_text`, over today's defaults; `origin` is named in errors."""
    config = defaults()
    _merge_text(config, text, origin)
    config.freeze()
    return config


def config_to_text(config: CN) -> str:
    """Return the whole config as YAML, the form that travels inside weight files and checkpoints."""
    return str(config.dump())


def _merge_text(config: CN, text: str, origin: str) -> None:
    try:
        tree = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise S2LDError(f"{origin}: not YAML: {_one_line(error)}") from error
    if not isinstance(tree, dict):
        raise S2LDError(f"{origin}: a config must be a mapping of keys, not a {type(tree).__name__}")
    _check_keys(config, _leaves(tree), origin)
    try:
        config.merge_from_other_cfg(CN(tree))
    except (ValueError, KeyError, AttributeError) as error:
        raise S2LDError(f"{origin}: {_one_line(error)}") from error


def _leaves(tree: dict[str, object], prefix: str = "") -> Iterator[str]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def _check_keys(config: CN, keys: Sequence[str] | Iterator[str], origin: str) -> None:
    known = list(config_keys(config))
    for key in keys:
        if key not in known:
            near = get_close_matches(key, known, 1, cutoff=0.4) or get_close_matches(
                key.rsplit(".", 1)[-1], [k.rsplit(".", 1)[-1] for k in known], 1, cutoff=0.4
            )
            hint = f"; did you mean {near[0]}?" if near else ""
            raise S2LDError(f"{origin}: unknown config key {key}{hint}")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
