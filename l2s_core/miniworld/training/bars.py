"""What a small model can show without steering, by form of prompt, and what the judge finds in scenes of five objects.

Usage: ``python -m l2s_core.miniworld.training.bars MODEL [--suite dev|test] [--prompts 200] [--judge FOLDER]``.

MODEL is a name of configs/backbones, or such a name and a folder of other weights, ``mini-sd=WORK/models/mini-sd``.
Choices are made on the suite `dev`, reports on `test`.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from l2s_core.backbones.load import load_backbone, pick_device
from l2s_core.config.backbone import BackboneConfig
from l2s_core.config.base import validate
from l2s_core.config.loading import CONFIG_FOLDER, read_yaml
from l2s_core.diffusion.sampler import Sampled, Sampler
from l2s_core.evaluation.detectors.accuracy import measure_judge
from l2s_core.evaluation.detectors.detection import Detection
from l2s_core.evaluation.detectors.judge import Judge
from l2s_core.evaluation.detectors.load import load_judge
from l2s_core.evaluation.protocols.relation_rule import MIN_SCORE, judge_relations
from l2s_core.evaluation.protocols.several_prompts import generate_several
from l2s_core.evaluation.protocols.suites import noise_seed
from l2s_core.hashing import stable_fraction
from l2s_core.miniworld.world.sprites import OBJECTS
from l2s_core.prompts.chains import FORMS as SENTENCES
from l2s_core.prompts.prompt import SeveralPrompt, with_article
from l2s_core.report.grids import save_png, tile

# Objects and relations of a prompt; without relations it is a list.
FORMS = ("2+1", "3+2", "4+2", "4+3", "5+3", "3+0", "4+0", "5+0")
BATCH = 64
SPARE = 3  # prompts drawn for one list that is kept
GRID_IMAGES = 32
CROWDED = (0.0, 0.0, 0.0, 0.0, 1.0)  # scenes of five objects


@dataclass(frozen=True, kw_only=True)
class FormFigures:
    """Shares over the prompts of one form: all objects there, one of them twice, one that was not asked for.

    `right` is the share with every relation, `pairs` that of single relations. `missing`, `twice` and `foreign` count
    the objects that lack, are there twice, or were not asked for.
    """

    form: str
    prompts: int
    there: float
    doubled: float
    stranger: float
    right: float
    pairs: float
    missing: Counter[str]
    twice: Counter[str]
    foreign: Counter[str]


def form_prompts(form: str, suite: str, count: int) -> list[SeveralPrompt]:
    """Return different prompts of a form, "3+2", of one suite; the text of a list decides which suite it belongs to."""
    objects, relations = map(int, form.split("+"))
    if relations:
        return generate_several(suite, (objects, relations), count, OBJECTS)
    most = max(r for o, r in SENTENCES if o == objects)
    listed = [_listed(prompt) for prompt in generate_several(suite, (objects, most), SPARE * count, OBJECTS)]
    own = {p.text: p for p in listed if (stable_fraction("suite", p.text) < 0.5) == (suite == "dev")}
    return list(own.values())[:count]


def _listed(prompt: SeveralPrompt) -> SeveralPrompt:
    names = [with_article(name) for name in prompt.objects]
    text = f"a photo of {', '.join(names[:-1])} and {names[-1]}"
    return SeveralPrompt(text=text, triplets=(), objects=prompt.objects, spans=())


def form_figures(form: str, prompts: Sequence[SeveralPrompt], found: Sequence[Sequence[Detection]]) -> FormFigures:
    """Return the figures of one form from what the judge found in the image of each prompt."""
    there = doubled = stranger = right = held = pairs = 0
    missing: Counter[str] = Counter()
    twice: Counter[str] = Counter()
    foreign: Counter[str] = Counter()
    for prompt, detections in zip(prompts, found, strict=True):
        names = Counter(d.name for d in detections if d.score > MIN_SCORE)
        absent = set(prompt.objects) - set(names)
        again = {name for name in names if names[name] > 1}
        others = set(names) - set(prompt.objects)
        missing.update(absent)
        twice.update(again)
        foreign.update(others)
        there += not absent
        doubled += bool(again)
        stranger += bool(others)
        verdict = judge_relations(prompt, detections)
        right += bool(prompt.triplets) and verdict.correct
        held += sum(relation.holds for relation in verdict.relations)
        pairs += len(verdict.relations)
    count = len(prompts)
    return FormFigures(
        form=form,
        prompts=count,
        there=there / count,
        doubled=doubled / count,
        stranger=stranger / count,
        right=right / count,
        pairs=held / max(1, pairs),
        missing=missing,
        twice=twice,
        foreign=foreign,
    )


def table(
    model: str,
    *,
    suite: str,
    prompts: int,
    forms: Sequence[str] = FORMS,
    judge: str = "mini-seg",
    device: str = "cpu",
    steps: int | None = None,
    guidance: float | None = None,
    grids: Path | None = None,
) -> Iterator[str]:
    """Yield the lines of the table of one model; `model` as on the command line, `grids` a folder for images."""
    config = _backbone_config(model)
    eye = load_judge(judge, device=device)
    sampler = Sampler(
        backbone=load_backbone(config, device),
        steps=steps or config.steps,
        guidance=config.guidance if guidance is None else guidance,
        batch=BATCH,
    )
    yield (
        f"{model}: {prompts} prompts a form, suite {suite}, {sampler.steps} steps, "
        f"guidance {sampler.guidance}, judge {judge}"
    )
    heads = ("all there", "twice", "strange", "pairs", "all right")
    yield f"{'form':6s}" + "".join(f"{head:>10s}" for head in heads) + "  missing; twice; not asked for"
    for form in forms:
        asked = form_prompts(form, suite, prompts)
        seeds = [noise_seed(f"bars-{suite}-{form}-{i}", prompt.text) for i, prompt in enumerate(asked)]
        batches: Iterator[Sampled[Any]] = sampler.batches(asked, seeds)
        images = np.concatenate([sampled.images.numpy() for sampled in batches])
        row = form_figures(form, asked, _found(eye, images))
        values = (row.there, row.doubled, row.stranger, row.pairs, row.right)
        common = "; ".join(map(_common, (row.missing, row.twice, row.foreign)))
        yield f"{form:6s}" + "".join(f"{value:10.3f}" for value in values) + f"  {common}"
        if grids:
            save_png(tile(images[:GRID_IMAGES]), grids / f"{form}.png")


def _found(judge: Judge, images: np.ndarray) -> list[list[Detection]]:
    return [found for first in range(0, len(images), BATCH) for found in judge.detect(images[first : first + BATCH])]


def _common(counted: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counted.most_common(4))


def judge_line(judge: str = "mini-seg", device: str = "cpu", scenes: int = 200) -> str:
    """Return what the judge finds in rendered scenes of five objects."""
    figures = measure_judge(load_judge(judge, device=device), scenes, counts=CROWDED)
    return f"judge {judge}, {scenes} scenes of five objects: found {figures.found:.3f}, false {figures.false:.3f}"


def _backbone_config(model: str) -> BackboneConfig:
    name, _, folder = model.partition("=")
    path = CONFIG_FOLDER / "backbones" / f"{name}.yaml"
    return validate(BackboneConfig, read_yaml(path) | ({"model": folder} if folder else {}), str(path))


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table of one model and the line of the judge."""
    parser = argparse.ArgumentParser(description="What a small model shows without steering.")
    parser.add_argument("model", help="a name of configs/backbones, or NAME=FOLDER")
    parser.add_argument("--suite", choices=("dev", "test"), default="dev")
    parser.add_argument("--prompts", type=int, default=200, help="of each form")
    parser.add_argument("--forms", nargs="+", default=FORMS)
    parser.add_argument("--judge", default="mini-seg")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--steps", type=int, help="default: the configuration's")
    parser.add_argument("--guidance", type=float, help="default: the configuration's")
    parser.add_argument("--grids", type=Path, help="folder for a grid of images of each form")
    given = vars(parser.parse_args(arguments))
    device = pick_device(given.pop("device"))
    for line in table(**given, device=device):
        print(line, flush=True)
    print(judge_line(given["judge"], device))


if __name__ == "__main__":
    main()
