"""Tables on the terminal."""

from __future__ import annotations

from collections.abc import Sequence

import click

WIDTH = 120


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print columns, the first to the left, the others to the right; a line that passes 120 columns ends in "…"."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    for row in (header, *rows):
        line = "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        click.echo(line if len(line) <= WIDTH else f"{line[: WIDTH - 1]}…")
