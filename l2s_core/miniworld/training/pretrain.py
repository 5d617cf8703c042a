"""Train the models that ship from a seed. Killed at any moment, the same call goes on from the last checkpoint."""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import torch

from l2s_core.backbones.load import pick_device
from l2s_core.config import CONFIG_FOLDER, find_config, read_yaml, validate
from l2s_core.errors import UserError, unknown_name
from l2s_core.miniworld.training import ahead
from l2s_core.miniworld.training.pretrain_flux import FluxPredecessor, FluxPretrainConfig, pretrain_flux
from l2s_core.miniworld.training.pretrain_sd import Predecessor, SDPretrainConfig, pretrain_sd
from l2s_core.miniworld.training.rounds import SceneRound
from l2s_core.miniworld.training.trainer import TrainPlan, stored_step
from l2s_core.miniworld.training.workshop import MODELS, Observer, Workshop
from l2s_core.storage.files import make_folder

PretrainConfig = SDPretrainConfig | FluxPretrainConfig
CONFIGS: dict[str, type[PretrainConfig]] = {"mini-sd": SDPretrainConfig, "mini-flux": FluxPretrainConfig}
PREDECESSORS = {"mini-sd": {"after": "mini-sd"}, "mini-flux": {"encoders": "mini-sd", "after": "mini-flux"}}
"""The keys of a configuration that name a training which comes first, and the model that this trains."""


def load_pretrain_config(name: str | Path = "mini-sd") -> PretrainConfig:
    """Read a name of configs/pretrain or a YAML file, and what its `after` names; raises UserError, one line."""
    return _load(name, ())


def _load(name: str | Path, later: tuple[Path, ...]) -> PretrainConfig:
    path = find_config(name, CONFIG_FOLDER / "pretrain", "training")
    tree = read_yaml(path)
    if tree.get("model") not in CONFIGS:
        raise unknown_name(f"model in {path}", str(tree.get("model")), CONFIGS)
    for key, models in PREDECESSORS[tree["model"]].items():
        if (named := tree.get(key)) is None:
            continue
        if path in later:
            raise UserError(f"{path}: {key} leads back to this training; begin with one that comes after none")
        first = _load(str(named), (*later, path))
        if first.model != models:
            raise UserError(f"{path}: {key} is {named!r}, a training of {first.model}; allowed: one of {models}")
        tree[key] = {"name": Path(str(named)).stem, "config": first}
    return validate(CONFIGS[tree["model"]], tree, str(path))


def predecessors_of(config: PretrainConfig) -> dict[str, Predecessor | FluxPredecessor]:
    """Return the trainings that come right before one, by the key that names them."""
    return {key: first for key in PREDECESSORS[config.model] if (first := getattr(config, key)) is not None}


def chain(config: PretrainConfig) -> dict[str, PretrainConfig]:
    """Return all that is trained, each once, what others need first, by its folder in WORK: "" for `config` itself."""
    trained: dict[str, PretrainConfig] = {}
    for first in predecessors_of(config).values():
        *before, (_, last) = chain(first.config).items()
        trained |= {**dict(before), first.name: last}
    return {**trained, "": config}


def pretrain(
    config: PretrainConfig,
    work: Path,
    *,
    device: str = "cpu",
    observe: Observer = lambda *_: None,
    workers: int | None = None,
) -> Path:
    """Train what `config` describes, keeping checkpoints and sample grids in `work`; return the folder of the models.

    What comes before it is trained first, in its folder in `work`; `observe` is told of its trainings by names that
    begin with that folder: mini-sd-two/denoiser-1.
    `workers` processes draw scenes ahead; by default none, and on a GPU one a core but two. In float32, on a GPU with
    products in TF32: the models are so small that bfloat16's casts cost more than it saves.
    """
    if device == "cuda":
        torch.set_float32_matmul_precision("high")
    if workers is None:
        workers = max(0, len(os.sched_getaffinity(0)) - 2) if device == "cuda" else 0
    with ahead.workers(workers) as processes:
        for folder, one in chain(config).items():
            shop = Workshop(
                work=make_folder(work / folder),
                seed=one.seed,
                device=device,
                observe=_named_within(folder, observe),
                workers=processes,
            )
            models = _train(one, shop, work)
    return models  # a chain has its end


def _named_within(folder: str, observe: Observer) -> Observer:
    return lambda training, step, values: observe(str(PurePosixPath(folder, training)), step, values)


def _train(config: PretrainConfig, shop: Workshop, work: Path) -> Path:
    """Train one of a chain, with the models of those of its predecessors in `work`."""
    firsts = {key: work / first.name / MODELS for key, first in predecessors_of(config).items()}
    if isinstance(config, FluxPretrainConfig):
        return pretrain_flux(config, shop, **firsts)
    return pretrain_sd(config, shop, **firsts)


def so_far(config: PretrainConfig, work: Path) -> PretrainConfig:
    """Return the configuration of which nothing is left to train in `work`: each training ends at its last checkpoint.

    What comes before it is left alone, and trainings without a checkpoint are left out. Raises UserError where nothing
    at all is left.
    """
    cut = {}
    for name in ("text", "autoencoder", "judge", "t5"):
        if plan := getattr(config, name, None):
            cut[name] = _cut(plan, work / f"{name}.safetensors")
    rounds = _rounds_so_far(config, work)
    if not rounds:
        raise UserError(f"{work} holds no checkpoint of a denoiser yet; train until there is one")
    return config.model_copy(update=cut | {"rounds": tuple(rounds)})


def _rounds_so_far(config: PretrainConfig, work: Path) -> list[SceneRound]:
    rounds: list[SceneRound] = []
    for number, one in enumerate(config.rounds, start=1):
        name = "denoiser" if hasattr(one, "denoiser") else "flow"
        plan = _cut(getattr(one, name), work / f"{name}-{number}.safetensors")
        if plan is None:
            break
        rounds.append(one.model_copy(update={name: plan}))
        if student := getattr(one, "student", None):
            rounds[-1] = rounds[-1].model_copy(
                update={"student": _cut(student, work / f"{student.by}-{number}.safetensors")}
            )
    return rounds


def _cut(plan: TrainPlan, checkpoint: Path) -> TrainPlan | None:
    step = min(plan.steps, stored_step(checkpoint))
    return plan.model_copy(update={"steps": step}) if step else None


def snapshot(config: PretrainConfig, work: Path, out: Path) -> Path:
    """Write the models of the checkpoints in `work`, their averaged weights, to the new folder `out`.

    They are those of the last training of the chain whose denoiser has a checkpoint. What trains on in `work` is not
    disturbed.
    """
    reached = ("", config)
    for folder, one in chain(config).items():
        if _rounds_so_far(one, work / folder):
            reached = (folder, one)
    folder, config = reached
    config = so_far(config, work / folder)
    for path in (work / folder).glob("*.safetensors"):
        shutil.copy2(path, make_folder(out) / path.name)
    return _train(config, Workshop(work=out, seed=config.seed, device="cpu", observe=lambda *_: None), work)


def length_of(config: PretrainConfig, training: str) -> int:
    """Return how far a training goes, by the name that its observer is told: steps, or pairs ("pairs-1")."""
    path = PurePosixPath(training)
    config = chain(config)["" if path.parent == PurePosixPath() else str(path.parent)]
    name, _, number = path.name.partition("-")
    if not number:
        return getattr(config, name).steps
    plan = config.rounds[int(number) - 1]
    if name in ("denoiser", "flow"):
        return getattr(plan, name).steps
    student: Any = getattr(plan, "student", None)  # there is one, since a training has its name
    return student.pairs if name == "pairs" else student.steps


def main(arguments: Sequence[str] | None = None) -> None:
    """Train without Prefect and MLflow, for a machine that has neither."""
    parser = argparse.ArgumentParser(
        prog="python -m l2s_core.miniworld.training.pretrain", description="Train the small world's models."
    )
    parser.add_argument("work", type=Path, help="folder of checkpoints, sample grids and models")
    parser.add_argument("--model", default="mini-sd", help="a name of configs/pretrain, or a YAML file")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument(
        "--workers", type=int, help="processes that draw scenes ahead; default: none, on a GPU one a core but two"
    )
    parser.add_argument(
        "--snapshot", type=Path, metavar="FOLDER", help="train nothing, write the models of the last checkpoints there"
    )
    given = parser.parse_args(arguments)
    if given.snapshot:
        print(snapshot(load_pretrain_config(given.model), given.work, given.snapshot))
        return
    config = load_pretrain_config(given.model)
    print(pretrain(config, given.work, device=pick_device(given.device), observe=show, workers=given.workers))


def show(model: str, step: int, values: dict[str, float]) -> None:
    """Print one line, as an observer of a training."""
    print(model, step, *(f"{key} {value:.4g}" for key, value in values.items()), flush=True)


if __name__ == "__main__":
    main()
