"""Where every stage's output lies: an address made of its settings and its inputs' addresses.

Two runs that agree on a stage share its output; changing a setting moves only the stages that depend
on it. FORMATS is part of the address: raise a stage's number when its code comes to mean something else.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from l2s_core.backbones.folder import fingerprint_of
from l2s_core.config import RunConfig
from l2s_core.data.miniworld import partition_pairs, scene_ids
from l2s_core.evaluation.benchmark import EvalItem, benchmark_items
from l2s_core.files import digest

FORMATS = {"scenes": 1, "noise": 2, "maps": 1, "classifier": 1, "samples": 1, "verdicts": 1}
MAIN = "main"  # the run's own classifier, beside its variants
PLAIN = "plain"  # sampling without a classifier


@dataclass(frozen=True, kw_only=True)
class Stages:
    """The addresses of a run under `home`; `backbone` and `judge` are the models' fingerprints.

    With `given`, a folder, the run uses that classifier and trains none.
    """

    config: RunConfig
    home: Path
    backbone: str
    judge: str
    given: Path | None = None

    def _folder(self, stage: str, *parts: object) -> Path:
        return self.home / "stages" / stage / digest([stage, FORMATS[stage], *parts])

    @cached_property
    def scenes(self) -> Path:
        return self._folder("scenes", self.config.data.model_dump(mode="json"), self.config.shard)

    @cached_property
    def noise(self) -> Path:
        backbone, inversion = self.config.backbone, self.config.inversion.model_dump(mode="json", exclude={"min_psnr"})
        return self._folder("noise", self.scenes.name, self.backbone, backbone.size, backbone.steps, backbone.dtype, inversion)

    @cached_property
    def maps(self) -> Path:
        return self._folder("maps", self.noise.name, self.config.capture.model_dump(mode="json"), self.config.inversion.min_psnr)

    def classifier(self, variant: str) -> Path:
        if self.given is not None:
            return self.given
        return self._folder("classifier", self.maps.name, self.classifiers[variant].model_dump(mode="json"))

    def samples(self, variant: str) -> Path:
        backbone, steered = self.config.backbone, None
        if variant != PLAIN:
            identity = fingerprint_of(self.given) if self.given else self.classifier(variant).name
            steered = [identity, self.config.steering.model_dump(mode="json")]
        items = [[i.item_id, i.prompt.text, i.seed] for i in self.items]
        sampling = [self.backbone, backbone.size, backbone.steps, backbone.dtype, backbone.guidance]
        return self._folder("samples", sampling, steered, items, self.config.shard)

    def verdicts(self, variant: str) -> Path:
        return self._folder("verdicts", self.samples(variant).name, self.judge, self.config.benchmark.min_score)

    @property
    def report(self) -> Path:
        return self.home / "reports" / self.config.name

    @property
    def classifiers(self) -> dict:
        """Settings of every classifier of the run, its own first."""
        return {MAIN: self.config.classifier, **({} if self.given else self.config.variants)}

    @cached_property
    def items(self) -> list[EvalItem]:
        return benchmark_items(self.config.benchmark, partition_pairs(self.config.data))

    def scene_shards(self) -> Iterator[tuple[str, list[str]]]:
        """Yield (shard name, scene ids)."""
        yield from _shards(scene_ids(self.config.data), self.config.shard)

    def item_shards(self) -> Iterator[tuple[str, list[EvalItem]]]:
        """Yield (shard name, benchmark items)."""
        yield from _shards(self.items, self.config.shard)


def _shards(things: list, size: int) -> Iterator[tuple[str, list]]:
    for number, first in enumerate(range(0, len(things), size)):
        yield f"{number:05d}", things[first : first + size]
