"""Models from the Hugging Face hub: the local cache, and the network only where the user allows it."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

from l2s_core.backbones.precision import LOADED, precisions, weight_patterns
from l2s_core.errors import UserError, first_line
from l2s_core.storage.files import file_digest

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def hub_folder(
    model: str, components: Collection[str] = (), *, index: str = "model_index.json", precision: str | None = None
) -> Path | None:
    """Return the snapshot folder of a hub id, or None for what is no hub id or is not to be had.

    With HF_HUB_OFFLINE=0 the snapshot is completed first, with the weights of `precision` alone, or the plain ones of a
    component that has none of it: nothing in the cache says that a download was interrupted. Raises UserError for a
    model whose licence must be accepted first, and for a download that failed.
    """
    if not HUB_ID.fullmatch(model):
        return None
    from huggingface_hub import constants, snapshot_download, try_to_load_from_cache
    from huggingface_hub.errors import GatedRepoError, HFValidationError, HTTPError, RepositoryNotFoundError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(model)
    except HFValidationError:  # e.g. "../.."
        return None

    if constants.HF_HUB_OFFLINE:
        found = try_to_load_from_cache(model, index)
        return Path(found).parent if isinstance(found, str) else None

    def fetch(names: Collection[str], precision: str | None) -> Path:
        folders = [f"{name}/" for name in names] or [""]
        weights, others = weight_patterns(precision)
        others_loaded = [f"*{suffix}" for suffix in LOADED if suffix != ".safetensors"]
        wanted = [index, *(f"{folder}{name}" for folder in folders for name in (*others_loaded, *weights))]
        return Path(snapshot_download(model, allow_patterns=wanted, ignore_patterns=others))

    try:
        folder = fetch(components, precision)
        plain = [name for name in components if precision is not None and precision not in precisions(folder / name)]
        return fetch(plain, None) if plain else folder
    except GatedRepoError:
        raise UserError(
            f"{model} is gated: accept its licence at https://huggingface.co/{model}, "
            "log in with 'hf auth login', and run again"
        ) from None
    except RepositoryNotFoundError:
        raise UserError(
            f"the hub has no model {model!r}, or it is private; check the id, or log in with 'hf auth login'"
        ) from None
    except (HTTPError, OSError) as error:  # of the hub, of the connection on the way, of the disk
        raise UserError(
            f"cannot fetch {model} from the hub: {first_line(error)}; check the connection, or give a local folder"
        ) from None


def content_digest(path: Path) -> str:
    """Return the digest of a file's bytes; the hub's cache names large files by it, so these are not read."""
    name = path.resolve().name
    return name[:16] if path.is_symlink() and _SHA256.fullmatch(name) else file_digest(path)
