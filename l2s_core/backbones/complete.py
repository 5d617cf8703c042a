"""Whether a folder has all of a model.

The libraries make up what is missing: weights at random, and empty vocabularies.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch

from l2s_core.backbones.precision import is_loaded, precisions
from l2s_core.errors import UserError
from l2s_core.storage.files import read_json
from l2s_core.storage.sealed import readable
from l2s_core.storage.store import FETCH_AGAIN, opened_weights, require_finite

VOCABULARIES = (
    ("tokenizer.json",),
    ("vocab.txt",),
    ("vocab.json", "merges.txt"),
    ("spiece.model",),
)  # the files of one are enough

PICKLED = ("*.bin", "*.ckpt", "*.pt", "*.pth")


def require_vocabulary(folder: Path) -> None:
    """Raise UserError for the folder of a tokenizer without its vocabulary."""
    if not any(all((folder / name).is_file() for name in files) for files in VOCABULARIES):
        raise UserError(
            f"{folder} has no vocabulary; "
            f"needed: {', or '.join(' and '.join(files) for files in VOCABULARIES)}; fetch it again"
        )


def require_weights(folder: Path, kind: str, missing: Collection[str]) -> None:
    """Raise UserError where weights of a model of class `kind` are missing from its folder."""
    if missing:
        raise UserError(f"{folder} lacks {len(missing)} weights of a {kind}, as {min(missing)}; fetch it again")


def load_complete(kind: str, folder: Path, device: str = "cpu") -> Any:
    """Return a model of class `kind` of transformers, in float32 and evaluation mode, from safetensors alone.

    The network is not asked. Raises UserError for one whose weights are not all in its folder, or not finite.
    """
    import transformers

    model, info = getattr(transformers, kind).from_pretrained(
        folder, use_safetensors=True, output_loading_info=True, local_files_only=True
    )
    require_weights(folder, kind, info["missing_keys"])
    require_finite(model.state_dict(), folder, FETCH_AGAIN)
    return model.float().to(device).eval()


def require_files(folder: Path, precision: str | None) -> None:
    """Raise UserError for a component without weights of a precision in safetensors; it says the way out."""
    if precision not in precisions(folder):
        raise UserError(f"{folder} has no {precision or 'plain'} safetensors file; {_other_weights(folder)}")


def stored_dtype(folder: Path, precision: str | None = None) -> torch.dtype:
    """Return the type of the first weights of a component, which has some."""
    file = min(path for path in folder.glob("*.safetensors") if is_loaded(path.name, precision))
    with opened_weights(file) as stored:
        types = (stored.get_tensor(name).dtype for name in stored.keys())  # noqa: SIM118  # mapped, and not read
        return next(kind for kind in types if kind.is_floating_point)


def _other_weights(folder: Path) -> str:
    """Return the way out for a component without the weights that are wanted, by those that are there."""
    others = sorted(name for name in precisions(folder) if name is not None)
    if others:
        return f"set backbone.precision to {' or '.join(others)}, which it has"
    pickled = sorted(path.name for pattern in PICKLED for path in folder.glob(pattern))
    if pickled:
        return (
            f"it has {pickled[0]}, which may run code when it is read; fetch safetensors, or make them where "
            "it is trusted: diffusers' DiffusionPipeline.from_pretrained(OLD).save_pretrained(NEW)"
        )
    return "the file is missing, fetch it again"


def missing_from_shards(index: Path) -> set[str]:
    """Return the weights that an index of shards names and its files do not hold.

    Diffusers, unlike transformers, takes the index's word for them.
    """
    with readable(index, "index of weights", FETCH_AGAIN):
        named: dict[str, str] = dict(read_json(index)["weight_map"])
    held: set[str] = set()
    for name in set(named.values()):
        with opened_weights(index.parent / name) as stored:
            held.update(stored.keys())
    return set(named) - held
