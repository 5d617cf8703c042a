"""What a sweep leaves: the ranking as a table, and accuracy against cost as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from l2s_core.config import MAIN
from l2s_core.evaluation.run_summary import RunSummary
from l2s_core.experiments.sweeps import PointResult, rank
from l2s_core.report.pareto import COSTS, Spot, draw_front
from l2s_core.storage.files import atomic_path, write_json

LABELS = {
    "correct": "relation correct, steered",
    "all_found": "all objects found, steered",
    "test_accuracy": "test accuracy of the classifier",
}


def point_metrics(summary: RunSummary) -> dict[str, float]:
    """Return a point's headline figures: rates, evaluations and seconds an image, seconds of training."""
    main = summary.classifiers[MAIN]
    plain = summary.plain.summary
    steered = main.steered.summary
    result = main.result
    if result is None:
        raise ValueError(f"{summary.name} trained no classifier")
    return {
        "correct": steered.correct.rate,
        "all_found": steered.all_found.rate,
        "gradients": float(steered.gradients),
        "seconds": float(steered.seconds),
        "time_ratio": steered.seconds / plain.seconds,
        "plain_correct": plain.correct.rate,
        "plain_all_found": plain.all_found.rate,
        "test_accuracy": result.test["accuracy"],
        **{
            f"test_accuracy_{kind}_prompts": result.test.get(f"accuracy_{kind}_prompts", float("nan"))
            for kind in ("true", "wrong")
        },
        "train_seconds": float(result.seconds),
    }


def write_ranking(folder: Path, results: Sequence[PointResult], metric: str) -> list[Path]:
    """Write ranking.csv, points.json and cost.png; return them."""
    best_first = rank(results, metric)
    table = pd.DataFrame(
        [
            {"rank": number, "point": result.label, **result.varied, **result.metrics}
            for number, result in enumerate(best_first, start=1)
        ]
    )
    paths = [folder / name for name in ("ranking.csv", "points.json", "cost.png")]
    with atomic_path(paths[0]) as temporary:
        table.to_csv(temporary, index=False)
    write_json(paths[1], [result.to_json() for result in results])
    with atomic_path(paths[2]) as temporary:
        cost_figure(best_first, metric).savefig(temporary, dpi=120, bbox_inches="tight")
    return paths


def cost_figure(results: Sequence[PointResult], metric: str) -> Figure:
    """Draw a metric against seconds an image, with the points that no other beats in both joined by a line."""
    figure = Figure(figsize=(7, 4.5))
    spots = [
        Spot(cost=result.metrics["seconds"], value=result.metrics[metric], label=result.label) for result in results
    ]
    draw_front(figure.subplots(), spots, xlabel=COSTS["seconds"], ylabel=LABELS.get(metric, metric))
    return figure
