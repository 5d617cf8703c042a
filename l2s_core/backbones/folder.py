"""Finding, checking and loading a model folder in diffusers' layout; safetensors only."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

import torch

from l2s_core.backbones.complete import missing_from_shards, require_vocabulary, require_weights, stored_dtype
from l2s_core.backbones.hub import content_digest, hub_folder
from l2s_core.backbones.precision import is_loaded
from l2s_core.errors import UserError, first_line
from l2s_core.hashing import digest
from l2s_core.storage.files import read_json, write_json

SHIPPED = Path(__file__).parents[1] / "miniworld" / "assets"
INDEX = "model_index.json"


@dataclass(frozen=True)
class Component:
    """A component's class: the library and name it is loaded with, and others whose files that class reads.

    `stating` has settings that tell the family's from others of the class.
    """

    library: str
    name: str
    others: tuple[str, ...] = field(default=(), kw_only=True)
    stating: Mapping[str, object] = field(default_factory=dict, kw_only=True)

    @property
    def kind(self) -> type:
        return getattr(import_module(self.library), self.name)

    @property
    def settings(self) -> str:
        """The name of its file of settings."""
        return "tokenizer_config.json" if self.reads_text else getattr(self.kind, "config_name", "config.json")

    @property
    def reads_text(self) -> bool:
        """Whether it is a tokenizer."""
        return hasattr(self.kind, "vocab_files_names")


def resolve_folder(model: str, components: Collection[str], precision: str | None = None) -> Path:
    """Return the local folder of a model: a shipped name, a path, or a hub id (from the local cache, or fetched).

    Fetching needs HF_HUB_OFFLINE=0 in the environment, and is of the weights of `precision` alone. Raises UserError saying where it
    looked when there is none, or which component is missing.
    """
    names = sorted(p.parent.name for p in SHIPPED.glob(f"*/{INDEX}"))
    allowed = f"a shipped model ({', '.join(names) or 'none'}), a folder with {INDEX}"
    folder = find_folder("model", model, INDEX, components, allowed, precision)
    missing = [name for name in components if not (folder / name).is_dir()]
    if missing:
        raise UserError(
            f"{folder} is not a complete model of this family: it has no {missing[0]}/; download it again or change backbone.family"
        )
    return folder


def find_folder(
    what: str, model: str, index: str, components: Collection[str], allowed: str, precision: str | None = None
) -> Path:
    """Return the folder of a shipped name, a path or a hub id that holds the file `index`.

    Raises UserError saying where it looked; `allowed` says what else it could have been.
    """
    looked = [SHIPPED / model, Path(model)]
    folder = next((path for path in looked if (path / index).is_file()), None) or hub_folder(
        model, components, index=index, precision=precision
    )
    if folder is None:
        raise UserError(
            f"no {what} {model!r}: looked in {', '.join(map(str, looked))} and the local hub cache; allowed: {allowed}, "
            "or a hub id (HF_HUB_OFFLINE=0 fetches one that is not in the cache)"
        )
    return folder


def save_pipeline(
    folder: Path, pipeline: str, parts: Mapping[str, object], absent: Collection[str] = (), **settings: object
) -> None:
    """Write a model in diffusers' folder layout, so that `pipeline`.from_pretrained(folder) loads it.

    No file says where its component was loaded from: that is of this machine alone, and would be part of the fingerprint.
    """
    index: dict[str, object] = {"_class_name": pipeline, **settings}
    for name, part in parts.items():
        part.save_pretrained(folder / name)
        for path in (folder / name).glob("*config.json"):
            write_json(path, {key: value for key, value in read_json(path).items() if key != "_name_or_path"})
        index[name] = [type(part).__module__.split(".")[0], type(part).__name__]
    write_json(folder / INDEX, index | {name: [None, None] for name in absent})


def shipped_classifier(name: str) -> Path:
    """Return the folder of the classifier that ships for a configuration; raises UserError when none does."""
    folder = SHIPPED / "classifiers" / Path(name).stem
    if not folder.is_dir():
        names = ", ".join(sorted(p.name for p in folder.parent.glob("*"))) or "none"
        raise UserError(
            f"no classifier ships for {name!r} (shipped: {names}); give --classifier FOLDER; 'l2s train' makes one"
        )
    return folder


def check_component(component: Component, folder: Path, *, precision: str | None = None) -> None:
    """Raise UserError for a component that does not load; of its weights the names, shapes and lengths are read, and no values."""
    _load(component, folder, precision, device_map={"": "meta"})


def load_component(
    component: Component, folder: Path, *, dtype: torch.dtype = torch.float32, precision: str | None = None
):
    """Load one component with its own class; a file of another class, a broken one and one that is missing are a UserError."""
    return _load(component, folder, precision, dtype=dtype)


def _load(
    component: Component, folder: Path, precision: str | None, *, dtype: torch.dtype | None = None, **options: object
):
    """Load a component; weights keep the type they are stored in where no other is asked for."""
    kind = component.kind
    _require_class(component, folder / component.settings)
    if component.reads_text:
        require_vocabulary(folder)
    options |= {"use_safetensors": True, "variant": precision, "output_loading_info": True}
    indexes = [
        path
        for path in folder.glob("*.safetensors.*.json")
        if component.library == "diffusers" and is_loaded(path.name, precision)
    ]
    try:
        if not issubclass(kind, torch.nn.Module):
            return kind.from_pretrained(folder)
        options["dtype" if component.library == "transformers" else "torch_dtype"] = dtype or stored_dtype(
            folder, precision
        )
        part, info = kind.from_pretrained(folder, **options)
        missing = set(info["missing_keys"]).union(*map(missing_from_shards, indexes))
    except Exception as error:  # the libraries raise many kinds for one cause: a file they cannot read
        raise UserError(
            f"cannot load {folder}: {first_line(error)}; the file is missing or damaged, fetch it again"
        ) from None
    require_weights(folder, component.name, missing)
    return part


def empty_component(component: Component, folder: Path):
    """Return one component as its settings say, a module on the device "meta": with shapes and no weights; raises UserError."""
    if not issubclass(component.kind, torch.nn.Module):
        return load_component(component, folder)
    _require_class(component, folder / component.settings)
    try:
        with torch.device("meta"):
            if component.library == "transformers":
                return component.kind(component.kind.config_class.from_pretrained(folder))
            return component.kind.from_config(component.kind.load_config(folder))
    except Exception as error:  # settings that are none of this class
        raise UserError(
            f"cannot read {folder / component.settings}: {first_line(error)}; the file is damaged, fetch it again"
        ) from None


def _require_class(component: Component, file: Path) -> None:
    try:
        stated = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {file}: {error}; the file is missing or damaged, fetch it again") from None
    name = stated.get("_class_name") or (stated.get("architectures") or [component.name])[0]
    if name not in (component.name, *component.others):
        raise UserError(
            f"{file.parent} holds a {name}, expected {component.name}; choose the backbone.family that fits the model"
        )
    for setting, value in component.stating.items():
        if stated.get(setting) != value:
            raise UserError(
                f"{file.parent} has {setting} {stated.get(setting)!r}, expected {value!r}; choose the backbone.family that fits the model"
            )


def component_files(folder: Path, components: Iterable[str], precision: str | None = None) -> list[Path]:
    """Return the weight and settings files of a model's components that are loaded with a precision, and its index."""
    files = [folder / INDEX] if (folder / INDEX).is_file() else []
    for name in components:
        found = (
            p
            for p in (folder / name).rglob("*")
            if p.suffix in (".safetensors", ".json") and is_loaded(p.name, precision)
        )
        files += sorted(p for p in found if p.is_file())
    return files


def fingerprint_of(folder: Path, components: Iterable[str] = (".",), precision: str | None = None) -> str:
    """Return a digest of every weight and settings file of a model's components that is loaded with a precision."""
    return digest(
        {str(p.relative_to(folder)): content_digest(p) for p in component_files(folder, components, precision)}
    )
