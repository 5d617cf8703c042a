"""Prompts with several relations: sentence forms, own suites, and files of such prompts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from l2s_core.errors import UserError, unknown_name
from l2s_core.evaluation.protocols.classes import geneval_name
from l2s_core.evaluation.protocols.geneval_metadata import parse_record
from l2s_core.evaluation.protocols.suites import require_suite, triplet_suite
from l2s_core.hashing import stable_fraction
from l2s_core.prompts.chains import FORMS, chained_prompt, links
from l2s_core.prompts.prompt import PHOTO_PREFIX, SeveralPrompt, phrase_spans
from l2s_core.relations import OPPOSITE, PLANAR, Triplet, label_index, relation_named
from l2s_core.storage.lines import read_jsonl, read_lines

DIAGONAL = (2, 2)  # two relations of one pair: "a A above and to the left of a B"
COMMON = (
    "backpack",
    "bench",
    "bicycle",
    "bottle",
    "bowl",
    "cake",
    "cat",
    "chair",
    "clock",
    "cup",
    "dog",
    "horse",
    "laptop",
    "suitcase",
    "teddy bear",
    "umbrella",
    "vase",
    "sheep",
)
NOVEL = (
    "anvil",
    "cactus",
    "camel",
    "candle",
    "drum",
    "fox",
    "globe",
    "guitar",
    "kettle",
    "lantern",
    "lobster",
    "owl",
    "penguin",
    "pumpkin",
    "robot",
    "squirrel",
    "telescope",
    "violin",
)
OBJECT_LISTS: dict[str, tuple[str, ...]] = {"common": COMMON, "novel": NOVEL, "mixed": COMMON + NOVEL}
NAME = re.compile(r"\w+(?:[ '-]\w+)*")
PATIENCE = 2000  # draws without a new prompt after which a suite counts as used up


def several_prompt(text: str, triplets: Sequence[Triplet]) -> SeveralPrompt:
    """Build the record of a prompt.

    Raises UserError for no relation, an unknown one, or an object that the text does not name exactly once. Two
    objects of one class cannot be told apart, neither by a phrase nor by a detector: such prompts are refused.
    """
    if not triplets:
        raise UserError(f"the prompt {text!r} has no relations; needed: one or more")
    for triplet in triplets:
        label_index(triplet.relation, PLANAR)
        if triplet.subject == triplet.object:
            raise UserError(
                f"the prompt {text!r} relates {triplet.subject!r} to itself; allowed: objects of different classes"
            )
    names = {name for t in triplets for name in (t.subject, t.object)}
    if len({geneval_name(name) for name in names}) < len(names):
        raise UserError(f"two objects of the prompt {text!r} are one class; allowed: objects of different classes")
    found = phrase_spans(text, names)
    return SeveralPrompt(text=text, triplets=tuple(triplets), objects=tuple(found), spans=tuple(found.values()))


def write_prompt(objects: Sequence[str], relations: Sequence[str], prefix: str = PHOTO_PREFIX) -> SeveralPrompt:
    """Write the sentence of a form; raises UserError for a number of objects and relations that has none.

    Within a chain each relation links an object to the next one, and every object has the article "a",
    as in the paper's suites.
    """
    form = (len(objects), len(relations))
    if form not in (*FORMS, DIAGONAL):
        raise unknown_name("form", str(form), map(str, (*FORMS, DIAGONAL)))
    pairs = [(0, 1)] * 2 if form == DIAGONAL else links(FORMS[form])
    stated = [
        Triplet(subject=objects[subject], relation=relation, object=objects[object_])
        for (subject, object_), relation in zip(pairs, relations, strict=True)
    ]
    return several_prompt(chained_prompt(stated, prefix=prefix).text, stated)


def generate_several(
    suite: str,
    form: tuple[int, int],
    count: int,
    names: Sequence[str] = COMMON,
    relations: Sequence[str] = PLANAR,
) -> list[SeveralPrompt]:
    """Return `count` different prompts of a form over different names, with different ones of `relations` in a prompt.

    Draws are hashes of their number, and what a text says decides which suite it belongs to, so `dev` and `test`
    share no prompt whatever the list of names. First relations go in rotation. Raises UserError for an unknown
    suite or form, fewer names than objects, or more prompts than could be found.
    """
    require_suite(suite)
    if form not in (*FORMS, DIAGONAL) or len(set(names)) < form[0]:
        allowed = ", ".join(map(str, (*FORMS, DIAGONAL)))
        raise UserError(f"form {form} over {len(set(names))} names; allowed: {allowed}, with as many names as objects")
    for first in relations:
        if 1 + len(_beside(first, form, relations)) < form[1]:
            raise UserError(
                f"form {form[0]}+{form[1]} needs {form[1]} relations that go together, and of "
                f"{', '.join(relations)} there are too few; leave the form out, or add to benchmark.relations"
            )
    found: dict[str, SeveralPrompt] = {}
    number = last = 0
    while len(found) < count:
        prompt = _draw(form, sorted(set(names)), number, relations, relations[len(found) % len(relations)])
        if prompt.text not in found and _suite_of(prompt) == suite:
            found[prompt.text] = prompt
            last = number
        number += 1
        if number - last > PATIENCE:
            raise UserError(
                f"{count} prompts are asked for, but only {len(found)} of form {form} were found in the {suite} suite; "
                "ask for fewer, or give more names"
            )
    return list(found.values())


def read_names(path: Path, known: Sequence[str] | None = None) -> list[str]:
    """Read the names of objects, one a line, as the paper's lists have them.

    Raises UserError naming the file, the line and the name for one that stands there twice, is no words, or is none of
    the `known`.
    """
    seen: set[str] = set()

    def parse(name: str) -> str:
        if not NAME.fullmatch(name):
            raise UserError(f"{name!r} is no name of an object; allowed: words, one object a line")
        if known is not None and name not in known:
            raise unknown_name("object", name, known)
        if name in seen:
            raise UserError(f"{name!r} stands there twice; name every object once")
        seen.add(name)
        return name

    return read_lines(path, parse)


def read_several(path: Path) -> list[SeveralPrompt]:
    """Read a jsonl of prompts; raises UserError naming the file, the line and the value.

    A line is {"prompt": text, "triplets": [{"subject", "relation", "object"}, ...]}, or the GenEval-like form of the
    paper's suites, {"tag": "position", "prompt", "include", "version": 2}, in which every second clause has
    a position. Version 1 of that form reads its relations the other way round and is refused.
    """
    return read_jsonl(path, parse_row)


def parse_row(row: Any) -> SeveralPrompt:
    """Read one line's object, in either form."""
    if not isinstance(row, Mapping) or not isinstance(row.get("prompt"), str):
        raise UserError(
            f"not a prompt: {str(row)[:80]!r}; needed: an object with prompt (a text) and triplets, or include"
        )
    triplets = _included(row) if "include" in row else _stated(row.get("triplets"))
    return several_prompt(row["prompt"], triplets)


def several_row(prompt: SeveralPrompt) -> dict[str, Any]:
    """Return the object of a prompt's line."""
    return {"prompt": prompt.text, "triplets": [asdict(triplet) for triplet in prompt.triplets]}


def _draw(
    form: tuple[int, int], names: Sequence[str], number: int, relations: Sequence[str], first: str
) -> SeveralPrompt:
    objects = sorted(names, key=lambda name: stable_fraction("several", *form, number, name))[: form[0]]
    others = _beside(first, form, relations)
    others.sort(key=lambda relation: stable_fraction("several", *form, number, relation))
    return write_prompt(objects, [first, *others][: form[1]])


def _beside(first: str, form: tuple[int, int], relations: Sequence[str]) -> list[str]:
    """Return the relations that may stand beside the first one of a prompt."""
    opposite = OPPOSITE[first] if form == DIAGONAL else None
    return [relation for relation in relations if relation not in (first, opposite)]


def _suite_of(prompt: SeveralPrompt) -> str:
    """One relation alone may be another protocol's prompt, too; several are this one's only."""
    if len(prompt.triplets) == 1:
        return triplet_suite(prompt.triplets[0])
    return "dev" if stable_fraction("suite", prompt.text) < 0.5 else "test"


def _stated(value: Any) -> list[Triplet]:
    if not isinstance(value, list):
        raise UserError(f"triplets is {value!r}; allowed: a list of objects with subject, relation and object")
    return [_triplet(row) for row in value]


def _triplet(row: Any) -> Triplet:
    keys = ("subject", "relation", "object")
    if not isinstance(row, Mapping) or set(row) != set(keys) or not all(isinstance(row[key], str) for key in keys):
        raise UserError(f"a triplet is {row!r}; allowed: an object with the texts subject, relation and object")
    relation = relation_named(row["relation"])
    if relation not in PLANAR:
        raise unknown_name("relation", row["relation"], PLANAR)
    return Triplet(subject=row["subject"], relation=relation, object=row["object"])


def _included(row: Mapping[str, Any]) -> list[Triplet]:
    if row.get("version") != 2:
        raise UserError(
            f"version is {row.get('version')!r}; allowed: 2, where a position is that of its own clause to another"
        )
    record = parse_record({key: value for key, value in row.items() if key != "version"}, names=None)
    return [
        Triplet(
            subject=clause.name, relation=clause.position.relation, object=record.include[clause.position.index].name
        )
        for clause in record.include
        if clause.position is not None
    ]
