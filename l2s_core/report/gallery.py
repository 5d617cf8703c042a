"""Pictures of a benchmark's images: the first prompts, and the failures that are shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from PIL import Image

from l2s_core.config import MAIN, PLAIN
from l2s_core.evaluation.judged_image import JudgedImage
from l2s_core.evaluation.pictures import method_images
from l2s_core.evaluation.run import Run
from l2s_core.report.forms import FormRow
from l2s_core.report.grids import comparison_grid, side_by_side, stacked_grid

GRID_ITEMS = 16
FORM_ITEMS = 8
SHOWN = {"plain": PLAIN, "steered": MAIN}  # methods by what pictures call them

Verdicts = Mapping[str, Sequence[JudgedImage]]  # by method


def first_items_grid(run: Run, verdicts: Verdicts) -> Image.Image:
    """Draw the first prompts of every kind of object pair, plain and steered, none picked by its result."""
    chosen = _first_items(run)
    columns = {label: method_images(run, method, chosen) for label, method in SHOWN.items()}
    return comparison_grid(columns, {label: _rows(verdicts[method], chosen) for label, method in SHOWN.items()})


def form_grids(run: Run, verdicts: Verdicts, forms: Sequence[FormRow]) -> list[Image.Image]:
    """Draw the first items of every form, plain above steered, none picked by its result."""
    grids = []
    for form in forms:
        chosen = form.item_ids[:FORM_ITEMS]
        images = {label: method_images(run, method, chosen) for label, method in SHOWN.items()}
        grids.append(stacked_grid(images, {label: _rows(verdicts[method], chosen) for label, method in SHOWN.items()}))
    return grids


def failure_pictures(run: Run, verdicts: Verdicts, item_ids: Sequence[str]) -> list[Image.Image]:
    """Draw items plain and steered from the same noise, with the judge's boxes."""
    images = [method_images(run, method, item_ids) for method in (PLAIN, MAIN)]
    rows = [_rows(verdicts[method], item_ids) for method in (PLAIN, MAIN)]
    return [
        side_by_side(pair, judged)
        for pair, judged in zip(zip(*images, strict=True), zip(*rows, strict=True), strict=True)
    ]


def _rows(verdicts: Sequence[JudgedImage], item_ids: Sequence[str]) -> list[JudgedImage]:
    by_id = {image.item_id: image for image in verdicts}
    return [by_id[item_id] for item_id in item_ids]


def _first_items(run: Run) -> list[str]:
    """Return ids of the first prompts of every pair split, one seed each."""
    by_split: dict[str, dict[str, str]] = {}
    for item in run.items:
        by_split.setdefault(item.prompt_group, {}).setdefault(item.prompt.text, item.item_id)
    share = -(-GRID_ITEMS // len(by_split))
    return [i for prompts in by_split.values() for i in list(prompts.values())[:share]][:GRID_ITEMS]
