"""Train the models that ship from a seed. Killed at any moment, the same call goes on from the last checkpoint."""

from __future__ import annotations

from pathlib import Path

import torch

from l2s_core.config import CONFIG_FOLDER, read_yaml, validate
from l2s_core.errors import unknown_name
from l2s_core.miniworld.training.pretrain_flux import FluxPretrainConfig, pretrain_flux
from l2s_core.miniworld.training.pretrain_sd import SDPretrainConfig, pretrain_sd
from l2s_core.miniworld.training.workshop import Observer, Workshop
from l2s_core.storage.files import make_folder

PretrainConfig = SDPretrainConfig | FluxPretrainConfig
CONFIGS: dict[str, type[PretrainConfig]] = {"mini-sd": SDPretrainConfig, "mini-flux": FluxPretrainConfig}


def load_pretrain_config(name: str | Path = "mini-sd") -> PretrainConfig:
    """Read a name of configs/pretrain or a YAML file; raises UserError, one line."""
    named = CONFIG_FOLDER / "pretrain" / f"{name}.yaml"
    path = named if named.is_file() else Path(name)
    tree = read_yaml(path)
    if tree.get("model") not in CONFIGS:
        raise unknown_name(f"model in {path}", str(tree.get("model")), CONFIGS)
    return validate(CONFIGS[tree["model"]], tree, str(path))


def pretrain(config: PretrainConfig, work: Path, *, device: str = "cpu", observe: Observer = lambda *_: None) -> Path:
    """Train what `config` describes, keeping checkpoints and sample grids in `work`; return the folder of the models.

    In float32, on a GPU with products in TF32: the models are so small that bfloat16's casts cost more than it saves.
    """
    if device == "cuda":
        torch.set_float32_matmul_precision("high")
    shop = Workshop(work=make_folder(work), seed=config.seed, device=device, observe=observe)
    if isinstance(config, FluxPretrainConfig):
        return pretrain_flux(config, shop)
    return pretrain_sd(config, shop)
