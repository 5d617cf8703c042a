"""Run configurations: strict, frozen, read from YAML; one file a concern."""

from __future__ import annotations

from l2s_core.config.backbone import BackboneConfig, Family, LoraConfig, Scale, TextualInversionConfig
from l2s_core.config.base import Section, validate
from l2s_core.config.benchmark import BenchmarkConfig
from l2s_core.config.capture import CaptureConfig
from l2s_core.config.classifier import INVERTED, TRAJECTORIES, ClassifierConfig
from l2s_core.config.data import DataConfig, Relation
from l2s_core.config.inversion import InversionConfig
from l2s_core.config.loading import (
    CONFIG_FOLDER,
    NAMED_SECTIONS,
    find_config,
    load_preset,
    load_run_config,
    own_overrides,
    quick_overrides,
    read_yaml,
)
from l2s_core.config.methods import MAIN, PLAIN, MethodConfig, ReadSection
from l2s_core.config.overrides import Overrides
from l2s_core.config.run import RunConfig, ToleranceConfig
from l2s_core.config.steering import SteeringConfig

__all__ = [
    "BackboneConfig",
    "BenchmarkConfig",
    "CONFIG_FOLDER",
    "CaptureConfig",
    "ClassifierConfig",
    "DataConfig",
    "Family",
    "INVERTED",
    "InversionConfig",
    "LoraConfig",
    "MAIN",
    "MethodConfig",
    "NAMED_SECTIONS",
    "Overrides",
    "PLAIN",
    "ReadSection",
    "Relation",
    "RunConfig",
    "Scale",
    "Section",
    "SteeringConfig",
    "TRAJECTORIES",
    "TextualInversionConfig",
    "ToleranceConfig",
    "find_config",
    "load_preset",
    "load_run_config",
    "own_overrides",
    "quick_overrides",
    "read_yaml",
    "validate",
]
