"""YAML of strangers: read as plain values, in bounds, with every fault in one line."""

from __future__ import annotations

from typing import Any

import yaml

from s2ld.errors import S2LDError, one_line

MOST_TEXT = 2**20
"""Characters of a text: a whole config takes some thousands."""
MOST_VALUES = 100_000
"""Values of a text, each counted as often as an alias repeats it: a few lines can ask for billions."""


def read_yaml(text: str, origin: str) -> Any:
    """Return what a YAML text says, None where it says nothing; `origin` is named in errors.

    Raises:
        S2LDError: it is not YAML, holds a value that is not what its tag says, gives a key twice, refers to itself, or
            is larger than any config.
    """
    if len(text) > MOST_TEXT:
        raise S2LDError(f"{origin}: {len(text):,} characters are no config; give a YAML file of at most {MOST_TEXT:,}")
    try:
        loader = yaml.SafeLoader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _count(node, {}, origin)
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except S2LDError:
        raise
    except yaml.YAMLError as error:
        raise S2LDError(f"{origin}: not YAML: {one_line(error)}") from error
    except RecursionError as error:
        raise S2LDError(f"{origin}: not YAML that can be read: it is nested too deeply") from error
    except Exception as error:  # whatever a value that is not what it looks like leads its constructor into
        reason = one_line(error)
        raise S2LDError(
            f"{origin}: not YAML: a value is not what its form says ({reason}); put texts in quotes"
        ) from error


def _count(node: yaml.Node, known: dict[int, int], origin: str) -> int:
    """Return the number of values below a node, and see to it that it may be built; `known` are those of others."""
    if id(node) in known:
        if not known[id(node)]:
            raise S2LDError(f"{origin}: {_place(node)} refers to itself; write it out")
        return known[id(node)]
    known[id(node)] = 0  # until it is counted
    children: list[yaml.Node] = []
    if isinstance(node, yaml.MappingNode):
        _refuse_twins(node, origin)
        children = [child for pair in node.value for child in pair]
    elif isinstance(node, yaml.SequenceNode):
        children = node.value
    count = 1 + sum(_count(child, known, origin) for child in children)
    if count > MOST_VALUES:
        raise S2LDError(f"{origin}: {_place(node)} holds more than {MOST_VALUES:,} values; write what a config needs")
    known[id(node)] = count
    return count


def _refuse_twins(node: yaml.MappingNode, origin: str) -> None:
    """Refuse a key that stands twice: YAML would let the last one win, without what stands below the first."""
    lines: dict[str, int] = {}
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode):
            line = key.start_mark.line + 1
            if key.value in lines:
                raise S2LDError(
                    f"{origin}: {one_line(key.value)} stands twice, in lines {lines[key.value]} and {line}; join them"
                )
            lines[key.value] = line


def _place(node: yaml.Node) -> str:
    return f"what begins in line {node.start_mark.line + 1}"
