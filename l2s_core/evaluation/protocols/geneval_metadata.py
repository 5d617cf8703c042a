"""GenEval's evaluation_metadata.jsonl: lines to records, records to lines, records to prompts with phrases."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from l2s_core.errors import UserError, did_you_mean, unknown_name
from l2s_core.evaluation.protocols.classes import GENEVAL_CLASSES
from l2s_core.evaluation.protocols.geneval_rules import COLORS, TAGS, Clause, GenevalRecord, Position
from l2s_core.prompts.prompt import Prompt, SeveralPrompt, phrase_spans
from l2s_core.relations import ATTRIBUTE, PLANAR, Triplet, relation_named
from l2s_core.storage.lines import read_jsonl


def read_metadata(path: Path, tags: Sequence[str] = TAGS) -> list[GenevalRecord]:
    """Return the records of the wanted tasks, in the file's order.

    All lines are checked. Raises UserError naming the file, the line, the bad value and what is allowed.
    """
    for tag in tags:
        _require_tag(tag)
    kept = [record for record in read_jsonl(path, parse_record) if record.tag in tags]
    if not kept:
        raise UserError(f"{path} has no prompts with the tag {' or '.join(tags)}")
    return kept


def parse_record(row: Any, *, names: Collection[str] | None = GENEVAL_CLASSES) -> GenevalRecord:
    """Read one line's object; `names` are the classes allowed, None allows any. Raises UserError."""
    _require_keys(row, "the line", required=("tag", "prompt", "include"), optional=("exclude",))
    _require_tag(row["tag"])
    if not isinstance(row["prompt"], str) or not row["prompt"].strip():
        raise UserError(f"prompt is {row['prompt']!r}; allowed: a text")
    include = _clauses(row["include"], "include", names)
    if not include:
        raise UserError("include is empty; allowed: one clause or more")
    exclude = _clauses(row.get("exclude", []), "exclude", names)
    return GenevalRecord(tag=row["tag"], prompt=row["prompt"], include=include, exclude=exclude)


def record_row(record: GenevalRecord) -> dict[str, Any]:
    """Return the object of a record's line, with the keys and in the order of GenEval's own file."""
    row: dict[str, Any] = {"tag": record.tag, "include": [_clause_row(clause) for clause in record.include]}
    if record.exclude:
        row["exclude"] = [_clause_row(clause) for clause in record.exclude]
    return {**row, "prompt": record.prompt}


def position_prompt(record: GenevalRecord) -> Prompt:
    """Return the prompt of a position record with the spans of its phrases; raises UserError for any other record."""
    placed = [(clause.name, clause.position) for clause in record.include if clause.position is not None]
    if len(placed) != 1:
        raise UserError(
            f"the prompt {record.prompt!r} states {len(placed)} relations; allowed: 1, as in the tag position"
        )
    ((subject, position),) = placed
    object_ = record.include[position.index].name
    spans = phrase_spans(record.prompt, (subject, object_))
    return Prompt(
        text=record.prompt,
        triplet=Triplet(subject=subject, relation=position.relation, object=object_),
        subject_span=spans[subject],
        object_span=spans[object_],
    )


def attribute_prompt(record: GenevalRecord) -> SeveralPrompt | None:
    """Return the prompt of a record with its colours as attributes ("red" is "car"), with the spans of its phrases.

    None where one word stands for two things ("an orange orange"), which phrases cannot tell apart. Raises UserError
    for a name that the prompt lacks, or has more than once.
    """
    names = [name for clause in record.include for name in (clause.color, clause.name) if name is not None]
    if len(set(names)) < len(names):
        return None
    found = phrase_spans(record.prompt, names)
    triplets = tuple(
        Triplet(subject=clause.color, relation=ATTRIBUTE, object=clause.name)
        for clause in record.include
        if clause.color is not None
    )
    return SeveralPrompt(
        text=record.prompt, triplets=triplets, objects=tuple(names), spans=tuple(found[name] for name in names)
    )


def _require_tag(tag: Any) -> None:
    if tag not in TAGS:
        raise unknown_name("tag", tag, TAGS)


def _require_keys(row: Any, where: str, *, required: Sequence[str], optional: Sequence[str]) -> None:
    if not isinstance(row, Mapping):
        raise UserError(f"{where} is {row!r}; allowed: an object with {', '.join(required)}")
    missing = [key for key in required if key not in row]
    if missing:
        raise UserError(f"{where} has no {missing[0]!r}; needed: {', '.join(required)}")
    for key in row:
        if key not in (*required, *optional):
            raise unknown_name(f"key of {where}", key, (*required, *optional))


def _clauses(value: Any, where: str, names: Collection[str] | None) -> tuple[Clause, ...]:
    if not isinstance(value, list):
        raise UserError(f"{where} is {value!r}; allowed: a list of clauses")
    clauses: list[Clause] = []
    for number, row in enumerate(value):
        place = f"{where}[{number}]"
        optional = ("color", "position") if where == "include" else ()
        _require_keys(row, place, required=("class", "count"), optional=optional)
        clauses.append(
            Clause(
                name=_class_name(row["class"], place, names),
                count=_whole(row["count"], f"{place}.count", 1),
                color=_color(row.get("color"), place),
                position=_position(row, place, clauses),
            )
        )
    return tuple(clauses)


def _class_name(name: Any, place: str, names: Collection[str] | None) -> str:
    if not isinstance(name, str) or not name:
        raise UserError(f"{place}.class is {name!r}; allowed: the name of a class")
    if names is not None and name not in names:
        raise unknown_name(f"class of {place}", name, names)
    return name


def _color(color: Any, place: str) -> str | None:
    if color is None:
        return None
    if color not in COLORS:
        raise UserError(f"{place}.color is {color!r};{did_you_mean(color, COLORS)} allowed: {', '.join(COLORS)}")
    return str(color)


def _whole(value: Any, place: str, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UserError(f"{place} is {value!r}; allowed: a whole number from {least} up")
    return value


def _position(row: Mapping[str, Any], place: str, earlier: Sequence[Clause]) -> Position | None:
    if row.get("position") is None:
        return None
    value = row["position"]
    if not isinstance(value, list) or len(value) != 2:
        raise UserError(f"{place}.position is {value!r}; allowed: [relation, place of an earlier clause]")
    relation = relation_named(value[0]) if isinstance(value[0], str) else None
    if relation not in PLANAR:
        raise UserError(f"{place}.position asks for the relation {value[0]!r}; allowed: {', '.join(PLANAR)}")
    index = _whole(value[1], f"{place}.position[1]", 0)
    if index >= len(earlier):
        raise UserError(f"{place}.position points at clause {index}; allowed: an earlier one, below {len(earlier)}")
    if earlier[index].name == row["class"]:
        raise UserError(f"{place}.position compares {row['class']!r} with the same class; allowed: two classes")
    return Position(relation=relation, index=index)


def _clause_row(clause: Clause) -> dict[str, Any]:
    row: dict[str, Any] = {"class": clause.name, "count": clause.count}
    if clause.color is not None:
        row["color"] = clause.color
    if clause.position is not None:
        row["position"] = [clause.position.relation, clause.position.index]
    return row
