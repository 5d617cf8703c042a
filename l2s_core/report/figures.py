"""Figures, drawn without any global state."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

PHRASES = {"red": 0, "blue": 2, "green": 1}  # a colour and its channel, by an object's place in the prompt


def confusion_figure(counts: Sequence[Sequence[int]], names: Sequence[str]) -> Figure:
    """Draw a confusion matrix; rows are true relations, columns predicted ones, both in the order of `names`."""
    values = np.asarray(counts)
    shares = values / np.maximum(values.sum(1, keepdims=True), 1)
    figure = Figure(figsize=(3.6, 3.2), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(names)), names, rotation=30, ha="right")
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    for (row, column), count in np.ndenumerate(values):
        axes.text(
            column, row, str(count), ha="center", va="center", color="white" if shares[row, column] > 0.5 else "black"
        )
    return figure


def curves_figure(history: Sequence[dict[str, float]], best_epoch: int) -> Figure:
    """Draw training and validation loss and accuracy over epochs; a line marks the epoch that was kept."""
    figure = Figure(figsize=(6.4, 2.6), layout="constrained")
    for position, quantity in enumerate(("loss", "accuracy"), start=1):
        axes = figure.add_subplot(1, 2, position)
        for split in ("train", "val"):
            axes.plot([row[f"{split}_{quantity}"] for row in history], label=split)
        axes.axvline(best_epoch, color="grey", linewidth=0.8, linestyle="--")
        axes.set_xlabel("epoch")
        axes.set_title(quantity)
        axes.legend(frameon=False)
    return figure


def attention_figure(
    images: Sequence[np.ndarray],
    maps_TOGG: Sequence[np.ndarray],
    rows: Sequence[str],
    steps: Sequence[int],
    names: Sequence[str],
) -> Figure:
    """Draw the mean attention of the first phrases over the steps, one row per method, and the final image.

    `images` and `maps_TOGG` hold one entry per row: uint8 (H, W, 3), and (steps, objects, G, G). The first object is
    drawn in red, the second in blue, a third in green, each map from its least to its greatest value: means over many
    heads are almost flat.
    """
    figure = Figure(figsize=(1.3 * (len(steps) + 1), 1.45 * len(rows)), layout="constrained")
    grid = figure.subplots(len(rows), len(steps) + 1, squeeze=False)
    for axes_row, image, maps, label in zip(grid, images, maps_TOGG, rows, strict=True):
        for axes, map_OGG, step in zip(axes_row, maps, steps, strict=False):
            low, high = (f(map_OGG, axis=(-1, -2), keepdims=True) for f in (np.min, np.max))
            scaled = (map_OGG - low) / np.maximum(high - low, 1e-12)
            axes.imshow(
                np.einsum("ogh,oc->ghc", scaled[: len(PHRASES)], np.eye(3)[list(PHRASES.values())[: len(scaled)]])
            )
            axes.set_title(f"step {step}", fontsize=8)
        axes_row[-1].imshow(image)
        axes_row[0].set_ylabel(label, fontsize=8)
        for axes in axes_row:
            axes.set_xticks([])
            axes.set_yticks([])
    shown = [f"{name} ({colour})" for name, colour in zip(names, PHRASES, strict=False)]
    figure.suptitle(f"attention to {', '.join(shown[:-1])} and {shown[-1]}", fontsize=9)
    return figure


def confidence_figure(confidence_SR: np.ndarray, names: Sequence[str], threshold: float | None) -> Figure:
    """Draw the classifier's probability of each wanted relation before each steered step, and when it is sure."""
    figure = Figure(figsize=(5.4, 2.2), layout="constrained")
    axes = figure.add_subplot()
    for values_S, name in zip(confidence_SR.T, names, strict=True):
        axes.plot(range(len(values_S)), values_S, marker="o", markersize=3, label=name)
    if threshold is not None:
        axes.axhline(threshold, color="grey", linewidth=0.8, linestyle="--", label=f"sure at {threshold:g}")
    axes.set_ylim(0, 1.05)
    axes.set_xlabel("step")
    axes.set_title("probability of the wanted relation, at the end of each step's updates", fontsize=9)
    axes.legend(frameon=False, fontsize=8)
    return figure
