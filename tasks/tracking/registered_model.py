"""The code of a registered classifier (MLflow "models from code"): weights are safetensors, nothing is pickled."""

from __future__ import annotations

import mlflow
import numpy as np
import torch

from l2s_core.classifier.checkpoint import TrainedClassifier


class RegisteredClassifier(mlflow.pyfunc.PythonModel):
    """The classifier as a model of MLflow.

    Takes {"maps": (N, 2, M, G, G), "capture_index": (N,) positions in the captured steps}; returns probabilities (N,
    R).
    """

    def load_context(self, context) -> None:
        self.classifier = TrainedClassifier.load(context.artifacts["classifier"])

    def predict(self, context, model_input, params=None) -> np.ndarray:
        maps_BOMGG = torch.as_tensor(np.asarray(model_input["maps"], np.float32))
        capture_index_B = torch.as_tensor(np.asarray(model_input["capture_index"], np.int64))
        with torch.no_grad():
            return self.classifier.model(maps_BOMGG, capture_index_B).softmax(-1).numpy()


mlflow.models.set_model(RegisteredClassifier())
