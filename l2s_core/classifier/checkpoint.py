"""A classifier on disk: model.safetensors and classifier.json, nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from l2s_core.classifier.model import build_classifier
from l2s_core.config import ClassifierConfig, validate
from l2s_core.dataset.schema import MapSource
from l2s_core.errors import UserError
from l2s_core.storage.files import atomic_path, read_json, write_json

WEIGHTS = "model.safetensors"
DESCRIPTION = "classifier.json"


@dataclass(frozen=True, kw_only=True)
class TrainedClassifier:
    """A classifier with the source of maps it was trained on."""

    model: nn.Module
    config: ClassifierConfig
    source: MapSource

    def save(self, folder: Path) -> None:
        """Write the classifier; the description comes last, so a folder without it is unfinished."""
        folder = Path(folder)
        with atomic_path(folder / WEIGHTS) as temporary:
            save_file({k: v.contiguous() for k, v in self.model.state_dict().items()}, temporary)
        write_json(
            folder / DESCRIPTION, {"config": self.config.model_dump(mode="json"), "source": self.source.to_json()}
        )

    @classmethod
    def load(cls, folder: Path, *, device: str = "cpu") -> TrainedClassifier:
        """Read a classifier; raises UserError when the folder holds none or a damaged one."""
        folder = Path(folder)
        if not (folder / DESCRIPTION).is_file():
            raise UserError(
                f"no classifier in {folder}; expected {WEIGHTS} and {DESCRIPTION}; train one with 'l2s train'"
            )
        description = read_json(folder / DESCRIPTION)
        try:
            source = MapSource.from_json(description["source"])
            config = validate(ClassifierConfig, description["config"], str(folder / DESCRIPTION))
            model = build_classifier(config, source)
            model.load_state_dict(load_file(folder / WEIGHTS))
        except (KeyError, TypeError, RuntimeError, OSError, SafetensorError) as error:
            raise UserError(
                f"cannot load the classifier in {folder}: {str(error).splitlines()[0]}; train it again"
            ) from None
        return cls(model=model.to(device).eval().requires_grad_(False), config=config, source=source)

    def require(self, source: MapSource) -> None:
        """Raise UserError unless `source` is exactly what this classifier was trained on."""
        differences = self.source.differences(source)
        if differences:
            raise UserError(
                f"this classifier belongs to other maps: {'; '.join(differences)} (classifier's value first); "
                "use the model and capture settings it was trained with, or train one for these"
            )
