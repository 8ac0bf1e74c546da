"""Configuration: one default tree, YAML files merged left to right, then KEY VALUE pairs, then frozen."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from yacs.config import CfgNode as CN

from s2ld.config.defaults import defaults
from s2ld.config.shipped import find_config
from s2ld.config.values import ONE_OR_MORE, fit
from s2ld.config.yaml_text import read_yaml
from s2ld.errors import S2LDError, one_line, shown
from s2ld.files import read_text

__all__ = ["CN", "build_config", "config_from_text", "config_keys", "config_to_text", "defaults", "value_of"]


def config_keys(node: CN, prefix: str = "") -> Iterator[str]:
    """Yield the dotted names of all leaves."""
    for key, value in node.items():
        if isinstance(value, CN):
            yield from config_keys(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def value_of(config: CN, key: str) -> Any:
    """Return the value, or the node, of a dotted name; raises KeyError where there is none."""
    node: Any = config
    for part in key.split("."):
        node = node[part]
    return node


def build_config(files: Sequence[str | Path] = (), overrides: Sequence[str] = (), base: CN | None = None) -> CN:
    """Merge YAML `files` left to right over `base` (the defaults), then `overrides` (KEY VALUE ...), and freeze.

    A file is a path, or the name of one that ships (`find_config`). Nothing is merged into `base` itself.

    Raises:
        S2LDError: a file is missing, is not YAML, is Python; a key is unknown (the nearest known one is named) or
            stands twice; a value has another type than the default, or is out of range (`s2ld.config.values`).
    """
    config = defaults() if base is None else base.clone()
    config.defrost()
    for file in map(find_config, files):
        if file.suffix not in (".yaml", ".yml"):
            raise S2LDError(f"{file}: a config must be a .yaml file (a .py config would execute); rewrite it as YAML")
        _merge_text(config, read_text(file, "config", "give a YAML file"), str(file))
    if len(overrides) % 2:
        raise S2LDError(f"overrides must be KEY VALUE pairs, but {shown(overrides[-1])} has no value")
    for key, text in zip(overrides[::2], overrides[1::2], strict=True):
        _set(config, key, text)
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
    tree = read_yaml(text, origin) or {}
    if not isinstance(tree, dict):
        raise S2LDError(f"{origin}: a config must be a mapping of keys, not a {type(tree).__name__}")
    _merge_tree(config, config, tree, "", origin)


def _merge_tree(root: CN, node: CN, tree: dict[object, object], prefix: str, origin: str) -> None:
    for key, value in tree.items():
        name = f"{prefix}{key if isinstance(key, str) else shown(key)}"
        if not isinstance(key, str) or key not in node:
            raise _unknown(root, name, origin)
        if not isinstance(node[key], CN):
            node[key] = fit(name, value, node[key], origin)
        elif isinstance(value, dict):
            _merge_tree(root, node[key], value, f"{name}.", origin)
        else:
            raise S2LDError(f"{origin}: {name} is a section, so it cannot be {shown(value)}; write its keys below it")


def _set(config: CN, key: str, text: str) -> None:
    """Set one key from the command line; `text` is a Python literal, or a text as it stands."""
    if key not in set(config_keys(config)):
        raise _unknown(config, key, "command line")
    section, _, leaf = key.rpartition(".")
    node = value_of(config, section) if section else config
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        value = text
    is_list = isinstance(value, list | tuple) and key in ONE_OR_MORE
    if isinstance(node[leaf], str) and not isinstance(value, str) and not is_list:
        value = text  # a folder named 2024
    node[leaf] = fit(key, value, node[leaf], "command line")


def _unknown(config: CN, key: str, origin: str) -> S2LDError:
    known = list(config_keys(config))
    near = get_close_matches(key, known, 1, cutoff=0.4) or get_close_matches(
        key.rsplit(".", 1)[-1], [k.rsplit(".", 1)[-1] for k in known], 1, cutoff=0.4
    )
    hint = f"; did you mean {near[0]}?" if near else ""
    return S2LDError(f"{origin}: unknown config key {one_line(key)}{hint}")
