"""Models that the tasks of one process share, each loaded once."""

from __future__ import annotations

import threading
from functools import lru_cache
from pathlib import Path

from l2s_core.backbones.base import Backbone
from l2s_core.backbones.load import load_backbone, pick_device
from l2s_core.classifier.checkpoint import TrainedClassifier
from l2s_core.config import BackboneConfig, RunConfig
from l2s_core.diffusion.sampler import Sampler
from l2s_core.evaluation.detectors.depth import DepthReader, depth_folder
from l2s_core.evaluation.detectors.judge import Judge
from l2s_core.evaluation.detectors.load import load_judge
from l2s_core.evaluation.judging import Judging
from l2s_core.evaluation.methods.method import SampleContext
from l2s_core.evaluation.metrics.clipscore import load_clip
from l2s_core.evaluation.metrics.colors import ColorReader
from l2s_core.evaluation.protocols.protocol import protocol_of
from l2s_core.evaluation.run import Run
from tasks.progress import count_evaluations

_LOCK = threading.Lock()  # two tasks in two threads must not load the same model twice


@lru_cache(maxsize=1)
def _backbone(config: BackboneConfig, device: str) -> Backbone:
    backbone = load_backbone(config, device)
    count_evaluations(backbone.denoiser)
    return backbone


@lru_cache(maxsize=1)
def _judge(model: str, device: str, cache: Path) -> Judge:
    return load_judge(model, device=device, cache=cache)


@lru_cache(maxsize=1)
def _color_reader(model: str, device: str) -> ColorReader:
    return ColorReader(load_clip(model, device=device))


@lru_cache(maxsize=1)
def _depth_reader(model: str, device: str) -> DepthReader:
    return DepthReader(depth_folder(model), device=device)


def backbone_for(config: RunConfig) -> Backbone:
    """Return the run's backbone on the run's device."""
    with _LOCK:
        return _backbone(config.backbone, pick_device(config.device))


def judge_for(run: Run) -> Judge:
    """Return the run's judge on the run's device; what it finds is kept beside the run's stages."""
    with _LOCK:
        return _judge(run.config.benchmark.judge, pick_device(run.config.device), run.home / "judged")


def judging_for(run: Run) -> Judging:
    """Return what judges the run's images, on the run's device."""
    return Judging(
        protocol=protocol_of(run.config),
        judge=judge_for(run),
        colors=_color_reader_for(run.config),
        depth=_depth_reader_for(run.config),
    )


def _color_reader_for(config: RunConfig) -> ColorReader | None:
    """Return what tells colours; nothing for a benchmark that asks for none."""
    if not config.benchmark.asks_for_colors:
        return None
    with _LOCK:
        return _color_reader(config.benchmark.clip, pick_device(config.device))


def _depth_reader_for(config: RunConfig) -> DepthReader | None:
    """Return what tells depth; nothing for a benchmark that asks for none."""
    model = config.benchmark.depth_model
    if model is None:
        return None
    with _LOCK:
        return _depth_reader(model, pick_device(config.device))


def classifier_for(config: RunConfig, folder: Path) -> TrainedClassifier:
    """Return a trained classifier on the run's device."""
    return TrainedClassifier.load(folder, device=pick_device(config.device))


def sample_context(run: Run) -> SampleContext:
    """Return what the run's methods may use to make images; models are loaded when a method asks for them."""
    return SampleContext(
        config=run.config,
        sampler=Sampler.of(backbone_for(run.config), run.config),
        classifier=lambda name: classifier_for(run.config, run.paths.classifier(name)),
        judging=lambda: judging_for(run),
        seconds=run.seconds,
        taken=tuple(item.seed for item in run.items),
    )
