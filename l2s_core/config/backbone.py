"""Which text-to-image model, how it is sampled, and how it fits into memory."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from l2s_core.config.base import Section
from l2s_core.registry import FAMILIES
from l2s_core.sizes import Size, size_of

Family = Annotated[str, AfterValidator(FAMILIES.known)]
"""The name of a backbone family, one of the table FAMILIES."""
Scale = Literal["full", "tiny"]
"""The size of a randomly initialised model: the architecture's own, or one of the same shape for tests."""


SIDES = range(16, 4097)  # pixels


def _image_size(value: Any) -> Size | None:
    """Return a setting of the images' size: a square's is one number, however it is written."""
    if value is None:
        return None
    given = tuple(value) if isinstance(value, (list, tuple)) else (value, value)
    if len(given) != 2 or any(isinstance(side, bool) or side not in SIDES for side in given):
        raise ValueError(f"allowed: {SIDES[0]} to {SIDES[-1]} pixels, or two such numbers, [height, width]")
    height, width = map(int, given)
    return size_of(height, width)


class LoraConfig(Section):
    """LoRA weights that are merged into the model's, times a scale."""

    SETTING: ClassVar[str] = "backbone.lora"
    path: str = Field(description="a .safetensors file, or a folder that holds one")
    scale: float = Field(default=1.0, ge=-10, le=10)


class TextualInversionConfig(Section):
    """A new token of the text encoders, and the vectors that were learned for it."""

    SETTING: ClassVar[str] = "backbone.textual_inversion"
    OPTIONAL: ClassVar[tuple[str, ...]] = ("shows",)
    path: str = Field(description="a .safetensors file, or a folder that holds one")
    token: str = Field(
        max_length=100,
        pattern=r"^(<\w+(-\w+)*>|\w+(-\w+)*)$",
        description="what prompts call it: a word, best in angle brackets, as <my-dog>",
    )
    shows: str | None = Field(
        default=None, min_length=1, max_length=100, description="the object that it is, for judges of images, as dog"
    )


class BackboneConfig(Section):
    """Which text-to-image model, how it is sampled, and how it fits into memory."""

    OPTIONAL: ClassVar[tuple[str, ...]] = (
        "fingerprint",
        "mirrors",
        "latents_dtype",
        "lora",
        "textual_inversion",
        "negative",
        "solver",
    )
    model: str = Field(description="a shipped name, a folder in diffusers' layout, or a hub id")
    fingerprint: str | None = Field(
        default=None,
        pattern="^[0-9a-f]{16}$",
        description="of the files that the model must have, as 'l2s doctor' shows it; default: any",
    )
    mirrors: tuple[str, ...] = Field(default=(), description="hub ids that are said to hold the same files")
    lora: tuple[LoraConfig, ...] = Field(default=(), description="weights that are merged into the model's")
    textual_inversion: tuple[TextualInversionConfig, ...] = Field(
        default=(), description="new tokens of the text encoders, which prompts may name"
    )
    family: Family
    size: Annotated[Size | None, BeforeValidator(_image_size)] = Field(
        default=None, description="side of the images, pixels, or [height, width]; default: the model's own"
    )
    steps: int = Field(ge=2, le=1000)
    solver: Literal["dpm++", "unipc"] | None = Field(
        default=None, description="of sampling; default: the family's, DDIM or Euler, with which images are inverted"
    )
    guidance: float = Field(ge=0, le=30, description="1 or less is none, unless the model has it as an input")
    negative: str = Field(
        default="", max_length=2000, description="the prompt that classifier-free guidance leads away from"
    )
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    latents_dtype: Literal["float32", "bfloat16", "float16"] = Field(
        default="float32", description="of the latents between passes of the model, and of the updates of steering"
    )
    architecture: str | None = Field(
        default=None, description="name in configs/architectures, for rehearsals and estimates without the weights"
    )
    precision: str | None = Field(default=None, description="suffix of the weight files, as in fp16")
    offload: bool = Field(default=False, description="keep only the component in use on the device")
    checkpointing: bool = Field(
        default=False, description="recompute activations in the steering gradient instead of keeping them"
    )
    vae_slicing: bool = Field(default=False, description="decode one image at a time")

    @model_validator(mode="after")
    def _negative_acts(self) -> BackboneConfig:
        if self.negative and self.guidance <= 1:
            raise ValueError(f"negative has no effect with guidance {self.guidance:g}; set guidance above 1")
        return self
