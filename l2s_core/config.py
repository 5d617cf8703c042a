"""Run configurations: strict, frozen, read from YAML."""

from __future__ import annotations

import re
from copy import deepcopy
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_serializer, model_validator

from l2s_core.config_errors import explain
from l2s_core.errors import UserError, did_you_mean
from l2s_core.files import digest
from l2s_core.relations import ATTRIBUTE, LABELS, RELATIONS

Relation = Literal[RELATIONS]
Count = Annotated[int, Field(ge=1)]
FamilyName = Literal["unet", "sdxl", "flux", "sd3"]
COLOR_TAGS = ("colors", "color_attr")  # tasks of GenEval that need a classifier of colours
FLOW_FAMILIES = ("flux", "sd3")
CONFIG_FOLDER = Path(__file__).parents[1] / "configs"
MAIN = "main"  # the run's own classifier, beside its variants
PLAIN = "plain"  # sampling without a classifier
INVERTED, TRAJECTORIES = "inverted", "trajectories"  # kinds of attention maps: of inverted scenes, of the backbone's own sampling


class Section(BaseModel):
    """Base of every section: unknown keys are errors, values never change.

    Of `OPTIONAL` fields an empty one, or one at its default, is not written: such a section reads, and is identified, as before
    there was that field.
    """

    OPTIONAL: ClassVar[tuple[str, ...]] = ()
    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_serializer(mode="wrap")
    def _without_empty_optional(self, dump: Any) -> dict[str, Any]:
        fields = type(self).model_fields
        return {key: value for key, value in dump(self).items() if key not in self.OPTIONAL or (value and value != fields[key].default)}

    def digest(self) -> str:
        """Hex digest of the section's values."""
        return digest(self.model_dump(mode="json"))


class BackboneConfig(Section):
    """Which text-to-image model, how it is sampled, and how it fits into memory."""

    model: str = Field(description="a shipped name, a folder in diffusers' layout, or a hub id")
    family: FamilyName
    size: int | None = Field(default=None, ge=16, le=4096, description="side of the images, pixels; default: the model's own")
    steps: int = Field(ge=2, le=1000)
    guidance: float = Field(ge=0, le=30, description="1 or less is none, unless the model has it as an input")
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    architecture: str | None = Field(default=None, description="name in configs/architectures, for rehearsals and estimates without the weights")
    variant: str | None = Field(default=None, description="suffix of the weight files, as in fp16")
    offload: bool = Field(default=False, description="keep only the component in use on the device")
    checkpointing: bool = Field(default=False, description="recompute activations in the steering gradient instead of keeping them")
    vae_slicing: bool = Field(default=False, description="decode one image at a time")


class DataConfig(Section):
    """Scenes the classifier learns from; counts are per relation.

    `miniworld` renders them; the others read `path`: GQA's scene graphs, ORM's answered images, or a folder
    with scenes.jsonl. `beside` adds further sources that are read, each with its own counts. With `attributes`, a
    source also gives as many scenes in which one of them is true of an object, under the relation "is".
    """

    OPTIONAL = ("attributes",)
    source: Literal["miniworld", "gqa", "orm", "jsonl"]
    path: Path | None = Field(default=None, description="folder of a source that is read")
    twins: str = Field(default="none", description="WordNet lexicon that tells is-a twins (gqa), e.g. oewn:2024")
    seed: int = 0
    train: int = Field(ge=1)
    val: int = Field(ge=1)
    test: int = Field(ge=1)
    held_out_objects: tuple[str, ...] = Field(default=(), description="objects the classifier never meets (miniworld)")
    held_out_pairs: float = Field(default=0.3, ge=0, lt=1, description="share of the other pairs that it never meets (miniworld)")
    relations: tuple[Relation, ...] = Field(default=RELATIONS, min_length=1, description="those that scenes are chosen for")
    attributes: tuple[Annotated[str, Field(pattern=r"^[a-z]+(-[a-z]+)*$")], ...] = Field(
        default=(), description="words of attributes, e.g. white or metal, one word each (gqa, orm, jsonl)"
    )
    beside: tuple[DataConfig, ...] = ()

    @property
    def chosen(self) -> tuple[str, ...]:
        """What this source's scenes are chosen for: its relations, and "is" where it has attributes."""
        return (*self.relations, ATTRIBUTE) if self.attributes else self.relations

    @property
    def stated(self) -> tuple[Relation, ...]:
        """The spatial relations of every source of the run."""
        return tuple(name for name in RELATIONS if any(name in part.relations for part in self.parts))

    @property
    def labels(self) -> tuple[str, ...]:
        """What a classifier of this data tells apart."""
        return LABELS if self.attribute_words else RELATIONS

    @property
    def attribute_words(self) -> tuple[str, ...]:
        """The attributes of every source of the run."""
        return tuple(dict.fromkeys(word for part in self.parts for word in part.attributes))

    @property
    def parts(self) -> tuple[DataConfig, ...]:
        """Every source of the run, this one first."""
        return (self, *self.beside)

    @model_validator(mode="after")
    def _beside_fits(self) -> DataConfig:
        if self.beside and "miniworld" in (part.source for part in self.parts):
            raise ValueError("beside mixes sources that are read (gqa, orm, jsonl); miniworld stands alone")
        if any(part.beside for part in self.beside):
            raise ValueError("a source in beside has no beside of its own; list them all in one")
        return self

    @model_validator(mode="after")
    def _attributes_fit(self) -> DataConfig:
        if self.attributes and self.source == "miniworld":
            raise ValueError("attributes are for sources that are read (gqa, orm, jsonl); the small world's objects have their own; leave them out")
        return self

    @model_validator(mode="after")
    def _path_fits(self) -> DataConfig:
        if (self.path is None) != (self.source == "miniworld"):
            wants = "needs no path" if self.source == "miniworld" else "needs data.path, the folder that holds it"
            raise ValueError(f"source {self.source} {wants}")
        return self


class InversionConfig(Section):
    """How images become noise, and how well the noise must give them back.

    `fixed-point` solves each step of the sampler backwards, for every family. `rectified-flow` follows
    RF-Inversion's controlled paths, for flow models: gamma pulls the way out to fresh noise, eta the way
    back to the image, in steps start <= step < stop.
    """

    method: Literal["fixed-point", "rectified-flow"] = "fixed-point"
    iterations: int = Field(default=5, ge=1, le=50, description="denoiser evaluations a step (fixed-point)")
    gamma: float = Field(default=1.0, ge=0, le=1)
    eta: float = Field(default=1.0, ge=0, le=1)
    start: int = Field(default=0, ge=0)
    stop: int | None = Field(default=None, ge=1, description="default: all steps")
    min_psnr: float = Field(ge=0, le=99)


class CaptureConfig(Section):
    """Which attention is kept: schedule indices, layer-name patterns, the softmax it comes from, side of the map grid."""

    steps: tuple[int, ...] = Field(min_length=1)
    layers: tuple[str, ...] = Field(default=("*",), min_length=1)
    softmax: Literal["text", "joint"] = Field(default="text", description="over the text keys alone, or over text and image keys")
    grid: int = Field(default=16, ge=4, le=64)

    @model_validator(mode="after")
    def _ordered(self) -> CaptureConfig:
        if list(self.steps) != sorted(set(self.steps)) or self.steps[0] < 0:
            raise ValueError("steps must be distinct, not negative and in rising order")
        return self


class ClassifierConfig(Section):
    """The relation classifier and its training.

    `maps` says what it learns from: those of inverted scenes (the paper's), those of the backbone's own sampling (see
    `RunConfig.trajectories`), or both.
    """

    OPTIONAL = ("maps",)
    kind: Literal["conv", "transformer"]
    maps: Literal["inverted", "trajectories", "both"] = "inverted"
    prompts: Literal["dual", "true"] = "dual"
    augment: Literal["none", "symmetry"] = "none"
    group_average: bool = Field(default=False, description="answer with the mean over all symmetries of the maps")
    shift: int = Field(default=0, ge=0, le=16, description="largest joint shift of the maps in training, grid cells")
    channel_dropout: float = Field(default=0.0, ge=0, lt=1, description="share of attention heads left out in training")
    width: int = Field(default=32, ge=4)
    layers: int = Field(default=2, ge=1)
    heads: int = Field(default=2, ge=1)
    head_heads: int = Field(default=4, ge=1)
    feedforward: int = Field(default=128, ge=1)
    dropout: float = Field(default=0.3, ge=0, lt=1)
    lr: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=0.05, ge=0)
    batch: int = Field(default=64, ge=1)
    epochs: int = Field(default=40, ge=1)
    patience: int = Field(default=10, ge=1)
    seed: int = 0


class SteeringConfig(Section):
    """How the classifier's gradient moves the latents."""

    until_step: int = Field(ge=1)
    updates: int = Field(ge=1, le=100)
    step_size: float = Field(gt=0)
    normalize: Literal["none", "rms"]
    confidence: float | None = Field(default=None, gt=0, lt=1)
    min_loss: float = Field(default=0.0, ge=0)
    several: Literal["joint", "cycle"] = Field(default="joint", description="relations of one prompt: all in one loss, or those of one pair of objects an update, in rotation")


class PlainBaseline(Section):
    """Sampling as it is: the same images as the run's plain ones."""

    kind: Literal["plain"]


class ClassifierBaseline(Section):
    """Steering by the run's own classifier with other settings."""

    kind: Literal["classifier"]
    steering: SteeringConfig


class PaperBaseline(Section):
    """Steering by the run's own classifier with the paper's schedule: the gradient as it is, no confidence."""

    kind: Literal["paper"]
    steering: SteeringConfig

    @model_validator(mode="after")
    def _as_published(self) -> PaperBaseline:
        if self.steering.normalize != "none" or self.steering.confidence is not None:
            raise ValueError("kind paper takes the gradient as it is: steering.normalize none and no steering.confidence; else use kind classifier")
        return self


class HandcraftedBaseline(Section):
    """Steering by a loss on the attention maps; `confidence` is a classifier's and has no meaning here."""

    steering: SteeringConfig

    @model_validator(mode="after")
    def _without_classifier(self) -> HandcraftedBaseline:
        if self.steering.confidence is not None:
            raise ValueError("steering.confidence is a classifier's; leave it out (null takes it out of a file's settings)")
        return self


class CentroidBaseline(HandcraftedBaseline):
    """Steering by the attention centroids of the two phrases."""

    kind: Literal["centroid"]
    margin: float = Field(default=0.03, gt=0, lt=1, description="wanted distance of the centroids, share of the map's side")


class AttendBaseline(HandcraftedBaseline):
    """Steering by Attend-and-Excite's loss."""

    kind: Literal["attend-and-excite"]
    presence: float = Field(default=1.0, gt=0, le=1, description="peak attention of the weaker phrase that is enough; 1: never")


class SelectionBaseline(Section):
    """The best of n plain images, chosen by the run's own classifier, or by the judge itself (an upper bound)."""

    kind: Literal["best-of-n", "best-of-n-judge"]
    n: int | None = Field(default=None, ge=1, le=1000, description="default: as many as take the time of steering")


BaselineConfig = Annotated[
    PlainBaseline | ClassifierBaseline | PaperBaseline | CentroidBaseline | AttendBaseline | SelectionBaseline, Field(discriminator="kind")
]


class BenchmarkConfig(Section):
    """Prompts, seeds, and who judges. `prompts` is per kind of prompt: of object pair, of GenEval's task, of form.

    Protocols: `pairs` is GenEval's position task in the small world (seen pairs, unseen pairs, unseen objects); `geneval` has
    GenEval's tasks, `spatial` T2I-CompBench's 2D-spatial task, `several` the paper's prompts of several relations. They draw
    their own prompts by seed, half of them for choices (`dev`) and half for reports (`test`), or read the official ones from
    `file`.
    """

    protocol: Literal["pairs", "geneval", "spatial", "several"] = "pairs"
    suite: Literal["test", "dev"] = "test"
    file: Path | None = Field(default=None, description="GenEval's metadata, T2I-CompBench's prompts or a jsonl of several relations")
    tags: tuple[Literal["position", "single_object", "two_object", "counting", "colors", "color_attr"], ...] = Field(default=("position",), min_length=1, description="GenEval's tasks")
    forms: tuple[Literal["2+1", "2+2", "3+2", "4+2", "4+3", "5+3"], ...] = Field(
        default=("3+2",), min_length=1, description="objects and relations of a prompt (several); 2+2 is a diagonal"
    )
    objects: Literal["common", "novel", "mixed"] = Field(default="common", description="list of objects (several)")
    prompts: Count | dict[Literal["seen", "unseen", "novel"], Count] = Field(description="a number, or for pairs one a kind of pair")
    seeds: int = Field(default=1, ge=1)
    relations: tuple[Relation, ...] = Field(default=RELATIONS, min_length=1, description="those that prompts ask for (pairs)")
    judge: str = "mini-seg"
    clip: str | None = Field(default=None, description="a CLIPModel that scores images against their prompts (CLIPScore) and tells colours")
    min_score: float = Field(default=0.3, ge=0, le=1, description="confidence of a find (pairs, several); the other protocols have their own")

    @model_validator(mode="after")
    def _protocol_fits(self) -> BenchmarkConfig:
        own = {"tags": "geneval", "forms": "several", "objects": "several", "relations": "pairs"}
        fields = type(self).model_fields
        for name, protocol in own.items():
            if getattr(self, name) != fields[name].default and self.protocol != protocol:
                raise ValueError(f"benchmark.{name} is for protocol {protocol}, and protocol is {self.protocol}; leave it out")
        if not isinstance(self.prompts, int) and self.protocol != "pairs":
            raise ValueError(f"benchmark.prompts by kind of pair is for protocol pairs, and protocol is {self.protocol}; give one number")
        if self.file is not None and self.protocol == "pairs":
            raise ValueError("benchmark.file needs benchmark.protocol geneval, spatial or several, whose prompts it holds")
        if self.file is None and "counting" in self.tags:
            raise ValueError("benchmark.tags counting needs benchmark.file, GenEval's evaluation_metadata.jsonl")
        if self.asks_for_colors and self.clip is None:
            raise ValueError(f"benchmark.tags {', '.join(self.tags)} asks for colours, and nothing here tells them; "
                             "set benchmark.clip to a CLIPModel (GenEval's is openai/clip-vit-large-patch14)")  # fmt: skip
        return self

    @property
    def asks_for_colors(self) -> bool:
        """Whether its tasks have colours, which `clip` then tells."""
        return not set(COLOR_TAGS).isdisjoint(self.tags)


class ToleranceConfig(Section):
    """How far a scheduled reproduction's figures may lie from the last good run's, up or down, before it fails."""

    correct: float = Field(default=0.05, ge=0, le=1, description="share of images with the right relation")
    both: float = Field(default=0.05, ge=0, le=1, description="share of images with both objects")
    accuracy: float = Field(default=0.03, ge=0, le=1, description="test accuracy of a classifier")


class RunConfig(Section):
    """A whole experiment.

    With `trajectories`, the backbone also samples that many images of prompts over each scene's objects; their maps are recorded
    meanwhile, and labelled with the relation that the benchmark's judge finds in the image.
    """

    OPTIONAL = ("baselines", "trajectories")
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    device: Literal["auto", "cpu", "cuda"] = "auto"
    batch: int = Field(default=32, ge=1)
    shard: int = Field(default=64, ge=1, description="scenes, or prompts, of one shard")
    backbone: BackboneConfig
    data: DataConfig
    inversion: InversionConfig
    capture: CaptureConfig
    trajectories: int = Field(default=0, ge=0, description="images sampled for each scene of the data")
    classifier: ClassifierConfig
    variants: dict[str, ClassifierConfig] = {}
    steering: SteeringConfig
    baselines: dict[str, BaselineConfig] = Field(default={}, description="other ways to make the same images, by name")
    benchmark: BenchmarkConfig
    tolerance: ToleranceConfig = ToleranceConfig()

    @property
    def inverts(self) -> bool:
        """Whether a classifier of the run learns from inverted scenes."""
        return any(classifier.maps != TRAJECTORIES for classifier in (self.classifier, *self.variants.values()))

    @model_validator(mode="after")
    def _steps_fit(self) -> RunConfig:
        steps, unknown = self.backbone.steps, set(self.benchmark.relations) - set(self.data.stated)
        if unknown:
            raise ValueError(f"benchmark.relations asks for {', '.join(sorted(unknown))}, but data.relations has no scenes of it")
        if self.capture.steps[-1] >= steps:
            raise ValueError(f"capture.steps reaches {self.capture.steps[-1]}, but backbone.steps is {steps} (0 to {steps - 1})")
        start, stop = self.inversion.start, steps if self.inversion.stop is None else self.inversion.stop
        if not start < stop <= steps:
            raise ValueError(f"inversion.start is {start} and inversion.stop {stop}; allowed: start below stop, and stop at most backbone.steps, {steps}")
        if self.inversion.method == "rectified-flow" and self.backbone.family not in FLOW_FAMILIES:
            raise ValueError(f"inversion.method rectified-flow needs a flow model ({', '.join(FLOW_FAMILIES)}), not family {self.backbone.family}")
        return self

    @model_validator(mode="after")
    def _steering_fits(self) -> RunConfig:
        steered = {f"baselines.{name}.steering": getattr(baseline, "steering", None) for name, baseline in self.baselines.items()}
        steps, last = self.backbone.steps, self.capture.steps[-1]
        for place, steering in {"steering": self.steering, **steered}.items():
            if steering is not None and steering.until_step > steps:
                raise ValueError(f"{place}.until_step is {steering.until_step}, but backbone.steps is {steps}")
            if steering is not None and steering.until_step - 1 > last:
                raise ValueError(f"{place}.until_step {steering.until_step} goes past the last captured step {last}")
        return self

    @model_validator(mode="after")
    def _attributes_are_known(self) -> RunConfig:
        for name, baseline in self.baselines.items():
            if baseline.kind == "centroid" and self.benchmark.asks_for_colors and self.data.attribute_words:
                raise ValueError(f"baselines.{name} steers by centroids, which know no attributes; leave it out, or benchmark.tags with colours")
        return self

    @model_validator(mode="after")
    def _maps_are_there(self) -> RunConfig:
        wanted = {"classifier": self.classifier, **{f"variants.{name}": variant for name, variant in self.variants.items()}}
        for place, classifier in wanted.items():
            if classifier.maps != INVERTED and not self.trajectories:
                raise ValueError(f"{place}.maps is {classifier.maps}, but the run samples none; set trajectories to 1 or more, or {place}.maps to inverted")
        return self

    @model_validator(mode="after")
    def _names_differ(self) -> RunConfig:
        for name in self.baselines:
            if name in (PLAIN, MAIN, *self.variants):
                raise ValueError(f"baselines.{name} has the name of another way of sampling ({PLAIN}, {MAIN} and the variants are taken); rename it")
            if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", name):
                raise ValueError(f"baselines.{name}: a name has small letters, digits, '.', '_' and '-' only")
        return self


# Sections that a run may name instead of spelling out: configs/<folder>/<name>.yaml
NAMED_SECTIONS = {
    "backbone": "backbones", "data": "data", "classifier": "classifiers", "steering": "steering", "benchmark": "benchmarks",
}  # fmt: skip


def load_run_config(path: str | Path, overrides: dict[str, Any] | None = None) -> RunConfig:
    """Read a run configuration; `overrides` maps dotted keys, or the names of sections, to values. Raises UserError, one line."""
    path = find_config(path)
    tree, values = read_yaml(path), deepcopy(dict(overrides or {}))
    for key, folder in NAMED_SECTIONS.items():
        tree[key] = _resolve(values.pop(key, tree.get(key)), folder, path)
    for key, value in values.items():
        _assign(tree, key, value)
    variants = tree.get("variants") or {}
    tree["variants"] = {name: {**tree["classifier"], **_resolve(v, "classifiers", path)} for name, v in variants.items()}
    if isinstance(tree.get("baselines"), dict):
        tree["baselines"] = {name: _with_steering(entry, tree["steering"], path) for name, entry in tree["baselines"].items()}
    return validate(RunConfig, tree, str(path))


def load_preset(name: str) -> dict[str, Any]:
    """Read configs/presets/<name>.yaml: dotted keys to values, for `overrides`."""
    return read_yaml(CONFIG_FOLDER / "presets" / f"{name}.yaml")


def find_config(path: str | Path, folder: Path = CONFIG_FOLDER, kind: str = "configuration") -> Path:
    """Return the file a user means by a path or by the bare name of a file in a folder of configurations."""
    candidates = [Path(path), folder / path, folder / f"{path}.yaml"]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    names = sorted(p.stem for p in folder.glob("*.yaml"))
    raise UserError(f"no {kind} {str(path)!r};{did_you_mean(Path(path).stem, names)} allowed: a YAML file or one of {', '.join(names)}")


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping; raises UserError naming the file."""
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"cannot read {path}: {' '.join(str(error).split())}") from None
    if not isinstance(tree, dict):
        raise UserError(f"{path} holds no settings; expected 'key: value' lines")
    return tree


def _resolve(value: Any, folder: str, origin: Path) -> dict[str, Any]:
    if isinstance(value, dict):
        base, own = value.get("base"), {key: entry for key, entry in value.items() if key != "base"}
        return {**(_resolve(base, folder, origin) if base else {}), **own}
    if not isinstance(value, str):
        raise UserError(f"{origin}: every run needs '{folder}'; give a name from configs/{folder}/ or a mapping")
    target = CONFIG_FOLDER / folder / f"{value}.yaml"
    if not target.is_file():
        names = sorted(p.stem for p in target.parent.glob("*.yaml"))
        raise UserError(f"{origin}: no {value!r} in configs/{folder}/;{did_you_mean(value, names)} allowed: {', '.join(names)}")
    return read_yaml(target)


def _with_steering(entry: Any, run: dict[str, Any], origin: Path) -> Any:
    """Spell out a baseline's steering: over the settings of the file it names, or else over the run's own.

    The paper's kind names configs/steering/paper.yaml by itself; kinds without a classifier inherit no confidence.
    """
    kind = entry.get("kind") if isinstance(entry, dict) else None
    if kind not in ("classifier", "paper", "centroid", "attend-and-excite"):
        return entry
    own = entry.get("steering", {})
    if kind == "paper" and isinstance(own, dict):
        own = {"base": "paper", **own}
    named = isinstance(own, str) or (isinstance(own, dict) and "base" in own)
    inherited = {} if named else {key: value for key, value in run.items() if kind == "classifier" or key != "confidence"}
    return {**entry, "steering": {**inherited, **_resolve(own, "steering", origin)}}


def _assign(tree: dict[str, Any], dotted: str, value: Any) -> None:
    *parents, last = dotted.split(".")
    for key in parents:
        tree = tree.setdefault(key, {})
        if not isinstance(tree, dict):
            raise UserError(f"cannot set {dotted!r}: {key!r} is not a section")
    tree[last] = value


def validate(kind: type[Section], tree: dict[str, Any], origin: str) -> Any:
    """Build a section; the first problem becomes a one-line UserError with the allowed values."""
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"{origin}: {explain(kind, first)}") from None
