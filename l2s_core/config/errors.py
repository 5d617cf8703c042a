"""One line for a setting that is wrong: where it stands, what is allowed, what was probably meant."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from l2s_core.config.chosen import UNKNOWN, ChosenBy
from l2s_core.errors import UserError, did_you_mean

RENAMED = {
    "variants": "classifiers",
    "baselines": "methods",
    "twins": "is_a",
    "variant": "precision",
    "both": "all_found",
}
"""Keys of earlier versions that are too unlike their new names to be recognised."""


def explain(kind: type[BaseModel], problem: Mapping[str, Any], values: Any = None) -> str:
    """Return a problem of pydantic's with a section of this kind as a line for the user.

    `values` are what the section was to be built from; they say of which class a section chosen by name is.
    """
    section, place, chooser = _locate(kind, problem["loc"], values)
    if problem["type"] == "extra_forbidden":
        key = problem["loc"][-1]
        names = sorted(section.model_fields)
        whose = "" if chooser is None else chooser.whose(key)
        return f"unknown key {place!r};{_key_meant(key, names)} allowed: {', '.join(names)}{whose}"
    if problem["type"] == "missing":
        return f"missing key {place!r}; add it"
    if problem["type"] == UNKNOWN:
        return f"{place}: {problem['msg']}"
    context = problem.get("ctx", {})
    if problem["type"] in ("union_tag_not_found", "union_tag_invalid"):
        return _wrong_tag(place, context)
    message = problem["msg"].removeprefix("Value error, ")
    hint = did_you_mean(problem["input"], _quoted(str(context.get("expected", ""))))
    return f"{place or 'settings'}: {message}" + (f" (got {problem['input']!r})" if place else "") + hint


def _wrong_tag(place: str, context: Mapping[str, Any]) -> str:
    """Return the line for a section of one of several kinds whose tag is missing or unknown."""
    (key,) = _quoted(context["discriminator"])
    if "tag" not in context:
        return f"missing key '{place}.{key}'; add it"
    names = _quoted(context["expected_tags"])
    hint = did_you_mean(context["tag"], names)
    return f"{place}.{key}: unknown value {context['tag']!r};{hint} allowed: {', '.join(names)}"


def _key_meant(key: str, names: Sequence[str]) -> str:
    """Return the hint for an unknown key: its new name, if it was renamed, or else the closest one."""
    new = RENAMED.get(key)
    return f" did you mean {new!r}?" if new in names else did_you_mean(key, names)


def _quoted(text: str) -> list[str]:
    """The names between single quotes."""
    return re.findall(r"'([^']*)'", text)


def _locate(kind: type[BaseModel], loc: Sequence[Any], values: Any) -> tuple[type[BaseModel], str, ChosenBy | None]:
    """Return the section that holds the last part of a place, the place as a user writes it, and what chose it.

    Behind a field whose sections are of several kinds by a tag, a place has that tag once more.
    """
    parts = iter(loc)
    place: list[Any] = []
    section = within = kind
    chose: ChosenBy | None = None
    chooses: ChosenBy | None = None
    for part in parts:
        section = within
        chose = chooses
        place.append(part)
        values = _inside(values, part)
        field = section.model_fields.get(str(part))
        if field is None:
            continue
        choices = list(_sections_in(field.annotation))
        if get_origin(field.annotation) in (dict, tuple):
            entry = next(parts, None)
            values = _inside(values, entry)
            place += [] if entry is None else [entry]
        chooses = _chooser(field)
        if chooses is not None:
            within = _chosen(chooses, choices[0], values)
            continue
        if len(choices) > 1:
            choices = _tagged(choices, next(parts, None))
        within = choices[0] if choices else section
    return section, ".".join(map(str, place)), chose


def _tagged(choices: Sequence[type[BaseModel]], tag: Any) -> list[type[BaseModel]]:
    """Return the sections that a tag stands for: those of a field that allows it."""
    return [choice for choice in choices if any(tag in get_args(f.annotation) for f in choice.model_fields.values())]


def _inside(values: Any, part: Any) -> Any:
    """Return what stands under a key or an index, None where nothing does."""
    try:
        return values[part]
    except (KeyError, IndexError, TypeError):
        return None


def _chooser(field: FieldInfo) -> ChosenBy | None:
    """Return the mark of sections that are chosen by name, from a field's own annotation or from that of its values."""
    marks = [*field.metadata]
    for part in get_args(field.annotation):
        marks += getattr(part, "__metadata__", ())
    return next((mark for mark in marks if isinstance(mark, ChosenBy)), None)


def _chosen(chooser: ChosenBy, base: type[BaseModel], values: Any) -> type[BaseModel]:
    """Return the class that values choose; the base where they choose none, which is then the problem."""
    if not isinstance(values, Mapping):
        return base
    try:
        return chooser.section(base, values)
    except (KeyError, UserError):
        return base


def _sections_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """Every section that an annotation allows."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _sections_in(part)
