"""Settings given relative to those of another configuration: a share of a number, a part of a list."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from l2s_core.errors import UserError


def is_relative(value: Any) -> bool:
    """Whether a setting says how it follows from the reference's.

    The forms are {times: x}, {every: n}, {last: n} and {each: {key: ...}}.
    """
    return isinstance(value, Mapping) and len(value) == 1 and next(iter(value)) in KINDS


def resolve(key: str, value: Any, tree: Mapping[str, Any]) -> Any:
    """Return the setting `key` spelt out, from `tree`, the reference as nested mappings; raises UserError, one line."""
    if not is_relative(value):
        return value
    ((kind, by),) = value.items()
    return KINDS[kind](key, value_at(tree, key), by)


def value_at(tree: Mapping[str, Any], key: str) -> Any:
    """Return the value of a dotted key; raises UserError where there is none."""
    found: Any = tree
    for part in key.split("."):
        if not isinstance(found, Mapping) or part not in found:
            raise UserError(f"{key!r} is no setting of a run; give dotted keys, e.g. steering.updates")
        found = found[part]
    return found


def _times(key: str, reference: Any, by: Any) -> int | float:
    """A multiple; that of a whole number is rounded, and not below 1 unless the number is 0."""
    if not _is_number(reference) or not _is_number(by):
        raise UserError(f"{key}: {by!r} times {reference!r} is no number; give the value itself")
    if isinstance(reference, int):
        return max(1, round(reference * by)) if reference else 0
    return float(f"{reference * by:.6g}")


def _every(key: str, reference: Any, by: Any) -> list:
    """Every `by`-th entry, counted from the last, which stays."""
    return _list(key, reference, by)[::-1][::by][::-1]


def _last(key: str, reference: Any, by: Any) -> list:
    """The last `by` entries."""
    return _list(key, reference, by)[-by:]


def _each(key: str, reference: Any, by: Any) -> list[dict[str, Any]]:
    """Every section of a list with settings of its own that follow from what they were; an empty list stays one."""
    if not isinstance(reference, Sequence) or not isinstance(by, Mapping):
        raise UserError(f"{key}: each wants a list of sections and settings for them, not {reference!r} and {by!r}")
    return [{**section, **{name: resolve(name, value, section) for name, value in by.items()}} for section in reference]


def _list(key: str, reference: Any, by: Any) -> list:
    if not isinstance(reference, Sequence) or isinstance(reference, str) or not isinstance(by, int) or by < 1:
        raise UserError(f"{key}: every and last want a list and a number of 1 or more, not {reference!r} and {by!r}")
    return list(reference)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


KINDS: dict[str, Callable[[str, Any, Any], Any]] = {"times": _times, "every": _every, "last": _last, "each": _each}
