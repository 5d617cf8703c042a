"""YAML as configurations have it: texts, numbers, lists and mappings, each key once, small and shallow."""

from __future__ import annotations

from typing import Any

import yaml
from yaml import MappingNode, Node, ScalarNode, SequenceNode
from yaml.constructor import ConstructorError

from l2s_core.errors import UserError

MAX_CHARACTERS = 200_000
MAX_DEPTH = 40
MAX_VALUES = 100_000  # aliases spelt out
_TAG = "tag:yaml.org,2002:"
_MERGE = f"{_TAG}merge"
_TYPES = ("null", "bool", "int", "float", "str", "seq", "map")
"""What a value may be. A date is a text: no setting is one, and 2001-13-45 is none."""


def parse_yaml(text: str, origin: str) -> Any:
    """Return the value of a YAML text; raises UserError, one line that says `origin` and the place in it.

    Refused are, beside what is no YAML: a key that stands twice or is no text, and what is too large or too deep, also
    once aliases are spelt out.
    """
    if len(text) > MAX_CHARACTERS:
        raise UserError(f"cannot read {origin}: it has {len(text)} characters; allowed: at most {MAX_CHARACTERS}")
    try:
        loader = _Loader(text)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        raise UserError(f"cannot read {origin}: {_reason(error)}") from None
    except ValueError as error:  # of a number, e.g. one with thousands of digits
        raise UserError(f"cannot read {origin}: {error}") from None


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with the limits above."""

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != f"{_TAG}timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    yaml_constructors = {
        tag: make
        for tag, make in yaml.SafeLoader.yaml_constructors.items()
        if tag is None or tag.removeprefix(_TAG) in _TYPES
    }

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ConstructorError(None, None, f"nested more than {MAX_DEPTH} deep", self.peek_event().start_mark)
        node: Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def compose_mapping_node(self, anchor: str | None) -> MappingNode:
        node: MappingNode = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, ScalarNode) or key.tag not in (f"{_TAG}str", _MERGE):
                raise ConstructorError(None, None, "a key is no text; put it in quotes", key.start_mark)
            if key.value in seen:
                raise ConstructorError(None, None, f"the key {key.value!r} stands twice; leave one", key.start_mark)
            seen.add(key.value)
        return node

    def get_single_node(self) -> Node | None:
        node: Node | None = super().get_single_node()
        if node is not None:
            _count(node, {})
        return node


def _count(node: Node, known: dict[Node, int | None]) -> int:
    """Return the number of values of a node with its aliases spelt out; raises ConstructorError for too many."""
    if node in known:
        count = known[node]
        if count is None:
            raise ConstructorError(None, None, "an alias stands inside of what it names", node.start_mark)
        return count
    known[node] = None
    total = 1
    if isinstance(node, MappingNode):
        total += sum(_count(value, known) for _, value in node.value)
    elif isinstance(node, SequenceNode):
        total += sum(_count(value, known) for value in node.value)
    if total > MAX_VALUES:
        raise ConstructorError(None, None, f"more than {MAX_VALUES} values, aliases spelt out", node.start_mark)
    known[node] = total
    return total


def _reason(error: yaml.YAMLError) -> str:
    """Return what is wrong, and the line and column where."""
    if not isinstance(error, yaml.MarkedYAMLError):
        return " ".join(str(error).split())
    said = ", ".join(part for part in (error.problem, error.context) if part)
    mark = error.problem_mark or error.context_mark
    return f"{said} (line {mark.line + 1}, column {mark.column + 1})" if mark else said
