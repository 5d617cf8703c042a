"""A run: its settings, its addresses, and the benchmark's items."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from l2s_core.backbones.folder import fingerprint_of
from l2s_core.backbones.load import image_size, model_fingerprint, require_fit, window_fingerprint
from l2s_core.config import ClassifierConfig, RunConfig
from l2s_core.data.catalogue import Entry, load_catalogue
from l2s_core.data.source import source_of
from l2s_core.evaluation.detectors.depth import depth_fingerprint
from l2s_core.evaluation.detectors.load import judge_fingerprint
from l2s_core.evaluation.judged_image import FILE, read_judged
from l2s_core.evaluation.methods.method import Method, methods_of
from l2s_core.evaluation.metrics.clipscore import clip_fingerprint
from l2s_core.evaluation.protocols.items import EvalItem
from l2s_core.evaluation.protocols.protocol import benchmark_items
from l2s_core.hashing import digest
from l2s_core.relations import PLANAR
from l2s_core.storage.run_paths import Inputs, RunPaths


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run as tasks and flows know it; `paths` says where its outputs lie.

    `varied` maps dotted keys to the values by which a reader tells it from others of its name. No output depends on it.
    """

    paths: RunPaths
    varied: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, config: RunConfig, home: Path, *, given: Path | None = None, cache_salt: str = "") -> Run:
        """Return the run of settings with the models and data that are there; it trains no classifier with a given one.

        Raises UserError for a model or data that are missing, for settings that do not fit the model, and for prompts
        that the benchmark cannot make.
        """
        if given is not None:
            config = config.model_copy(update={"classifiers": {}})
        inputs = inputs_of(config, given)
        return cls(paths=RunPaths(config=config, home=Path(home), inputs=inputs, given=given, cache_salt=cache_salt))

    @property
    def config(self) -> RunConfig:
        """The settings."""
        return self.paths.config

    @property
    def home(self) -> Path:
        """The folder of runs."""
        return self.paths.home

    @property
    def classifiers(self) -> dict[str, ClassifierConfig]:
        """Settings of every classifier of the run, its own first."""
        return self.paths.classifiers

    @property
    def methods(self) -> dict[str, Method]:
        """Every method of sampling by name, in the order they are sampled."""
        return methods_of(self.config)

    def seconds(self, method: str) -> float:
        """Return the mean time of a method's images, seconds; raises UserError where they are not judged yet."""
        images = read_judged(self.paths.verdicts(method) / FILE)
        return sum(image.seconds for image in images) / len(images)

    @cached_property
    def items(self) -> list[EvalItem]:
        """The benchmark's items, in its order."""
        return benchmark_items(self.config)

    def scene_shards(self) -> Iterator[tuple[str, list[Entry]]]:
        """Yield (shard name, catalogue entries); the catalogue must be there."""
        yield from _shards(load_catalogue(self.paths.catalogue).entries, self.config.shard)

    def item_shards(self) -> Iterator[tuple[str, list[EvalItem]]]:
        """Yield (shard name, benchmark items)."""
        yield from _shards(self.items, self.config.shard)


def inputs_of(config: RunConfig, given: Path | None = None) -> Inputs:
    """Return the fingerprints of the models and data that are there; raises UserError as `Run.of` does."""
    require_fit(config)
    source = source_of(config.data)
    some = [] if set(PLANAR) <= set(config.data.stated) else [config.data.labels]  # labels and wrong prompts follow
    window = [window_fingerprint(config.backbone)] if source.NEEDS_WINDOW else []
    items = benchmark_items(config)
    clip = config.benchmark.clip if config.benchmark.asks_for_colors else None
    depth = config.benchmark.depth_model
    return Inputs(
        backbone=model_fingerprint(config.backbone),
        judge=judge_fingerprint(config.benchmark.judge),
        size=image_size(config.backbone),
        source=digest([source.identity(), *some] if some else source.identity()),
        data=(*source.fingerprint(), *window),
        colors=None if clip is None else clip_fingerprint(clip),
        depth=None if depth is None else depth_fingerprint(depth),
        given=None if given is None else fingerprint_of(given),
        items=items_digest(items),
        asked=asked_digest(items),
    )


def items_digest(items: Sequence[EvalItem]) -> str:
    """Return a digest of what images depend on: the prompts as they are read, and the seeds."""
    return digest(
        [
            [item.item_id, item.prompt.text, item.prompt.spans, [asdict(t) for t in item.prompt.triplets], item.seed]
            for item in items
        ]
    )


def asked_digest(items: Sequence[EvalItem]) -> str:
    """Return a digest of what verdicts depend on beside the images: what is asked of each."""
    return digest([[item.prompt_group, item.label, asdict(item.record) if item.record else None] for item in items])


def _shards(things: list, size: int) -> Iterator[tuple[str, list]]:
    for number, first in enumerate(range(0, len(things), size)):
        yield f"{number:05d}", things[first : first + size]
