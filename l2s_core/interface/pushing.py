"""A classifier on the Hugging Face hub. Nothing else in the project sends anything anywhere."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePath
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from l2s_core.backbones.hub import HUB_ID
from l2s_core.config import RunConfig, validate
from l2s_core.errors import UserError, first_line
from l2s_core.interface.saving import save, settings_of

if TYPE_CHECKING:
    from l2s_core.interface.model import SteeredModel


def push(model: SteeredModel, repo: str, *, private: bool = True) -> str:
    """Upload what `save` writes to the hub, as the model OWNER/NAME; return its address.

    The repository is made where there is none, private unless asked otherwise; one that is there stays as it is, but
    for these files. Settings that name a place on this machine are uploaded with the last part of its path alone.
    `load` then takes the id as a classifier. Raises UserError for a model without a classifier, an id that is none,
    where the hub may not be asked (HF_HUB_OFFLINE), without a token, and where the hub refuses.
    """
    if not HUB_ID.fullmatch(repo):
        raise UserError(f"repo is {repo!r}; give OWNER/NAME, as 'me/relations-sd21'")
    from huggingface_hub import HfApi, constants, get_token
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, HTTPError

    if constants.HF_HUB_OFFLINE:
        raise UserError(
            f"{repo} is not uploaded: the hub is off, as by default here; set HF_HUB_OFFLINE=0 before Python starts"
        )
    if get_token() is None:
        raise UserError(f"{repo} is not uploaded: there is no token of the hub; log in with 'hf auth login'")
    with TemporaryDirectory(prefix="l2s-push-") as folder:
        save(_without_places(model), folder, place=repo)
        try:
            api = HfApi()
            address = api.create_repo(repo, private=private, exist_ok=True)
            api.upload_folder(repo_id=repo, folder_path=folder, commit_message="A classifier of relations")
        except HFValidationError as error:
            raise UserError(f"repo is {repo!r}: {first_line(error)}") from None
        except (HfHubHTTPError, HTTPError, OSError) as error:
            raise UserError(
                f"cannot upload {repo}: {first_line(error)}; check the connection, and that the token may write there"
            ) from None
    return str(address)


def _without_places(model: SteeredModel) -> SteeredModel:
    """Return the model with settings that say nothing of this machine's folders."""
    settings = _names(settings_of(model.run).model_dump(mode="json"))
    return replace(model, run=validate(RunConfig, settings, "the model's settings"))


def _names(value: Any) -> Any:
    """Return a value of JSON in which every absolute path is its last part."""
    if isinstance(value, dict):
        return {key: _names(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_names(one) for one in value]
    return PurePath(value).name if isinstance(value, str) and Path(value).is_absolute() else value
