"""What is known of a run's images beside the judge's verdicts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from l2s_core.evaluation.detectors.judge import Judge
from l2s_core.evaluation.forms import Form, items_by_form
from l2s_core.evaluation.metrics.clipscore import ClipScore, load_clip
from l2s_core.evaluation.metrics.kid import KID
from l2s_core.evaluation.metrics.quality import Quality, RunFeatures, clip_scores, has_quality
from l2s_core.evaluation.official import official_summary
from l2s_core.evaluation.run import Run
from l2s_core.evaluation.statistics.aggregate import Rate


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Image quality (KID), CLIPScore, and what GenEval's own scorer says by task, each by method.

    `kid_changes` are those of every form of prompts alone, where there are several. None, or empty, where it is not
    known.
    """

    quality: Mapping[str, Quality] | None
    clip: Mapping[str, ClipScore] | None
    official: Mapping[str, Mapping[str, Rate]]
    kid_changes: Mapping[Form, Mapping[str, KID]]

    @classmethod
    def of(cls, run: Run, judge: Judge, device: str) -> Self:
        """Return the scores of a run's images; CLIPScore needs the run's `benchmark.clip`."""
        clip = run.config.benchmark.clip
        features = RunFeatures.of(run, judge) if has_quality(run, judge) else None
        forms = items_by_form(run.items)
        return cls(
            quality=None if features is None else features.quality(),
            kid_changes={form: features.kid_changes(places) for form, places in forms.items()} if features else {},
            clip=None if clip is None else clip_scores(run, load_clip(clip, device=device)),
            official=official_summary(run),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object."""
        quality = None if self.quality is None else {name: one.to_json() for name, one in self.quality.items()}
        clip = None if self.clip is None else {name: asdict(score) for name, score in self.clip.items()}
        official = {name: {tag: asdict(rate) for tag, rate in rates.items()} for name, rates in self.official.items()}
        return {"quality": quality, "clip": clip, "official": official}
