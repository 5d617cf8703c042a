"""A classifier's folder as others can use it: weights, settings, model card."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from l2s_core.backbones.hub import HUB_ID
from l2s_core.config import RunConfig
from l2s_core.errors import UserError
from l2s_core.sizes import size_text
from l2s_core.storage.files import atomic_path, write_json
from l2s_core.storage.versioned import write_versioned

if TYPE_CHECKING:
    from l2s_core.interface.model import SteeredModel

SETTINGS = "configuration.json"
CARD = "README.md"


def save(model: SteeredModel, folder: str | Path, *, place: str = "this folder") -> Path:
    """Write the classifier of a model, the settings of sampling and steering, and a model card; return the folder.

    The folder is what `load` takes as a classifier, here or, uploaded (`push`), by its hub id; `place` is what the card
    says that it is. Raises UserError for a model without a classifier.
    """
    if model.classifier is None:
        raise UserError("this model has no classifier to save; load it with classifier=…")
    folder = Path(folder)
    model.classifier.save(folder)
    if model.trained is not None:
        from l2s_core.classifier.checkpoint import RESULT
        from l2s_core.classifier.experiment import FORMAT

        write_versioned(folder / RESULT, FORMAT, model.trained.to_json())
    write_json(folder / SETTINGS, settings_of(model.run).model_dump(mode="json"))
    with atomic_path(folder / CARD) as temporary:
        temporary.write_text(model_card(model, place), encoding="utf-8")
    return folder


def settings_of(run: RunConfig) -> RunConfig:
    """Return the settings that are saved: a run's without what only its own benchmark has."""
    return run.model_copy(update={"methods": {}, "classifiers": {}})


def model_card(model: SteeredModel, place: str = "this folder") -> str:
    """Return the model card: what the classifier reads, of which backbone, its figures, and how to steer with it."""
    if model.classifier is None:
        raise UserError("this model has no classifier to describe; load it with classifier=…")
    source = model.classifier.source
    run = model.run
    steering = "\n".join(f"| `{key}` | {value} |" for key, value in run.steering.model_dump(mode="json").items())
    base = f"base_model: {run.backbone.model}\n" if HUB_ID.fullmatch(run.backbone.model) else ""
    return f"""---
library_name: learn-to-steer
tags: [diffusion, spatial-relations, inference-time-optimization]
{base}---

# Relations from the attention of {run.backbone.model}

A classifier of relations ({", ".join(source.relations)}). It reads the cross-attention maps of two phrases and is the
loss that steers sampling (Learn-to-Steer, arXiv 2509.02295). The diffusion model's weights are not changed.

    import l2s_core as l2s

    model = l2s.load({str(run.name)!r}, classifier={place!r})
    model("a dog to the left of a cat", seeds=range(4)).images

| it was trained on | |
|---|---|
| backbone | {run.backbone.model}, family {run.backbone.family}, fingerprint `{source.backbone}` |
| maps | {source.channels} channels of {len(source.layers)} layers, {size_text(source.grid)} |
| steps | {", ".join(map(str, source.steps))} of {source.schedule_steps} |
| data | {run.data.source} |
| kind, width | {model.classifier.config.kind}, {model.classifier.config.width} |
{_figures(model)}
| steering | |
|---|---|
{steering}
"""


def _figures(model: SteeredModel) -> str:
    """Return rows of the test accuracy, where the training is known."""
    if model.trained is None:
        return ""
    named = {"accuracy": "all", "accuracy_true_prompts": "true prompts", "accuracy_wrong_prompts": "wrong prompts"}
    figures = ", ".join(
        f"{label} {model.trained.test[key]:.3f}" for key, label in named.items() if key in model.trained.test
    )
    return f"| accuracy on {model.trained.records['test']} test records | {figures} |\n"
