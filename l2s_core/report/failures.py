"""What went wrong: reasons counted by kind, what steering broke and repaired, and which failures are shown."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain, zip_longest
from typing import Any

from l2s_core.storage.stages import MAIN, PLAIN

CORRECT = "correct"
MISSING, SURPLUS, WRONG, NOWHERE, COLOR, OTHER = KINDS = (
    "object missing",
    "too many objects",
    "wrong relation",
    "in no relation",
    "wrong colour",
    "other",
)
PATTERNS = {  # in the reasons of every protocol
    MISSING: r"not found: |\bfound \d+ of \d+ ",
    SURPLUS: r", fewer than \d+ allowed$",
    COLOR: r"\blooks .+, not ",
    NOWHERE: r"\bis in no relation, not ",
    WRONG: r"\bis .+, not |^no .+ to be |^position scores ",
}
SHOWN = 16

Row = Mapping[str, Any]  # of judge_samples


def reason_kind(reason: str) -> str:
    """Return the kind of a verdict's reason; of several, joined by "; ", the first in the order of KINDS."""
    if reason == CORRECT:
        return CORRECT
    return min((_part_kind(part) for part in reason.split("; ")), key=KINDS.index)


def _part_kind(part: str) -> str:
    return next((kind for kind, pattern in PATTERNS.items() if re.search(pattern, part)), OTHER)


def row_kind(row: Row) -> str:
    """Return the kind of a row's reason; what is not correct is never counted as such."""
    if row["correct"]:
        return CORRECT
    kind = reason_kind(row["reason"])
    return OTHER if kind == CORRECT else kind


def failures_summary(verdicts: Mapping[str, Sequence[Row]]) -> dict[str, Any]:
    """Return, JSON-able, {"kinds", "changed"} by method, and the failures of the run's own steering that are "shown"."""
    plain = {row["item_id"]: bool(row["correct"]) for row in verdicts[PLAIN]}
    return {
        "kinds": {method: count_kinds(rows) for method, rows in verdicts.items()},
        "changed": {method: count_changes(plain, rows) for method, rows in verdicts.items() if method != PLAIN},
        "shown": [
            {
                "item_id": row["item_id"],
                "prompt": row["prompt"],
                "kind": row_kind(row),
                "reason": row["reason"],
                "right_plain": plain[row["item_id"]],
            }
            for row in choose_failures(verdicts[MAIN])
        ],
    }


def count_kinds(rows: Sequence[Row]) -> dict[str, int]:
    """Return how many images have each kind of reason, "correct" among them; every image counts once."""
    counts = Counter(row_kind(row) for row in rows)
    return {kind: counts[kind] for kind in (CORRECT, *KINDS)}


def count_changes(plain: Mapping[str, bool], rows: Sequence[Row]) -> dict[str, int]:
    """Return how many images went from right to wrong (broken) and from wrong to right (repaired) against the plain ones."""
    changes = Counter((plain[row["item_id"]], bool(row["correct"])) for row in rows)
    return {"broken": changes[True, False], "repaired": changes[False, True]}


def choose_failures(rows: Sequence[Row], count: int = SHOWN) -> list[Row]:
    """Return the failures to show, none picked by its look: the first of each kind in turn, in the benchmark's order, up to `count`.

    So every kind has an equal share, and what one cannot fill goes to the others. They come kind by kind.
    """
    by_kind = {kind: [row for row in rows if row_kind(row) == kind] for kind in KINDS}
    in_turn = [row for row in chain.from_iterable(zip_longest(*by_kind.values())) if row is not None][:count]
    return sorted(in_turn, key=lambda row: KINDS.index(row_kind(row)))
