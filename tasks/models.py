"""Models that the tasks of one process share, each loaded once."""

from __future__ import annotations

import threading
from functools import lru_cache

from l2s_core.backbones.load import load_backbone, pick_device
from l2s_core.classifier.checkpoint import TrainedClassifier
from l2s_core.config import BackboneConfig, RunConfig
from l2s_core.evaluation.detectors import Judge
from l2s_core.evaluation.judges import load_judge

_LOCK = threading.Lock()  # two tasks in two threads must not load the same model twice


@lru_cache(maxsize=1)
def _backbone(config: BackboneConfig, device: str):
    return load_backbone(config, device)


@lru_cache(maxsize=1)
def _judge(model: str, device: str) -> Judge:
    return load_judge(model, device=device)


def backbone_for(config: RunConfig):
    """Return the run's backbone on the run's device."""
    with _LOCK:
        return _backbone(config.backbone, pick_device(config.device))


def judge_for(config: RunConfig) -> Judge:
    """Return the run's judge on the run's device."""
    with _LOCK:
        return _judge(config.benchmark.judge, pick_device(config.device))


def classifier_for(config: RunConfig, folder) -> TrainedClassifier:
    """Return a trained classifier on the run's device."""
    return TrainedClassifier.load(folder, device=pick_device(config.device))
