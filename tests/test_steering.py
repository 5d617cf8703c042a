"""Steering: the right gradient, images that leave, bad gradients skipped, no dependence on batch mates."""

from __future__ import annotations

import pytest
import torch

from l2s_core.classifier.checkpoint import TrainedClassifier
from l2s_core.classifier.model import build_classifier
from l2s_core.config import CaptureConfig, ClassifierConfig, SteeringConfig
from l2s_core.dataset.collect import map_source
from l2s_core.errors import UserError
from l2s_core.evaluation.samples import make_images
from l2s_core.prompts import Triplet, prompt_for
from l2s_core.sampling import initial_noise
from l2s_core.steering import Steering

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
    return Steering(
        backbone=backbone, classifier=classifier, config=config, condition=backbone.encode_prompts([p.text for p in prompts]),
        weights_BOK=backbone.phrase_weights(prompts), relations=[p.triplet.relation for p in prompts],
        timesteps=backbone.schedule(STEPS).timesteps,
    )  # fmt: skip


def test_the_gradient_is_the_slope_of_the_loss(backbone, classifier) -> None:
    """Central differences along the gradient of the whole chain: UNet, attention, pooling, classifier."""
    steer, indices = steering(backbone, classifier), torch.arange(len(PROMPTS))
    z = initial_noise([0, 1, 2], backbone.latent_shape).requires_grad_(True)
    (gradient,) = torch.autograd.grad(steer._loss(z, indices, 1).sum(), z)
    norm_B = gradient.flatten(1).norm(dim=1)
    direction, width = gradient / norm_B.view(-1, 1, 1, 1), 0.05
    with torch.no_grad():
        slope_B = (steer._loss(z + width * direction, indices, 1) - steer._loss(z - width * direction, indices, 1)) / (2 * width)
    assert torch.allclose(slope_B, norm_B, rtol=0.05)


def test_updates_lower_the_loss_and_later_steps_are_left_alone(backbone, classifier) -> None:
    steer = steering(backbone, classifier, FAST.model_copy(update={"step_size": 0.02}))
    z, indices = initial_noise([0, 1, 2], backbone.latent_shape), torch.arange(len(PROMPTS))
    moved = steer(z, 1)
    with torch.no_grad():
        assert (steer._loss(moved, indices, 1) < steer._loss(z, indices, 1)).all()
    assert steer.cost.gradients.tolist() == [2, 2, 2] and steer.cost.checks.tolist() == [1, 1, 1]
    assert torch.equal(steer(z, 3), z)


def test_a_satisfied_image_leaves_and_pays_no_more(backbone, classifier) -> None:
    z = initial_noise([0, 1, 2], backbone.latent_shape)
    with torch.no_grad():
        probability_B = (-steering(backbone, classifier)._loss(z, torch.arange(3), 1)).exp()
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

    def poisoned(self, latents, indices, step):
        loss = real(self, latents, indices, step)
        if loss.requires_grad:
            loss.register_hook(lambda gradient: gradient.masked_fill(indices == 1, float("nan")))
        return loss

    monkeypatch.setattr(Steering, "_loss", poisoned)
    z = initial_noise([0, 1, 2], backbone.latent_shape)
    moved = steer(z, 0)
    assert torch.equal(moved[1], z[1]) and not torch.equal(moved[0], z[0]) and moved.isfinite().all()
    assert steer.cost.skipped.tolist() == [0, 2, 0]


def test_steered_images_do_not_depend_on_the_batch(backbone, classifier) -> None:
    """Stated tolerance: 3 of 255 levels, after 6 updates and 6 steps."""
    how = {"steps": STEPS, "guidance": 3.0, "classifier": classifier, "steering": FAST}
    together, cost = make_images(backbone, PROMPTS, [7, 8, 9], **how)
    alone = torch.cat([make_images(backbone, [p], [s], **how)[0] for p, s in zip(PROMPTS, (7, 8, 9), strict=True)])
    assert (together.int() - alone.int()).abs().max() <= 3
    plain, free = make_images(backbone, PROMPTS, [7, 8, 9], steps=STEPS, guidance=3.0)
    assert not torch.equal(plain, together) and free["gradients"].sum() == 0 < cost["gradients"].sum()


def test_a_classifier_of_other_steps_is_refused(backbone, classifier) -> None:
    with pytest.raises(UserError, match="schedule_steps 6 != 8"):
        make_images(backbone, PROMPTS, [1, 2, 3], steps=8, guidance=3.0, classifier=classifier, steering=FAST)
