"""Results as Prefect artifacts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from l2s_core.evaluation.run_summary import RunSummary


def publish(summary: RunSummary, files: Sequence[Path]) -> None:
    """Create a table of plain and steered sampling, and a note of where the files lie."""
    rows = [
        {
            "sampling": row.label,
            "correct": round(row.summary.correct.rate, 3),
            "all_found": round(row.summary.all_found.rate, 3),
            "seconds": round(row.summary.seconds, 3),
            "gradients": round(row.summary.gradients, 1),
        }
        for row in summary.rows
    ]
    create_table_artifact(rows, key="benchmark", description=f"{summary.name}: plain and steered")
    create_markdown_artifact(f"# {summary.name}\n\n" + "\n".join(f"- `{path}`" for path in files), key="report")
