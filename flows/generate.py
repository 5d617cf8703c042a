"""Plain and steered images of one prompt, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from l2s_core.backbones.folder import shipped_classifier
from l2s_core.backbones.load import load_backbone, pick_device
from l2s_core.classifier.checkpoint import TrainedClassifier
from l2s_core.config import load_run_config
from l2s_core.evaluation.detectors.load import load_judge
from l2s_core.prompts.prompt import depicted, parse_several
from l2s_core.report.generate import compare
from l2s_core.report.grids import save_png
from l2s_core.steering.objectives import ClassifierObjective
from l2s_core.steering.targets import Targets


def generate(
    text: str, seeds: Sequence[int], config: str, classifier: Path | None, overrides: dict[str, Any] | None, out: Path
) -> None:
    """Write the PNG and say how many images of each kind are right."""
    run = load_run_config(config, overrides)
    prompt = parse_several(text, run.data.attribute_words)
    device = pick_device(run.device)
    trained = TrainedClassifier.load(classifier or shipped_classifier(config), device=device)
    ClassifierObjective.of(trained).require_known(Targets.of([prompt]))
    judge = load_judge(run.benchmark.judge, device=device)
    judge.require(depicted(prompt))
    picture, right = compare(load_backbone(run.backbone, device), trained, judge, prompt, list(seeds), run)
    save_png(picture, out)
    click.echo(", ".join(f"{method}: {count} of {len(seeds)} right" for method, count in right.items()))
    click.echo(out)
