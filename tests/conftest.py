"""Shared fixtures: the shipped model, loaded once."""

from __future__ import annotations

from flows.environment import prepare

prepare()  # before anything imports MLflow or the Hugging Face libraries: no telemetry

import pytest  # noqa: E402
import torch  # noqa: E402

from l2s_core.backbones.unet import UNetBackbone  # noqa: E402


@pytest.fixture(scope="session", autouse=True)
def _threads() -> None:
    torch.set_num_threads(2)


@pytest.fixture(scope="session")
def backbone() -> UNetBackbone:
    return UNetBackbone.from_pretrained("mini-sd")
