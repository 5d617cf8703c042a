"""The components of a model's folder: how each kind is loaded, checked, and made with random weights or with none."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, field
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any, ClassVar

import torch

from l2s_core.backbones.complete import (
    missing_from_shards,
    require_files,
    require_vocabulary,
    require_weights,
    stored_dtype,
)
from l2s_core.backbones.precision import is_loaded, precision_there
from l2s_core.errors import UserError, first_line
from l2s_core.storage.files import read_json
from l2s_core.storage.store import FETCH_AGAIN, require_finite

LONGEST_WINDOW = 1_000_000  # tokens; the library has a longer one where none is stated


def uncompiled(part: Any) -> Any:
    """Return the module that torch.compile has made a compiled one of, or what is not compiled itself."""
    return getattr(part, "_orig_mod", part)


@dataclass(frozen=True, kw_only=True)
class Component(ABC):
    """One component of a family: the class that it is loaded with.

    Files of the classes `others` are read by that class, too. `stating` has settings that tell this family's component
    from another family's of the same class.
    """

    LIBRARY: ClassVar[str]
    name: str
    others: tuple[str, ...] = ()
    stating: Mapping[str, object] = field(default_factory=dict)

    @property
    def kind(self) -> type[Any]:
        """The class itself; imports its library."""
        kind: type[Any] = getattr(import_module(self.LIBRARY), self.name)
        return kind

    @property
    def settings_file(self) -> str:
        """Name of the file of settings in the component's folder."""
        return "config.json"

    def fits(self, part: Any) -> bool:
        """Whether a component that is loaded already is one of this kind."""
        part = uncompiled(part)
        if not isinstance(part, self.kind):
            return False
        return all(getattr(part.config, setting, None) == value for setting, value in self.stating.items())

    def of_pipeline(self, part: Any) -> Any:
        """Return what a family calls of a component that is loaded already."""
        return part

    @abstractmethod
    def random(self, settings: Mapping[str, Any]) -> Any:
        """Return the component with these settings, its weights drawn from torch's generator."""

    def load(self, folder: Path, *, dtype: torch.dtype = torch.float32, precision: str | None = None) -> Any:
        """Return the component of a folder; raises UserError for one of another class, a damaged and a missing one."""
        self._require_class(folder)
        return self._read(folder, precision, dtype=dtype)

    def check(self, folder: Path, *, precision: str | None = None) -> Any:
        """Return the component without the values of its weights; raises UserError as `load` does."""
        self._require_class(folder)
        return self._read(folder, precision, device_map={"": "meta"})

    def empty(self, folder: Path) -> Any:
        """Return the component of a folder with shapes and no weights (device "meta"); raises UserError."""
        return self.load(folder)

    def _read(self, folder: Path, precision: str | None, **options: Any) -> Any:
        """Return the component; a file that the library cannot read is a UserError."""
        try:
            return self.kind.from_pretrained(folder)
        except Exception as error:  # the libraries raise many kinds for one cause
            raise UserError(f"cannot load {folder}: {first_line(error)}; {FETCH_AGAIN}") from None

    def _fits(self, name: str) -> bool:
        """Whether files of a class are read by this one."""
        return name in (self.name, *self.others)

    def _require_class(self, folder: Path) -> None:
        """Raise UserError where the file of settings is missing, or is another class's or another family's."""
        file = folder / self.settings_file
        try:
            stated = read_json(file)
        except UserError as error:
            raise UserError(f"{error}; {FETCH_AGAIN}") from None
        if not isinstance(stated, dict):
            raise UserError(f"{file} holds no settings; {FETCH_AGAIN}")
        name = stated.get("_class_name") or (stated.get("architectures") or [self.name])[0]
        if not self._fits(str(name)):
            raise UserError(
                f"{folder} holds a {name}, expected {self.name}; choose the backbone.family that fits the model"
            )
        for setting, value in self.stating.items():
            if stated.get(setting) != value:
                raise UserError(
                    f"{folder} has {setting} {stated.get(setting)!r}, expected {value!r}; "
                    "choose the backbone.family that fits the model"
                )


class Scheduler(Component):
    """A noise schedule of diffusers: settings alone. Its numbers are on the CPU, wherever a model is."""

    LIBRARY = "diffusers"

    def fits(self, part: Any) -> bool:
        return part is not None and type(part).__name__ in (self.name, *self.others)

    @property
    def settings_file(self) -> str:
        return "scheduler_config.json"

    def random(self, settings: Mapping[str, Any]) -> Any:
        with torch.device("cpu"):
            return self.kind(**settings)

    def _read(self, folder: Path, precision: str | None, **options: Any) -> Any:
        with torch.device("cpu"):
            return super()._read(folder, precision, **options)


class NoiseSchedule(Scheduler):
    """A scheduler of which the noise alone is read, and which may so be of any class whose noise is given by betas."""

    def _fits(self, name: str) -> bool:
        stated = getattr(import_module(self.LIBRARY), name, None) if name.endswith("Scheduler") else None
        return stated is not None and "beta_schedule" in signature(stated.__init__).parameters


class Network(Component):
    """A component with weights."""

    DTYPE_OPTION: ClassVar[str]

    def empty(self, folder: Path) -> Any:
        self._require_class(folder)
        try:
            with torch.device("meta"):
                return self._of_settings(folder)
        except Exception as error:  # settings that are none of this class
            raise UserError(
                f"cannot read {folder / self.settings_file}: {first_line(error)}; the file is damaged, fetch it again"
            ) from None

    @abstractmethod
    def _of_settings(self, folder: Path) -> Any:
        """Return the network that a folder's settings describe."""

    def _indexes(self, _folder: Path, _precision: str | None) -> list[Path]:
        """Return the indexes of shards whose word the library takes for what the shards hold."""
        return []

    def _read(self, folder: Path, precision: str | None, **options: Any) -> Any:
        """Return the network; weights keep the type they are stored in where no other is asked for."""
        dtype = options.pop("dtype", None)
        precision = precision_there(folder, precision)
        require_files(folder, precision)
        try:
            part, info = self.kind.from_pretrained(
                folder,
                use_safetensors=True,
                variant=precision,
                output_loading_info=True,
                **{self.DTYPE_OPTION: dtype or stored_dtype(folder, precision)},
                **options,
            )
            missing = set(info["missing_keys"]).union(*map(missing_from_shards, self._indexes(folder, precision)))
        except Exception as error:  # the libraries raise many kinds for one cause
            raise UserError(f"cannot load {folder}: {first_line(error)}; {FETCH_AGAIN}") from None
        require_weights(folder, self.name, missing)
        held = {name: weight for name, weight in part.state_dict().items() if not weight.is_meta}
        require_finite(held, folder, FETCH_AGAIN)
        return part


class DiffusersNetwork(Network):
    """A denoiser or an autoencoder of diffusers."""

    LIBRARY = "diffusers"
    DTYPE_OPTION = "torch_dtype"

    def random(self, settings: Mapping[str, Any]) -> Any:
        return self.kind(**settings)

    def _of_settings(self, folder: Path) -> Any:
        return self.kind.from_config(self.kind.load_config(folder))

    def _indexes(self, folder: Path, precision: str | None) -> list[Path]:
        return [path for path in folder.glob("*.safetensors.*.json") if is_loaded(path.name, precision)]


class TransformersNetwork(Network):
    """A text encoder of transformers."""

    LIBRARY = "transformers"
    DTYPE_OPTION = "dtype"

    def random(self, settings: Mapping[str, Any]) -> Any:
        return self.kind(self.kind.config_class(**settings))

    def _of_settings(self, folder: Path) -> Any:
        return self.kind(self.kind.config_class.from_pretrained(folder))


class Tokenizer(Component):
    """A tokenizer of transformers.

    A random model has the small world's vocabulary and a window of `length` tokens: real vocabularies are not at hand,
    and costs do not depend on them.
    """

    LIBRARY = "transformers"
    STATES_WINDOW: ClassVar[bool] = True
    """Whether its settings state the model's text window; where they do not, the family has one of its own."""

    @property
    def settings_file(self) -> str:
        return "tokenizer_config.json"

    def _read(self, folder: Path, precision: str | None, **options: Any) -> Any:
        require_vocabulary(folder)
        tokenizer = super()._read(folder, precision, **options)
        if self.STATES_WINDOW and tokenizer.model_max_length > LONGEST_WINDOW:
            raise UserError(
                f"{folder / self.settings_file} states no model_max_length, the model's text window in tokens; "
                "add it as the model's page says, e.g. 77 for CLIP and 512 for T5"
            )
        return tokenizer


@dataclass(frozen=True, kw_only=True)
class ClipTokenizer(Tokenizer):
    """CLIP's tokenizer."""

    name: str = "CLIPTokenizer"

    def random(self, settings: Mapping[str, Any]) -> Any:
        from l2s_core.miniworld.world.tokenizers import clip_tokenizer

        return clip_tokenizer(0, **settings)


@dataclass(frozen=True, kw_only=True)
class QwenTokenizer(Tokenizer):
    """Qwen's tokenizer; with `chat`, one that must have the template of its chats.

    A random one knows the words of `texts`, too.
    """

    name: str = "Qwen2Tokenizer"
    others: tuple[str, ...] = ("Qwen2TokenizerFast",)
    chat: bool = True
    texts: tuple[str, ...] = ()

    def random(self, settings: Mapping[str, Any]) -> Any:
        from l2s_core.miniworld.world.tokenizers import qwen_tokenizer

        return qwen_tokenizer(0, texts=self.texts, **settings)

    def _read(self, folder: Path, precision: str | None, **options: Any) -> Any:
        tokenizer = super()._read(folder, precision, **options)
        if self.chat:
            _require_chat(tokenizer, folder / self.settings_file)
        return tokenizer


@dataclass(frozen=True, kw_only=True)
class MistralTokenizer(Tokenizer):
    """Mistral's tokenizer with the template of its chats, as it stands alone or in a processor of images and texts.

    Its class is the one that its folder states. A random one knows the words of `texts`, too.
    """

    STATES_WINDOW = False
    name: str = "AutoTokenizer"
    texts: tuple[str, ...] = ()

    def fits(self, part: Any) -> bool:
        return isinstance(getattr(self.of_pipeline(part), "chat_template", None), str)

    def of_pipeline(self, part: Any) -> Any:
        tokenizer = getattr(part, "tokenizer", part)
        if tokenizer is part or tokenizer.chat_template == part.chat_template:
            return tokenizer
        alone = copy(tokenizer)
        alone.chat_template = part.chat_template
        return alone

    def random(self, settings: Mapping[str, Any]) -> Any:
        from l2s_core.miniworld.world.tokenizers import mistral_tokenizer

        return mistral_tokenizer(0, texts=self.texts, **settings)

    def _read(self, folder: Path, precision: str | None, **options: Any) -> Any:
        tokenizer = super()._read(folder, precision, **options)
        _require_chat(tokenizer, folder / self.settings_file)
        return tokenizer


def _require_chat(tokenizer: Any, settings: Path) -> None:
    """Raise UserError for a tokenizer without the template of a chat."""
    if not isinstance(tokenizer.chat_template, str):
        raise UserError(
            f"{settings.parent} has no chat template, which this family writes prompts into; needed: "
            f"chat_template.jinja, or chat_template in {settings.name}; {FETCH_AGAIN}"
        )


@dataclass(frozen=True, kw_only=True)
class T5Tokenizer(Tokenizer):
    """T5's tokenizer."""

    name: str = "T5Tokenizer"
    others: tuple[str, ...] = ("T5TokenizerFast",)

    def random(self, settings: Mapping[str, Any]) -> Any:
        from l2s_core.miniworld.world.tokenizers import t5_tokenizer

        return t5_tokenizer(0, **settings)


@dataclass(frozen=True, kw_only=True)
class GemmaTokenizer(Tokenizer):
    """Gemma's tokenizer; a random one knows the words of `texts`, too."""

    STATES_WINDOW = False
    name: str = "GemmaTokenizer"
    others: tuple[str, ...] = ("GemmaTokenizerFast",)
    texts: tuple[str, ...] = ()

    def random(self, settings: Mapping[str, Any]) -> Any:
        from l2s_core.miniworld.world.tokenizers import gemma_tokenizer

        return gemma_tokenizer(0, texts=self.texts, **settings)
