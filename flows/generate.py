"""Plain and steered images of one prompt, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

import l2s_core as l2s
from flows.environment import HOME
from flows.options import imports, waiting
from l2s_core.errors import UserError
from l2s_core.prompts.prompt import depicted, renamed
from l2s_core.report.grids import save_png


def generate(
    text: str, seeds: Sequence[int], config: str, classifier: str | None, settings: dict[str, Any] | None, out: Path
) -> None:
    """Write the PNG and say how many images of each kind are right."""
    with waiting("loading the model"), imports():
        model = l2s.load(config, classifier, settings=settings, home=HOME)
    if model.classifier is None:
        raise UserError(f"no classifier ships for {config!r}; give --classifier; 'l2s train' makes one")
    model.judge.require(depicted(renamed(model.read(text), model.shown)))  # before any image is made
    with waiting("making images"):
        result = model(text, seeds)
        save_png(result.comparison(), out)
        right = {"plain": result.judge(plain=True), "steered": result.judge()}
    click.echo(
        ", ".join(
            f"{name}: {sum(image.correct for image in judged)} of {len(seeds)} right" for name, judged in right.items()
        )
    )
    click.echo(out.resolve())
