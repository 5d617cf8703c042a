"""Where every stage's output lies: an address made of its settings and its inputs' addresses.

Two runs that agree on a stage share its output; changing a setting moves only the stages that depend
on it. FORMATS is part of the address: raise a stage's number when its code comes to mean something else.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from l2s_core.config import INVERTED, MAIN, TRAJECTORIES, ClassifierConfig, RunConfig
from l2s_core.hashing import digest
from l2s_core.sizes import Size
from l2s_core.storage.records import BENCHMARKS, REPORTS

FORMATS = {
    "catalogue": 2,
    "scenes": 3,
    "noise": 4,
    "maps": 4,
    "trajectories": 3,
    "classifier": 2,
    "samples": 3,
    "verdicts": 3,
}


@runtime_checkable
class Identified(Protocol):
    """What an address needs to know of a method of sampling."""

    def identity(self, paths: RunPaths) -> Any:
        """Return what tells its images from plain ones, JSON-able; None where nothing does."""


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What a run is made from, beside its settings: fingerprints of the models and data.

    `backbone` and `judge` are those of the models, `colors` and `depth` those of the models that tell colours and
    depth, where a benchmark asks for them, and `given` that of a given classifier. `source` is a digest of the settings
    that scenes are chosen by, and `data` are fingerprints of what they are read from: the annotation files, the images,
    and the tokenizers that phrases must fit. `items` is a digest of all that images depend on in the benchmark's items,
    `asked` one of what their verdicts depend on besides. `size` is that of the
    images, in pixels.
    """

    backbone: str
    judge: str
    size: Size
    source: str
    items: str
    asked: str
    data: tuple[str, ...] = ()
    colors: str | None = None
    depth: str | None = None
    given: str | None = None


@dataclass(frozen=True, kw_only=True)
class RunPaths:
    """The addresses of a run under `home`.

    With `given`, a folder, the run uses that classifier and trains none. A `cache_salt` makes every address new:
    nothing that was made under another one is reused.
    """

    config: RunConfig
    home: Path
    inputs: Inputs
    given: Path | None = None
    cache_salt: str = ""

    def __post_init__(self) -> None:
        if self.given is not None and self.config.classifiers:
            raise ValueError(f"a run with a given classifier trains none, and not {', '.join(self.config.classifiers)}")

    @property
    def classifiers(self) -> dict[str, ClassifierConfig]:
        """Settings of every classifier of the run, its own first."""
        return self.config.every_classifier

    @property
    def methods(self) -> tuple[str, ...]:
        """Every method of sampling, in the order they are sampled: plain, the classifiers', the further ones."""
        return tuple(self.config.every_method)

    @cached_property
    def catalogue(self) -> Path:
        """The file of the chosen scenes; what an image shows of its objects depends on its shape."""
        shape = [] if isinstance(self.inputs.size, int) else [self.inputs.size]
        return self._folder("catalogue", self.inputs.source, self.inputs.data, *shape) / "catalogue.json"

    @cached_property
    def scenes(self) -> Path:
        """The folder of the scenes' images."""
        return self._folder("scenes", self.catalogue.parent.name, self.inputs.size, self.config.shard)

    @cached_property
    def noise(self) -> Path:
        """The folder of the inverted scenes."""
        inputs = self.inputs
        backbone = self.config.backbone
        inversion = self.config.inversion.model_dump(mode="json", exclude={"min_psnr"})
        model = [inputs.backbone, inputs.size, backbone.steps, *self._dtypes]
        return self._folder("noise", self.scenes.name, *model, inversion)

    @cached_property
    def maps(self) -> Path:
        """The folder of the maps of inverted scenes."""
        return self._folder("maps", self.noise.name, self.config.capture.model_dump(mode="json"))

    @cached_property
    def trajectories(self) -> Path:
        """The folder of the maps of the backbone's own sampling."""
        config = self.config
        capture = config.capture.model_dump(mode="json")
        judged = [self.inputs.judge, config.benchmark.min_score]
        return self._folder("trajectories", self.scenes.name, self._sampling, config.trajectories, capture, judged)

    @property
    def map_folders(self) -> dict[str, Path]:
        """The folders of the kinds of maps that the run makes; scenes are inverted where a classifier needs that."""
        folders = {INVERTED: self.maps} if self.config.inverts else {}
        return folders | ({TRAJECTORIES: self.trajectories} if self.config.trajectories else {})

    def maps_of(self, name: str) -> dict[str, Path]:
        """Return the folders of maps that a classifier learns from, by kind."""
        wanted = self.classifiers[name].maps
        return {kind: folder for kind, folder in self.map_folders.items() if wanted in (kind, "both")}

    def classifier(self, name: str) -> Path:
        """Return the folder of a classifier."""
        if self.given is not None:
            return self.given
        folders = self.maps_of(name)
        sources: list[object] = [folder.name for folder in folders.values()]
        if INVERTED in folders:
            sources.append(self.config.inversion.min_psnr)
        return self._folder("classifier", *sources, self.classifiers[name].model_dump(mode="json"))

    def classifier_identity(self, name: str) -> str:
        """Return what tells a classifier from others: its address, or the fingerprint of a given one."""
        return self.inputs.given or self.classifier(name).name

    def samples(self, method: str) -> Path:
        """Return the folder of a method's images."""
        section = self.config.every_method[method]
        if not isinstance(section, Identified):
            raise TypeError(f"a method of a run knows its identity; {type(section).__name__} does not")
        return self._folder("samples", self._sampling, section.identity(self), self.inputs.items, self.config.shard)

    def verdicts(self, method: str) -> Path:
        """Return the folder of the verdicts on a method's images."""
        samples = self.samples(method).name
        min_score = self.config.benchmark.min_score
        return self._folder("verdicts", samples, *self.judged_by, min_score, self.inputs.asked)

    @property
    def report(self) -> Path:
        """The folder of the run's report; of its comparison, when it has no dataset."""
        if self.given is not None:
            return self.home / BENCHMARKS / f"{self.config.name}-{self.verdicts(MAIN).name}"
        return self.home / REPORTS / self.config.name

    @property
    def judged_by(self) -> list[str]:
        """The fingerprints of the models that judge an image."""
        return [model for model in (self.inputs.judge, self.inputs.colors, self.inputs.depth) if model]

    @property
    def _sampling(self) -> list:
        backbone = self.config.backbone
        further = [{"negative": backbone.negative}] if backbone.negative else []
        further += [{"solver": backbone.solver}] if backbone.solver else []
        return [self.inputs.backbone, self.inputs.size, backbone.steps, *self._dtypes, backbone.guidance, *further]

    @property
    def _dtypes(self) -> tuple[str, ...]:
        """The types of the model and of its latents; these are not named where they are float32."""
        backbone = self.config.backbone
        latents = () if backbone.latents_dtype == "float32" else (backbone.latents_dtype,)
        return (backbone.dtype, *latents)

    def _folder(self, stage: str, *parts: object) -> Path:
        salt = [self.cache_salt] if self.cache_salt else []
        return self.home / "stages" / stage / digest([stage, FORMATS[stage], *parts, *salt])
