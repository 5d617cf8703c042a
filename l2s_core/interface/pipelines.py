"""A pipeline of diffusers that somebody has loaded, as a backbone."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from l2s_core.backbones.given_images import has_adapter, require_readable
from l2s_core.backbones.group_offload import groups_of
from l2s_core.backbones.load import family_named
from l2s_core.backbones.lora import active_digest
from l2s_core.backbones.model import DiffusersModel, Placement
from l2s_core.backbones.textual_inversion import added_digest
from l2s_core.backbones.unet import UNetBackbone
from l2s_core.errors import UserError
from l2s_core.registry import FAMILIES
from l2s_core.sizes import Size

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

TORCH_AO = "torch.ao.nn."
GGUF = "diffusers.quantizers.gguf.utils"
IN_MEMORY = "pipeline"  # instead of a fingerprint: of weights in memory there are no files


def backbone_of(pipeline: DiffusionPipeline, size: Size | None = None) -> DiffusersModel:
    """Return the backbone of a loaded pipeline, which shares its modules: LoRAs, dtype, offload and quantisation stay.

    `size` is that of images in pixels, by default the denoiser's own. The modules are set to evaluation, and their
    weights ask for no gradient any more. Of the scheduler the settings are used, by the family's own deterministic
    sampler (DDIM, or Euler along a flow). LoRAs that are active, and not merged, and new tokens are part
    of the fingerprint. A ControlNet and IP-Adapters act on every pass, steering's too, once the images that they want
    are `given`.

    A module that torch.compile has compiled has the layers, and the fingerprint, of the module that it was made of.
    Plain steps run compiled; passes that read attention, so all with gradients, run the module as it was written.

    Raises UserError for a pipeline of no known family.
    """
    for name in FAMILIES.names():
        family = family_named(name)
        parts = {part: getattr(pipeline, part, None) for part in family.COMPONENTS}
        if all(component.fits(parts[part]) for part, component in family.COMPONENTS.items()):
            parts = {part: component.of_pipeline(parts[part]) for part, component in family.COMPONENTS.items()}
            scheduler = family.COMPONENTS["scheduler"].kind
            parts["scheduler"] = scheduler.from_config(pipeline.scheduler.config)
            placement = Placement(device=str(_device(pipeline)), in_place=True)
            settings = dict(pipeline.config)
            model = family(parts, fingerprint=IN_MEMORY, size=size, placement=placement, settings=settings)
            added = active_digest(model.modules.values()), added_digest(parts, family.TOKEN_VECTORS)
            _take_images(model, pipeline)
            model.fingerprint = " ".join([IN_MEMORY, *filter(None, added)])
            return model
    raise UserError(
        f"a {type(pipeline).__name__} is of no family that can be steered; allowed: {', '.join(FAMILIES.names())} "
        "(l2s_core/backbones/README.md says how to add one)"
    )


def _take_images(model: DiffusersModel, pipeline: DiffusionPipeline) -> None:
    """Let a pipeline's ControlNet and IP-Adapter act on a model; raises UserError for those that cannot."""
    if getattr(pipeline, "controlnet", None) is None and not has_adapter(pipeline):
        return
    if not isinstance(model, UNetBackbone):
        raise UserError(
            f"the ControlNet or IP-Adapter of a {type(pipeline).__name__} is not read; allowed: those of Stable "
            "Diffusion 1, 2 and XL, or the pipeline without them"
        )
    require_readable(pipeline)
    model.pipeline = pipeline


def require_gradient(network: nn.Module) -> None:
    """Raise UserError for a network through which no gradient reaches the latents: quantised, or offloaded in streams.

    It reaches them through weights that torchao has quantised, and those of a GGUF file. It does not through modules of
    torch.ao, nor through weights that diffusers keeps as float8 between the passes, nor through its CUDA kernels for
    GGUF, whose results it cuts off. Group offload with streams may give a block's memory to another one while the
    gradient still reads it.
    """
    kinds = (f"{type(module).__module__}.{type(module).__name__}" for module in network.modules())
    without = [kind for kind in kinds if kind.startswith(TORCH_AO)]
    without += [str(p.dtype) for p in network.parameters() if type(p) is nn.Parameter and _is_float8(p.dtype)]
    if without:
        raise UserError(
            f"no gradient passes the quantised weights of this {type(network).__name__} ({without[0]}), so it cannot "
            "be steered; quantise it with torchao, as TorchAoConfig(Int8WeightOnlyConfig()), or ask for steer=False"
        )
    if any(_in_gguf_kernels(module) for module in network.modules()):
        raise UserError(
            f"no gradient passes the CUDA kernels for the GGUF weights of this {type(network).__name__}, so it cannot "
            "be steered; unset DIFFUSERS_GGUF_CUDA_KERNELS, or ask for steer=False"
        )
    if any(group.stream is not None for group in groups_of(network)):
        raise UserError(
            f"group offload with streams may take the weights of this {type(network).__name__} away while the gradient "
            "reads them, so it cannot be steered; leave use_stream out, or ask for steer=False"
        )


def _in_gguf_kernels(module: nn.Module) -> bool:
    library: Any = sys.modules.get(GGUF)
    return library is not None and library.ops is not None and isinstance(module, library.GGUFLinear)


def _is_float8(dtype: torch.dtype) -> bool:
    return dtype.is_floating_point and dtype.itemsize == 1


def _device(pipeline: DiffusionPipeline) -> object:
    """Return where the pipeline computes; with offload that is not where its modules wait."""
    return getattr(pipeline, "_execution_device", pipeline.device)
