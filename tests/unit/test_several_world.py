"""Scenes, captions and trainings of two to five objects; what there was before stays as it was."""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from l2s_core.config.loading import CONFIG_FOLDER
from l2s_core.errors import UserError
from l2s_core.evaluation.detectors.detection import Detection
from l2s_core.evaluation.detectors.segformer import MIN_AREA
from l2s_core.miniworld.training import bars, denoiser, pretrain_sd, text
from l2s_core.miniworld.training.ahead import Ahead, workers
from l2s_core.miniworld.training.denoiser import SceneCaptions, products_in_bfloat16
from l2s_core.miniworld.training.pretrain import length_of, load_pretrain_config, snapshot, so_far
from l2s_core.miniworld.training.several_round import TINY, shortened
from l2s_core.miniworld.training.workshop import Workshop
from l2s_core.miniworld.world.captions import CHAINS, CaptionStyle, language_caption, web_caption
from l2s_core.miniworld.world.scenes import GAPS, SIDE, SIZES, sample_layout
from l2s_core.miniworld.world.sprites import OBJECTS, sprite
from l2s_core.miniworld.world.streams import scene_rng
from l2s_core.miniworld.world.tokenizers import clip_tokenizer
from l2s_core.prompts.chains import FORMS
from l2s_core.prompts.prompt import parse_several
from l2s_core.relations import relations_between
from l2s_core.storage.files import make_folder

CROWDED = (0.05, 0.3, 0.25, 0.2, 0.2)
RELATED = CaptionStyle(related=1.0, chained=1.0)


def digest(value: object) -> str:
    return hashlib.sha1(repr(value).encode()).hexdigest()[:12]


def test_scenes_and_captions_of_up_to_three_objects_are_what_they_were() -> None:
    layouts = [sample_layout(scene_rng(0, i, 31), counts=(0.1, 0.5, 0.4)) for i in range(500)]
    assert digest([(layout.placements, layout.corners) for layout in layouts]) == "3314ab14f404"
    listed = [web_caption(layout, scene_rng(0, i, 32)) for i, layout in enumerate(layouts)]
    chained = [web_caption(layout, scene_rng(0, i, 32), CaptionStyle(chained=0.4)) for i, layout in enumerate(layouts)]
    assert (digest(listed), digest(chained)) == ("c9a1aec34b30", "54475251aa3b")
    assert digest(text.sentences(0, 3, 300)) == "b2757ce8cfff"


@pytest.mark.parametrize("count", [4, 5])
def test_crowded_scenes_keep_their_sprites_apart_and_large_enough_to_be_found(count: int) -> None:
    for i in range(20):
        layout = sample_layout(scene_rng(3, i, 0), counts=(0.0,) * (count - 1) + (1.0,))
        boxes = [p.box for p in layout.placements]
        assert len({p.name for p in layout.placements}) == count and all(
            b[0] >= 0 and b[2] <= SIDE and b[1] >= 0 and b[3] <= SIDE for b in boxes
        )
        for k, a in enumerate(boxes):
            for b in boxes[k + 1 :]:
                assert max(b[0] - a[2], a[0] - b[2], b[1] - a[3], a[1] - b[3]) >= GAPS[count]
    smallest = min((sprite(obj, SIZES[count][0])[..., 3] > 0.5).sum() for obj in range(len(OBJECTS)))
    assert smallest > 1.25 * MIN_AREA * SIDE**2


@pytest.mark.parametrize("count", [3, 4, 5])
def test_chained_captions_have_the_forms_of_the_benchmark_and_can_be_read(count: int) -> None:
    forms = {form for (objects, _), form in FORMS.items() if objects == count}
    assert set(CHAINS[count]) == forms
    seen = set()
    for i in range(40):
        layout = sample_layout(scene_rng(4, i, 0), counts=(0.0,) * (count - 1) + (1.0,))
        prompt = parse_several(web_caption(layout, scene_rng(4, i, 1), RELATED))
        assert set(prompt.objects) == {p.name for p in layout.placements}
        seen.add(len(prompt.triplets))
    assert seen == {count - len(form) for form in forms}


def test_articles_are_those_of_the_prompts_in_the_share_that_is_asked_for() -> None:
    layout = sample_layout(scene_rng(0, 0), objects=["orange", "elephant", "umbrella", "cat"])
    texts = [web_caption(layout, scene_rng(6, i, 1), CaptionStyle(chained=0.5, only_a=0.5)) for i in range(200)]
    plain = [text for text in texts if "an " not in text]
    assert 70 < len(plain) < 130 and all(
        f"a {name}" in text for text in plain for name in ("orange", "elephant", "umbrella", "cat")
    )


def test_lists_and_chains_are_equally_frequent_and_every_object_is_as_frequent_in_either() -> None:
    counted = {kind: dict.fromkeys(OBJECTS, 0) for kind in ("list", "chain")}
    for i in range(3000):
        layout = sample_layout(scene_rng(5, i % 300, 0), counts=(0.0, 0.0, 0.5, 0.25, 0.25))
        caption = web_caption(layout, scene_rng(5, i, 1), CaptionStyle(chained=0.5))
        for p in layout.placements:
            counted["list" if ", " in caption else "chain"][p.name] += 1
    totals = {kind: sum(values.values()) for kind, values in counted.items()}
    assert 0.45 < totals["chain"] / sum(totals.values()) < 0.55
    for name in OBJECTS:
        assert counted["chain"][name] / totals["chain"] == pytest.approx(
            counted["list"][name] / totals["list"], rel=0.35
        )


def test_the_longest_prompt_of_the_forms_fits_the_wide_windows() -> None:
    config = load_pretrain_config("mini-sd")
    tokenizer = clip_tokenizer(0, length=config.window)
    longest = "a photo of a teddy bear to the left of a traffic light to the right of a dog and a cat above a zebra"
    assert 24 < len(tokenizer(longest).input_ids) <= config.window
    rng = np.random.default_rng(0)
    lengths = [len(tokenizer(language_caption(rng, config.language)).input_ids) for _ in range(2000)]
    assert max(lengths) <= config.window and max(lengths) > 24


def test_a_widened_encoder_reads_short_texts_as_before() -> None:
    tokenizer = clip_tokenizer(0)
    encoder = text.build_encoder(tokenizer, width=16, layers=1, heads=2).eval()
    short = text.tokenize(tokenizer, ["a photo of a dog"])
    before = encoder(short).last_hidden_state
    wider = text.widened(encoder, tokenizer, 32).eval()
    ids = text.tokenize(tokenizer, ["a photo of a dog"])
    assert ids.shape[1] == 32
    torch.testing.assert_close(wider(ids).last_hidden_state[:, :24], before)


def test_batches_made_ahead_are_those_made_when_asked() -> None:
    captions = SceneCaptions(
        seed=0,
        batch=4,
        scenes=10,
        counts=CROWDED,
        style=RELATED,
        tokenizers=(clip_tokenizer(0, length=32),),
        capitals=0.5,
    )
    with workers(1) as processes:
        ahead = Ahead(captions, 3, processes)
        for step in range(3):
            (indices, (ids,)), (wanted, (wanted_ids,)) = ahead(step), captions(step)
            assert (indices == wanted).all() and (ids == wanted_ids).all()


def test_products_in_bfloat16_stay_close_and_leave_attention_in_float32(monkeypatch) -> None:
    monkeypatch.setattr(denoiser, "has_fast_bfloat16", lambda device: True)
    torch.manual_seed(0)
    x, layer = torch.randn(2, 4, 8, 16), nn.Linear(16, 16)
    attend = partial(nn.functional.scaled_dot_product_attention, x, x)
    with products_in_bfloat16("cpu"):
        assert layer(x).dtype == torch.bfloat16
        assert attend(layer(x)).dtype == torch.float32
    monkeypatch.setattr(denoiser, "has_fast_bfloat16", lambda device: False)
    with products_in_bfloat16("cpu"):  # the cast would cost more than it saves: a training took eight times as long
        assert layer(x).dtype == torch.float32
    torch.testing.assert_close(layer(x).bfloat16(), layer.bfloat16()(x.bfloat16()), rtol=0.05, atol=0.05)


def test_noisy_moves_timesteps_towards_noise() -> None:
    loss = denoiser.DenoiserLoss.__new__(denoiser.DenoiserLoss)
    level = torch.linspace(0, 0.999, 100)
    loss.noisy, loss.decisive = 1.0, None
    assert torch.equal(loss._toward_noise(level), level)
    loss.noisy = 1.5
    moved = loss._toward_noise(level)
    assert (moved >= level).all() and moved.max() < 1 and (moved > 0.7).float().mean() > 0.4
    loss.noisy, loss.decisive = 1.0, (0.5, 0.9, 0.6)
    decided = loss._toward_noise(level)
    assert (
        decided.min() >= 0
        and decided.max() < 1
        and ((decided >= 0.5) & (decided < 0.9)).float().mean() == pytest.approx(0.76, abs=0.02)
    )


def test_the_figures_count_what_lacks_what_is_there_twice_and_what_was_not_asked_for() -> None:
    (prompt,) = bars.form_prompts("3+0", "dev", 1)
    assert prompt.triplets == () and len(prompt.objects) == 3
    first, second, _third = prompt.objects
    stranger = next(name for name in OBJECTS if name not in prompt.objects)
    found = [
        Detection(name=name, box=(0, 0, 9, 9), score=score)
        for name, score in ((first, 0.9), (first, 0.8), (second, 0.9), (stranger, 0.9))
    ]
    row = bars.form_figures("3+0", [prompt], [found])
    assert (row.there, row.doubled, row.stranger) == (0, 1, 1)
    assert row.missing == {prompt.objects[2]: 1} and row.twice == {first: 1} and row.foreign == {stranger: 1}


def test_the_figures_count_each_relation_that_holds() -> None:
    (prompt,) = bars.form_prompts("3+2", "dev", 1)
    found = [
        Detection(name=name, box=(20 * place, 20 * place, 20 * place + 9, 20 * place + 9), score=0.9)
        for place, name in enumerate(prompt.objects)
    ]
    boxes = {detection.name: detection.box for detection in found}
    held = [t.relation in relations_between(boxes[t.subject], boxes[t.object]) for t in prompt.triplets]
    row = bars.form_figures("3+2", [prompt], [found])
    assert row.pairs == sum(held) / 2 and row.right == all(held) and (row.there, row.doubled) == (1, 0)


def test_development_and_test_prompts_of_a_form_share_none() -> None:
    for form in ("2+1", "5+3", "5+0"):
        dev, test = ({prompt.text for prompt in bars.form_prompts(form, suite, 50)} for suite in ("dev", "test"))
        assert len(dev) == len(test) == 50 and not dev & test


def test_a_round_that_goes_on_from_a_model_and_its_snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrain_sd, "sample_grid", lambda *_, **__: np.zeros((1, 64, 64, 3), np.uint8))
    config = shortened(load_pretrain_config("mini-sd"), TINY)
    config = config.model_copy(update={"after": None, "begin": "mini-sd", "begin_judge": "mini-seg"})
    seen = []
    work = tmp_path / "work"
    shop = Workshop(work=make_folder(work), seed=0, device="cpu", observe=lambda name, *_: seen.append(name))
    out = pretrain_sd.pretrain_sd(config, shop)
    assert list(dict.fromkeys(seen)) == ["text", "denoiser-1", "judge"]
    assert all(length_of(config, name) == 3 for name in ("text", "denoiser-1", "judge"))
    longer = config.model_copy(
        update={
            "rounds": tuple(
                one.model_copy(update={"denoiser": one.denoiser.model_copy(update={"steps": 9})})
                for one in config.rounds
            )
        }
    )
    assert so_far(longer, work).rounds[0].denoiser.steps == 3
    kept = snapshot(longer, work, tmp_path / "now")
    weights = "mini-sd/unet/diffusion_pytorch_model.safetensors"
    assert (kept / weights).read_bytes() == (out / weights).read_bytes()
    with pytest.raises(UserError, match="no checkpoint of a denoiser"):
        so_far(config, tmp_path / "empty")


def test_every_committed_training_says_what_it_begins_with() -> None:
    for path in (CONFIG_FOLDER / "pretrain").glob("*.yaml"):
        assert load_pretrain_config(path.stem).rounds
    config = load_pretrain_config("mini-sd-two").model_dump() | {"text": None}
    with pytest.raises(ValueError, match="no model to take it from"):
        type(load_pretrain_config("mini-sd-two")).model_validate(config)
