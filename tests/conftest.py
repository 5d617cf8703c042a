"""Shared fixtures: the shipped model, loaded once."""

from __future__ import annotations

import pytest
import torch

from l2s_core.backbones.unet import UNetBackbone


@pytest.fixture(scope="session", autouse=True)
def _threads() -> None:
    torch.set_num_threads(2)


@pytest.fixture(scope="session")
def backbone() -> UNetBackbone:
    return UNetBackbone.from_pretrained("mini-sd")
