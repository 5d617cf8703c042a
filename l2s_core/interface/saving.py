"""A classifier's folder as others can use it: weights, settings, model card."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from l2s_core.errors import UserError
from l2s_core.storage.files import atomic_path, write_json

if TYPE_CHECKING:
    from l2s_core.interface.model import SteeredModel

SETTINGS = "configuration.json"
CARD = "README.md"


def save(model: SteeredModel, folder: str | Path) -> Path:
    """Write the classifier of a model, the settings of sampling and steering, and a model card; return the folder.

    The folder is what `load` takes as a classifier, here or, uploaded, by its hub id. Raises UserError for a model
    without a classifier.
    """
    if model.classifier is None:
        raise UserError("this model has no classifier to save; load it with classifier=…")
    folder = Path(folder)
    model.classifier.save(folder)
    run = model.run.model_copy(update={"methods": {}, "classifiers": {}})
    write_json(folder / SETTINGS, run.model_dump(mode="json"))
    with atomic_path(folder / CARD) as temporary:
        temporary.write_text(model_card(model), encoding="utf-8")
    return folder


def model_card(model: SteeredModel) -> str:
    """Return the model card: what the classifier reads, of which backbone, and how to steer with it."""
    if model.classifier is None:
        raise UserError("this model has no classifier to describe; load it with classifier=…")
    source = model.classifier.source
    run = model.run
    steering = "\n".join(f"| `{key}` | {value} |" for key, value in run.steering.model_dump(mode="json").items())
    return f"""---
library_name: learn-to-steer
tags: [diffusion, spatial-relations, inference-time-optimization]
base_model: {run.backbone.model}
---

# Relations from the attention of {run.backbone.model}

A classifier of relations ({", ".join(source.relations)}). It reads the cross-attention maps of two phrases and is the
loss that steers sampling (Learn-to-Steer, arXiv 2509.02295). The diffusion model's weights are not changed.

    import l2s_core as l2s

    model = l2s.load({str(run.name)!r}, classifier="this folder")
    model("a dog to the left of a cat", seeds=range(4)).images

| it was trained on | |
|---|---|
| backbone | {run.backbone.model}, family {run.backbone.family}, fingerprint `{source.backbone}` |
| maps | {source.channels} channels of {len(source.layers)} layers, {source.grid} × {source.grid} |
| steps | {", ".join(map(str, source.steps))} of {source.schedule_steps} |
| data | {run.data.source} |
| kind, width | {model.classifier.config.kind}, {model.classifier.config.width} |

| steering | |
|---|---|
{steering}
"""
