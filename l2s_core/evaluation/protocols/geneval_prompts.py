"""Own prompts in the form of five of GenEval's tasks, over its 80 classes (arXiv 2310.11513, section 3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations, permutations, product

from l2s_core.errors import unknown_name
from l2s_core.evaluation.protocols.classes import COCO_CLASSES, GENEVAL_CLASSES, geneval_name
from l2s_core.evaluation.protocols.geneval_rules import COLORS, Clause, GenevalRecord, Position
from l2s_core.evaluation.protocols.suites import first_prompts, require_suite, suite_half, suite_triplets
from l2s_core.hashing import stable_fraction
from l2s_core.prompts.prompt import PHOTO_PREFIX, prompt_for, with_article
from l2s_core.relations import PLANAR, Triplet

SHORT_WORDING = 1  # GenEval says "left of", not "to the left of"


def generate_records(
    tag: str,
    suite: str,
    count: int,
    names: Sequence[str] = GENEVAL_CLASSES,
    relations: Sequence[str] = PLANAR,
) -> list[GenevalRecord]:
    """Return `count` records of a task over the classes `names`; `dev` and `test` share none.

    Position prompts of other relations than `relations` are left out.

    Which half a prompt belongs to, and its place there, are hashes of its words: the same in every process. Position
    prompts are over COCO's classes. Raises UserError for an unknown task or suite, or for more prompts than the half
    has.
    """
    require_suite(suite)
    if tag not in _TASKS:
        raise unknown_name("tag", tag, _TASKS)
    records = _TASKS[tag](suite, names)
    if tag == "position":
        records = [record for record in records if set(record.relations) <= set(relations)]
    return first_prompts(records, count, f"the {suite} suite of {tag}")


def _single_object(suite: str, names: Sequence[str]) -> list[GenevalRecord]:
    half = suite_half(suite, names, key=lambda name: ("single_object", name))
    return [
        GenevalRecord(tag="single_object", prompt=PHOTO_PREFIX + with_article(name), include=(Clause(name=name),))
        for name in half
    ]


def _two_object(suite: str, names: Sequence[str]) -> list[GenevalRecord]:
    """Pairs belong to a suite whatever their order, so that none is in both with its objects swapped."""
    records = []
    for pair in suite_half(suite, list(combinations(names, 2)), key=lambda pair: ("two_object", *pair)):
        a, b = pair if stable_fraction("order", *pair) < 0.5 else pair[::-1]
        prompt = f"{PHOTO_PREFIX}{with_article(a)} and {with_article(b)}"
        records.append(GenevalRecord(tag="two_object", prompt=prompt, include=(Clause(name=a), Clause(name=b))))
    return records


def _colors(suite: str, names: Sequence[str]) -> list[GenevalRecord]:
    half = suite_half(suite, list(product(COLORS, _colorable(names))), key=lambda pair: ("colors", *pair))
    return [_colored_record("colors", [pair]) for pair in half if pair[0] != pair[1]]


def _color_attr(suite: str, names: Sequence[str]) -> list[GenevalRecord]:
    """One prompt a pair of classes, whatever its order; a hash chooses two colours that name neither."""
    records = []
    choices = list(permutations(COLORS, 2))
    for pair in suite_half(suite, list(combinations(_colorable(names), 2)), key=lambda pair: ("color_attr", *pair)):
        a, b = pair if stable_fraction("order", *pair) < 0.5 else pair[::-1]
        allowed = [colors for colors in choices if not {a, b} & set(colors)]
        first, second = allowed[int(stable_fraction("colors", a, b) * len(allowed))]
        records.append(_colored_record("color_attr", [(first, a), (second, b)]))
    return records


def _colorable(names: Sequence[str]) -> list[str]:
    """Every class but people, as in GenEval."""
    return [name for name in names if name != "person"]


def _colored_record(tag: str, pairs: Sequence[tuple[str, str]]) -> GenevalRecord:
    prompt = PHOTO_PREFIX + " and ".join(f"{with_article(color)} {name}" for color, name in pairs)
    return GenevalRecord(tag=tag, prompt=prompt, include=tuple(Clause(name=name, color=color) for color, name in pairs))


def _position(suite: str, _names: Sequence[str]) -> list[GenevalRecord]:
    """In rotation over the relations; halves are made in COCO's names, as for every other suite over its classes."""
    return [_position_record(triplet) for triplet in suite_triplets(suite, list(combinations(COCO_CLASSES, 2)))]


def _position_record(triplet: Triplet) -> GenevalRecord:
    """The target's clause comes first, as in GenEval's own lines."""
    subject = geneval_name(triplet.subject)
    object_ = geneval_name(triplet.object)
    placed = Clause(name=subject, position=Position(relation=triplet.relation, index=0))
    named = Triplet(subject=subject, relation=triplet.relation, object=object_)
    prompt = prompt_for(named, prefix=PHOTO_PREFIX, wording=SHORT_WORDING).text
    return GenevalRecord(tag="position", prompt=prompt, include=(Clause(name=object_), placed))


_TASKS: Mapping[str, Callable[[str, Sequence[str]], list[GenevalRecord]]] = {
    "single_object": _single_object,
    "two_object": _two_object,
    "position": _position,
    "colors": _colors,
    "color_attr": _color_attr,
}
