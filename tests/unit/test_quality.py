"""Image quality: KID against its definition, features, reference scenes, CLIPScore's plumbing, untouched images."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.damage import drop_weights
from helpers.judged import BlindJudge
from helpers.models import tiny_clip
from helpers.runs import run_of
from scipy.ndimage import gaussian_filter

from l2s_core.config import load_run_config
from l2s_core.errors import UserError
from l2s_core.evaluation.detectors.load import load_judge
from l2s_core.evaluation.metrics.clipscore import ClipScore, load_clip
from l2s_core.evaluation.metrics.kid import block_estimates, kid, kid_change, squared_mmd
from l2s_core.evaluation.metrics.quality import RENDERED, has_quality, quality_by_method, run_quality
from l2s_core.evaluation.metrics.untouched import untouched
from l2s_core.evaluation.pictures import method_images
from l2s_core.evaluation.protocols.protocol import benchmark_items
from l2s_core.evaluation.samples import SampleShard, save_samples
from l2s_core.miniworld.world.references import can_be_shown, reference_scenes
from l2s_core.prompts.prompt import SeveralPrompt, parse_several, prompt_for
from l2s_core.relations import OPPOSITE, PLANAR, Triplet, relations_between
from l2s_core.storage.files import read_json, write_json

TRIPLETS = [
    Triplet(subject=a, relation=r, object=b)
    for r in PLANAR
    for a, b in (("dog", "cat"), ("car", "orange"), ("zebra", "clock"))
]
PROMPTS = [prompt_for(triplet) for triplet in TRIPLETS]


def normal(seed: int, count: int, width: int = 8, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng((29, seed)).normal(shift, 1, (count, width))


def mmd_by_definition(x: np.ndarray, y: np.ndarray) -> float:
    """Gretton et al. 2012, equation 3, term by term."""

    def kernel(a: np.ndarray, b: np.ndarray) -> float:
        return (sum(float(p) * float(q) for p, q in zip(a, b, strict=True)) / len(a) + 1) ** 3

    n = len(x)
    m = len(y)
    total = 0.0
    total += sum(kernel(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    total += sum(kernel(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return total - 2 * sum(kernel(a, b) for a in x for b in y) / (n * m)


@pytest.fixture(scope="module")
def features():
    return load_judge("mini-seg").features


@pytest.fixture(scope="module")
def scenes() -> tuple[np.ndarray, np.ndarray]:
    """72 reference scenes and 48 others of the same prompts."""
    return reference_scenes(PROMPTS, 72), reference_scenes(PROMPTS, 48, first=72)


def test_mmd_is_its_definition() -> None:
    x = normal(0, 9)
    y = normal(1, 13, shift=0.4)
    assert squared_mmd(x, y) == pytest.approx(mmd_by_definition(x, y), rel=1e-12, abs=1e-12)
    assert squared_mmd(x.astype(np.float32), y) == pytest.approx(mmd_by_definition(x.astype(np.float32), y), rel=1e-12)


def test_a_block_is_the_estimate_of_its_images_alone() -> None:
    """All subsets of all but one image, by leaving each out in turn: every block is among them."""
    x = normal(2, 5)
    y = normal(3, 5, shift=0.5)
    allowed = [mmd_by_definition(np.delete(x, i, 0), np.delete(y, j, 0)) for i in range(5) for j in range(5)]
    for value in block_estimates(x, y, subset_size=4, subsets=12):
        assert min(abs(value - one) for one in allowed) < 1e-12


def test_kid_is_unbiased_where_the_plain_mean_of_the_kernel_is_not() -> None:
    """Pairs of samples of one distribution: the mean is 0 within its own error.

    With k(x, x) in the sums it is far above.
    """
    pairs = [(normal(2 * i, 20), normal(2 * i + 1, 30)) for i in range(10, 210)]
    values = np.array([kid(x, y, subsets=20).mean for x, y in pairs])
    assert abs(values.mean()) < 3 * values.std() / np.sqrt(len(values))
    means = [[np.mean((a @ b.T / 8 + 1) ** 3) for a, b in ((x, x), (y, y), (x, y))] for x, y in pairs]
    assert np.mean([own + other - 2 * between for own, other, between in means]) > 10 * values.std() / np.sqrt(
        len(values)
    )


@pytest.mark.parametrize(("shift", "low", "high"), [(0.0, 1.3, 2.2), (0.7, 0.8, 1.3)])
def test_the_error_is_that_of_the_sample_and_not_of_the_number_of_subsets(
    shift: float, low: float, high: float
) -> None:
    """Against the spread over 100 fresh samples.

    Right where the sets differ, too large by about sqrt(3) where they do not.
    """
    results = [
        [kid(normal(2 * i, 40, shift=shift), normal(2 * i + 1, 80), subsets=s) for s in (25, 100)]
        for i in range(300, 400)
    ]
    spread = np.std([many.mean for _, many in results])
    for column in zip(*results, strict=True):
        assert low < np.mean([one.error for one in column]) / spread < high


def test_a_change_is_paired() -> None:
    """Images that all moved by the same little: the change is exactly the difference, its error far below theirs."""
    reference = normal(5, 200)
    before = normal(6, 60, shift=0.5)
    after = before + 0.05
    change = kid_change(before, after, reference)
    one = kid(after, reference)
    other = kid(before, reference)
    assert change.mean == pytest.approx(one.mean - other.mean, abs=1e-12)
    assert 0 < change.error < one.error / 3 and change.mean > 3 * change.error
    assert kid_change(before, before, reference).mean == kid_change(before, before, reference).error == 0
    with pytest.raises(ValueError, match="60 before and 59 after"):
        kid_change(before, after[:-1], reference)


def test_kid_is_a_function_of_its_arguments() -> None:
    x = normal(7, 30)
    y = normal(8, 40, shift=0.3)
    np.random.seed(1)
    first = kid(x, y)
    np.random.seed(2)
    assert kid(x, y) == first and kid(x, y, seed=1) != first
    assert (first.subset_size, first.subsets) == (15, 200) and first.mean == pytest.approx(
        squared_mmd(x, y), abs=first.error
    )


@pytest.mark.parametrize(
    ("x", "y", "how", "message"),
    [
        (normal(0, 1), normal(1, 9), {}, "too few images"),
        (normal(0, 3), normal(1, 9), {}, "subsets of 1 images cannot be drawn from 3"),
        (normal(0, 9), normal(1, 9), {"subset_size": 9}, "allowed: 2 to 8"),
        (normal(0, 9), normal(1, 9), {"subsets": 1}, "no spread"),
        (normal(0, 9), normal(1, 9, width=7), {}, "of one network"),
        (normal(0, 9), np.full((9, 8), np.nan), {}, "not finite"),
    ],
)
def test_kid_says_what_is_wrong(x: np.ndarray, y: np.ndarray, how: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kid(x, y, **how)


def test_features_do_not_depend_on_the_batch(features, scenes) -> None:
    images = scenes[0][:7]
    whole = features(images)
    assert whole.shape == (7, 224) and whole.dtype == np.float64
    for batch in (1, 3):
        assert np.abs(features(images, batch=batch) - whole).max() < 1e-5
    assert np.abs(features(images[::-1])[::-1] - whole).max() < 1e-5
    for wrong in (images[0], images.astype(np.float32), images[:0], images[..., :1]):
        with pytest.raises(ValueError, match=r"uint8 images \(N, H, W, 3\)"):
            features(wrong)


def test_kid_grows_with_corruption(features, scenes) -> None:
    """Rendered scenes against others: nothing to see.

    The same with noise or blur: further away the more of it there is.
    """
    references, images = scenes
    reference = features(references)
    clean = kid(features(images), reference)
    assert abs(clean.mean) < 3 * clean.error
    noise = np.random.default_rng(5).normal(0, 1, images.shape)
    noisy = [np.clip(images + level * noise, 0, 255).astype(np.uint8) for level in (20, 50)]
    blurred = [
        gaussian_filter(images.astype(np.float32), (0, level, level, 0)).round().astype(np.uint8) for level in (1.5, 3)
    ]
    for worse in (noisy, blurred):
        values = [clean, *(kid(features(part), reference) for part in worse)]
        assert all(a.mean < b.mean for a, b in zip(values, values[1:], strict=False))
        assert values[-1].mean > 10 * values[-1].error


def test_reference_scenes_depend_on_their_number_alone() -> None:
    scenes = reference_scenes(PROMPTS, 30)
    assert scenes.shape == (30, 64, 64, 3) and scenes.dtype == np.uint8
    assert np.array_equal(scenes[17:30], reference_scenes(PROMPTS, 13, first=17))
    assert len({scene.tobytes() for scene in scenes}) == 30
    crowd = "an orange to the left of an elephant below a banana and a cat to the right of a donut"
    reference_scenes([parse_several(crowd)], 1, first=1152)  # the layout is met after 10,609 draws
    found = load_judge("mini-seg").detect(scenes[:12])
    shown = [{d.name for d in detections} for detections in found]
    assert shown == [{t.subject, t.object} for t in TRIPLETS]
    for prompts, count in (([], 3), (PROMPTS, 0)):
        with pytest.raises(UserError, match="at least one of each"):
            reference_scenes(prompts, count)


def stating(*stated: tuple[str, str, str], objects: tuple[str, ...] = ("dog", "cat", "car")) -> SeveralPrompt:
    return SeveralPrompt(
        text="any",
        objects=objects,
        spans=(),
        triplets=tuple(Triplet(subject=s, relation=r, object=o) for s, r, o in stated),
    )


def test_reference_scenes_show_every_relation_of_a_prompt() -> None:
    """All pairs of relations of three objects in a chain and in a fork, and no relation at all.

    A diagonal with one more relation, too.
    """
    prompts = [stating()]
    for first, second in product(PLANAR, repeat=2):
        prompts += [
            stating(("dog", first, "cat"), ("cat", second, "car")),
            stating(("dog", first, "cat"), ("dog", second, "car")),
        ]
        if second not in (first, OPPOSITE[first]):
            prompts += [stating(("dog", first, "cat"), ("dog", second, "cat"), ("car", first, "cat"))]
            prompts += [stating(("dog", first, "cat"), ("dog", second, "cat"), objects=("dog", "cat"))]
    found = load_judge("mini-seg").detect(reference_scenes(prompts, len(prompts)))
    for prompt, detections in zip(prompts, found, strict=True):
        boxes = {d.name: d.box for d in detections}
        assert set(boxes) == set(prompt.objects)
        for t in prompt.triplets:
            assert t.relation in relations_between(boxes[t.subject], boxes[t.object]), prompt.triplets


def test_what_no_scene_can_show_has_no_reference() -> None:
    ring = stating(("dog", "right of", "cat"), ("cat", "above", "car"), ("dog", "left of", "car"))
    against = stating(("dog", "above", "cat"), ("cat", "above", "dog"), objects=("dog", "cat"))
    strange = stating(objects=("dog", "unicorn"))
    many = stating(objects=("dog", "cat", "car", "clock", "apple", "bear"))
    for prompt in (ring, against, strange, many, stating(objects=())):
        assert not can_be_shown(prompt)
        with pytest.raises(UserError, match="no scene can show 'any'; allowed: 1 to 5 sprites"):
            reference_scenes([prompt], 1)
    said_twice = stating(("dog", "above", "cat"), ("cat", "below", "dog"), objects=("dog", "cat"))
    assert can_be_shown(said_twice) and can_be_shown(stating(objects=("dog",)))


def test_untouched_images_are_bit_identical() -> None:
    images = np.random.default_rng(3).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
    others = images.copy()
    others[1, 0, 0, 0] ^= 1
    others[3] ^= 16
    pairs = untouched(images, others)
    assert pairs.identical == (True, False, True, False)
    expected = (10 * np.log10(255**2 * 192) + 10 * np.log10(255**2 / 256)) / 2
    assert pairs.psnr == pytest.approx(expected, abs=1e-3)
    assert untouched(images, images.copy()).psnr is None and all(untouched(images, images).identical)
    for wrong in (others[:3], others.astype(np.float32)):
        with pytest.raises(ValueError, match="images"):
            untouched(images, wrong)


def test_summary_by_method(features, scenes) -> None:
    references, plain = scenes
    ruined = plain.copy()
    ruined[:40] = gaussian_filter(plain[:40].astype(np.float32), (0, 3, 3, 0)).astype(np.uint8)
    found = quality_by_method({"plain": plain, "main": ruined}, references, features)
    main = found["main"]
    assert list(found["plain"].to_json()) == ["kid"] and list(main.to_json()) == ["kid", "kid_change", "untouched"]
    assert main.kid_change.mean > 5 * main.kid_change.error
    assert sum(main.untouched.identical) == 8 and 10 < main.untouched.psnr < 40
    assert main.to_json()["untouched"] == {"identical": 8, "count": 48, "psnr": main.untouched.psnr}
    assert list(quality_by_method({"main": ruined}, references, features)["main"].to_json()) == ["kid"]


def test_a_run_without_models(tmp_path) -> None:
    """Rendered scenes laid where a run's plain images would be.

    Read in the order of the items, at no distance from scenes.
    """
    config = load_run_config("mini-sd", {"benchmark.prompts": 2, "shard": 5})
    run = run_of(tmp_path, config)
    judge = load_judge("mini-seg")
    with pytest.raises(UserError, match="run it first"):
        run_quality(run, judge)
    for other in (run_of(tmp_path, config, inputs={"size": 512}), run_of(tmp_path, load_run_config("sd21"))):
        assert has_quality(run, judge) and not has_quality(other, judge) and not has_quality(run, BlindJudge())
        with pytest.raises(UserError, match="cannot be held against"):
            run_quality(other, judge)
    assert run.items == benchmark_items(config)
    images = reference_scenes([i.prompt for i in run.items], len(run.items), first=5000 * len(run.items))
    by_id = {item.item_id: torch.from_numpy(image) for item, image in zip(run.items, images, strict=True)}
    for name, items in run.item_shards():
        ids = [item.item_id for item in items]
        cost = {name: torch.zeros(len(items)) for name in ("gradients", "checks", "skipped")}
        shard = SampleShard(item_ids=ids, images=torch.stack([by_id[i] for i in ids]), seconds=1.0, **cost)
        save_samples(run.paths.samples("plain") / f"{name}.safetensors", shard)
    assert np.array_equal(method_images(run, "plain"), images)
    summary = run_quality(run, judge)
    assert list(summary) == [RENDERED, "plain"] and all(entry.kid_change is None for entry in summary.values())
    assert abs(summary["plain"].kid.mean) < 3 * summary["plain"].kid.error


@pytest.fixture
def clip_folder(tmp_path) -> Path:
    return tiny_clip(tmp_path)


def test_clipscore_is_a_clamped_cosine_in_any_batch(clip_folder) -> None:
    from transformers import CLIPImageProcessorPil

    scorer = load_clip(str(clip_folder))
    images = reference_scenes(PROMPTS, 6)
    texts = ["a dog", "a photo of a cat to the left of a dog", "a", "a clock above a car", "a zebra " * 40, "a dog"]
    scores = scorer.scores(images, texts)
    assert scores.shape == (6,) and ((scores >= 0) & (scores <= 100)).all() and (scores > 0).any()
    for batch in (1, 4):
        assert np.abs(scorer.scores(images, texts, batch=batch) - scores).max() < 1e-3
    pixels = CLIPImageProcessorPil.from_pretrained(clip_folder)(images=list(images), return_tensors="pt")
    with torch.no_grad():
        seen = scorer.model.visual_projection(scorer.model.vision_model(**pixels).pooler_output)
        read = scorer.model.text_projection(
            scorer.model.text_model(**scorer.tokenizer(texts[3], return_tensors="pt")).pooler_output
        )
    cosine = float(seen[3] @ read[0] / seen[3].norm() / read[0].norm())
    assert scores[3] == pytest.approx(100 * max(cosine, 0), abs=1e-3)
    assert ClipScore.of(scores).mean == pytest.approx(scores.mean())
    assert ClipScore.of(scores).error == pytest.approx(scores.std(ddof=1) / np.sqrt(6))


def test_clipscore_says_what_is_wrong(clip_folder) -> None:
    scorer = load_clip(str(clip_folder))
    images = np.zeros((2, 8, 8, 3), np.uint8)
    with pytest.raises(ValueError, match="2 images and 1 texts"):
        scorer.scores(images, ["a dog"])
    with pytest.raises(ValueError, match="uint8"):
        scorer.scores(images.astype(np.float32), ["a dog", "a cat"])
    with pytest.raises(UserError, match="no CLIP model"):
        load_clip(str(clip_folder / "nothing"))
    drop_weights(clip_folder / "model.safetensors", ending="visual_projection.weight")
    with pytest.raises(
        UserError, match=r"^\S+ lacks 1 weights of a CLIPModel, as visual_projection.weight; fetch it again$"
    ):  # filled in at random
        load_clip(str(clip_folder))
    (clip_folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match="missing or damaged"):
        load_clip(str(clip_folder))
    (clip_folder / "tokenizer.json").unlink()
    with pytest.raises(UserError, match="has no vocabulary"):
        load_clip(str(clip_folder))
    write_json(
        clip_folder / "config.json", read_json(clip_folder / "config.json") | {"architectures": ["CLIPTextModel"]}
    )
    with pytest.raises(UserError, match="holds a CLIPTextModel, expected CLIPModel"):
        load_clip(str(clip_folder))
