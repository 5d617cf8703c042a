"""Stage 5 for baselines: the same prompts and seeds, other ways to make the images."""

from __future__ import annotations

from collections.abc import Sequence

from l2s_core.config import HandcraftedBaseline, PlainBaseline, SelectionBaseline
from l2s_core.evaluation.methods.baselines import candidates_of, handcrafted_objective
from l2s_core.evaluation.methods.selection import Chooser, ClassifierChooser, JudgeChooser, select_items
from l2s_core.evaluation.protocols.items import EvalItem
from l2s_core.evaluation.samples import SampleShard, sample_items
from l2s_core.storage.stages import MAIN, Stages
from tasks.models import backbone_for, classifier_for, color_reader_for, judge_for


def sample_baseline(stages: Stages, name: str, items: Sequence[EvalItem]) -> SampleShard:
    """Make a baseline's images of `items`."""
    config, baseline = stages.config, stages.config.baselines[name]
    backbone, how = (
        backbone_for(config),
        {"batch": config.batch, "steps": config.backbone.steps, "guidance": config.backbone.guidance},
    )
    if isinstance(baseline, SelectionBaseline):
        taken = [item.seed for item in stages.items]
        return select_items(
            backbone, items, _chooser(stages, baseline), n=candidates_of(stages, baseline), taken=taken, **how
        )
    if isinstance(baseline, PlainBaseline):
        return sample_items(backbone, items, **how)
    if isinstance(baseline, HandcraftedBaseline):
        how["objective"] = handcrafted_objective(baseline, backbone, config.capture, config.backbone.steps)
    else:
        how["classifier"] = classifier_for(config, stages.classifier(MAIN))
    return sample_items(backbone, items, steering=baseline.steering, **how)


def _chooser(stages: Stages, baseline: SelectionBaseline) -> Chooser:
    config = stages.config
    if baseline.kind == "best-of-n-judge":
        return JudgeChooser(judge_for(stages), config.benchmark.min_score, color_reader_for(config))
    return ClassifierChooser(classifier_for(config, stages.classifier(MAIN)))
