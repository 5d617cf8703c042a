"""The core on the shipped model: exactness, equivalences, batch independence."""

from __future__ import annotations

import weakref
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from l2s_core.attention.capture import AttentionCapture
from l2s_core.attention.layers import AttentionLayer, select_layers, split_heads, split_projections
from l2s_core.attention.pooling import pool_maps
from l2s_core.attention.probabilities import phrase_attention, phrase_attention_reference
from l2s_core.attention.reader import AttentionReader
from l2s_core.diffusion.condition import Predicted
from l2s_core.diffusion.inversion import invert, psnr
from l2s_core.diffusion.sampling import initial_noise, sample
from l2s_core.errors import UserError, masked
from l2s_core.miniworld.world.scenes import render, sample_layout
from l2s_core.miniworld.world.streams import scene_rng
from l2s_core.prompts.prompt import prompt_for
from l2s_core.relations import Triplet

PROMPTS = [
    prompt_for(Triplet(subject="dog", relation="left of", object="cat")),
    prompt_for(Triplet(subject="teddy bear", relation="above", object="traffic light")),
]
TEXTS = [p.text for p in PROMPTS]


def latents_for(backbone, count: int = 2) -> torch.Tensor:
    return initial_noise(list(range(count)), backbone.latent_shape)


def test_phrase_attention_matches_its_definition() -> None:
    g = torch.Generator().manual_seed(0)
    query = torch.randn(2, 3, 49, 16, generator=g)
    key = torch.randn(2, 3, 24, 16, generator=g)
    weights = torch.rand(2, 2, 24, generator=g)
    query.requires_grad_(True)
    fast = phrase_attention(query, key, weights)
    slow = phrase_attention_reference(query, key, weights)
    assert (fast - slow).abs().max() < 1e-6
    gradients = [torch.autograd.grad(x.square().sum(), query, retain_graph=True)[0] for x in (fast, slow)]
    assert (gradients[0] - gradients[1]).abs().max() < 1e-5


@torch.no_grad()
def test_capture_leaves_the_output_bit_identical(backbone) -> None:
    z = latents_for(backbone)
    condition = backbone.encode_prompts(TEXTS)
    plain = backbone.predict(z, 500, condition)
    reader = AttentionReader(backbone)
    maps, recorded = reader.read_and_predict(z, 500, condition, backbone.phrase_weights(PROMPTS))
    assert torch.equal(plain, recorded)
    assert maps.shape == (2, 2, reader.channels, 16, 16)
    assert torch.allclose(maps.sum((-1, -2)), torch.ones(1), atol=1e-5)


@torch.no_grad()
def test_stopping_early_records_the_same_maps(backbone) -> None:
    z = latents_for(backbone)
    condition = backbone.encode_prompts(TEXTS)
    weights = backbone.phrase_weights(PROMPTS)
    layers = ["down_blocks.*", "mid_block.*"]
    capture = AttentionCapture(select_layers(backbone.layers(), layers))
    results = []
    for stop in (False, True):
        with capture.recording(weights, stop_early=stop):
            output = capture.run(lambda: backbone.predict(z, 500, condition))
        assert (output is None) == stop
        results.append(pool_maps(capture.layer_maps(), 16))
    assert torch.equal(*results)
    reader = AttentionReader(backbone, layers=layers)
    assert reader.names == tuple(layer.name for layer in capture.layers)
    assert torch.equal(reader.read(z, 500, condition, weights), results[0])


@torch.no_grad()
def test_a_reader_reads_without_guidance(backbone) -> None:
    z = latents_for(backbone)
    weights = backbone.phrase_weights(PROMPTS)
    reader = AttentionReader(backbone, normalize=False)
    free, guided = (backbone.encode_prompts(TEXTS, guidance=guidance) for guidance in (None, 5.0))
    maps = reader.read(z, 500, free, weights)
    assert torch.equal(reader.read(z, 500, guided, weights), maps) and maps.sum((-1, -2)).std() > 0.1


def test_capture_restores_and_refuses_nesting(backbone) -> None:
    capture = AttentionCapture(backbone.layers())
    weights = backbone.phrase_weights(PROMPTS)
    with pytest.raises(RuntimeError, match="do not nest"), capture.recording(weights), capture.recording(weights):
        pass
    assert not any(m._forward_hooks for layer in backbone.layers() for m in layer.sources)
    with pytest.raises(UserError, match="no cross-attention layer"):
        select_layers(backbone.layers(), ["nothing.*"])


def test_maps_have_the_same_mass_at_every_grid() -> None:
    maps = torch.rand(1, 2, 2, 64)
    assert torch.allclose(pool_maps([maps], 16).sum((-1, -2)), torch.ones(1))
    assert torch.equal(pool_maps([maps], 8), (maps / maps.sum(-1, keepdim=True)).transpose(1, 2).unflatten(-1, (8, 8)))


def test_sampling_matches_diffusers_own_pipeline(backbone) -> None:
    from diffusers import StableDiffusionPipeline

    from l2s_core.miniworld.world.sprites import ATLAS_PATH

    pipeline = StableDiffusionPipeline.from_pretrained(ATLAS_PATH.parent / "mini-sd", safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)
    z = latents_for(backbone)
    theirs = pipeline(TEXTS, latents=z, num_inference_steps=5, guidance_scale=5.0, output_type="np").images
    ours = backbone.decode(sample(backbone, z, backbone.encode_prompts(TEXTS, guidance=5.0), backbone.schedule(5)))
    assert np.abs(theirs * 255 - ours).max() <= 1.01


def test_results_do_not_depend_on_the_batch(backbone) -> None:
    """Stated tolerance: 1e-3 in latents of unit deviation."""
    texts = TEXTS * 2
    schedule = backbone.schedule(5)
    z = latents_for(backbone, 4)
    together = sample(backbone, z, backbone.encode_prompts(texts, guidance=5.0), schedule)
    alone = torch.cat(
        [sample(backbone, z[i : i + 1], backbone.encode_prompts([texts[i]], guidance=5.0), schedule) for i in range(4)]
    )
    assert (together - alone).abs().max() < 1e-3


@pytest.mark.parametrize("guidance", [1.0, 4.0])
@pytest.mark.parametrize("rows", [[], [2], [0, 3], [0, 1, 2, 3]])
def test_what_was_predicted_is_not_predicted_again(backbone, guidance: float, rows: list[int]) -> None:
    z, texts = latents_for(backbone, 4), TEXTS * 2
    condition = backbone.encode_prompts(texts, guidance=guidance, negative="a cup")
    known = torch.tensor(rows, dtype=torch.long)
    halves = backbone.predict(z, 500, condition.unguided())
    predicted = Predicted(rows=known, prediction=halves[known])
    found = backbone.predict(z, 500, replace(condition, predicted=predicted))
    torch.testing.assert_close(found, backbone.predict(z, 500, condition), atol=1e-5, rtol=1e-4)
    if rows:  # and it is what is used
        other = replace(predicted, prediction=predicted.prediction + 1)
        moved = backbone.predict(z, 500, replace(condition, predicted=other)) - found
        assert (moved[known] > 0.9).all() and (moved[predicted.missing(4)].abs() < 1e-5).all()


def test_inversion_reconstructs_and_more_iterations_help(backbone) -> None:
    """More of them give the latents back more exactly; what the decoder makes of that is the same picture by then."""
    layout = sample_layout(scene_rng(5, 0), objects=["dog", "cat"], relation="left of")
    images = render(layout)[None]
    latents = backbone.encode_images(images)
    condition = backbone.encode_prompts(TEXTS[:1])
    schedule = backbone.schedule(10)
    errors = []
    for iterations in (1, 4):
        noise = invert(backbone, latents, condition, schedule, iterations=iterations)
        again = sample(backbone, noise, condition, schedule)
        errors.append(float((again - latents).square().mean()))
        assert float(psnr(torch.from_numpy(backbone.decode(again)), torch.from_numpy(images))[0]) > 19.5
    assert errors[1] < errors[0]


def test_missing_model_says_where_it_looked() -> None:
    from l2s_core.backbones.unet import UNetBackbone

    with pytest.raises(UserError, match="shipped model .*mini-sd"):
        UNetBackbone.from_pretrained("mini-sdd")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (
            "the store postgresql+psycopg2://u2:PW@db:5/x stopped",
            "the store postgresql+psycopg2://u2:***@db:5/x stopped",
        ),
        ("http://me:a@b:c/d@host/ and https://h/p@q", "http://me:***@host/ and https://h/p@q"),
        ("postgresql://u@host:5432/db", "postgresql://u@host:5432/db"),
        ("a mail to me@host: no address", "a mail to me@host: no address"),
    ],
)
def test_no_text_shows_the_password_of_an_address(text: str, shown: str) -> None:
    assert masked(text) == shown


def test_capture_keeps_of_a_call_what_the_read_asks_for() -> None:
    """Hidden states that a block is called with stayed in memory, one a layer, until the maps were computed."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.to_q, self.to_k = (nn.Linear(8, 8).requires_grad_(False) for _ in range(2))

        def forward(self, *, hidden: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            return self.to_q(hidden) + self.to_k(hidden)

    block = Block()
    read = partial(split_projections, 2)
    layer = AttentionLayer(name="one", heads=2, sources=(block.to_q, block.to_k), read=read, called=block)
    latents = torch.randn(1, 4, 8, requires_grad=True)
    mask = torch.tensor([[[True, True, True, False]]])
    capture = AttentionCapture([layer])
    with capture.recording(torch.eye(2, 4)[None]):
        hidden = latents * 2
        seen = weakref.ref(hidden)
        block(hidden=hidden, attention_mask=mask)
        del hidden
    assert seen() is None
    (maps_BHOP,) = capture.layer_maps()
    query, key = (split_heads(layer(latents * 2), 2) for layer in (block.to_q, block.to_k))
    expected = phrase_attention_reference(query, key, torch.eye(2, 4)[None], mask.unsqueeze(1))
    torch.testing.assert_close(maps_BHOP, expected)
