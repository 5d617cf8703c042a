"""Where every stage's output lies: an address made of its settings and its inputs' addresses.

Two runs that agree on a stage share its output; changing a setting moves only the stages that depend
on it. FORMATS is part of the address: raise a stage's number when its code comes to mean something else.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

from l2s_core.backbones.folder import fingerprint_of
from l2s_core.backbones.load import image_side, model_fingerprint, require_fit, window_fingerprint
from l2s_core.config import (
    INVERTED,
    MAIN,
    PLAIN,
    TRAJECTORIES,
    ClassifierMethod,
    HandcraftedMethod,
    PaperMethod,
    PlainMethod,
    RunConfig,
    SteeringConfig,
)
from l2s_core.data.catalogue import Entry, load_catalogue
from l2s_core.data.source import source_of
from l2s_core.evaluation.detectors.load import judge_fingerprint
from l2s_core.evaluation.metrics.clipscore import clip_fingerprint
from l2s_core.evaluation.protocols.items import EvalItem
from l2s_core.evaluation.protocols.protocol import benchmark_items
from l2s_core.hashing import digest

FORMATS = {
    "catalogue": 1,
    "scenes": 2,
    "noise": 3,
    "maps": 1,
    "trajectories": 1,
    "classifier": 1,
    "samples": 2,
    "verdicts": 3,
}


@dataclass(frozen=True, kw_only=True)
class Stages:
    """The addresses of a run under `home`.

    `backbone` and `judge` are the models' fingerprints, `colors` that of the model that tells colours, where a benchmark asks
    for some, `side` that of the images in pixels. `data` are those of what scenes are read from: the annotation files, the images
    and the tokenizers that phrases must fit. With `given`, a folder, the run uses that classifier and trains none. An `cache_salt`
    makes every address new: nothing that was made under another one is reused.
    """

    config: RunConfig
    home: Path
    backbone: str
    judge: str
    side: int
    data: tuple[str, ...] = ()
    colors: str | None = None
    given: Path | None = None
    cache_salt: str = ""

    @classmethod
    def of(cls, config: RunConfig, home: Path, *, given: Path | None = None, cache_salt: str = "") -> Stages:
        """The addresses of a run with the models and data that are there; raises UserError for one that is missing."""
        require_fit(config)
        source = source_of(config.data)
        window = [window_fingerprint(config.backbone)] if source.NEEDS_WINDOW else []
        return cls(
            config=config,
            home=Path(home),
            backbone=model_fingerprint(config.backbone),
            judge=judge_fingerprint(config.benchmark.judge),
            side=image_side(config.backbone),
            data=(*source.fingerprint(), *window),
            given=given,
            cache_salt=cache_salt,
            colors=clip_fingerprint(config.benchmark.clip) if config.benchmark.asks_for_colors else None,
        )

    def _folder(self, stage: str, *parts: object) -> Path:
        return (
            self.home
            / "stages"
            / stage
            / digest([stage, FORMATS[stage], *parts, *([self.cache_salt] if self.cache_salt else [])])
        )

    @cached_property
    def catalogue(self) -> Path:
        settings = source_of(self.config.data).identity()
        return self._folder("catalogue", settings, self.data) / "catalogue.json"

    @cached_property
    def scenes(self) -> Path:
        return self._folder("scenes", self.catalogue.parent.name, self.side, self.config.shard)

    @cached_property
    def noise(self) -> Path:
        backbone, inversion = self.config.backbone, self.config.inversion.model_dump(mode="json", exclude={"min_psnr"})
        return self._folder(
            "noise", self.scenes.name, self.backbone, self.side, backbone.steps, backbone.dtype, inversion
        )

    @cached_property
    def maps(self) -> Path:
        return self._folder(
            "maps", self.noise.name, self.config.capture.model_dump(mode="json"), self.config.inversion.min_psnr
        )

    @cached_property
    def trajectories(self) -> Path:
        """The maps of the backbone's own sampling."""
        config, judged = self.config, [self.judge, self.config.benchmark.min_score]
        return self._folder(
            "trajectories",
            self.scenes.name,
            self._sampling,
            config.trajectories,
            config.capture.model_dump(mode="json"),
            judged,
        )

    def maps_of(self, name: str) -> dict[str, Path]:
        """The folders of maps that a classifier learns from, by kind."""
        wanted = self.classifiers[name].maps
        return {kind: folder for kind, folder in self.map_folders.items() if wanted in (kind, "both")}

    @property
    def map_folders(self) -> dict[str, Path]:
        """The folders of every kind of maps that the run makes: scenes are inverted unless no classifier learns from them."""
        folders = {INVERTED: self.maps} if self.config.inverts else {}
        return folders | ({TRAJECTORIES: self.trajectories} if self.config.trajectories else {})

    def classifier(self, name: str) -> Path:
        if self.given is not None:
            return self.given
        sources = [folder.name for folder in self.maps_of(name).values()]
        return self._folder("classifier", *sources, self.classifiers[name].model_dump(mode="json"))

    def samples(self, method: str) -> Path:
        """The images of a method: plain, a classifier's, or a further one's."""
        steered = self._method(method) if method in self.config.methods else self._steered(method)
        items = [
            [i.item_id, i.prompt.text, i.prompt.spans, [asdict(t) for t in i.prompt.triplets], i.seed]
            for i in self.items
        ]
        return self._folder("samples", self._sampling, steered, items, self.config.shard)

    @property
    def _sampling(self) -> list:
        backbone = self.config.backbone
        return [self.backbone, self.side, backbone.steps, backbone.dtype, backbone.guidance]

    def _steered(self, name: str, steering: SteeringConfig | None = None) -> list | None:
        """What tells a classifier's images from plain ones; nothing for plain."""
        if name == PLAIN:
            return None
        identity = fingerprint_of(self.given) if self.given else self.classifier(name).name
        return [identity, (steering or self.config.steering).model_dump(mode="json")]

    def _method(self, name: str) -> list | None:
        """What tells a further method's images from plain ones; the same as a classifier's where it does the same."""
        method = self.config.methods[name]
        if isinstance(method, PlainMethod):
            return None
        if isinstance(method, ClassifierMethod | PaperMethod):
            return self._steered(MAIN, method.steering)
        settings = method.model_dump(mode="json")
        if isinstance(method, HandcraftedMethod):
            return [settings, self.config.capture.model_dump(mode="json", exclude={"steps"})]
        chooser = (
            self._steered(MAIN)[0]
            if method.kind == "best-of-n"
            else [*self._judged_by, self.config.benchmark.min_score]
        )
        as_long_as = [self.samples(PLAIN).name, self.samples(MAIN).name] if method.n is None else None
        return [settings, chooser, as_long_as]

    @property
    def _judged_by(self) -> list[str]:
        return [self.judge, *([self.colors] if self.colors else [])]

    def verdicts(self, method: str) -> Path:
        asked = [[item.prompt_group, item.label, asdict(item.record) if item.record else None] for item in self.items]
        return self._folder(
            "verdicts", self.samples(method).name, *self._judged_by, self.config.benchmark.min_score, asked
        )

    @property
    def report(self) -> Path:
        """Folder of the run's report; of its comparison, when it has no dataset."""
        if self.given is not None:
            return self.home / "benchmarks" / f"{self.config.name}-{self.verdicts(MAIN).name}"
        return self.home / "reports" / self.config.name

    @property
    def classifiers(self) -> dict:
        """Settings of every classifier of the run, its own first."""
        return {MAIN: self.config.classifier, **({} if self.given else self.config.classifiers)}

    @property
    def methods(self) -> tuple[str, ...]:
        """Every method, in the order they are sampled: plain, the classifiers', the further ones."""
        return (PLAIN, *self.classifiers, *self.config.methods)

    @cached_property
    def items(self) -> list[EvalItem]:
        return benchmark_items(self.config)

    def scene_shards(self) -> Iterator[tuple[str, list[Entry]]]:
        """Yield (shard name, catalogue entries); the catalogue must be there."""
        yield from _shards(load_catalogue(self.catalogue).entries, self.config.shard)

    def item_shards(self) -> Iterator[tuple[str, list[EvalItem]]]:
        """Yield (shard name, benchmark items)."""
        yield from _shards(self.items, self.config.shard)


def _shards(things: list, size: int) -> Iterator[tuple[str, list]]:
    for number, first in enumerate(range(0, len(things), size)):
        yield f"{number:05d}", things[first : first + size]
