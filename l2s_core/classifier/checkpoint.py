"""A classifier on disk: model.safetensors and classifier.json, nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from l2s_core.classifier.labels import Labels
from l2s_core.classifier.model import build_classifier
from l2s_core.config import ClassifierConfig, validate
from l2s_core.dataset.schema import MapSource
from l2s_core.errors import UserError
from l2s_core.storage.sealed import PLACE, is_stage_output, require_place
from l2s_core.storage.store import read_shard, require_finite, write_tensors
from l2s_core.storage.versioned import read_versioned, write_versioned

WEIGHTS = "model.safetensors"
DESCRIPTION = "classifier.json"
RESULT = "result.json"  # of a training; written last: a folder that has it is complete
FORMAT = 1  # of classifier.json
TRAIN_AGAIN = "train it again, with --rebuild where it lies in a folder of runs"


@dataclass(frozen=True, kw_only=True)
class TrainedClassifier:
    """A classifier with the source of maps it was trained on."""

    model: nn.Module
    config: ClassifierConfig
    source: MapSource

    def log_probability(self, maps_BOMGG: Tensor, capture_index_B: Tensor) -> Tensor:
        """Return the log-probability of every label (B, R); see `Labels` for what it means."""
        return Labels(self.config.labels).log_probability(self.model(maps_BOMGG, capture_index_B))

    def save(self, folder: Path) -> None:
        """Write the classifier; the description comes last, so a folder without it is unfinished."""
        folder = Path(folder)
        write_tensors(folder / WEIGHTS, self.model.state_dict(), None)
        content = {"config": self.config.model_dump(mode="json"), "source": self.source.to_json()}
        write_versioned(folder / DESCRIPTION, FORMAT, content)

    @classmethod
    def load(cls, folder: Path, *, device: str = "cpu") -> TrainedClassifier:
        """Read a classifier.

        Raises UserError when the folder holds none, a damaged one, weights that are not finite, or files of two
        classifiers. One that a run trained must lie where the run wrote it; another folder may hold a copy of any.
        """
        folder = Path(folder)
        if not (folder / DESCRIPTION).is_file():
            raise UserError(
                f"no classifier in {folder}; expected {WEIGHTS} and {DESCRIPTION}; train one with 'l2s train'"
            )
        config, source, place = read_versioned(
            folder / DESCRIPTION, FORMAT, _description, what="classifier", remedy=TRAIN_AGAIN, anywhere=True
        )
        if is_stage_output(folder / DESCRIPTION):
            require_place(folder / DESCRIPTION, place, TRAIN_AGAIN)

        def built(weights: dict[str, Tensor], _: Any) -> nn.Module:
            require_finite(weights, folder / WEIGHTS, TRAIN_AGAIN)
            model = build_classifier(config, source)
            model.load_state_dict(weights)
            return model

        wanted = beside(place, WEIGHTS)
        model = read_shard(folder / WEIGHTS, built, what="weights of this classifier", remedy=TRAIN_AGAIN, place=wanted)
        return cls(model=model.to(device).eval().requires_grad_(False), config=config, source=source)

    def require(self, source: MapSource) -> None:
        """Raise UserError unless `source` is exactly what this classifier was trained on."""
        differences = self.source.differences(source)
        if differences:
            raise UserError(
                f"this classifier belongs to other maps: {'; '.join(differences)} (classifier's value first); "
                "use the model and capture settings it was trained with, or train one for these"
            )


def _description(stored: Mapping[str, Any]) -> tuple[ClassifierConfig, MapSource, str]:
    config = validate(ClassifierConfig, stored["config"], DESCRIPTION)
    return config, MapSource.from_json(stored["source"]), stored[PLACE]


def beside(place: str, name: str) -> str:
    """Return the place of a file that was written beside the one of `place`."""
    return f"{place.rpartition('/')[0]}/{name}"
