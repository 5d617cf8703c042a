"""What all adapters share: a folder's components on a device, the autoencoder, text tokens."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
import torch
from torch import Tensor, nn

from l2s_core.attention.layers import AttentionLayer
from l2s_core.backbones.component import Component, uncompiled
from l2s_core.backbones.folder import fingerprint_of, index_settings, resolve_folder
from l2s_core.backbones.group_offload import lending
from l2s_core.backbones.solvers import KINDS, solver_of
from l2s_core.backbones.textual_inversion import Vectors
from l2s_core.diffusion.condition import UNGUIDED, Condition, TextEncoding
from l2s_core.diffusion.schedule import Sampling, Schedule
from l2s_core.errors import UserError
from l2s_core.prompts.added_tokens import expanded
from l2s_core.prompts.prompt import Phrases
from l2s_core.prompts.tokens import Template
from l2s_core.sizes import Size, sides, size_of
from l2s_core.storage.files import read_json

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Where and how a model's components live.

    `offload` keeps only the component in use on the device. `checkpointing` computes a block's activations
    again when gradients need them, instead of keeping them. `vae_slicing` decodes one image at a time. `in_place`
    leaves the components where and as they are: they belong to somebody's pipeline.
    """

    device: str = "cpu"
    dtype: torch.dtype = torch.float32
    latents_dtype: torch.dtype = torch.float32
    precision: str | None = None
    offload: bool = False
    checkpointing: bool = False
    vae_slicing: bool = False
    in_place: bool = False


ON_CPU = Placement()


class DiffusersModel(ABC):
    """A model in diffusers' folder layout: what a family of models shares, and what each family says of itself.

    Latents (B, C, h, w) are of the placement's `latents_dtype` outside, whatever the components' type. `settings` are
    those of the model as a whole, which stand in its index. `fingerprint` tells its weights from others',
    `files_fingerprint` those of its files, before LoRAs and new tokens were added to them.
    """

    COMPONENTS: ClassVar[Mapping[str, Component]]
    """Folder name -> component."""
    DENOISER: ClassVar[str]
    """The component that is steered."""
    PATCH: ClassVar[int] = 1
    """Latents of a side that make one image token."""
    PHRASES: ClassVar[tuple[str, ...]] = ("tokenizer",)
    """The tokenizers whose tokens phrases are looked up in."""
    TOKEN_VECTORS: ClassVar[Mapping[str, Vectors]] = {}
    """Tokenizer -> where textual inversion has the vectors of its new tokens; empty where there is none."""
    FLOW: ClassVar[bool] = False
    """Whether it samples along a rectified flow, which RF-Inversion can follow backwards."""
    RENOISES: ClassVar[bool] = False
    """Whether its sampler adds fresh noise at every step, so that scenes are inverted by noising them alone."""
    SOFTMAXES: ClassVar[tuple[str, ...]] = ("text",)
    """The kinds of softmax (capture.softmax) that its text attention can be read with."""
    TEXT_FIRST: ClassVar[bool] = True
    """Whether text comes before the image where both are one sequence."""
    LATENT_CHANNELS: ClassVar[str] = "latent_channels"
    """The autoencoder's setting that says how many channels its latents have."""
    TINY_SIDE: ClassVar[int | None] = None
    """Side of a tiny random model's images, pixels; None where the denoiser's settings state it."""

    def __init__(
        self,
        parts: Mapping[str, Any],
        *,
        fingerprint: str,
        size: Size | None = None,
        placement: Placement = ON_CPU,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.parts: dict[str, Any] = dict(parts)
        self.fingerprint = self.files_fingerprint = fingerprint
        self.settings = dict(settings or {})
        self.placement = placement
        self.device = placement.device
        self._resident: str | None = None
        if self.device == "cuda":
            # cuDNN's attention ends FLUX's backward pass in an illegal memory access (torch 2.11, H200)
            torch.backends.cuda.enable_cudnn_sdp(False)
        for module in self.modules.values():
            if not placement.in_place:
                module.to("cpu" if placement.offload else self.device)
            module.eval().requires_grad_(False)
        self.denoiser = uncompiled(self.parts[self.DENOISER])
        self.vae = self.parts["vae"]
        if placement.checkpointing:
            self.denoiser.enable_gradient_checkpointing()
        if placement.vae_slicing:
            self.vae.enable_slicing()
        self.latent_shape = self._latent_shape(size)

    @property
    def modules(self) -> dict[str, nn.Module]:
        """The components that have weights, by name, compiled ones as they were before."""
        return {name: uncompiled(part) for name, part in self.parts.items() if isinstance(part, nn.Module)}

    @classmethod
    def from_pretrained(cls, model: str, *, size: Size | None = None, placement: Placement = ON_CPU) -> Self:
        """Load a folder in diffusers' layout; raises UserError when it is missing, broken or of another family.

        `size` is that of the images in pixels; left out, it is the one the denoiser was trained for.
        """
        folder = resolve_folder(model, cls.COMPONENTS, placement.precision)
        parts = {
            name: component.load(folder / name, dtype=placement.dtype, precision=placement.precision)
            for name, component in cls.COMPONENTS.items()
        }
        return cls(
            parts,
            fingerprint=fingerprint_of(folder, cls.COMPONENTS, placement.precision),
            size=size,
            placement=placement,
            settings=index_settings(folder),
        )

    @classmethod
    def natural_size(cls, folder: Path) -> Size | None:
        """Return the size, pixels, of the images that a folder's model was trained for, if its settings tell."""
        stated = _stated_size(read_json(folder / cls.DENOISER / "config.json"))
        if stated is None:
            return None
        factor = cls.pixels_per_latent(read_json(folder / "vae" / "config.json"))
        height, width = sides(stated)
        return size_of(height * factor, width * factor)

    @classmethod
    def pixels_per_latent(cls, settings: Mapping[str, Any]) -> int:
        """Return the pixels of a side that one latent stands for, by the autoencoder's settings."""
        return 2 ** (len(settings.get("block_out_channels", (0,))) - 1)

    @property
    def image_sides(self) -> tuple[int, int]:
        """Height and width of the images in pixels."""
        factor = self.pixels_per_latent(self.vae.config)
        height, width = self.latent_shape[1:]
        return height * factor, width * factor

    @property
    def token_sides(self) -> tuple[int, int]:
        """Rows and columns of image tokens."""
        height, width = self.latent_shape[1:]
        return height // self.PATCH, width // self.PATCH

    @property
    def image_tokens(self) -> int:
        """Number of image tokens."""
        rows, columns = self.token_sides
        return rows * columns

    def use(self, name: str) -> Any:
        """Return a component, on the device; with offloading the one used before makes room for it."""
        part = self.parts[name]
        if self.placement.offload and self._resident != name:
            if self._resident is not None:
                self.parts[self._resident].to("cpu")
            part.to(self.device)
            self._resident = name
        return part

    @property
    def differentiated(self) -> list[nn.Module]:
        """The networks that the steering gradient passes."""
        return [self.denoiser]

    def differentiable(self) -> AbstractContextManager[None]:
        """A context for a pass and the gradient that comes back through it: weights stay until it is there."""
        return lending(self.differentiated)

    def given(self, control: Any = None, adapter: Any = None, *, scale: float = 1.0) -> Self:
        """Return this model with images beside every prompt: a ControlNet's, times `scale`, and an IP-Adapter's.

        Raises UserError for images that it has no use for, and where one that it needs is missing.
        """
        for name, image in (("control_image", control), ("ip_adapter_image", adapter)):
            if image is not None:
                raise UserError(f"{name} is given, but this model has neither ControlNet nor IP-Adapter; leave it out")
        return self

    @property
    def latents_dtype(self) -> torch.dtype:
        """The type of latents outside the model's components."""
        return self.placement.latents_dtype

    @torch.no_grad()
    def encode_prompts(self, texts: list[str], *, guidance: float | None = None, negative: str = "") -> Condition:
        """Encode prompts for `predict`; with guidance the negative prompt, too, where the family is classifier-free."""
        twice = self.classifier_free and guidance is not None and guidance > UNGUIDED
        opposite = self._encode_negative([negative] * len(texts)) if twice else None
        return Condition(text=self._encode(texts), negative=opposite, guidance=guidance)

    @torch.no_grad()
    def encode_images(self, images: np.ndarray) -> Tensor:
        """uint8 images (B, H, W, 3) to latents (B, C, h, w): the autoencoder's means, standardized."""
        vae = self.use("vae")
        pixels = torch.from_numpy(images).to(self.device, vae.dtype).permute(0, 3, 1, 2) / 127.5 - 1
        return self._standardize(self._means(vae, pixels).float()).to(self.latents_dtype)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> np.ndarray:
        """Latents to uint8 images (B, H, W, 3)."""
        vae = self.use("vae")
        pixels = self._pixels(vae, self._destandardize(latents).to(vae.dtype))
        return ((pixels.float().clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()

    def _means(self, vae: Any, pixels: Tensor) -> Tensor:
        """The autoencoder's means (B, C, h, w) of pixels (B, 3, H, W) from -1 to 1."""
        means: Tensor = vae.encode(pixels).latent_dist.mean
        return means

    def _pixels(self, vae: Any, means: Tensor) -> Tensor:
        """The pixels that the autoencoder makes of means."""
        pixels: Tensor = vae.decode(means).sample
        return pixels

    def _standardize(self, means: Tensor) -> Tensor:
        """The autoencoder's means to latents, of about mean 0 and deviation 1: (means - shift) * scale."""
        config = self.vae.config
        return (means - (config.get("shift_factor") or 0.0)) * config.scaling_factor

    def _destandardize(self, latents: Tensor) -> Tensor:
        """Undo `_standardize`."""
        config = self.vae.config
        return latents / config.scaling_factor + (config.get("shift_factor") or 0.0)

    @property
    def classifier_free(self) -> bool:
        """Whether guidance means a second, empty prompt."""
        return True

    @property
    def compiled(self) -> bool:
        """Whether sampling runs a denoiser that torch.compile has compiled; steering runs it as it was written."""
        return self.parts[self.DENOISER] is not self.denoiser

    def from_pipeline(self, latents: Tensor) -> Tensor:
        """Return latents (B, C, h, w), float32, of those that diffusers' pipeline of this family has in its loop."""
        return latents.float()

    def to_pipeline(self, latents: Tensor) -> Tensor:
        """Undo `from_pipeline`, but for the type."""
        return latents

    def layers(self, softmax: str = "text") -> list[AttentionLayer]:
        """Return the layers in which image tokens attend to text, in the order the forward pass reaches them.

        Raises UserError for a kind of softmax that the family does not have.
        """
        self.require_softmax(softmax)
        return self._layers(joint=softmax == "joint")

    @classmethod
    def require_softmax(cls, softmax: str) -> None:
        """Raise UserError for a kind of softmax that the family does not have."""
        if softmax not in cls.SOFTMAXES:
            raise UserError(
                f"capture.softmax is {softmax!r}, but {cls.__name__} keeps text attention apart from the image's; "
                f"set it to {' or '.join(cls.SOFTMAXES)}"
            )

    def phrase_weights(self, prompts: Sequence[Phrases]) -> Tensor:
        """weights_BOK of the prompts' object phrases over this model's text tokens.

        Raises UserError for a phrase that the text window cuts off.
        """
        return self.weigh_phrases({name: self.parts[name] for name in self.PHRASES}, prompts).to(self.device)

    @classmethod
    @abstractmethod
    def weigh_phrases(cls, tokenizers: Mapping[str, Any], prompts: Sequence[Phrases]) -> Tensor:
        """weights_BOK of the prompts' object phrases, by the tokenizers of PHRASES alone, in the family's own window.

        Raises UserError for a phrase that the window cuts off.
        """

    @abstractmethod
    def schedule(self, steps: int) -> Schedule:
        """The deterministic sampler of `steps` steps."""

    @classmethod
    def solvers(cls) -> tuple[str, ...]:
        """The solvers that it can be sampled with, beside its own schedule."""
        return () if cls.FLOW else tuple(KINDS)

    def sampling(self, steps: int, solver: str | None = None) -> Sampling:
        """Return `steps` steps of a solver, one of `solvers`, or of the deterministic sampler."""
        if solver is None:
            return self.schedule(steps)
        return solver_of(self.parts["scheduler"], solver, steps)

    @abstractmethod
    def predict(self, latents: Tensor, timestep: float, condition: Condition) -> Tensor:
        """The model's raw prediction at a timestep, guided if the condition says so."""

    @abstractmethod
    def _encode(self, texts: list[str]) -> TextEncoding:
        """Encode prompts as they are, without guidance."""

    def _encode_negative(self, texts: list[str]) -> TextEncoding:
        """Encode negative prompts, where the family reads them otherwise than prompts."""
        return self._encode(texts)

    @abstractmethod
    def _layers(self, *, joint: bool) -> list[AttentionLayer]:
        """Return the layers of `layers`; `joint`: keys of text and image in one row, else of the text alone."""

    def _latent_shape(self, size: Size | None) -> tuple[int, int, int]:
        """Shape (C, h, w) of the latents of images of `size` pixels."""
        factor = self.pixels_per_latent(self.vae.config)
        channels: int = self.vae.config[self.LATENT_CHANNELS]
        natural = _stated_size(self.denoiser.config)
        if size is not None:
            require_multiples(size, factor * self.PATCH)
            height, width = sides(size)
            return channels, height // factor, width // factor
        if natural is None:
            raise UserError(
                f"backbone.size is not set, and this {type(self.denoiser).__name__} has no size of its own; "
                "set it, in pixels"
            )
        return channels, *sides(natural)


def _stated_size(denoiser: Mapping[str, Any]) -> Size | None:
    """Return the size of the latents that a denoiser was trained for, by its settings, if they tell."""
    stated = denoiser.get("sample_size")
    return size_of(*stated) if isinstance(stated, (list, tuple)) else stated


def require_multiples(size: Size, unit: int) -> None:
    """Raise UserError for an image size, pixels, whose sides are not multiples of `unit`; it names the nearest ones."""
    given = sides(size)
    if not any(side % unit for side in given):
        return
    square = isinstance(size, int)
    below = [max(side // unit, 1) * unit for side in given]
    above = [-(-side // unit) * unit for side in given]
    near = [below] if below == above else [below, above]
    names = [str(each[0] if square else each) for each in near]
    raise UserError(
        f"backbone.size is {size if square else list(given)}; it must be a multiple of {unit} pixels for this model"
        f"{'' if square else ', both ways'}; near it: {', '.join(names)}"
    )


def window(tokenizer: PreTrainedTokenizerBase, length: int) -> int:
    """Return the tokens that a text gets: a family's `length`, or fewer where the tokenizer has a narrower window."""
    return min(length, tokenizer.model_max_length)


def token_ids(tokenizer: PreTrainedTokenizerBase, texts: list[str], length: int | None = None) -> Tensor:
    """Return token ids (B, K), padded and cut to `length`, by default the tokenizer's window."""
    return tokenized(tokenizer, texts, length)[0]


def tokenized(
    tokenizer: PreTrainedTokenizerBase,
    texts: list[str],
    length: int | None = None,
    *,
    padding: Literal["max_length", "longest"] = "max_length",
    padding_side: Literal["right", "left"] | None = None,
    special: bool = True,
) -> tuple[Tensor, Tensor]:
    """Return token ids (B, K), padded and cut to `length`, by default the tokenizer's window, and their mask (B, K).

    They are padded to the `longest` of the texts alone where `padding` says so; `padding_side` is the tokenizer's own
    where it is not given. The tokenizer adds no `special` tokens to a chat, whose template has them.
    """
    tokens = length or tokenizer.model_max_length
    read = [expanded(tokenizer, text)[0] for text in texts]
    encoded = tokenizer(
        read,
        padding=padding,
        padding_side=padding_side,
        max_length=tokens,
        truncation=True,
        add_special_tokens=special,
        return_tensors="pt",
    )
    return encoded.input_ids, encoded.attention_mask


def chat_template(tokenizer: PreTrainedTokenizerBase, **options: object) -> Template:
    """Return what a chat's model reads of a text: the user says it, and the answer is about to begin."""

    def fill(text: str) -> str:
        said = [{"role": "user", "content": text}]
        return str(tokenizer.apply_chat_template(said, tokenize=False, add_generation_prompt=True, **options))

    return fill
