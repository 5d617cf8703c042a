"""The paper's procedure against straightforward computations in float64.

The references here share no code with the product: probabilities, resizing, the network and its gradient are written
out by their definitions. A model made by hand stands for a diffusion model; the settings are those of the paper's
configurations.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from l2s_core.attention.layers import AttentionLayer, split_projections
from l2s_core.attention.reader import AttentionReader
from l2s_core.classifier.checkpoint import TrainedClassifier
from l2s_core.classifier.model import build_classifier
from l2s_core.config import CaptureConfig, ClassifierConfig, SteeringConfig, load_run_config
from l2s_core.dataset.collect import map_source
from l2s_core.diffusion.condition import Condition, TextEncoding
from l2s_core.diffusion.sampler import Batch
from l2s_core.diffusion.schedule import Schedule
from l2s_core.errors import UserError
from l2s_core.prompts.prompt import Prompt, parse_several, prompt_for
from l2s_core.relations import ATTRIBUTE, LABELS, PLANAR, Triplet
from l2s_core.steering.steering import steer_by

REAL = ("sd14", "sd21", "flux-schnell", "flux-dev")
SIDES = (64, 32, 16, 8)
SIDES_OF = {"flux-schnell": (16,), "flux-dev": (32,)}
"""The sides of the attention of models that are no UNet."""
PHRASES = ((2, 3), (6,))
"""The text tokens of the two phrases: the first has two."""
WORDS = 9
CHANNELS = 4
HEADS = 2
WIDTH = 5  # of one head
SHARPNESS = 20  # of the queries: maps are far from even
AGREEMENT = 1e-6
SCHEDULE = Schedule(timesteps=tuple(range(50)), keep=(1.0,) * 50, add=(0.0,) * 50)
PROMPT = prompt_for(Triplet(subject="dog", relation="above", object="cat"))
ATTRIBUTED = prompt_for(Triplet(subject="white", relation=ATTRIBUTE, object="dog"))


class HandMadeModel(nn.Module):
    """Cross-attention at several sides: one layer each, over the latents' means to that side."""

    fingerprint = files_fingerprint = "hand made"
    device = "cpu"
    latent_shape = (CHANNELS, 64, 64)
    compiled = False

    def __init__(
        self,
        sides: Sequence[int] = SIDES,
        *,
        classifier_free: bool = True,
        phrases: Sequence[Sequence[int]] = PHRASES,
    ) -> None:
        super().__init__()
        self.phrases = phrases
        self.sides = tuple(sides)
        self.classifier_free = classifier_free
        self.queries = nn.ModuleList(nn.Linear(CHANNELS, HEADS * WIDTH) for _ in sides)
        self.keys = nn.ModuleList(nn.Linear(7, HEADS * WIDTH) for _ in sides)
        stated_(self)
        self.double()
        for query in self.queries:
            query.weight.data *= SHARPNESS

    def predict(self, latents: Tensor, timestep: float, condition: Condition) -> Tensor:
        drive = 1.0 if condition.guidance is None else 1.0 + condition.guidance
        for side, query, key in zip(self.sides, self.queries, self.keys, strict=True):
            query(drive * image_tokens(latents, side))
            key(condition.text.context_BKD)
        return latents

    def layers(self, softmax: str = "text") -> list[AttentionLayer]:
        return [
            AttentionLayer(
                name=f"side.{side}", heads=HEADS, sources=(query, key), read=partial(split_projections, HEADS)
            )
            for side, query, key in zip(self.sides, self.queries, self.keys, strict=True)
        ]

    def differentiable(self) -> AbstractContextManager[None]:
        return nullcontext()

    def phrase_weights(self, prompts: Sequence) -> Tensor:
        weights_BOK = torch.zeros(len(prompts), len(self.phrases), WORDS)
        for phrase, tokens in enumerate(self.phrases):
            weights_BOK[:, phrase, list(tokens)] = 1 / len(tokens)
        return weights_BOK


def image_tokens(latents: Tensor, side: int) -> Tensor:
    """(B, C, 64, 64) to (B, side x side, C): means over squares."""
    cell = latents.shape[-1] // side
    return latents.unflatten(3, (side, cell)).unflatten(2, (side, cell)).mean((3, 5)).flatten(2).transpose(1, 2)


def stated_(module: nn.Module) -> None:
    """Set every parameter to numbers drawn by a seed, matrices so that they keep the size of what they multiply."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in module.parameters():
            values = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(values / math.sqrt(parameter.shape[-1]) if parameter.ndim > 1 else 0.3 * values)


def condition_of(images: int) -> Condition:
    place = torch.arange(images * WORDS * 7, dtype=torch.float64)
    return Condition(text=TextEncoding(context_BKD=torch.sin(0.9 * place).reshape(images, WORDS, 7)))


def latents_of(images: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(images, CHANNELS, 64, 64, generator=generator, dtype=torch.float64)


def reference_maps(
    model: HandMadeModel, latents: Tensor, context: Tensor, *, grid: int, normalize: bool, drive: float = 1.0
) -> Tensor:
    """Maps (B, O, M, G, G): softmax(q k^T / sqrt d), mean over a phrase's tokens, bilinear without antialias.

    Those of 8 x 8 come first, those of 64 x 64 last.
    """
    stacks = []
    places = sorted(range(len(model.sides)), key=lambda place: model.sides[place])
    for side, to_query, to_key in ((model.sides[i], model.queries[i], model.keys[i]) for i in places):
        query = drive * image_tokens(latents, side) @ to_query.weight.T + to_query.bias
        key = context @ to_key.weight.T + to_key.bias
        for head in range(HEADS):
            part = slice(head * WIDTH, (head + 1) * WIDTH)
            logits = torch.einsum("bpd,bkd->bpk", query[..., part], key[..., part]) / math.sqrt(WIDTH)
            exponentials = torch.exp(logits - logits.amax(-1, keepdim=True))
            probabilities = exponentials / exponentials.sum(-1, keepdim=True)
            phrases = [sum(probabilities[..., token] for token in tokens) / len(tokens) for tokens in model.phrases]
            maps = torch.stack(phrases, dim=1).reshape(len(latents), len(phrases), side, side)
            resize = bilinear(side, grid)
            maps = torch.einsum("gy,boyx,hx->bogh", resize, maps, resize)
            stacks.append(maps / maps.sum((-1, -2), keepdim=True) if normalize else maps)
    return torch.stack(stacks, dim=2)


def bilinear(side: int, grid: int) -> Tensor:
    """The matrix (grid, side) of bilinear resizing with the corners not aligned, by its definition."""
    matrix = torch.zeros(grid, side, dtype=torch.float64)
    for cell in range(grid):
        place = max((cell + 0.5) * side / grid - 0.5, 0.0)
        before = min(math.floor(place), side - 1)
        after = min(before + 1, side - 1)
        matrix[cell, before] += 1 - (place - before)
        matrix[cell, after] += place - before
    return matrix


@torch.no_grad()
@pytest.mark.parametrize("name", REAL)
def test_maps_are_the_papers_at_every_side(name: str) -> None:
    """UNets have sides of 64, 32, 16 and 8, flux-dev 32, flux-schnell 16, which stays as it is."""
    capture = load_run_config(name).capture
    model = HandMadeModel(SIDES_OF.get(name, SIDES))
    condition = condition_of(3)
    source = map_source(model, capture, 50)
    maps = source.reader(model).read(latents_of(3), 1.0, condition, model.phrase_weights([PROMPT] * 3))
    raw = name == "flux-schnell"
    expected = reference_maps(model, latents_of(3), condition.text.context_BKD, grid=16, normalize=not raw)
    assert maps.dtype == torch.float64 and (maps - expected).abs().max() < AGREEMENT
    sums = maps.sum((-1, -2))
    assert (sums > 5).all() if raw else (sums - 1).abs().max() < 1e-9
    assert not capture.antialias and capture.normalize != raw


@torch.no_grad()
def test_antialias_is_what_separates_our_maps_from_the_papers_above_the_grids_side() -> None:
    model = HandMadeModel()
    condition = condition_of(1)
    weights = model.phrase_weights([PROMPT])
    ours, theirs = (
        AttentionReader(model, antialias=antialias).read(latents_of(1), 1.0, condition, weights)
        for antialias in (True, False)
    )
    far = (ours - theirs).abs().sum((-1, -2)).amax((0, 1)).unflatten(0, (len(SIDES), HEADS)).amax(1)
    assert (far[:2] > 0.005).all() and torch.equal(far[2:], torch.zeros(2, dtype=torch.float64))


def test_maps_of_another_kind_are_another_source() -> None:
    """A classifier of one kind of maps refuses the other; addresses of runs without the settings stay."""
    model = HandMadeModel()
    capture = CaptureConfig(steps=(1,))
    ours = map_source(model, capture, 50)
    for setting, other in {"antialias": False, "normalize": False, "order": "side", "attribute_first": False}.items():
        changed = capture.model_copy(update={setting: other})
        theirs = map_source(model, changed, 50)
        assert ours.differences(theirs) == [f"{setting} {getattr(ours, setting)!r} != {other!r}"]
        assert type(ours).from_json(theirs.to_json()) == theirs
        assert changed.model_dump()[setting] == other and CaptureConfig(**changed.model_dump()) == changed
        assert setting not in capture.model_dump() and capture.digest() != changed.digest()
    assert not {"antialias", "order"} & load_run_config("mini-sd").capture.model_dump().keys()


def test_maps_stand_by_side_and_then_in_the_layers_order() -> None:
    """A UNet's layers go down to 8 x 8 and up again; the paper's channels begin with the smallest side."""
    model = HandMadeModel((32, 16, 8, 16, 32))
    condition = condition_of(1)
    weights = model.phrase_weights([PROMPT])
    layers, side = (
        AttentionReader(model, order=order).read(latents_of(1), 1.0, condition, weights).unflatten(2, (5, HEADS))
        for order in ("layers", "side")
    )
    assert torch.equal(side, layers[:, :, [2, 1, 3, 0, 4]])
    assert {load_run_config(name).capture.order for name in REAL} == {"side"}


class Network:
    """The paper's classifier by its definition: matrix products and sums over the parameters of a state dict."""

    def __init__(self, state: dict[str, Tensor], config: ClassifierConfig) -> None:
        self.state = state
        self.config = config

    def __call__(self, maps: Tensor, step: Tensor) -> Tensor:
        state = self.state
        pooled = [self.extract(maps[:, place], step) for place in range(2)]
        joint = torch.cat(pooled, dim=1) @ state["join.weight"].T + state["join.bias"]
        joint = (joint + self.position(1)).unsqueeze(1)
        for layer in range(self.config.layers):
            joint = self.encoder(f"encoder.{layer}", joint, self.config.head_heads)
        values = torch.cat([joint[:, 0], state["step_late.weight"][step]], dim=1)
        for linear, norm in ((0, 1), (4, 5)):
            values = self.norm(f"head.{norm}", self.linear(f"head.{linear}", values))
            values = torch.where(values > 0, values, 0.1 * values)
        return self.linear("head.8", values)

    def extract(self, maps: Tensor, step: Tensor) -> Tensor:
        """One object's maps (B, M, G, G) to a vector (B, G G)."""
        tokens = self.linear("enter", maps.flatten(2)) + self.position(maps.shape[1])
        for layer in range(self.config.layers):
            tokens = tokens + self.state["step_early.weight"][step].unsqueeze(1)
            tokens = self.encoder(f"extractor.{layer}", tokens, self.config.heads)
        query = self.state["query"].expand(len(maps), 1, -1)
        return self.linear("leave", self.attend("pool", query, tokens, self.config.heads))[:, 0]

    def encoder(self, name: str, tokens: Tensor, heads: int) -> Tensor:
        """A pre-norm layer with ReLU."""
        normed = self.norm(f"{name}.norm1", tokens)
        tokens = tokens + self.attend(f"{name}.self_attn", normed, normed, heads)
        hidden = self.linear(f"{name}.linear1", self.norm(f"{name}.norm2", tokens)).clamp_min(0)
        return tokens + self.linear(f"{name}.linear2", hidden)

    def attend(self, name: str, queries: Tensor, tokens: Tensor, heads: int) -> Tensor:
        weights = self.state[f"{name}.in_proj_weight"].chunk(3)
        biases = self.state[f"{name}.in_proj_bias"].chunk(3)
        query, key, value = (
            x @ weight.T + bias for x, weight, bias in zip((queries, tokens, tokens), weights, biases, strict=True)
        )
        width = query.shape[-1] // heads
        found = []
        for head in range(heads):
            part = slice(head * width, (head + 1) * width)
            logits = query[..., part] @ key[..., part].transpose(1, 2) / math.sqrt(width)
            found.append(torch.softmax(logits, -1) @ value[..., part])
        return self.linear(f"{name}.out_proj", torch.cat(found, dim=-1))

    def linear(self, name: str, values: Tensor) -> Tensor:
        return values @ self.state[f"{name}.weight"].T + self.state[f"{name}.bias"]

    def norm(self, name: str, values: Tensor) -> Tensor:
        centred = values - values.mean(-1, keepdim=True)
        normed = centred / torch.sqrt((centred**2).mean(-1, keepdim=True) + 1e-5)
        return normed * self.state[f"{name}.weight"] + self.state[f"{name}.bias"]

    def position(self, count: int) -> Tensor:
        """Sinusoids (count, width): sine and cosine in turn, at wavelengths from 2 pi to 10,000 x 2 pi."""
        width = self.config.width
        rows = [
            [(math.cos if i % 2 else math.sin)(place / 10_000 ** ((i - i % 2) / width)) for i in range(width)]
            for place in range(count)
        ]
        return torch.tensor(rows, dtype=torch.float64)


def papers_classifier(name: str, model: HandMadeModel) -> TrainedClassifier:
    """The classifier of a configuration at its full size, with stated weights, in float64."""
    run = load_run_config(name)
    source = map_source(model, run.capture, 50, (*PLANAR, ATTRIBUTE))
    network = build_classifier(run.classifier, source)
    stated_(network)
    return TrainedClassifier(model=network.double().eval().requires_grad_(False), config=run.classifier, source=source)


def reference_network(classifier: TrainedClassifier) -> Callable[[Tensor, Tensor], Tensor]:
    return Network(dict(classifier.model.state_dict()), classifier.config)


@torch.no_grad()
@pytest.mark.parametrize("name", REAL)
def test_logits_are_the_papers(name: str) -> None:
    model = HandMadeModel()
    classifier = papers_classifier(name, model)
    generator = torch.Generator().manual_seed(1)
    maps = torch.rand(3, 2, classifier.source.channels, 16, 16, generator=generator, dtype=torch.float64) ** 200
    maps = maps / maps.sum((-1, -2), keepdim=True)  # a few cells hold all of it
    step = torch.tensor([0, 1, 1])
    logits = classifier.model(maps, step)
    assert logits.shape == (3, 5) and logits.std(0).max() > 5e-3
    assert (logits - reference_network(classifier)(maps, step)).abs().max() < AGREEMENT


@torch.no_grad()
@pytest.mark.parametrize("setting", ["input_scale", "activation", "query_deviation", "joint_position"])
def test_every_setting_of_the_transformer_matters(setting: str) -> None:
    """Each of the paper's settings, put back to ours, gives other logits from the same seed."""
    source = map_source(HandMadeModel(), CaptureConfig(steps=(1,)), 50)
    paper = load_run_config("sd21").classifier
    ours = paper.model_copy(update={setting: ClassifierConfig.model_fields[setting].default})
    maps = torch.rand(2, 2, source.channels, 16, 16, generator=torch.Generator().manual_seed(1)) / 128
    logits = [
        build_classifier(config, source).eval()(maps, torch.zeros(2, dtype=torch.long)) for config in (paper, ours)
    ]
    assert (logits[0] - logits[1]).abs().max() > 1e-3
    assert setting not in ours.model_dump() and paper.digest() != ours.digest()


def test_the_pooling_has_a_dropout_of_its_own_and_the_query_a_deviation() -> None:
    source = map_source(HandMadeModel(), CaptureConfig(steps=(1,)), 50)
    paper = load_run_config("sd21").classifier
    ours = ClassifierConfig(kind="transformer", width=256)
    theirs, mine = (build_classifier(config, source) for config in (paper, ours))
    assert theirs.pool.dropout == 0 and mine.pool.dropout == ours.dropout == 0.3
    assert torch.allclose(theirs.query, mine.query * 16) and 0.8 < theirs.query.std() < 1.2


@pytest.mark.parametrize(("name", "prompt"), [*((name, PROMPT) for name in REAL), ("sd21", ATTRIBUTED)])
def test_one_update_follows_the_papers_gradient(name: str, prompt: Prompt) -> None:
    """z - step_size * d(cross-entropy)/dz, all of it: from latents through attention, maps and network.

    Of an attribute the object's maps come first, then its word's.

    The step size is chosen so that the largest move is 1: these weights' own gradients are far below that.
    """
    run = load_run_config(name)
    dev = name == "flux-dev"
    model = HandMadeModel(SIDES_OF.get(name, SIDES), classifier_free=not dev)
    classifier = papers_classifier(name, model)

    latents = latents_of(2).requires_grad_(True)
    maps = reference_maps(
        model,
        latents,
        condition_of(2).text.context_BKD,
        grid=16,
        normalize=run.capture.normalize,
        drive=4.5 if dev else 1.0,
    )
    label = prompt.triplet.relation
    maps = maps.flip(1) if label == ATTRIBUTE else maps
    logits = reference_network(classifier)(maps, torch.zeros(2, dtype=torch.long))
    wanted = logits[:, LABELS.index(label)]
    loss = (torch.log(torch.exp(logits).sum(1)) - wanted).sum()
    (gradient,) = torch.autograd.grad(loss, latents)
    step_size = float(1 / gradient.abs().max())

    steering = run.steering.model_copy(update={"until_step": 1, "updates": 1, "step_size": step_size})
    guided = replace(condition_of(2), guidance=7.5)
    batch = Batch(backbone=model, prompts=[prompt] * 2, condition=guided, schedule=SCHEDULE)
    moved = steer_by(classifier, steering)(batch)(latents_of(2), 0)
    assert (moved - (latents_of(2) - step_size * gradient)).abs().max() < AGREEMENT
    assert steering.guidance == (3.5 if dev else None)


THREE = parse_several("a dog above a cat to the left of a bird")
TURNS = (((0, 1), "above"), ((1, 2), "left of"))
"""The two pairs of phrases of THREE and their relations."""
STEP_SIZE = 1e7  # these weights' own gradients are small


def reference_steps(
    model: HandMadeModel, network: Callable[[Tensor, Tensor], Tensor], least: Sequence[float], *, step_size: float
) -> tuple[Tensor, list[list[float]]]:
    """The paper's rule for one image: its latents after a step of up to 16 updates for each of `least`, all losses."""
    latents = latents_of(1)
    losses: list[list[float]] = []
    for least_loss in least:
        losses.append([])
        for number in range(16):
            places, relation = TURNS[number % 2]
            latents = latents.detach().requires_grad_(True)
            maps = reference_maps(model, latents, condition_of(1).text.context_BKD, grid=16, normalize=True)
            logits = network(maps[:, list(places)], torch.tensor([0]))[0]
            loss = torch.log(torch.exp(logits).sum()) - logits[LABELS.index(relation)]
            losses[-1].append(loss.item())
            if loss <= least_loss:
                break
            latents = latents - step_size * torch.autograd.grad(loss, latents)[0]
    return latents.detach(), losses


@pytest.mark.slow
def test_relations_of_a_prompt_have_turns_and_the_first_that_is_satisfied_ends_the_step() -> None:
    """Whatever the other one is; the least loss changes with the step and stays at its last value."""
    least = (1.0, 1.7, 1.2)
    model = HandMadeModel((8,), phrases=((2, 3), (6,), (7, 8)))
    classifier = papers_classifier("sd21", model)
    expected, losses = reference_steps(model, reference_network(classifier), (*least, least[-1]), step_size=STEP_SIZE)
    assert [len(of_step) for of_step in losses] == [16, 1, 2, 2] and (expected - latents_of(1)).abs().max() > 1

    rule = load_run_config("sd21").steering.model_copy(update={"step_size": STEP_SIZE, "min_loss": least})
    batch = Batch(backbone=model, prompts=[THREE], condition=condition_of(1), schedule=SCHEDULE)
    steer = steer_by(classifier, rule)(batch)
    moved = latents_of(1)
    for step in range(4):
        moved = steer(moved, step)
    assert (moved - expected).abs().max() < AGREEMENT
    assert steer.cost.gradients.tolist() == [21] and steer.cost.checks.tolist() == [0]


def test_a_guidance_that_is_no_input_of_the_model_is_refused() -> None:
    model = HandMadeModel()
    classifier = papers_classifier("flux-dev", model)
    batch = Batch(backbone=model, prompts=[PROMPT], condition=condition_of(1), schedule=SCHEDULE)
    config = SteeringConfig(until_step=1, updates=1, step_size=1.0, normalize="none", guidance=3.5)
    with pytest.raises(UserError, match="steering.guidance is 3.5, .* leave it out"):
        steer_by(classifier, config)(batch)


def test_the_papers_data() -> None:
    """Five labels, as many scenes of "is" as of a relation, shared by the words; counts are train, val, test."""
    for name in REAL:
        data = load_run_config(name).data
        flux = name.startswith("flux")
        gqa, orm = data.parts
        assert data.labels == (*PLANAR, ATTRIBUTE) and data.wording == "paper" and data.wrong == "any"
        counts = (2000, 400, 200) if flux else (800, 200, 100)
        assert (gqa.is_a_levels, gqa.repeated) == (2, "kept")
        assert gqa.names == "singular" and (gqa.train, gqa.val, gqa.test) == counts
        assert gqa.quotas(gqa.train)["is metal"] == gqa.train // 4 and len(gqa.quotas(1)) == 8
        assert orm.quotas(800) == dict.fromkeys(PLANAR, 800) | {"is white": 400, "is green": 400}
        assert {part.resize for part in data.parts} == {"squash" if flux else "crop-bicubic"}


def test_the_papers_training_and_updates() -> None:
    runs = {name: load_run_config(name) for name in REAL}
    assert [run.classifier.epochs for run in runs.values()] == [150, 100, 200, 200]
    assert all(run.steering.updates == 16 for run in runs.values())
    assert all(run.classifier.plateau_threshold == 0 and run.classifier.min_lr == 1e-6 for run in runs.values())
    layers = {name: (run.classifier.layers, run.classifier.head_heads) for name, run in runs.items()}
    assert all(a == b for a, b in pairwise(layers[name] for name in REAL[:2])) and layers["sd21"] == (2, 4)
    assert layers["flux-dev"] == layers["flux-schnell"] == (4, 8)
