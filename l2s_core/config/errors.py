"""One line for a setting that is wrong: where it stands, what is allowed, what was probably meant."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, get_args, get_origin

from pydantic import BaseModel

from l2s_core.errors import did_you_mean


def explain(kind: type[BaseModel], problem: dict[str, Any]) -> str:
    """Return a problem of pydantic's with a section of this kind as a line for the user."""
    section, place = _locate(kind, problem["loc"])
    if problem["type"] == "extra_forbidden":
        names = sorted(section.model_fields)
        return f"unknown key {place!r};{did_you_mean(problem['loc'][-1], names)} allowed: {', '.join(names)}"
    if problem["type"] == "missing":
        return f"missing key {place!r}; add it"
    if problem["type"] == "union_tag_not_found":
        return f"missing key '{place}.kind'; add it"
    context = problem.get("ctx", {})
    if problem["type"] == "union_tag_invalid":
        names = _quoted(context["expected_tags"])
        return f"{place}.kind: unknown kind {context['tag']!r};{did_you_mean(context['tag'], names)} allowed: {', '.join(names)}"
    message, hint = (
        problem["msg"].removeprefix("Value error, "),
        did_you_mean(problem["input"], _quoted(str(context.get("expected", "")))),
    )
    return f"{place or 'settings'}: {message}" + (f" (got {problem['input']!r})" if place else "") + hint


def _quoted(text: str) -> list[str]:
    """The names between single quotes."""
    return re.findall(r"'([^']*)'", text)


def _locate(kind: type[BaseModel], loc: tuple) -> tuple[type[BaseModel], str]:
    """Return the section that holds the last part of a place, and the place as a user writes it.

    Behind the key of a mapping whose sections are of several kinds, a place has that kind once more.
    """
    parts, place = iter(loc), []
    section = within = kind
    for part in parts:
        section = within
        place.append(part)
        field = section.model_fields.get(str(part))
        if field is None:
            continue
        choices = list(_sections_in(field.annotation))
        if get_origin(field.annotation) is dict:
            place += [key for key in [next(parts, None)] if key is not None]
        if len(choices) > 1:
            tag = next(parts, None)
            choices = [choice for choice in choices if tag in get_args(choice.model_fields["kind"].annotation)]
        within = choices[0] if choices else section
    return section, ".".join(map(str, place))


def _sections_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """Every section that an annotation allows."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _sections_in(part)
