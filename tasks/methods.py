"""Stage 5, further methods: the same prompts and seeds, other images."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from l2s_core.config import MAIN, HandcraftedMethod, PlainMethod, SelectionMethod
from l2s_core.diffusion.sampler import Sampler
from l2s_core.evaluation.methods.objectives import candidates_of, handcrafted_objective
from l2s_core.evaluation.methods.selection import Chooser, ClassifierChooser, JudgeChooser, select_items
from l2s_core.evaluation.protocols.items import EvalItem
from l2s_core.evaluation.run import Run
from l2s_core.evaluation.samples import SampleShard, sample_items
from l2s_core.steering.objectives import ClassifierObjective, Objective
from l2s_core.steering.steering import Steering
from tasks.models import backbone_for, classifier_for, judging_for


def sample_method(run: Run, name: str, items: Sequence[EvalItem]) -> SampleShard:
    """Make a further method's images of `items`."""
    config = run.config
    method = run.config.methods[name]
    sampler = Sampler.of(backbone_for(config), config)
    if isinstance(method, SelectionMethod):
        taken = [item.seed for item in run.items]
        return select_items(sampler, items, _chooser(run, method), n=candidates_of(run, method), taken=taken)
    if isinstance(method, PlainMethod):
        return sample_items(sampler, items)
    if isinstance(method, HandcraftedMethod):
        objective: Objective = handcrafted_objective(method, sampler.backbone, config.capture, config.backbone.steps)
    else:
        objective = ClassifierObjective.of(classifier_for(config, run.paths.classifier(MAIN)), method.steering)
    return sample_items(sampler, items, partial(Steering, objective=objective, config=method.steering))


def _chooser(run: Run, method: SelectionMethod) -> Chooser:
    config = run.config
    if method.kind == "best-of-n-judge":
        return JudgeChooser(judging_for(run))
    return ClassifierChooser(classifier_for(config, run.paths.classifier(MAIN)))
