"""Whether steering ruins images: relation accuracy bought with worse pictures does not count.

Usage: ``python -m l2s_core.evaluation.metrics.quality HOME CONFIG`` on a run of the small world whose images are
there: for every method of sampling, the KID of its images to rendered scenes of the same prompts, its change against
plain, and how many images are the plain ones bit for bit.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from l2s_core.config import PLAIN, load_run_config
from l2s_core.data.source import source_of
from l2s_core.errors import UserError
from l2s_core.evaluation.detectors.judge import Judge
from l2s_core.evaluation.detectors.load import load_judge
from l2s_core.evaluation.metrics.clipscore import ClipScore, ClipScorer
from l2s_core.evaluation.metrics.kid import KID, MIN_IMAGES, kid, kid_change
from l2s_core.evaluation.metrics.untouched import Untouched, untouched
from l2s_core.evaluation.pictures import has_images, method_images
from l2s_core.evaluation.run import Run

REFERENCES = 4  # rendered scenes an image
RENDERED = "rendered scenes"  # the KID of fresh scenes

Features = Callable[[np.ndarray], np.ndarray]  # uint8 images (N, H, W, 3) -> features_ND


@dataclass(frozen=True, kw_only=True)
class Quality:
    """How good a method's images are, whatever they show.

    `kid` is the distance to rendered scenes. The other two hold a method against the plain images, and are None for
    those and where there are none.
    """

    kid: KID
    kid_change: KID | None = None
    untouched: Untouched | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object, without what is None; of `untouched` the number of identical images and of all."""
        written: dict[str, Any] = {"kid": asdict(self.kid)}
        if self.kid_change is not None:
            written["kid_change"] = asdict(self.kid_change)
        if self.untouched is not None:
            written["untouched"] = {
                "identical": sum(self.untouched.identical),
                "count": len(self.untouched.identical),
                "psnr": self.untouched.psnr,
            }
        return written


def quality_by_method(
    images: Mapping[str, np.ndarray], references: np.ndarray, features: Features
) -> dict[str, Quality]:
    """Return the quality of every method's images, uint8 (N, H, W, 3): the same prompts and noise in the same order.

    Where images and references go round the same prompts, KID is a little below 0 for perfect images (by the variance
    between prompts, over N), for every method alike. Raises ValueError as `kid_change` and `untouched` do.
    """
    return _quality(images, {name: features(own) for name, own in images.items()}, features(references))


def _quality(
    images: Mapping[str, np.ndarray], features_by_method: Mapping[str, np.ndarray], reference_MD: np.ndarray
) -> dict[str, Quality]:
    found = {}
    for method, features_ND in features_by_method.items():
        quality = Quality(kid=kid(features_ND, reference_MD))
        if method != PLAIN and PLAIN in images:
            quality = replace(
                quality,
                kid_change=kid_change(features_by_method[PLAIN], features_ND, reference_MD),
                untouched=untouched(images[method], images[PLAIN]),
            )
        found[method] = quality
    return found


def has_quality(run: Run, judge: Judge) -> bool:
    """Whether `run_quality` can say something.

    It takes a source that renders scenes of the images' size, a judge whose features compare images, prompts that
    scenes can show, and images enough.
    """
    source = source_of(run.config.data)
    own = run.paths.inputs.size == source.REFERENCE_SIDE and judge.gives_features
    return own and len(run.items) >= MIN_IMAGES and all(source.can_show(item.prompt) for item in run.items)


@dataclass(frozen=True, kw_only=True)
class RunFeatures:
    """Images of a run's finished methods, (N, H, W, 3) each, and the judge's features of them.

    `reference_MD` are the features of rendered scenes of the run's prompts in turn, so that scene m shows prompt m % N,
    and `fresh` are N further scenes.
    """

    images: Mapping[str, np.ndarray]
    by_method: Mapping[str, np.ndarray]
    reference_MD: np.ndarray
    fresh: np.ndarray
    fresh_ND: np.ndarray

    @classmethod
    def of(cls, run: Run, judge: Judge) -> Self:
        """Return the features of a run.

        Raises UserError for a run without such scenes (see `has_quality`), and when the images of no method are there.
        """
        methods = _finished_methods(run, judge)
        prompts = [item.prompt for item in run.items]
        count = REFERENCES * len(prompts)
        source = source_of(run.config.data)
        fresh = source.references(prompts, len(prompts), first=count)
        images = {method: np.stack(method_images(run, method)) for method in methods}
        return cls(
            images=images,
            by_method={method: judge.features(own) for method, own in images.items()},
            reference_MD=judge.features(source.references(prompts, count)),
            fresh=fresh,
            fresh_ND=judge.features(fresh),
        )

    def quality(self) -> dict[str, Quality]:
        """Return the quality of every method.

        The first entry is that of the fresh scenes in place of samples: what perfect images would have.
        """
        perfect = _quality({RENDERED: self.fresh}, {RENDERED: self.fresh_ND}, self.reference_MD)
        return perfect | _quality(self.images, self.by_method, self.reference_MD)

    def kid_changes(self, places: Sequence[int]) -> dict[str, KID]:
        """Return the KID change of every method against plain on the items at `places`, with their own scenes.

        There are none for fewer than MIN_IMAGES items, and without plain images.
        """
        if len(places) < MIN_IMAGES or PLAIN not in self.by_method:
            return {}
        count = len(self.fresh_ND)
        own = np.asarray(places)
        shown = np.concatenate([first + own for first in range(0, len(self.reference_MD), count)])
        plain_ND = self.by_method[PLAIN][own]
        return {
            method: kid_change(plain_ND, features_ND[own], self.reference_MD[shown])
            for method, features_ND in self.by_method.items()
            if method != PLAIN
        }


def run_quality(run: Run, judge: Judge) -> dict[str, Quality]:
    """Return the quality of a run's finished methods against rendered scenes; raises UserError as `RunFeatures.of`."""
    return RunFeatures.of(run, judge).quality()


def _finished_methods(run: Run, judge: Judge) -> list[str]:
    """Return the methods whose images are there; raises UserError where there is none, or nothing to hold them to."""
    if not has_quality(run, judge):
        needed = (
            "a data.source that renders scenes (miniworld, at 64 px), the judge mini-seg, "
            f"prompts that scenes can show and at least {MIN_IMAGES} images"
        )
        raise UserError(f"{run.config.name} cannot be held against rendered scenes; that takes {needed}")
    methods = [method for method in run.methods if has_images(run, method)]
    if not methods:
        raise UserError(f"no images of {run.config.name} in {run.home}; run it first, with the same settings")
    return methods


def clip_scores(run: Run, scorer: ClipScorer) -> dict[str, ClipScore]:
    """Return the CLIPScore, mean and standard error, of every method whose images are there."""
    texts = [item.prompt.text for item in run.items]
    methods = [method for method in run.methods if has_images(run, method)]
    return {method: ClipScore.of(scorer.scores(np.stack(method_images(run, method)), texts)) for method in methods}


def _line(method: str, quality: Quality) -> str:
    line = f"{method:24s}{_value(quality.kid)}"
    if quality.kid_change is not None and quality.untouched is not None:
        pairs = quality.untouched
        psnr = "none changed" if pairs.psnr is None else f"others at {pairs.psnr:.1f} dB"
        same = f"{sum(pairs.identical)} of {len(pairs.identical)} as plain"
        line += f"   {_value(quality.kid_change)}   {same}, {psnr}"
    return line


def _value(distance: KID) -> str:
    return f"{distance.mean:+8.4f} ± {distance.error:.4f}"


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
    for method, quality in summary.items():
        print(_line(method, quality))


if __name__ == "__main__":
    main()
