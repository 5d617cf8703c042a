"""Tables on the terminal."""

from __future__ import annotations

from collections.abc import Sequence

import click


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]], *, width: int | None = None) -> None:
    """Print columns, the first to the left, the others to the right; a line that passes `width` ends in "…"."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    for row in (header, *rows):
        line = "  ".join(
            cell.ljust(wide) if i == 0 else cell.rjust(wide)
            for i, (cell, wide) in enumerate(zip(row, widths, strict=True))
        )
        click.echo(line if width is None or len(line) <= width else f"{line[: width - 1]}…")
