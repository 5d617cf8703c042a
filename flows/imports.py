"""What a run imports sooner or later, for processes that others are forked from: those share it, and import nothing."""

from __future__ import annotations

NEEDED = (
    "flows.reproduce",
    "l2s_core.evaluation.detectors.segformer",
    "diffusers.models.autoencoders.autoencoder_kl",
    "diffusers.models.unets.unet_2d_condition",
    "transformers.models.clip.modeling_clip",
    "transformers.models.segformer.modeling_segformer",
    "mlflow.pyfunc",
    "mlflow.store.model_registry.sqlalchemy_workspace_store",
    "mlflow.store.tracking.sqlalchemy_workspace_store",
    "git",
    "graphviz",
)
"""None of it starts a thread of Python's, which a fork would lack."""
