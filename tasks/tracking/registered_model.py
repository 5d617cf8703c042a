"""The code of a registered classifier (MLflow "models from code"): weights are safetensors, nothing is pickled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import mlflow
import numpy as np
import torch
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from l2s_core.classifier.checkpoint import TrainedClassifier


class RegisteredClassifier(PythonModel):
    """The classifier as a model of MLflow.

    Takes {"maps": (N, O, M, G, G), "capture_index": (N,) positions in the captured steps}.
    Returns probabilities (N, R).
    """

    def load_context(self, context: PythonModelContext) -> None:
        self.classifier = TrainedClassifier.load(context.artifacts["classifier"])

    def predict(
        self, context: PythonModelContext, model_input: Mapping[str, Any], params: dict[str, Any] | None = None
    ) -> np.ndarray:
        maps_BOMGG = torch.as_tensor(np.asarray(model_input["maps"], np.float32))
        capture_index_B = torch.as_tensor(np.asarray(model_input["capture_index"], np.int64))
        with torch.no_grad():
            return self.classifier.log_probability(maps_BOMGG, capture_index_B).exp().numpy()


mlflow.models.set_model(RegisteredClassifier())
