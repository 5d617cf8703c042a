"""From a name, a file or a pipeline to a model that can be steered."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from l2s_core.backbones.folder import shipped_classifiers
from l2s_core.config import RunConfig, load_run_config, validate
from l2s_core.errors import UserError
from l2s_core.interface.classifiers import classifier_folder
from l2s_core.interface.saving import SETTINGS
from l2s_core.storage.files import read_json

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

    from l2s_core.backbones.model import DiffusersModel
    from l2s_core.classifier.checkpoint import TrainedClassifier
    from l2s_core.classifier.experiment import ClassifierResult
    from l2s_core.interface.model import SteeredModel

QUIET = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "true"}


def load(
    model: str | Path | DiffusionPipeline = "mini-sd",
    classifier: str | Path | None = None,
    *,
    config: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    device: str = "auto",
    home: str | Path | None = None,
) -> SteeredModel:
    """Load a model with the classifier that steers it.

    model: the name or the file of a configuration, which has the backbone and the settings of sampling and steering;
        or a pipeline of diffusers as it is loaded, which stays as it is. Its classifier must be of the same
        architecture; whether it is of the same weights cannot be known.
    classifier: where it comes from, see `classifier_folder`; by default the one that ships for the configuration.
        Without one the model samples plain images.
    config: for a pipeline, the configuration whose settings are used; by default those that `save` left with the
        classifier, or of the configuration that a shipped classifier is named after.
    settings: settings to change, as ``--set`` does: {"steering.updates": 5}.
    device: "auto", "cpu" or "cuda"; a pipeline stays where it is.
    home: the folder of runs, for classifiers that its MLflow holds.

    Raises UserError, one line, for what cannot be loaded or does not go together. Sets the environment's defaults so
    that nothing is sent anywhere and nothing fetched (HF_HUB_OFFLINE=0 allows fetching).
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    from l2s_core.backbones.load import load_backbone, pick_device
    from l2s_core.interface.model import SteeredModel
    from l2s_core.interface.pipelines import backbone_of

    where = None if home is None else Path(home)
    if isinstance(model, (str, Path)):
        if config is not None:
            raise UserError(f"config is {config!r}, but {model!r} is a configuration already; leave config out")
        run = load_run_config(model, dict(settings or {}))
        device = pick_device(run.device if device == "auto" else device)
        own = shipped_classifiers().get(Path(model).stem)
        folder = own if classifier is None else classifier_folder(classifier, where)
        backbone = load_backbone(run.backbone, device)
    else:
        folder = None if classifier is None else classifier_folder(classifier, where)
        run = _settings_for(folder, config, settings)
        backbone = backbone_of(model, run.backbone.size)
    trained = _trained(folder, backbone.device)
    if trained is not None:
        _require_layers(trained, backbone)
    return SteeredModel(backbone=backbone, classifier=trained, run=run, trained=_result(folder))


def _trained(folder: Path | None, device: str) -> TrainedClassifier | None:
    from l2s_core.classifier.checkpoint import TrainedClassifier

    return None if folder is None else TrainedClassifier.load(folder, device=device)


def _result(folder: Path | None) -> ClassifierResult | None:
    """Return how a classifier was trained; None where its folder does not tell, which steering does not need."""
    from l2s_core.classifier.checkpoint import RESULT

    if folder is None or not (folder / RESULT).is_file():
        return None
    from l2s_core.classifier.experiment import copied_result

    try:
        return copied_result(folder)
    except UserError:
        return None


def _require_layers(trained: TrainedClassifier, backbone: DiffusersModel) -> None:
    """Raise UserError for a classifier that reads layers which the backbone has not."""
    names = {layer.name for layer in backbone.layers()}
    for name in trained.source.layers:
        if name not in names:
            raise UserError(
                f"this classifier reads the attention of {name!r}, which this {type(backbone.denoiser).__name__} has "
                "not; give a classifier of the same architecture"
            )


def _settings_for(folder: Path | None, config: str | Path | None, settings: Mapping[str, Any] | None) -> RunConfig:
    """Return the settings for a pipeline; raises UserError where nothing says which."""
    if config is not None:
        return load_run_config(config, dict(settings or {}))
    if folder is None:
        raise UserError("a pipeline needs a classifier, or config=NAME for plain images alone")
    stored = folder / SETTINGS
    if not stored.is_file():
        try:
            return load_run_config(folder.name, dict(settings or {}))
        except UserError:
            raise UserError(
                f"{folder} does not say how to steer; give config=NAME, the configuration it was trained with, "
                f"or save it with l2s.save, which writes {SETTINGS}"
            ) from None
    run: RunConfig = validate(RunConfig, read_json(stored), str(stored))
    if settings:
        raise UserError(f"settings go with config=NAME; without it those of {stored} are used as they are")
    return run
