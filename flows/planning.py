"""Everything that is checked before any long work begins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flows.workspace import require_prefect
from l2s_core.backbones.load import backbone_without_weights, phrase_check, pick_device, require_reach
from l2s_core.classifier.checkpoint import TrainedClassifier
from l2s_core.config import load_run_config
from l2s_core.evaluation.detectors.load import require_names
from l2s_core.evaluation.metrics.clipscore import clip_folder
from l2s_core.evaluation.protocols.protocol import protocol_of
from l2s_core.evaluation.run import Run
from l2s_core.steering.objectives import ClassifierObjective
from l2s_core.steering.targets import Targets
from tasks.tracking.store import open_store


def plan(
    config: str, overrides: dict[str, Any] | None, home: Path, classifier: Path | None = None, cache_salt: str = ""
) -> Run:
    """Return the run; raises UserError for settings, models, prompts or stores that cannot work."""
    settings = load_run_config(config, overrides)
    pick_device(settings.device)
    run = Run.of(settings, home, given=classifier, cache_salt=cache_salt)
    require_reach(backbone_without_weights(settings.backbone), settings)
    if classifier is not None:
        ClassifierObjective.of(TrainedClassifier.load(classifier)).require_known(
            Targets.of([item.prompt for item in run.items])
        )
    if settings.benchmark.clip is not None:
        clip_folder(settings.benchmark.clip)
    # These are errors now, not after an hour: more prompts asked for than there are, phrases that the model's text
    # window cuts off, objects that the judge does not know.
    phrase_check(settings.backbone)([item.prompt for item in run.items if item.prompt.triplets])
    protocol = protocol_of(settings)
    names = [protocol.class_of(name) for item in run.items for name in item.objects]
    require_names(settings.benchmark.judge, dict.fromkeys(names))
    open_store(run.home)
    require_prefect()
    return run
