"""Steering: the right gradient, images that leave, bad gradients skipped, no dependence on batch mates."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch

from l2s_core.backbones.model import Placement
from l2s_core.backbones.unet import UNetBackbone
from l2s_core.classifier.checkpoint import TrainedClassifier
from l2s_core.classifier.model import build_classifier
from l2s_core.config import CaptureConfig, ClassifierConfig, SteeringConfig
from l2s_core.dataset.collect import map_source
from l2s_core.diffusion.sampler import Batch, Sampler
from l2s_core.diffusion.sampling import initial_noise
from l2s_core.errors import UserError
from l2s_core.prompts.prompt import SeveralPrompt, parse_several, prompt_for
from l2s_core.relations import LABELS, Triplet
from l2s_core.steering.objectives import ClassifierObjective
from l2s_core.steering.steering import Steering, steer_by
from l2s_core.steering.targets import Targets

STEPS = 6
RELATIONS_WANTED = ("left of", "above", "below")
PROMPTS = [prompt_for(Triplet(subject="dog", relation=r, object="cat"), prefix="a photo of ") for r in RELATIONS_WANTED]
FAST = SteeringConfig(until_step=3, updates=2, step_size=0.1, normalize="rms", confidence=0.999)


@pytest.fixture(scope="module")
def classifier(backbone) -> TrainedClassifier:
    config = ClassifierConfig(kind="conv", width=8)
    source = map_source(backbone, CaptureConfig(steps=(1, 3)), STEPS)
    model = build_classifier(config, source).eval().requires_grad_(False)
    return TrainedClassifier(model=model, config=config, source=source)


def steering(backbone, classifier, config: SteeringConfig = FAST, prompts=PROMPTS) -> Steering:
    return steer_by(classifier, config)(Batch.of(backbone, prompts, steps=STEPS))


def sampler(backbone, steps: int = STEPS) -> Sampler:
    return Sampler(backbone=backbone, steps=steps, guidance=3.0, batch=8)


def loss_of(steer: Steering, z: torch.Tensor, step: int = 1) -> torch.Tensor:
    """The loss of every relation."""
    return steer._loss(z, torch.arange(len(z)), step, steer.targets)


def test_the_gradient_is_the_slope_of_the_loss(backbone, classifier) -> None:
    """Central differences along the gradient of the whole chain: UNet, attention, pooling, classifier."""
    steer = steering(backbone, classifier)
    z = initial_noise([0, 1, 2], backbone.latent_shape).requires_grad_(True)
    (gradient,) = torch.autograd.grad(loss_of(steer, z).sum(), z)
    norm_B = gradient.flatten(1).norm(dim=1)
    direction = gradient / norm_B.view(-1, 1, 1, 1)
    width = 0.05
    with torch.no_grad():
        slope_B = (loss_of(steer, z + width * direction) - loss_of(steer, z - width * direction)) / (2 * width)
    assert torch.allclose(slope_B, norm_B, rtol=0.05)


def test_updates_lower_the_loss_and_later_steps_are_left_alone(backbone, classifier) -> None:
    steer = steering(backbone, classifier, FAST.model_copy(update={"step_size": 0.02}))
    z = initial_noise([0, 1, 2], backbone.latent_shape)
    moved = steer(z, 1)
    with torch.no_grad():
        assert (loss_of(steer, moved) < loss_of(steer, z)).all()
    assert steer.cost.gradients.tolist() == [2, 2, 2] and steer.cost.checks.tolist() == [1, 1, 1]
    assert torch.equal(steer(z, 3), z)


def test_a_satisfied_image_leaves_and_pays_no_more(backbone, classifier) -> None:
    z = initial_noise([0, 1, 2], backbone.latent_shape)
    with torch.no_grad():
        probability_B = (-loss_of(steering(backbone, classifier), z)).exp()
    threshold = probability_B.sort().values[1:].mean().item()  # the most confident image passes, the others do not
    config = FAST.model_copy(update={"confidence": threshold, "updates": 1})
    steer = steering(backbone, classifier, config)
    moved = steer(z, 1)
    unmoved = (moved == z).flatten(1).all(1)
    assert torch.equal(unmoved, probability_B >= threshold)
    assert torch.equal(steer.cost.gradients, (~unmoved).long())


def test_a_gradient_that_is_not_finite_is_skipped_and_counted(backbone, classifier, monkeypatch) -> None:
    steer = steering(backbone, classifier)
    real = Steering._loss

    def poisoned(self, latents, indices, step, targets):
        loss = real(self, latents, indices, step, targets)
        if loss.requires_grad:
            loss.register_hook(lambda gradient: gradient.masked_fill(indices == 1, float("nan")))
        return loss

    monkeypatch.setattr(Steering, "_loss", poisoned)
    z = initial_noise([0, 1, 2], backbone.latent_shape)
    moved = steer(z, 0)
    assert torch.equal(moved[1], z[1]) and not torch.equal(moved[0], z[0]) and moved.isfinite().all()
    assert steer.cost.skipped.tolist() == [0, 2, 0]


def test_steered_images_do_not_depend_on_the_batch(classifier) -> None:
    """In float64, since the updates enlarge what float32 rounds otherwise in batches of other sizes."""
    in_float64 = Placement(dtype=torch.float64)
    make = sampler(UNetBackbone.from_pretrained("mini-sd", placement=in_float64))
    steer = steer_by(replace(classifier, model=deepcopy(classifier.model).double()), FAST)
    seeds = [7, 8, 9]
    together = make(PROMPTS, seeds, steer)
    alone = torch.cat([sampled.images for sampled in replace(make, batch=1).batches(PROMPTS, seeds, steer)])
    assert (together.images.int() - alone.int()).abs().max() <= 1
    plain = make(PROMPTS, seeds)
    assert not torch.equal(plain.images, together.images) and plain.observers == ()
    assert together.observers[0].cost.gradients.sum() > 0


def test_batches_are_cut_in_order_and_observers_are_called_in_turn(backbone) -> None:
    calls = []

    def watch(name):
        def build(batch):
            def look(latents, step):
                calls.append((name, step, len(batch)))
                return latents + 1 if name == "first" else latents

            return look

        return build

    make = Sampler(backbone=backbone, steps=1, guidance=3.0, batch=2)
    parts = list(make.batches(PROMPTS, [7, 8, 9], watch("first"), watch("second")))
    assert [part.rows for part in parts] == [slice(0, 2), slice(2, 3)]
    assert calls == [(name, 0, size) for size in (2, 1) for name in ("first", "second")]
    assert torch.equal(parts[0].images, make(PROMPTS[:2], [7, 8], watch("first")).images)
    assert not torch.equal(parts[0].images, make(PROMPTS[:2], [7, 8]).images)  # what the first one moved stays moved


@pytest.mark.parametrize("guidance", [3.0, 1.0])
def test_a_satisfied_image_costs_as_much_as_a_plain_one(backbone, classifier, guidance: float) -> None:
    """What the look without a gradient predicts is not asked of the denoiser again; the images are the same."""
    rows: list[int] = []
    handle = backbone.denoiser.register_forward_pre_hook(lambda _, given: rows.append(len(given[0])))

    def made(*observe) -> tuple[torch.Tensor, int]:
        rows.clear()
        make = Sampler(backbone=backbone, steps=STEPS, guidance=guidance, batch=8)
        return make([*PROMPTS, NOTHING], [0, 1, 2, 3], *observe).images.int(), sum(rows)

    content = FAST.model_copy(update={"min_loss": 100.0})
    try:
        plain, plainly = made()
        satisfied, asked = made(steer_by(classifier, content))
        assert (satisfied - plain).abs().max() <= 1 and asked == plainly + len(PROMPTS)  # the first step's gradients
        moving = FAST.model_copy(update={"until_step": STEPS - 2, "step_size": 0.02, "min_loss": 1.39})
        steered, fewer = made(steer_by(classifier, moving))
        again, more = made(steer_by(classifier, moving, predicts=False))
        assert (steered - again).abs().max() <= 1 and (steered - plain).abs().max() > 1 and fewer < more
        watched, rows_watched = made(steer_by(classifier, moving), lambda _: lambda latents, step: latents)
        assert torch.equal(watched, steered) and rows_watched == fewer  # an observer that moves nothing
        moved, _ = made(steer_by(classifier, moving), lambda _: lambda latents, step: latents + 0.1)
        alone, _ = made(steer_by(classifier, moving, predicts=False), lambda _: lambda latents, step: latents + 0.1)
        assert (moved - alone).abs().max() <= 1  # of other latents nothing was predicted
    finally:
        handle.remove()


def test_a_classifier_of_other_steps_is_refused(backbone, classifier) -> None:
    with pytest.raises(UserError, match="schedule_steps 6 != 8"):
        sampler(backbone, steps=8)(PROMPTS, [1, 2, 3], steer_by(classifier, FAST))


THREE = parse_several("a photo of a dog to the left of a cat above an apple")
DIAGONAL = parse_several("a photo of a dog above and to the left of a cat")
NOTHING = SeveralPrompt(text="a photo of a dog and a cat", triplets=(), objects=("dog", "cat"), spans=())


def test_relations_are_read_off_their_own_phrases(backbone, classifier) -> None:
    """Each relation of a prompt has the loss that it would have alone; a diagonal's are lower by its allowance."""
    prompts = [THREE, PROMPTS[0], DIAGONAL]
    steer = steering(backbone, classifier, prompts=prompts)
    z = initial_noise([0, 1, 2], backbone.latent_shape)
    assert steer.targets.image_P.tolist() == [0, 0, 1, 2, 2] and steer.targets.weight_P.tolist() == [1, 1, 1, 0.5, 0.5]
    with torch.no_grad():
        loss_P = loss_of(steer, z)
        singles = [
            loss_of(
                steering(
                    backbone,
                    classifier,
                    prompts=[SeveralPrompt(text=p.text, triplets=(t,), objects=p.objects, spans=p.spans)],
                ),
                z[i : i + 1],
            )
            for i, p in enumerate(prompts)
            for t in p.triplets
        ]
    alone_P = torch.cat(singles) + 2 * torch.tensor([1, 1, 1, 0.5, 0.5]).log()
    assert torch.allclose(loss_P, alone_P, atol=1e-5)
    assert (loss_P[0] - loss_P[1]).abs() > 1e-4  # and they are not all one


def test_targets_of_a_subset_and_their_turns() -> None:
    targets = Targets.of([THREE, NOTHING, PROMPTS[1], DIAGONAL])
    assert targets.has_relation(4).tolist() == [True, False, True, True]
    some = targets.select(torch.tensor([0, 3]))
    assert some.image_P.tolist() == [0, 0, 1, 1] and some.phrases_P2.tolist() == [[0, 1], [1, 2], [0, 1], [0, 1]]
    assert some.total(torch.tensor([1.0, 2.0, 4.0, 8.0]), 2).tolist() == [3.0, 12.0]
    everything = torch.ones(4, dtype=torch.bool)
    one_left = torch.tensor([False, True, True, True])
    assert [some.turn(k, everything).nonzero()[:, 0].tolist() for k in range(3)] == [
        [0, 2, 3],
        [1, 2, 3],
        [0, 2, 3],
    ]  # a diagonal is one pair
    assert [some.turn(k, one_left).nonzero()[:, 0].tolist() for k in range(2)] == [[1, 2, 3], [1, 2, 3]]
    assert some.turn(0, torch.tensor([False, True, False, False])).tolist() == [False, True, False, False]
    assert [some.fixed_turn(k).nonzero()[:, 0].tolist() for k in range(3)] == [[0, 2, 3], [1, 2, 3], [0, 2, 3]]
    assert some.select(torch.tensor([1])).fixed_turn(1).tolist() == [True, True]
    assert targets.select(torch.tensor([1])).fixed_turn(1).tolist() == []


@pytest.mark.parametrize(
    ("text", "weights"),
    [
        ("a dog to the left of a cat and to the left of the cat", [1]),
        ("a dog to the left of a cat and a cat to the right of a dog", [1, 1]),  # one relation, said of both objects
        ("a dog above a cat, and a cat to the right of a dog", [0.5, 0.5]),  # a diagonal
        ("a dog above a cat and a dog above a cat and a cat above a bird", [1, 1]),
    ],
)
def test_a_relation_that_is_stated_twice_is_no_diagonal(text, weights) -> None:
    """It counted as two, so that steering stopped at half of what each had to reach."""
    prompt = parse_several(text)
    targets = Targets.of([prompt])
    assert targets.weight_P.tolist() == weights and len(prompt.triplets) == len(weights)
    first = targets.turn(0, torch.ones(len(weights), dtype=torch.bool))
    assert first.sum() == (1 if "bird" in text else len(weights))  # relations of two objects have one turn


@pytest.mark.parametrize("several", ["cycle", "round-robin"])
def test_without_a_confidence_a_diagonal_never_leaves_early(backbone, classifier, several: str) -> None:
    """The paper's rule has none, and its least loss cannot be reached by a pair that has to show two relations."""
    config = FAST.model_copy(
        update={"confidence": None, "min_loss": 0.5, "step_size": 0.02, "updates": 4, "several": several}
    )
    steer = steering(backbone, classifier, config, [DIAGONAL])
    z = initial_noise([1], backbone.latent_shape)
    steer(z, 1)
    assert steer.cost.gradients.tolist() == [4] and (loss_of(steer, z) > 0.5).any()


@pytest.mark.parametrize("several", ["joint", "cycle"])
def test_several_relations_are_lowered_together(backbone, classifier, several: str) -> None:
    config = FAST.model_copy(update={"several": several, "step_size": 0.01, "updates": 10, "confidence": 0.9})
    steer = steering(backbone, classifier, config, [THREE, DIAGONAL])
    z = initial_noise([0, 1], backbone.latent_shape)
    moved = steer(z, 1)
    with torch.no_grad():
        before, after = (steer.targets.total(loss_of(steer, at), 2) for at in (z, moved))
    chain, diagonal = steer.cost.gradients.tolist()
    assert (after < before).all() and chain == 10 and 1 < diagonal < 10  # the diagonal is satisfied earlier


def test_prompts_without_relations_come_out_untouched(backbone, classifier) -> None:
    """To the bit, alone and beside prompts that are steered, and at no cost."""
    prompts = [PROMPTS[0], NOTHING]
    seeds = [3, 4]
    make = sampler(backbone)
    steer = steer_by(classifier, FAST)
    plain = make(prompts, seeds).images
    steered = make(prompts, seeds, steer)
    assert torch.equal(plain[1], steered.images[1]) and not torch.equal(plain[0], steered.images[0])
    cost = steered.observers[0].cost
    assert cost.gradients.tolist()[1] == cost.checks.tolist()[1] == 0 < cost.gradients.tolist()[0]
    assert torch.equal(make([NOTHING], [4], steer).images, make([NOTHING], [4]).images)


def with_labels(classifier: TrainedClassifier, labels: str) -> TrainedClassifier:
    return replace(classifier, config=classifier.config.model_copy(update={"labels": labels}))


def answers(logits_R: list[float]) -> torch.nn.Module:
    """A classifier that gives every pair the same logits."""

    class Fixed(torch.nn.Module):
        def forward(self, maps_BOMGG: torch.Tensor, capture_index_B: torch.Tensor) -> torch.Tensor:
            return torch.tensor(logits_R).repeat(len(maps_BOMGG), 1)

    return Fixed()


@pytest.mark.parametrize(
    ("labels", "logits_R", "satisfied"),
    [
        ("single", [8.0, 0.0, 8.0, 0.0], True),  # a half each
        ("single", [8.0, 0.0, 0.0, 0.0], False),
        ("soft", [8.0, 0.0, 8.0, 0.0], True),
        ("soft", [8.5, 0.0, 7.5, 0.0], True),  # a quarter of the mass, at least, is the other one's
        ("soft", [9.5, 0.0, 6.5, 0.0], False),  # all of the mass, but hardly any for "above"
        ("soft", [2.0, 0.0, 2.0, 0.0], False),  # split evenly, but too little of it
        ("multi", [8.0, -3.0, 8.0, -3.0], True),
        ("multi", [8.0, 8.0, 8.0, 8.0], True),  # the others do not compete
        ("multi", [8.0, -3.0, -1.0, -3.0], False),
        ("powerset", [0.0, 0.0, 0.0, 0.0, 8.0, 0.0, 0.0, 0.0], True),  # the class of "left of and above"
        ("powerset", [8.0, 0.0, 8.0, 0.0, 0.0, 0.0, 0.0, 0.0], False),  # one or the other, and not both
    ],
)
def test_a_diagonal_is_satisfied_by_both_of_its_relations(
    classifier, labels: str, logits_R: list[float], satisfied: bool
) -> None:
    objective = ClassifierObjective.of(
        replace(with_labels(classifier, labels), model=answers(logits_R)),
        FAST.model_copy(update={"confidence": 0.99}),
    )
    targets = Targets.of([parse_several("a dog above and to the left of a cat")])
    assert targets.wanted_PR[:, :4].tolist() == [[True, False, True, False]] * 2
    maps = torch.zeros(2, 2, 1, 4, 4)
    loss_P = objective.loss_among(maps, torch.zeros(2, dtype=torch.long), targets.label_P, targets.wanted_PR)
    assert objective.satisfied(loss_P).all().item() == satisfied


def test_the_push_towards_one_relation_leaves_the_other_alone_where_labels_do_not_compete(classifier) -> None:
    """A classifier is sure of "left of", and "above" is asked for: only labels that compete push off "left of"."""
    targets = Targets.of([PROMPTS[1]])
    slopes = {}
    for labels in ("single", "multi"):
        logits = torch.tensor([[8.0, -2.0, -2.0, -2.0]], requires_grad=True)
        own = replace(with_labels(classifier, labels), model=lambda *_, answer=logits: answer)
        objective = ClassifierObjective.of(own, FAST)
        loss = objective.loss_among(torch.zeros(1, 2, 1, 4, 4), torch.zeros(1), targets.label_P, targets.wanted_PR)
        (slopes[labels],) = torch.autograd.grad(loss.sum(), logits)
    assert slopes["single"][0, 0] > 0.9 and slopes["multi"][0, 0] == 0
    assert slopes["single"][0, 2] < -0.9 and slopes["multi"][0, 2] < -0.8


def test_a_class_of_its_own_asks_for_a_relation_alone_and_for_a_diagonal_at_once(classifier) -> None:
    """Both relations of a diagonal have the one loss of its class; one relation has that of its class alone."""
    logits = torch.randn(1, 8, generator=torch.Generator().manual_seed(0))
    own = replace(with_labels(classifier, "powerset"), model=lambda *_: logits)
    objective = ClassifierObjective.of(own, FAST)
    p = logits[0].softmax(0)
    for prompt, places in (("a dog above and to the left of a cat", [4, 4]), ("a dog above a cat", [2])):
        targets = Targets.of([parse_several(prompt)])
        count = len(targets.label_P)
        maps, first = torch.zeros(count, 2, 1, 4, 4), torch.zeros(count, dtype=torch.long)
        losses = objective.loss_among(maps, first, targets.label_P, targets.wanted_PR)
        torch.testing.assert_close(losses, -p[places].log())


def test_a_diagonal_that_is_one_class_counts_once(backbone, classifier) -> None:
    """Its two relations are two targets of one loss: the latents move by the gradient of that, not twice."""
    torch.manual_seed(0)
    config = classifier.config.model_copy(update={"labels": "powerset"})
    own = replace(classifier, model=build_classifier(config, classifier.source).eval(), config=config)
    rule = FAST.model_copy(update={"updates": 1, "normalize": "none", "step_size": 1.0, "several": "round-robin"})
    prompt = parse_several("a dog above and to the left of a cat")
    steer = steering(backbone, own, rule, [prompt])
    z = initial_noise([0], backbone.latent_shape)
    moving = z.clone().requires_grad_(True)
    loss_P = loss_of(steer, moving, step=0)
    assert len(loss_P) == 2 and loss_P[0] == loss_P[1]
    (expected,) = torch.autograd.grad(loss_P[0], moving)
    torch.testing.assert_close(steer(z, 0), z - expected)


def test_a_pair_stated_from_both_ends_wants_the_same_of_both() -> None:
    targets = Targets.of([parse_several("a dog left of a cat and a cat below a dog")])
    rows = [[LABELS[i] for i in row.nonzero()[:, 0]] for row in targets.wanted_PR]
    assert rows == [["left of", "above"], ["right of", "below"]]


def test_each_pair_moves_by_a_step_of_its_own_and_open_ones_push_alone(backbone, classifier) -> None:
    """One update of two open pairs: the sum of what either alone would do; the passes back are what is counted."""
    z = initial_noise([0, 1], backbone.latent_shape)
    prompts = [THREE, PROMPTS[0]]

    def moved(several: str, prompts=prompts, confidence: float = 0.9999) -> tuple[torch.Tensor, list[int]]:
        update = {"several": several, "updates": 1, "confidence": confidence}
        steer = steering(backbone, classifier, FAST.model_copy(update=update), prompts)
        return steer(z[: len(prompts)], 0) - z[: len(prompts)], steer.cost.gradients.tolist()

    both, cost = moved("each")
    parts = [moved("joint", [replace(THREE, triplets=(triplet,)), PROMPTS[0]])[0] for triplet in THREE.triplets]
    torch.testing.assert_close(both[0], parts[0][0] + parts[1][0], atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(both[1], parts[0][1], atol=1e-4, rtol=1e-3)
    assert cost == [2, 1] and moved("joint")[1] == [1, 1]

    with torch.no_grad():
        steer = steering(backbone, classifier, prompts=[THREE])
        probability = (-loss_of(steer, z[:1], step=0)).exp().sort().values
    between = probability.mean().item()  # the one relation is satisfied, the other is not
    joint, alone = (moved(several, [THREE], between)[0] for several in ("joint", "open"))
    steer = steering(backbone, classifier, prompts=[THREE])
    weaker = THREE.triplets[int((-loss_of(steer, z[:1], step=0)).exp().argmin())]
    expected = moved("joint", [replace(THREE, triplets=(weaker,))], between)[0]
    torch.testing.assert_close(alone, expected, atol=1e-4, rtol=1e-3)
    assert (joint - alone).abs().max() > 1e-3


def test_the_confidence_of_each_relation_is_the_last_that_steering_saw(backbone, classifier) -> None:
    """Prompts of one relation, of two, and of none; a relation that is said twice has one place."""
    texts = ("a dog to the left of a cat", "a dog left of a cat and a car above a cat and a car above a cat")
    plain = SeveralPrompt(text="a dog", triplets=(), objects=(), spans=())
    prompts = [*map(parse_several, texts), plain]
    steer = steering(backbone, classifier, prompts=prompts)
    z = initial_noise([0, 1, 2], backbone.latent_shape)
    for step in (0, 1):
        z = steer(z, step)
    confidence = steer.confidence()
    assert confidence.shape == (3, FAST.until_step, 2)
    missing = np.isnan(confidence)
    assert not missing[0, :2, 0].any() and not missing[1, :2].any() and missing[0, :, 1].all() and missing[2].all()
    assert missing[:, 2].all()
    last = steer.looks[-1]
    seen = [confidence[i, 1, n] for i, n in ((0, 0), (1, 0), (1, 1))]
    assert last.step == 1 and np.allclose(sorted(seen), sorted((-last.loss_P).exp().tolist()))
