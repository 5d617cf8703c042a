"""Results as Prefect artifacts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from l2s_core.report.comparison import table_rows


def publish(summary: Mapping[str, Any], files: Sequence[Path]) -> None:
    """Create a table of plain and steered sampling, and a note of where the files lie."""
    rows = [
        {
            "sampling": row["label"],
            "correct": round(row["correct"]["rate"], 3),
            "all_found": round(row["all_found"]["rate"], 3),
            "seconds": round(row["seconds"], 3),
            "gradients": round(row["gradients"], 1),
        }
        for row in table_rows(summary)
    ]
    create_table_artifact(rows, key="benchmark", description=f"{summary['name']}: plain and steered")
    create_markdown_artifact(f"# {summary['name']}\n\n" + "\n".join(f"- `{path}`" for path in files), key="report")
