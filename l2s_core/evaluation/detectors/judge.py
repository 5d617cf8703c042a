"""What a judge is: a model that finds objects in images."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from l2s_core.errors import unknown_name
from l2s_core.evaluation.detectors.detection import Detection


class Judge(ABC):
    """A detector: of a closed set of classes, its `names`, or of whatever names it is asked for (`OPEN_VOCABULARY`).

    A subclass is built from a model's folder and a device. It loads safetensors only, runs no code of the folder and
    asks no network; it raises UserError when something is missing from the folder.
    """

    KIND: ClassVar[str]
    """The class of its model in transformers, which a model's folder states as its architecture."""
    MODEL_TYPE: ClassVar[str | None] = None
    """What a folder that states no architecture calls the model's type."""
    OPEN_VOCABULARY: ClassVar[bool] = False
    CRITERIA: ClassVar[tuple[float | str, ...]] = ()
    """What counts as a find, beyond the model's files: numbers and texts."""
    QUICK: ClassVar[bool] = False
    """Whether it is as quick as looking a find up, so that its finds are not kept on disk."""

    names: tuple[str, ...] = ()

    @abstractmethod
    def __init__(self, folder: Path, *, device: str = "cpu") -> None: ...

    @abstractmethod
    def detect(self, images: np.ndarray, names: Sequence[Sequence[str]] | None = None) -> list[list[Detection]]:
        """Return the detections of every uint8 image (B, H, W, 3), best score first.

        `names` has the objects to look for, per image. A judge of an open vocabulary needs them, and raises
        UserError without; one of a closed set finds all of its own classes whatever is asked.
        """

    def require(self, names: Sequence[str]) -> None:
        """Raise UserError for an object this judge cannot find."""
        for name in names:
            if name not in self.names:
                raise unknown_name("object", name, self.names)

    @property
    def gives_features(self) -> bool:
        """Whether `features` is there, by which sets of images are compared (KID)."""
        return False

    def features(self, images: np.ndarray) -> np.ndarray:
        """Return features_ND, float64, of uint8 images (N, H, W, 3): what the model sees before it names anything."""
        raise NotImplementedError(f"{type(self).__name__} gives no features")

    @classmethod
    def stated_names(cls, settings: Mapping[str, Any]) -> list[str]:
        """Return the classes of a closed set by the settings of a model's folder, config.json."""
        return list(settings.get("id2label", {}).values())
