"""Results as Prefect artifacts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from l2s_core.evaluation.run_summary import RunSummary


def publish(summary: RunSummary, files: Sequence[Path]) -> None:
    """Create a table of plain and steered sampling, and a note with its figures and links to the files."""
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
    create_markdown_artifact(report_text(summary, files), key="report", description=f"{summary.name}: report")


def report_text(summary: RunSummary, files: Sequence[Path]) -> str:
    """Return what a run came to as Markdown: the figures of every method, and links to the report's files."""
    lines = [f"# {summary.name}", "", "| method | relation correct | all objects | gradients | s/image |"]
    lines += ["|---|---|---|---|---|"]
    for row in summary.rows:
        correct, found = (
            f"{r.rate:.2f} ({r.low:.2f}–{r.high:.2f})" for r in (row.summary.correct, row.summary.all_found)
        )
        lines.append(f"| {row.label} | {correct} | {found} | {row.summary.gradients:.1f} | {row.summary.seconds:.2f} |")
    lines += ["", *(f"- [{path.name}]({path.resolve().as_uri()})" for path in files)]
    return "\n".join(lines)
