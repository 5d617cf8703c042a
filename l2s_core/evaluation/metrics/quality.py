"""Whether steering ruins images: relation accuracy bought with worse pictures does not count.

Usage: ``python -m l2s_core.evaluation.metrics.quality HOME CONFIG`` on a run of the small world whose images are there: for every method
of sampling, the KID of its images to rendered scenes of the same prompts, its change against plain, and how many images are
the plain ones bit for bit.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from l2s_core.config import PLAIN, load_run_config
from l2s_core.data.source import source_of
from l2s_core.errors import UserError
from l2s_core.evaluation.detectors.judge import Judge
from l2s_core.evaluation.detectors.load import load_judge
from l2s_core.evaluation.metrics.clipscore import ClipScorer, clip_summary
from l2s_core.evaluation.metrics.kid import MIN_IMAGES, kid, kid_change
from l2s_core.evaluation.metrics.untouched import untouched
from l2s_core.evaluation.pictures import has_images, method_images
from l2s_core.evaluation.run import Run

REFERENCES = 4  # rendered scenes an image
RENDERED = "rendered scenes"  # the KID of fresh scenes

Features = Callable[[np.ndarray], np.ndarray]  # uint8 images (N, H, W, 3) -> features_ND


def quality_summary(
    images: Mapping[str, np.ndarray], references: np.ndarray, features: Features
) -> dict[str, dict[str, Any]]:
    """Return, by method, {"kid", "kid_change", "untouched"}: JSON-able.

    `images` are uint8 (N, H, W, 3) by method, the same prompts and noise in the same order in each. `kid` is {"mean", "error", …}
    to the references; the other two hold a method against the plain images and are left out for those, and where there are none.
    `untouched` is {"identical", "count", "psnr"}: PSNR in dB over the images that changed. Where both sets go round the same
    prompts, KID is a little below 0 for perfect images (by the variance between prompts, over N), for every method alike.

    Raises ValueError as `kid_change` and `untouched` do.
    """
    reference_MD = features(references)
    features_by_method = {method: features(pictures) for method, pictures in images.items()}
    summary: dict[str, dict[str, Any]] = {}
    for method, features_ND in features_by_method.items():
        summary[method] = {"kid": asdict(kid(features_ND, reference_MD))}
        if method != PLAIN and PLAIN in images:
            summary[method]["kid_change"] = asdict(kid_change(features_by_method[PLAIN], features_ND, reference_MD))
            pairs = untouched(images[method], images[PLAIN])
            summary[method]["untouched"] = {
                "identical": sum(pairs.identical),
                "count": len(pairs.identical),
                "psnr": pairs.psnr,
            }
    return summary


def has_quality(run: Run, judge: Judge) -> bool:
    """Whether `run_quality` can say something.

    It takes a source that renders scenes of the images' size, a judge whose features compare images, prompts that
    scenes can show, and images enough.
    """
    source = source_of(run.config.data)
    own = source.REFERENCE_SIDE == run.paths.inputs.side and judge.gives_features
    return own and len(run.items) >= MIN_IMAGES and all(source.can_show(item.prompt) for item in run.items)


def run_quality(run: Run, judge: Judge) -> dict[str, dict[str, Any]]:
    """Return the `quality_summary` of a run's finished methods against rendered scenes, in the judge's features.

    The scenes show the prompts of the run. The first entry is as many fresh scenes in place of samples: what perfect images would have. Raises UserError for a run
    without such scenes (see `has_quality`), and when the images of no method are there.
    """
    if not has_quality(run, judge):
        needed = (
            "a data.source that renders scenes (miniworld, at 64 px), the judge mini-seg, "
            f"prompts that scenes can show and at least {MIN_IMAGES} images"
        )
        raise UserError(f"{run.config.name} cannot be held against rendered scenes; that takes {needed}")
    methods = [method for method in run.methods if has_images(run, method)]
    if not methods:
        raise UserError(f"no images of {run.config.name} in {run.home}; run it first, with the same settings")
    prompts = [item.prompt for item in run.items]
    count = REFERENCES * len(prompts)
    source = source_of(run.config.data)
    references = source.references(prompts, count)
    fresh = source.references(prompts, len(prompts), first=count)
    perfect = quality_summary({RENDERED: fresh}, references, judge.features)
    return perfect | quality_summary(
        {method: np.stack(method_images(run, method)) for method in methods}, references, judge.features
    )


def clip_scores(run: Run, scorer: ClipScorer) -> dict[str, dict[str, float]]:
    """Return the CLIPScore, mean and standard error, of every method whose images are there."""
    texts = [item.prompt.text for item in run.items]
    methods = [method for method in run.methods if has_images(run, method)]
    return {method: clip_summary(scorer.scores(np.stack(method_images(run, method)), texts)) for method in methods}


def _line(method: str, entry: Mapping[str, Any]) -> str:
    line = f"{method:24s}{_value(entry['kid'])}"
    if "kid_change" in entry:
        pairs = entry["untouched"]
        psnr = "none changed" if pairs["psnr"] is None else f"others at {pairs['psnr']:.1f} dB"
        line += f"   {_value(entry['kid_change'])}   {pairs['identical']} of {pairs['count']} as plain, {psnr}"
    return line


def _value(entry: Mapping[str, float]) -> str:
    return f"{entry['mean']:+8.4f} ± {entry['error']:.4f}"


def main() -> None:
    """Print the table of a run."""
    if len(sys.argv) != 3:
        sys.exit("usage: python -m l2s_core.evaluation.metrics.quality HOME CONFIG")
    try:
        config = load_run_config(sys.argv[2])
        summary = run_quality(Run.of(config, Path(sys.argv[1])), load_judge(config.benchmark.judge))
    except UserError as error:
        sys.exit(str(error))
    print(f"{'':24s}{'KID to scenes':19s}   {'against plain':17s}")
    for method, entry in summary.items():
        print(_line(method, entry))


if __name__ == "__main__":
    main()
