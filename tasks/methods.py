"""Stage 5, further methods: the same prompts and seeds, other images."""

from __future__ import annotations

from collections.abc import Sequence

from l2s_core.config import HandcraftedMethod, PlainMethod, SelectionMethod
from l2s_core.evaluation.methods.objectives import candidates_of, handcrafted_objective
from l2s_core.evaluation.methods.selection import Chooser, ClassifierChooser, JudgeChooser, select_items
from l2s_core.evaluation.protocols.items import EvalItem
from l2s_core.evaluation.samples import SampleShard, sample_items
from l2s_core.storage.stages import MAIN, Stages
from tasks.models import backbone_for, classifier_for, judging_for


def sample_method(stages: Stages, name: str, items: Sequence[EvalItem]) -> SampleShard:
    """Make a further method's images of `items`."""
    config, method = stages.config, stages.config.methods[name]
    backbone, how = (
        backbone_for(config),
        {"batch": config.batch, "steps": config.backbone.steps, "guidance": config.backbone.guidance},
    )
    if isinstance(method, SelectionMethod):
        taken = [item.seed for item in stages.items]
        return select_items(
            backbone, items, _chooser(stages, method), n=candidates_of(stages, method), taken=taken, **how
        )
    if isinstance(method, PlainMethod):
        return sample_items(backbone, items, **how)
    if isinstance(method, HandcraftedMethod):
        how["objective"] = handcrafted_objective(method, backbone, config.capture, config.backbone.steps)
    else:
        how["classifier"] = classifier_for(config, stages.classifier(MAIN))
    return sample_items(backbone, items, steering=method.steering, **how)


def _chooser(stages: Stages, method: SelectionMethod) -> Chooser:
    config = stages.config
    if method.kind == "best-of-n-judge":
        return JudgeChooser(judging_for(stages))
    return ClassifierChooser(classifier_for(config, stages.classifier(MAIN)))
