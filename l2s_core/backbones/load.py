"""From a configuration to a loaded backbone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch

from l2s_core.attention.layers import select_layers
from l2s_core.backbones.additions import addition_file, fingerprint_with, token_digests
from l2s_core.backbones.component import Component
from l2s_core.backbones.folder import INDEX, fingerprint_of, index_settings, resolve_folder
from l2s_core.backbones.lora import merge
from l2s_core.backbones.model import DiffusersModel, Placement
from l2s_core.backbones.textual_inversion import SETTING, Vectors, add_tokens, add_vectors, require_widths
from l2s_core.config import BackboneConfig, RunConfig
from l2s_core.errors import UserError
from l2s_core.hashing import digest
from l2s_core.prompts.prompt import Phrases
from l2s_core.registry import FAMILIES
from l2s_core.sizes import Size


def family_named(name: str) -> type[DiffusersModel]:
    """Return the adapter class of a family; raises UserError for an unknown one."""
    family = FAMILIES.load(name)
    if not (isinstance(family, type) and issubclass(family, DiffusersModel)):
        raise UserError(f"the {FAMILIES.kind} {name!r} is no subclass of DiffusersModel; mend or uninstall its package")
    return family


def require_fit(config: RunConfig) -> None:
    """Raise UserError for settings of a run that its backbone's family does not go with; loads no weights."""
    family = family_named(config.backbone.family)
    if config.inversion.method == "rectified-flow" and not family.FLOW:
        raise UserError(
            f"inversion.method rectified-flow needs a flow model ({', '.join(_families(lambda each: each.FLOW))}), "
            f"not family {config.backbone.family}"
        )
    if family.RENOISES and config.inverts and not config.inversion.noises_alone:
        raise UserError(
            f"family {config.backbone.family} draws fresh noise at every step, so no noise leads back to a scene; set "
            "inversion.method to rectified-flow with gamma and eta of 1, which noises scenes, or classifier.maps to "
            "trajectories"
        )
    family.require_softmax(config.capture.softmax)
    _token_vectors(config.backbone)
    if config.backbone.solver is not None and config.backbone.solver not in family.solvers():
        raise UserError(
            f"backbone.solver is {config.backbone.solver}, but family {config.backbone.family} is sampled by "
            f"{' or '.join(family.solvers()) or 'Euler steps alone'}; leave the setting out"
        )


def _token_vectors(config: BackboneConfig) -> Mapping[str, Vectors]:
    """Return where the family has the vectors of new tokens; raises UserError where it needs them and has none."""
    places = family_named(config.family).TOKEN_VECTORS
    if config.textual_inversion and not places:
        raise UserError(
            f"{SETTING} is for {', '.join(_families(lambda family: bool(family.TOKEN_VECTORS)))}, "
            f"not for family {config.family}; leave it out"
        )
    return places


def _families(test: Callable[[type[DiffusersModel]], bool]) -> list[str]:
    """Return the names of the families that pass a test, without plugins that cannot be used."""
    found = []
    for name in FAMILIES.names():
        try:
            if test(family_named(name)):
                found.append(name)
        except UserError:
            continue
    return found


def pick_device(wanted: str) -> str:
    """Return the device for "auto", "cpu" or "cuda"; raises UserError for CUDA where there is none."""
    available = torch.cuda.is_available()
    if wanted == "cuda" and not available:
        raise UserError("device: cuda, but torch sees no CUDA device here; set device to cpu or auto")
    return ("cuda" if available else "cpu") if wanted == "auto" else wanted


def model_folder(config: BackboneConfig) -> Path:
    """Return the model's folder; raises UserError, naming its mirrors, when it is missing or incomplete."""
    try:
        return resolve_folder(config.model, family_named(config.family).COMPONENTS, config.precision)
    except UserError as error:
        if not config.mirrors or config.model in config.mirrors:
            raise
        raise UserError(
            f"{error}; mirrors of it: {', '.join(config.mirrors)} (--set backbone.model={config.mirrors[0]})"
        ) from None


def model_fingerprint(config: BackboneConfig) -> str:
    """Return the fingerprint of the model with what is added to it, not loaded; raises UserError for other files."""
    return fingerprint_with(files_fingerprint(config), config)


def files_fingerprint(config: BackboneConfig) -> str:
    """Return the fingerprint of the model's files without loading them; raises UserError for files of another one."""
    folder = model_folder(config)
    found = fingerprint_of(folder, family_named(config.family).COMPONENTS, config.precision)
    if config.fingerprint not in (None, found):
        raise UserError(
            f"the files in {folder} have the fingerprint {found}, but backbone.fingerprint is {config.fingerprint}; "
            "fetch the files that were meant, or leave the setting out to take these"
        )
    return found


def image_size(config: BackboneConfig) -> Size:
    """Return the size of a run's images in pixels; raises UserError when neither the run nor the model says."""
    size = config.size or family_named(config.family).natural_size(model_folder(config))
    if size is None:
        raise UserError(f"backbone.size is not set, and {config.model} has no image size of its own; set it, in pixels")
    return size


def window_fingerprint(config: BackboneConfig) -> str:
    """Return a digest of the files of the tokenizers that phrases are looked up in, and of tokens added to them."""
    folder = model_folder(config)
    found = [fingerprint_of(folder / name) for name in family_named(config.family).PHRASES]
    tokens = token_digests(config)
    return digest([found, tokens] if tokens else found)


def phrase_check(config: BackboneConfig) -> Callable[[Sequence[Phrases]], None]:
    """Return a check that raises UserError for a prompt with a phrase that the model's text window cuts off.

    It loads the model's tokenizers alone, when it first has a prompt to check.
    """

    family = family_named(config.family)

    @cache
    def tokenizers() -> dict[str, Any]:
        folder = model_folder(config)
        found = {name: family.COMPONENTS[name].load(folder / name) for name in family.PHRASES}
        add_tokens(found, config.textual_inversion, _token_vectors(config))
        return found

    def check(prompts: Sequence[Phrases]) -> None:
        if prompts:
            family.weigh_phrases(tokenizers(), prompts)

    return check


def load_backbone(config: BackboneConfig, device: str) -> DiffusersModel:
    """Load the backbone that `config` names onto `device`; raises UserError for files of another fingerprint."""
    places = _token_vectors(config)
    if config.fingerprint is not None:
        files_fingerprint(config)
    model = family_named(config.family).from_pretrained(
        config.model, size=config.size, placement=placement_of(config, device)
    )
    index = model_folder(config) / INDEX
    if config.lora:
        merge(model.parts, index, config.lora)
    if config.textual_inversion:
        add_vectors(model.parts, index, config.textual_inversion, places)
    model.fingerprint = fingerprint_with(model.files_fingerprint, config)
    return model


def check_backbone(config: BackboneConfig) -> DiffusersModel:
    """Return the backbone as `load_backbone` would, from the same files, without its weights' values (device "meta").

    Raises UserError as `load_backbone` does, but for layers of LoRAs that the model has not.
    """
    places = _token_vectors(config)
    for lora in config.lora:
        addition_file(lora)
    model = _on_meta(config, lambda component, folder: component.check(folder, precision=config.precision))
    require_widths(model.parts, config.textual_inversion, places)
    add_tokens(model.parts, config.textual_inversion, places)
    return model


def backbone_without_weights(config: BackboneConfig, *, fingerprint: str = "") -> DiffusersModel:
    """Return the backbone of a model's folder with shapes and no weights (device "meta"); raises UserError."""
    return _on_meta(config, lambda component, folder: component.empty(folder), fingerprint)


def _on_meta(config: BackboneConfig, make: Callable[[Component, Path], Any], fingerprint: str = "") -> DiffusersModel:
    family = family_named(config.family)
    folder = model_folder(config)
    parts = {name: make(component, folder / name) for name, component in family.COMPONENTS.items()}
    return family(
        parts,
        fingerprint=fingerprint,
        size=config.size,
        placement=Placement(device="meta"),
        settings=index_settings(folder),
    )


def require_reach(model: DiffusersModel, config: RunConfig) -> None:
    """Raise UserError where the run's steps, negative prompt or captured layers are none of a model's."""
    model.schedule(config.backbone.steps)
    if config.backbone.negative and not model.classifier_free:
        raise UserError(
            f"backbone.negative is {config.backbone.negative!r}, but this model's guidance is an input of it and needs "
            "no second prompt; leave it out"
        )
    select_layers(model.layers(config.capture.softmax), config.capture.layers)


def placement_of(config: BackboneConfig, device: str) -> Placement:
    """Return where and how a configuration puts its model."""
    return Placement(
        device=device,
        dtype=getattr(torch, config.dtype),
        latents_dtype=getattr(torch, config.latents_dtype),
        precision=config.precision,
        offload=config.offload,
        checkpointing=config.checkpointing,
        vae_slicing=config.vae_slicing,
    )
