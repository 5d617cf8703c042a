"""Methods of sampling.

Objectives that point the right way, choosing that never chooses worse, and all of it through the flow.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from helpers import forks
from helpers.judged import BlindJudge, judged_image
from helpers.runs import run_of
from helpers.small_run import shared_environment

from l2s_core.classifier.checkpoint import TrainedClassifier
from l2s_core.classifier.model import build_classifier
from l2s_core.config import CaptureConfig, ClassifierConfig, SteeringConfig, load_run_config
from l2s_core.dataset.collect import map_source
from l2s_core.dataset.schema import MapSource
from l2s_core.diffusion.sampler import Batch, Sampler
from l2s_core.diffusion.sampling import initial_noise
from l2s_core.errors import UserError
from l2s_core.evaluation.detectors.detection import Detection
from l2s_core.evaluation.judging import Judging
from l2s_core.evaluation.methods.selection import (
    Chooser,
    ClassifierChooser,
    candidate_seeds,
    equal_time_n,
    judge_score,
    select_items,
)
from l2s_core.evaluation.protocols.items import EvalItem
from l2s_core.evaluation.protocols.pairs import Pairs
from l2s_core.evaluation.run_summary import read_summary
from l2s_core.evaluation.samples import load_samples, sample_items, save_samples
from l2s_core.evaluation.work import Work
from l2s_core.planning.estimate import work_of
from l2s_core.prompts.prompt import prompt_for
from l2s_core.relations import PLANAR, SPATIAL, Triplet, label_index
from l2s_core.steering.objectives import (
    CentroidObjective,
    ClassifierObjective,
    PresenceObjective,
    centroids,
    smoothed,
)
from l2s_core.steering.steering import Steering, steer_by
from l2s_core.steering.targets import Targets

ROOT = Path(__file__).parents[2]
STEPS = 4
GUIDANCE = 3.0
CAPTURE = CaptureConfig(steps=(1, 2))
STEERING = SteeringConfig(until_step=3, updates=2, step_size=0.1, normalize="rms")
SOURCE = MapSource(backbone="fake", layers=("a",), channels=3, grid=8, steps=(1, 4), schedule_steps=10)
ITEMS = [
    EvalItem(
        item_id=f"i{k}",
        prompt_group="seen",
        seed=k + 7,
        prompt=prompt_for(Triplet(subject="dog", relation=relation, object="cat")),
    )
    for k, relation in enumerate(("left of", "above", "below"))
]


def sampler_of(backbone) -> Sampler:
    return Sampler(backbone=backbone, steps=STEPS, guidance=GUIDANCE, batch=8)


ALL_KINDS = {
    "again": {"kind": "plain"},
    "sure": {"kind": "classifier"},
    "paper": {"kind": "paper"},
    "centroid": {"kind": "centroid"},
    "excite": {"kind": "attend-and-excite"},
    "best": {"kind": "best-of-n"},
    "best-3": {"kind": "best-of-n", "n": 3},
    "oracle": {"kind": "best-of-n-judge"},
}


def classifier_of(source: MapSource) -> TrainedClassifier:
    config = ClassifierConfig(kind="conv", width=8)
    return TrainedClassifier(
        model=build_classifier(config, source).eval().requires_grad_(False), config=config, source=source
    )


@pytest.fixture(scope="module")
def classifier(backbone) -> TrainedClassifier:
    return classifier_of(map_source(backbone, CAPTURE, STEPS))


def random_maps(batch: int) -> torch.Tensor:
    maps = torch.rand(
        batch,
        2,
        SOURCE.channels,
        SOURCE.grid,
        SOURCE.grid,
        generator=torch.Generator().manual_seed(0),
        dtype=torch.float64,
    )
    return maps / maps.sum((-1, -2), keepdim=True)


def blob(centre_2: torch.Tensor) -> torch.Tensor:
    """A map (1, 1, 1, G, G) of sum 1 with its mass around (x, y), shares of the side; differentiable in the centre."""
    place_G = (torch.arange(16) + 0.5) / 16
    square = (place_G - centre_2[0]).square() + (place_G.unsqueeze(1) - centre_2[1]).square()
    return torch.softmax(-square.flatten() / 0.01, 0).view(1, 1, 1, 16, 16)


@pytest.mark.parametrize("name", ["classifier", "centroid", "presence"])
def test_gradients_are_slopes(name: str) -> None:
    """Central differences along random directions, in float64."""
    trained = classifier_of(SOURCE)
    trained.model.double()
    objective = {
        "classifier": ClassifierObjective.of(trained),
        "centroid": CentroidObjective(source=SOURCE, margin=0.5),
        "presence": PresenceObjective(source=SOURCE),
    }[name]
    maps = random_maps(4).requires_grad_(True)
    label_B = torch.arange(4)
    capture_index_B = torch.tensor([0, 1, 0, 1])
    (gradient,) = torch.autograd.grad(objective.loss(maps, capture_index_B, label_B).sum(), maps)
    assert gradient.flatten(1).abs().amax(1).min() > 0
    generator = torch.Generator().manual_seed(1)
    for _ in range(3):
        move = torch.randn(maps.shape, generator=generator, dtype=maps.dtype)
        width = 1e-6
        with torch.no_grad():
            rise_B = objective.loss(maps + width * move, capture_index_B, label_B) - objective.loss(
                maps - width * move, capture_index_B, label_B
            )
        assert torch.allclose(rise_B / (2 * width), (gradient * move).flatten(1).sum(1), rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("relation", PLANAR)
def test_the_centroid_loss_moves_blobs_the_right_way(relation: str) -> None:
    objective = CentroidObjective(source=SOURCE, margin=0.2)
    centres = torch.full((2, 2), 0.5, requires_grad=True)  # subject and object on the same spot
    maps = torch.cat([blob(centres[0]), blob(centres[1])], dim=1)
    label_B = torch.tensor([label_index(relation)])
    loss_B = objective.loss(maps, label_B, label_B)
    assert loss_B.item() == pytest.approx(0.2, abs=1e-5) and not objective.satisfied(loss_B)
    (gradient,) = torch.autograd.grad(loss_B.sum(), centres)
    direction = torch.tensor(SPATIAL[relation].direction[:2], dtype=torch.float)
    assert torch.allclose(-gradient[0], direction, atol=0.02) and torch.allclose(gradient[1], direction, atol=0.02)
    apart = torch.cat([blob(0.5 + 0.15 * direction), blob(0.5 - 0.15 * direction)], dim=1)
    assert objective.satisfied(objective.loss(apart, label_B, label_B))
    assert not objective.satisfied(objective.loss(apart.flip(1), label_B, label_B))


def test_centroids_and_smoothing_by_hand() -> None:
    maps = torch.zeros(1, 1, 8, 8)
    maps[0, 0, 3, 5] = 1.0
    assert torch.allclose(centroids(maps)[0, 0], torch.tensor([5.5 / 8, 3.5 / 8]))
    kernel = torch.exp(-torch.tensor([[2.0, 1, 2], [1, 0, 1], [2, 1, 2]]) / (2 * 0.5**2))
    assert torch.allclose(smoothed(maps)[0, 0, 2:5, 4:7], kernel / kernel.sum())
    assert smoothed(maps).sum().item() == pytest.approx(1.0) and torch.allclose(
        smoothed(torch.ones(1, 1, 8, 8)), torch.ones(1, 1, 8, 8)
    )


def test_presence_is_the_peak_of_the_more_neglected_phrase() -> None:
    maps = torch.zeros(1, 2, 3, 8, 8)
    maps[:, 0] = 0.9
    maps[0, 1, :, 2:5, 2:5] = torch.tensor([0.1, 0.3, 0.5]).view(3, 1, 1)
    objective = PresenceObjective(source=SOURCE, presence=0.25)
    loss_B = objective.loss(maps, torch.tensor([0]), torch.tensor([0]))
    assert loss_B.item() == pytest.approx(1 - 0.3)  # mean over channels, flat under the Gaussian
    assert objective.satisfied(loss_B) and not PresenceObjective(source=SOURCE, presence=0.35).satisfied(loss_B)
    assert not objective.satisfied(torch.tensor([float("nan")]))


@pytest.mark.parametrize("kind", [CentroidObjective, PresenceObjective])
def test_a_satisfied_objective_stops(backbone, kind) -> None:
    """The best image by the loss is let go after one check; the others are moved, and their loss falls."""
    source = map_source(backbone, CAPTURE, STEPS)
    z = initial_noise([0, 1, 2], backbone.latent_shape)
    everyone = torch.arange(3)
    targets = Targets.of([item.prompt for item in ITEMS])
    prompts = [item.prompt for item in ITEMS]

    def steering(objective) -> Steering:
        config = STEERING.model_copy(update={"updates": 1, "step_size": 0.02})
        return Steering(Batch.of(backbone, prompts, steps=STEPS), objective=objective, config=config)

    with torch.no_grad():
        wide = {"margin": 0.9} if kind is CentroidObjective else {"presence": 1.0}
        loss_B = steering(kind(source=source, **wide))._loss(z, everyone, 1, targets)
        between = loss_B.sort().values[:2].mean().item()
    enough = {"margin": 0.9 - between} if kind is CentroidObjective else {"presence": 1 - between}
    steer = steering(kind(source=source, **enough))
    moved = steer(z, 1)
    best = loss_B == loss_B.min()
    assert torch.equal((moved == z).flatten(1).all(1), best) and torch.equal(steer.cost.gradients, (~best).long())
    with torch.no_grad():
        assert (steer._loss(moved, everyone, 1, targets) < steer._loss(z, everyone, 1, targets))[~best].all()


def test_a_classifier_is_one_objective_among_others(backbone, classifier) -> None:
    config = STEERING.model_copy(update={"confidence": 0.3})
    objective = ClassifierObjective(classifier=classifier, source=classifier.source, confidence=0.3)
    by_classifier = sample_items(sampler_of(backbone), ITEMS, steer_by(classifier, config))
    by_objective = sample_items(sampler_of(backbone), ITEMS, partial(Steering, objective=objective, config=config))
    assert torch.equal(by_classifier.images, by_objective.images) and by_classifier.gradients.sum() > 0
    for name in ("gradients", "checks", "skipped"):
        assert torch.equal(getattr(by_classifier, name), getattr(by_objective, name))
    other = CentroidObjective(source=map_source(backbone, CAPTURE, STEPS + 1), margin=0.1)
    with pytest.raises(UserError, match="reads other maps: schedule_steps 5 != 4"):
        sample_items(sampler_of(backbone), ITEMS, partial(Steering, objective=other, config=config))


class Scripted(Chooser):
    """Scores by a list: a row a candidate."""

    def __init__(self, rows: list[list[float]]) -> None:
        self.rows = iter(rows)
        self.seen = []

    def scores(self, items, images, watch):
        self.seen.append(images)
        return [(value,) for value in next(self.rows)]


def test_the_best_candidate_is_kept_and_the_first_wins_a_tie(backbone) -> None:
    rows = [[0.5, 0.1, 0.7], [0.9, 0.1, 0.2], [0.6, 0.3, 0.7]]
    chooser = Scripted(rows)
    shard = select_items(replace(sampler_of(backbone), steps=2), ITEMS, chooser, n=3)
    assert shard.chosen.tolist() == [1, 2, 0] and shard.candidates == 3
    for i, best in enumerate(shard.chosen.tolist()):
        assert rows[best][i] == max(row[i] for row in rows) and torch.equal(shard.images[i], chooser.seen[best][i])
    assert len({tuple(seen[0].flatten().tolist()) for seen in chooser.seen}) == 3  # three different images


def test_the_best_of_one_is_the_plain_image_to_the_bit(backbone, classifier, tmp_path: Path) -> None:
    sampler = replace(sampler_of(backbone), batch=2)
    plain = sample_items(sampler, ITEMS)
    alone = select_items(sampler, ITEMS, ClassifierChooser(classifier), n=1)
    assert torch.equal(alone.images, plain.images) and alone.chosen.tolist() == [0, 0, 0]
    assert alone.checks.tolist() == [2, 2, 2] and alone.gradients.tolist() == [0, 0, 0]  # a pass at each captured step
    save_samples(tmp_path / "x.safetensors", alone)
    again = load_samples(tmp_path / "x.safetensors")
    assert again.candidates == 1 and torch.equal(again.chosen, alone.chosen) and plain.chosen is None
    judge = BlindJudge()
    judging = Judging(protocol=Pairs(prompts=1), judge=judge)
    assert all((image.candidates, image.chosen) == (1, 0) for image in judging.judge_samples(ITEMS, [again]))
    assert judging.judge_samples(ITEMS, [plain])[0].chosen is None


def test_the_classifier_never_chooses_what_it_likes_less(backbone, classifier) -> None:
    chooser = ClassifierChooser(classifier)
    seen = []
    real = chooser.scores

    def spy(items, images, watch):
        seen.append(real(items, images, watch))
        return seen[-1]

    chooser.scores = spy
    shard = select_items(sampler_of(backbone), ITEMS, chooser, n=3)
    for i, best in enumerate(shard.chosen.tolist()):
        assert seen[best][i] == max(scores[i] for scores in seen) and -20 < seen[best][i][0] < 0
    assert shard.checks.tolist() == [6, 6, 6]


def test_the_judge_prefers_correct_then_both_then_its_own_score() -> None:
    item = EvalItem(
        item_id="i",
        prompt_group="seen",
        seed=0,
        prompt=prompt_for(Triplet(subject="dog", relation="left of", object="cat")),
    )
    left = (0, 20, 20, 40)
    right = (40, 20, 60, 40)

    def score(dog: tuple, cat: tuple | None, of: float = 0.9):
        found = [Detection(name="dog", box=dog, score=0.95)] + (
            [Detection(name="cat", box=cat, score=of)] if cat else []
        )
        protocol = Pairs(prompts=1)
        return judge_score(protocol, item, protocol.verdict(item, found, (64, 64), {}), found)

    assert score(left, right) > score(left, right, 0.5) > score(right, left) > score(left, None)


def test_seeds_that_share_32_bits_share_their_noise() -> None:
    """Why candidates differ from other seeds in these bits."""
    assert torch.equal(*initial_noise([5, 5 + 2**32], (4,)))


def test_candidates_have_noise_of_their_own() -> None:
    items = [k * 2**33 + 17 * k for k in range(1, 200)]
    chosen = {seed: candidate_seeds(seed, 5, items) for seed in items}
    for seed, seeds in chosen.items():
        words = {s % 2**32 for s in seeds}
        assert seeds[0] == seed and len(words) == 5 and not words & {s % 2**32 for s in items if s != seed}
        assert seeds == candidate_seeds(seed, 5, items) and seeds[:2] == candidate_seeds(seed, 2, items)
    first = items[0]
    taken = chosen[items[0]][1]
    assert candidate_seeds(first, 3, [taken + 2**40])[1:] == chosen[first][2:4]


def test_as_many_images_as_take_the_time_of_steering() -> None:
    assert [equal_time_n(0.28, seconds) for seconds in (0.56, 0.57, 1.03)] == [2, 3, 4]
    assert equal_time_n(1.0, 0.4) == 1 and equal_time_n(0.5, 2.0) == 4
    for seconds in (0.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="must be positive"):
            equal_time_n(seconds, 1.0)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            {"kind": "centroidd"},
            "methods.x.kind: unknown method 'centroidd'; did you mean 'centroid'\\? "
            "allowed: attend-and-excite, best-of-n,",
        ),
        ({"margin": 0.1}, "missing key 'methods.x.kind'"),
        (
            {"kind": "centroid", "marginn": 0.1},
            "unknown key 'methods.x.marginn'; did you mean 'margin'\\? allowed: kind, margin, steering",
        ),
        ({"kind": "best-of-n", "margin": 0.1}, "unknown key 'methods.x.margin'; allowed: kind, n"),
        (
            {"kind": "classifier", "steering": {"confidense": 0.9}},
            "unknown key 'methods.x.steering.confidense'; did you mean 'confidence'",
        ),
        ({"kind": "classifier", "steering": "fats"}, "no 'fats' in configs/steering/; did you mean 'fast'"),
        (
            {"kind": "classifier", "steering": {"normalize": "rmss"}},
            "methods.x.steering.normalize: .*did you mean 'rms'",
        ),
        (
            {"kind": "classifier", "steering": {"until_step": 21}},
            "methods.x.steering.until_step is 21, but backbone.steps is 20",
        ),
        (
            {"kind": "attend-and-excite", "steering": {"until_step": 12}},
            "methods.x.steering.until_step 12 goes past the last captured step 9",
        ),
        ({"kind": "paper", "steering": {"normalize": "rms"}}, "methods.x: kind paper takes the gradient as it is"),
        ({"kind": "centroid", "steering": "fast"}, "methods.x: steering.confidence is a classifier's"),
        ({"kind": "centroid", "margin": 1.5}, "methods.x.margin: .*less than 1 .*got 1.5"),
        ({"kind": "best-of-n", "n": 0}, "methods.x.n: .*greater than or equal to 1 .*got 0"),
        (
            {"kind": "classifier", "classifier": "dual-bear"},
            "methods.x.classifier is 'dual-bear', and the run has main, dual-bare, true-only-bare",
        ),
    ],
)
def test_mistakes(entry: dict, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        load_run_config("mini-sd", {"methods": {"x": entry}})
    assert "\n" not in str(caught.value)


def test_names_of_other_methods_are_taken() -> None:
    for name in ("plain", "main", "dual-bare"):
        with pytest.raises(UserError, match=f"methods.{name} has the name of another method"):
            load_run_config("mini-sd", {"methods": {name: {"kind": "plain"}}})
    with pytest.raises(UserError, match="methods.Best Of: a name has small letters"):
        load_run_config("mini-sd", {"methods": {"Best Of": {"kind": "plain"}}})


def test_steering_of_methods_is_spelled_out() -> None:
    run = load_run_config(
        "mini-sd", {"methods": ALL_KINDS, "steering.step_size": 0.07, "methods.paper.steering.updates": 4}
    )
    assert run.methods["sure"].steering == run.steering and run.methods["centroid"].steering.step_size == 0.07
    assert run.methods["centroid"].steering.confidence is None
    paper = run.methods["paper"].steering
    assert (paper.normalize, paper.step_size, paper.updates, paper.confidence) == ("none", 5.0, 4, None)
    for name in ("baselines", "baselines-flux"):
        kinds = {method.kind for method in load_run_config(name).methods.values()}
        assert kinds == {"paper", "centroid", "attend-and-excite", "best-of-n", "best-of-n-judge"}


def test_addresses(tmp_path: Path) -> None:
    """A run without methods is what it was; methods that do the same as a classifier or as plain share its images."""
    without = run_of(tmp_path)
    run = run_of(tmp_path, methods=ALL_KINDS)
    assert "methods" not in without.config.model_dump(mode="json")
    assert list(without.methods) == ["plain", *without.classifiers]
    assert list(run.methods) == [*without.methods, *ALL_KINDS]
    assert [run.paths.samples(method) for method in without.methods] == [
        without.paths.samples(method) for method in without.methods
    ]
    assert run.paths.samples("again") == run.paths.samples("plain") and run.paths.verdicts(
        "sure"
    ) == run.paths.verdicts("main")
    assert len({run.paths.samples(method) for method in run.methods}) == len(run.methods) - 2
    wider = run_of(tmp_path, methods={"centroid": {"kind": "centroid", "margin": 0.2}})
    assert wider.paths.samples("centroid") != run.paths.samples("centroid")
    bare = {"kind": "classifier", "classifier": "dual-bare"}
    by_another = run_of(tmp_path, methods={"bare": bare, "slow": {**bare, "steering": {"updates": 3}}})
    assert by_another.paths.samples("bare") == by_another.paths.samples("dual-bare")
    assert by_another.paths.samples("slow") not in map(by_another.paths.samples, ("bare", "main", "plain"))
    assert (
        "sample further methods" not in work_of(without.config)
        and work_of(run.config)["sample further methods"].gradients > 0
    )


def test_every_method_of_a_run_says_what_it_costs_and_is_called(tmp_path: Path) -> None:
    run = run_of(tmp_path, methods=ALL_KINDS)
    steps = run.config.backbone.steps
    updates = run.config.steering.most_updates
    captured = len(run.config.capture.steps)
    costs = {name: method.work(run.config) for name, method in run.methods.items()}
    assert costs["plain"] == costs["again"] == Work(guided=steps)
    assert costs["main"] == costs["sure"] == costs["dual-bare"] == Work(guided=steps, gradients=updates)
    assert costs["best-3"] == Work(guided=3 * steps, forwards=3 * captured)
    assert costs["best"] == Work(guided=steps, forwards=captured, gradients=updates)
    assert costs["oracle"] == Work(guided=steps, gradients=updates)
    paper = run.config.methods["paper"].steering
    assert costs["paper"].gradients == paper.until_step * paper.updates
    assert [name for name, method in run.methods.items() if method.UPPER_BOUND] == ["oracle"]
    assert run.methods["best"].label("best", [judged_image(0, candidates=4)]) == "best (of 4)"
    assert run.methods["centroid"].label("centroid", [judged_image(0)]) == "centroid"


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[Path, str]:
    """A tiny reproduction with two methods, and what it printed."""
    home = tmp_path_factory.mktemp("methods")
    settings = {
        "name": "tiny",
        "data.train": 1,
        "data.val": 1,
        "data.test": 1,
        "inversion.iterations": 1,
        "inversion.min_psnr": 0,
        "backbone.steps": 3,
        "capture.steps": [1, 2],
        "steering.until_step": 2,
        "steering.updates": 1,
        "classifier.epochs": 2,
        "benchmark.prompts": 2,
        "benchmark.seeds": 1,
        "classifiers": {},
        "shard": 8,
        "methods": {"centroid": {"kind": "centroid"}, "best": {"kind": "best-of-n"}},
    }
    options = [part for key, value in settings.items() for part in ("--set", f"{key}={json.dumps(value)}")]
    command = [sys.executable, "-m", "flows.cli", "reproduce", "mini-sd", *options, "--home", str(home)]
    done = forks.run(command, env=shared_environment())
    assert done.returncode == 0, done.stderr
    return home, done.stdout


@pytest.mark.server
@pytest.mark.slow
def test_methods_through_the_flow(finished: tuple[Path, str]) -> None:
    home, printed = finished
    summary = json.loads((home / "reports" / "tiny" / "summary.json").read_text())
    centroid = summary["methods"]["centroid"]
    best = summary["methods"]["best"]
    assert centroid["kind"] == "centroid" and centroid["correct"]["count"] == best["correct"]["count"] == 6
    assert centroid["gradients"] > 0 and "candidates" not in centroid
    assert best["gradients"] == 0 and best["checks"] == 2 * best["candidates"]
    steered = summary["classifiers"]["main"]["steered"]
    assert best["candidates"] == equal_time_n(summary["plain"]["seconds"], steered["seconds"])
    rows = read_summary(home / "reports" / "tiny" / "summary.json").rows
    assert [row.label for row in rows] == ["plain", "steered", "centroid", f"best (of {best['candidates']})"]
    page = (home / "reports" / "tiny" / "report.html").read_text()
    assert "<b>centroid</b>, a handcrafted loss" in page and all(
        row.label in page and row.label in printed for row in rows
    )
    assert len(list(home.glob("stages/verdicts/*/verdicts.json"))) == 4
