"""Where a method is good and where it is not.

Rates by relation and by kind of prompt, every method beside the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

PARTS = {"by_relation": "By relation", "by_prompt_group": "By kind of prompt"}


def breakdown(rows: Sequence[Mapping[str, Any]], part: str) -> list[dict[str, Any]]:
    """Return a line a value of `part` (a key of PARTS): {"value", "count", "rates"}.

    There is a rate a row, None where a method has no such image.

    `rows` are those of `table_rows`, the plain one first; values come in its order. `count` is the plain images'.
    """
    values = dict.fromkeys(value for row in rows for value in row[part])
    lines = [{"value": value, "rates": [row[part].get(value) for row in rows]} for value in values]
    return [{**line, "count": line["rates"][0]["count"] if line["rates"][0] else 0} for line in lines]
