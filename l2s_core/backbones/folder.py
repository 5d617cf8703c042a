"""Finding a model's folder in diffusers' layout, writing one, and telling two apart; safetensors only."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from l2s_core.backbones.hub import content_digest, hub_folder
from l2s_core.backbones.precision import is_loaded, precision_there
from l2s_core.config.loading import is_file
from l2s_core.errors import UserError
from l2s_core.hashing import digest
from l2s_core.storage.files import read_json, write_json
from l2s_core.storage.manifest import require_listed

SHIPPED = Path(__file__).parents[1] / "miniworld" / "assets"
INDEX = "model_index.json"


def resolve_folder(model: str, components: Collection[str], precision: str | None = None) -> Path:
    """Return the local folder of a model: a shipped name, a path, or a hub id (from the local cache, or fetched).

    Fetching needs HF_HUB_OFFLINE=0 in the environment, and is of the weights of `precision` alone. Raises UserError
    saying where it looked when there is none, or which component is missing.
    """
    names = sorted(p.parent.name for p in SHIPPED.glob(f"*/{INDEX}"))
    allowed = f"a shipped model ({', '.join(names) or 'none'}), a folder with {INDEX}"
    folder = find_folder("model", model, INDEX, components, allowed, precision)
    missing = [name for name in components if not (folder / name).is_dir()]
    if missing:
        raise UserError(
            f"{folder} is not a complete model of this family: it has no {missing[0]}/; "
            "download it again or change backbone.family"
        )
    return folder


def find_folder(
    what: str, model: str, index: str, components: Collection[str], allowed: str, precision: str | None = None
) -> Path:
    """Return the folder of a shipped name, a path or a hub id that holds the file `index`.

    Raises UserError saying where it looked, `allowed` says what else it could have been; and for a shipped one that is
    damaged.
    """
    looked = [SHIPPED / model, Path(model)]
    folder = next((path for path in looked if is_file(path / index)), None) or hub_folder(
        model, components, index=index, precision=precision
    )
    if folder is None:
        raise UserError(
            f"no {what} {model!r}: looked in {', '.join(map(str, looked))} and the local hub cache; "
            f"allowed: {allowed}, or a hub id (HF_HUB_OFFLINE=0 fetches one that is not in the cache)"
        )
    if folder.resolve().is_relative_to(SHIPPED.resolve()):
        require_listed(SHIPPED, folder)
    return folder


def save_pipeline(
    folder: Path, pipeline: str, parts: Mapping[str, Any], absent: Collection[str] = (), **settings: object
) -> None:
    """Write a model in diffusers' folder layout, so that `pipeline`.from_pretrained(folder) loads it.

    The components `absent` are listed as none. No file says where its component was loaded from, or how a tokenizer was
    called last: that is of this process alone, and would be part of the fingerprint.
    """
    index: dict[str, object] = {"_class_name": pipeline, **settings}
    for name, part in parts.items():
        if (tokenizer := getattr(part, "backend_tokenizer", None)) is not None:
            tokenizer.no_truncation()
            tokenizer.no_padding()
        part.save_pretrained(folder / name)
        for path in (folder / name).glob("*config.json"):
            write_json(path, {key: value for key, value in read_json(path).items() if key != "_name_or_path"})
        index[name] = [type(part).__module__.split(".")[0], type(part).__name__]
    write_json(folder / INDEX, index | {name: [None, None] for name in absent})


def index_settings(folder: Path) -> dict[str, Any]:
    """Return the settings of a model as a whole: what its index says beside the components."""
    index: dict[str, Any] = read_json(folder / INDEX)
    return {name: value for name, value in index.items() if not name.startswith("_") and not isinstance(value, list)}


def shipped_classifiers() -> dict[str, Path]:
    """Return the folders of the classifiers that ship, by the names of their configurations."""
    return {folder.name: folder for folder in sorted((SHIPPED / "classifiers").glob("*"))}


def shipped_classifier(name: str) -> Path:
    """Return the folder of the classifier that ships for a configuration; raises UserError when none does."""
    shipped = shipped_classifiers()
    folder = shipped.get(Path(name).stem)
    if folder is None:
        raise UserError(
            f"no classifier ships for {name!r} (shipped: {', '.join(shipped) or 'none'}); "
            "give --classifier FOLDER; 'l2s train' makes one"
        )
    return folder


def component_files(folder: Path, components: Iterable[str], precision: str | None = None) -> list[Path]:
    """Return every file that a model's components are made from with a precision, and its index."""
    files = [folder / INDEX] if (folder / INDEX).is_file() else []
    for name in components:
        there = precision_there(folder / name, precision)
        found = (path for path in (folder / name).rglob("*") if is_loaded(path.name, there))
        files += sorted(path for path in found if path.is_file())
    return files


def fingerprint_of(folder: Path, components: Iterable[str] = (".",), precision: str | None = None) -> str:
    """Return a digest of every file that a model's components are made from: weights, settings, vocabularies."""
    return digest(
        {str(p.relative_to(folder)): content_digest(p) for p in component_files(folder, components, precision)}
    )
