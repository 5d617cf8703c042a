"""Images that a pipeline of Stable Diffusion is given with a call: a ControlNet's, and those of IP-Adapters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from l2s_core.diffusion.condition import Condition, TextEncoding
from l2s_core.errors import UserError

CONTROL = "control"  # what a ControlNet looks at, (B, 3, H, W)
ADAPTER = "adapter."  # + number: what an IP-Adapter has made of its images, (B, images, D)


@dataclass(frozen=True, kw_only=True)
class GivenImages:
    """The images of a call, as the UNet and the ControlNet get them: the same for every image that is made.

    `adapters` are of the prompt, `opposites` what classifier-free guidance leads away from.
    """

    controlnet: nn.Module | None = None
    scale: float = 1.0
    control: Tensor | None = None
    adapters: tuple[Tensor, ...] = ()
    opposites: tuple[Tensor, ...] = ()

    @classmethod
    def of(cls, pipeline: Any, sides: tuple[int, int], control: Any, adapter: Any, scale: float) -> GivenImages:
        """Read images as the pipeline itself does, for images of `sides` (height, width) pixels.

        Raises UserError where one is missing.
        `control` and `adapter` are what its calls take: images, or lists of them.
        """
        controlnet = getattr(pipeline, "controlnet", None)
        _require_given("control_image", "a ControlNet", wanted=controlnet is not None, given=control is not None)
        adapted = has_adapter(pipeline)
        _require_given("ip_adapter_image", "an IP-Adapter", wanted=adapted, given=adapter is not None)
        device = pipeline._execution_device
        found = cls(controlnet=controlnet, scale=scale)
        if controlnet is not None:
            kind = next(controlnet.parameters()).dtype
            height, width = sides
            image = pipeline.prepare_image(control, width, height, 1, 1, device, kind)
            found = replace(found, control=image)
        if adapted:
            pairs = [both.chunk(2) for both in pipeline.prepare_ip_adapter_image_embeds(adapter, None, device, 1, True)]
            opposites, adapters = zip(*pairs, strict=True)
            found = replace(found, adapters=adapters, opposites=opposites)
        return found

    def added_to(self, condition: Condition) -> Condition:
        """Return a condition whose texts have the images beside them."""
        negative = condition.negative
        return replace(
            condition,
            text=self._beside(condition.text, self.adapters),
            negative=None if negative is None else self._beside(negative, self.opposites),
        )

    def _beside(self, text: TextEncoding, adapters: tuple[Tensor, ...]) -> TextEncoding:
        images = {f"{ADAPTER}{number}": image for number, image in enumerate(adapters)}
        if self.control is not None:
            images[CONTROL] = self.control
        rows = len(text.context_BKD)
        return replace(text, beside={name: image.expand(rows, *image.shape[1:]) for name, image in images.items()})

    def inputs(
        self, latents: Tensor, timestep: float, text: TextEncoding, added: Mapping[str, Tensor] | None
    ) -> dict[str, Any]:
        """Return what the UNet gets beside latents, time and words; `added` is what it wants of the text anyway."""
        inputs: dict[str, Any] = {"added_cond_kwargs": added}
        if self.controlnet is not None:
            down, middle = self.controlnet(
                latents,
                timestep,
                encoder_hidden_states=text.context_BKD,
                controlnet_cond=text.beside[CONTROL],
                conditioning_scale=self.scale,
                added_cond_kwargs=added,
                return_dict=False,
            )
            inputs |= {"down_block_additional_residuals": down, "mid_block_additional_residual": middle}
        if self.adapters:
            seen = [text.beside[f"{ADAPTER}{number}"] for number in range(len(self.adapters))]
            inputs["added_cond_kwargs"] = {**(added or {}), "image_embeds": seen}
        return inputs


def has_adapter(pipeline: Any) -> bool:
    """Whether an IP-Adapter is loaded into a pipeline's UNet, or another one's transformer."""
    parts = (getattr(pipeline, name, None) for name in ("unet", "transformer"))
    return any(
        getattr(part, "encoder_hid_proj", None) is not None or getattr(part, "image_proj", None) is not None
        for part in parts
    )


def require_readable(pipeline: Any) -> None:
    """Raise UserError for a ControlNet that is not read here: several at once, or one for the guided half alone."""
    controlnet = getattr(pipeline, "controlnet", None)
    if controlnet is None:
        return
    kind = type(controlnet).__name__
    if kind != "ControlNetModel" or controlnet.config.global_pool_conditions:
        raise UserError(
            f"this pipeline's {kind} is not read; allowed: one ControlNetModel without global_pool_conditions"
        )


def _require_given(name: str, what: str, *, wanted: bool, given: bool) -> None:
    if wanted and not given:
        raise UserError(f"this pipeline has {what}; give its image with the call, as {name}=…")
    if given and not wanted:
        raise UserError(f"{name} is given, but this model has not {what}; leave it out")
