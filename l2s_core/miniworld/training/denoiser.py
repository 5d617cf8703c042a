"""The UNet of the small world: 16x16x4 latents, cross-attention at 16x16 and 8x8, v-prediction."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from transformers import CLIPTextModel, PreTrainedTokenizerBase

from l2s_core.miniworld.training.ahead import Ahead, Workers
from l2s_core.miniworld.training.text import tokenize
from l2s_core.miniworld.world.captions import CaptionStyle, web_caption
from l2s_core.miniworld.world.scenes import COUNTS, Layout, render, sample_layout, to_unit
from l2s_core.miniworld.world.streams import Stream, scene_rng
from l2s_core.miniworld.world.tokenizers import capitalised
from l2s_core.storage.decoding import decode_json
from l2s_core.storage.store import START_AGAIN, opened_weights, read_weights, write_weights

DROP_SHARE = 0.1  # captions replaced by the empty one, for classifier-free guidance
ENCODE_BATCH = 64
SceneBatch = tuple[np.ndarray, list[np.ndarray]]
"""Indices (B) of scenes, and ids (B, K) of their captions, of each tokenizer."""


def build(channels: tuple[int, ...], heads: int, text_width: int) -> UNet2DConditionModel:
    """Create the untrained UNet with a cross-attention block at every resolution."""
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        layers_per_block=1,
        norm_num_groups=16,
        block_out_channels=channels,
        cross_attention_dim=text_width,
        attention_head_dim=heads,
        down_block_types=("CrossAttnDownBlock2D",) * len(channels),
        up_block_types=("CrossAttnUpBlock2D",) * len(channels),
    )


def build_scheduler() -> DDIMScheduler:
    """Return Stable Diffusion's noise schedule with v-prediction (Salimans & Ho 2022)."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        num_train_timesteps=1000,
        prediction_type="v_prediction",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        timestep_spacing="leading",
    )


@lru_cache(maxsize=100_000)
def layout_of(seed: int, index: int, counts: tuple[float, ...] = COUNTS) -> Layout:
    """Return training scene `index`; `counts` are the shares of scenes of one, two, three … objects."""
    return sample_layout(scene_rng(seed, index, Stream.DENOISER_SCENES), counts=counts)


@torch.no_grad()
def encode_scenes(
    vae: AutoencoderKL,
    seed: int,
    count: int,
    path: Path,
    *,
    counts: tuple[float, ...] = COUNTS,
    device: str = "cpu",
    workers: Workers | None = None,
) -> Tensor:
    """Return the scaled latents (N, 4, 16, 16), float16, of the training scenes; computed once, kept at `path`.

    Those of other scenes at `path`, which another model was trained on in the same folder, are replaced.
    """
    scenes = {"seed": seed, "count": count, "counts": list(counts)}
    if path.exists() and _scenes_at(path) == scenes:
        return read_weights(path, START_AGAIN)["latents"]
    vae.to(device)
    parts = []
    batches = -(-count // ENCODE_BATCH)
    draw = Ahead(SceneImages(seed=seed, count=count, counts=counts), batches, workers)
    for number in range(batches):
        mean = vae.encode(torch.from_numpy(draw(number)).to(device)).latent_dist.mean
        parts.append((mean * vae.config.scaling_factor).half().cpu())
    latents = torch.cat(parts)
    write_weights(path, {"latents": latents}, scenes)
    vae.to("cpu")
    return latents


def _scenes_at(path: Path) -> dict[str, Any]:
    """Return what a file of latents says of its scenes, nothing if it was written before it said so."""
    with opened_weights(path, START_AGAIN) as stored:
        said: dict[str, Any] = decode_json((stored.metadata() or {}).get("state", "{}").encode())
        return said


@dataclass(frozen=True, kw_only=True)
class SceneImages:
    """Images of the training scenes, float32 (B, 3, 64, 64) in [-1, 1], batch by batch."""

    seed: int
    count: int
    counts: tuple[float, ...]

    def __call__(self, number: int) -> np.ndarray:
        """Return batch `number`."""
        first = number * ENCODE_BATCH
        indices = range(first, min(first + ENCODE_BATCH, self.count))
        return to_unit(np.stack([render(layout_of(self.seed, i, self.counts)) for i in indices]))


@dataclass(frozen=True, kw_only=True)
class SceneCaptions:
    """Which of `scenes` scenes a step is shown, and its captions as tokens of each tokenizer.

    It is a function of the step number alone. A share of `DROP_SHARE` of the captions is empty, and of `capitals` of
    the others begins with a capital.
    """

    seed: int
    batch: int
    scenes: int
    counts: tuple[float, ...]
    style: CaptionStyle
    tokenizers: tuple[PreTrainedTokenizerBase, ...]
    stream: Stream = Stream.DENOISER_BATCHES
    capitals: float = 0.0

    def __call__(self, step: int) -> SceneBatch:
        """Return the indices (B) of the scenes and, of each tokenizer, ids (B, K)."""
        rng = scene_rng(self.seed, step, self.stream)
        indices = rng.integers(0, self.scenes, self.batch)
        captions = [self._caption(int(i), rng) for i in indices]
        return indices, [tokenize(tokenizer, captions).numpy() for tokenizer in self.tokenizers]

    def _caption(self, index: int, rng: np.random.Generator) -> str:
        if rng.random() < DROP_SHARE:
            return ""
        caption = web_caption(layout_of(self.seed, index, self.counts), rng, self.style)
        return capitalised(caption) if self.capitals and rng.random() < self.capitals else caption


@dataclass(kw_only=True)
class DenoiserLoss:
    """v-prediction loss over batches of scenes and captions that the step number alone decides.

    Timesteps are uniform where `noisy` is 1; above it more of them are near pure noise. `decisive` is as in
    `SceneRound`. With `bfloat16` products are taken in that type, attention apart, where the processor has
    instructions for it: a step then takes a third to two thirds of the time.
    """

    latents: Tensor
    captions: Callable[[int], SceneBatch]
    encoder: CLIPTextModel
    scheduler: DDIMScheduler
    noisy: float = 1.0
    decisive: tuple[float, float, float] | None = None
    bfloat16: bool = False
    device: str = "cpu"

    def __post_init__(self) -> None:
        self.latents = self.latents.to(self.device)
        self.encoder = self.encoder.to(self.device).eval()
        self.alphas = self.scheduler.alphas_cumprod.to(self.device)
        self._model: nn.Module | None = None

    def __call__(self, model: nn.Module, step: int) -> Tensor:
        indices, (ids_BK,) = self.captions(step)
        with torch.no_grad():
            context_BKD = self.encoder(torch.from_numpy(ids_BK).to(self.device)).last_hidden_state
        x0 = self.latents[torch.from_numpy(indices).to(self.device)].float()
        noise = torch.randn_like(x0)
        # stratified timesteps: one from each of B equal slices
        level = (torch.arange(len(x0)) + torch.rand(len(x0))) / len(x0)
        t = (self._toward_noise(level) * len(self.alphas)).long().to(self.device)
        alpha = self.alphas[t].sqrt().view(-1, 1, 1, 1)
        sigma = (1 - self.alphas[t]).sqrt().view(-1, 1, 1, 1)
        velocity = alpha * noise - sigma * x0
        inputs = (alpha * x0 + sigma * noise, t, context_BKD)
        if self._model is not model:
            self._model = model
            self._predict = graphed(Prediction(model), inputs)
        with products_in_bfloat16(self.device, asked=self.bfloat16):
            predicted = self._predict(*inputs)
        return nn.functional.mse_loss(predicted.float(), velocity)

    def _toward_noise(self, level_B: Tensor) -> Tensor:
        """Return uniform numbers in [0, 1) moved towards 1, a share of them into the decisive levels."""
        return with_decisive(
            level_B, self.decisive, lambda level: level if self.noisy == 1 else 1 - (1 - level) ** self.noisy
        )


def with_decisive(
    uniform_B: Tensor, decisive: tuple[float, float, float] | None, spread: Callable[[Tensor], Tensor]
) -> Tensor:
    """Return noise levels of uniform numbers, as `spread` has them; a share of them between the `decisive` ones."""
    if decisive is None:
        return spread(uniform_B)
    low, high, share = decisive
    rest = ((uniform_B - share) / (1 - share)).clamp(min=0)
    return torch.where(uniform_B < share, low + (high - low) * uniform_B / share, spread(rest))


@contextmanager
def products_in_bfloat16(device: str, *, asked: bool = True) -> Iterator[None]:
    """Autocast to bfloat16 where it is asked for, but for attention, whose kernels for it are slow on a CPU.

    A processor without instructions for bfloat16 goes on in float32, which takes a tenth of the time there.
    """
    if not asked or not has_fast_bfloat16(device):
        yield
        return
    with AttentionInFloat32(), torch.autocast(device, torch.bfloat16):
        yield


def has_fast_bfloat16(device: str) -> bool:
    """Whether a device takes products in bfloat16 faster than in float32."""
    return device != "cpu" or torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()


class AttentionInFloat32(TorchFunctionMode):
    """Takes scaled dot products in float32 within autocast."""

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is not nn.functional.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        kwargs = kwargs or {}
        query = args[0] if args else kwargs["query"]
        with torch.autocast(query.device.type, enabled=False):
            return func(*map(_in_float32, args), **{name: _in_float32(value) for name, value in kwargs.items()})


def _in_float32(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) and value.is_floating_point() else value


class Prediction(nn.Module):
    """A UNet whose output is a tensor."""

    def __init__(self, unet: UNet2DConditionModel) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, latents: Tensor, timestep_B: Tensor, context_BKD: Tensor) -> Tensor:
        return self.unet(latents, timestep_B, context_BKD, return_dict=False)[0]


def graphed(call: nn.Module, inputs: tuple[Tensor, ...]) -> Callable[..., Tensor]:
    """On a GPU, one CUDA graph for each direction of the pass, which otherwise waits for a thousand launches."""
    if not inputs[0].is_cuda:
        return call
    return cast("Callable[..., Tensor]", torch.cuda.make_graphed_callables(call, tuple(t.clone() for t in inputs)))
