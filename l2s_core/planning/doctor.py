"""Whether a run can work on this machine, and what it will cost: everything that can be known without running it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import torch
from packaging.requirements import Requirement

from l2s_core.backbones.folder import component_files
from l2s_core.backbones.load import (
    check_backbone,
    family_named,
    files_fingerprint,
    image_size,
    model_folder,
    pick_device,
    require_fit,
    require_reach,
)
from l2s_core.config import RunConfig
from l2s_core.data.source import source_of
from l2s_core.errors import UserError, first_line
from l2s_core.evaluation.detectors.depth import depth_folder
from l2s_core.evaluation.detectors.load import judge_class, judge_folder
from l2s_core.evaluation.metrics.clipscore import clip_folder
from l2s_core.evaluation.work import Prices
from l2s_core.planning.cost import FileSizes, ModelCost, count_cost, sizes_of
from l2s_core.planning.estimate import disk_bytes, images_of, memory_bytes, stage_hours, work_of
from l2s_core.planning.measured import Rehearsal
from l2s_core.planning.memory import free_bytes
from l2s_core.sizes import size_text

UTILISATION = 0.4  # share of a large product's speed that a denoiser reaches; only where no rehearsal tells
GB = 1e9


@dataclass(frozen=True, kw_only=True)
class Check:
    """One finding; `ok` is None for what is only told."""

    name: str
    ok: bool | None
    detail: str


def examine(config: RunConfig, home: Path, rehearsal: Rehearsal | None = None) -> list[Check]:
    """Return every check of a run, in the order of its stages.

    `rehearsal` is what `l2s rehearse` measured for it, where it was run.
    """
    checks = [_tried("packages", _packages), _tried("device", lambda: _device(config))]
    checks.append(_tried("model weights", lambda: _weights(config)))
    checks.append(_tried("judge", lambda: _judge(config)))
    checks.append(_tried("data", lambda: _data(config)))
    checks.append(_tried("prompts", lambda: f"{config.benchmark.protocol}, {images_of(config)} images of each method"))
    clip = config.benchmark.clip
    if clip is not None:
        checks.append(_tried("CLIP model", lambda: str(clip_folder(clip))))
    depth = config.benchmark.depth_model
    if depth is not None:
        checks.append(_tried("depth model", lambda: str(depth_folder(depth))))
    if config.backbone.architecture is not None:
        cost = count_cost(config)
        time_needed = _time_rehearsed(config, rehearsal) if rehearsal is not None else _time_counted(config, cost)
        return [*checks, *_memory(config, cost), _disk(config, cost.sizes, home), time_needed]
    with suppress(UserError):  # no model, or a broken one: said above
        checks.append(_disk(config, sizes_of(config), home))
    if rehearsal is not None:
        return [*checks, _time_rehearsed(config, rehearsal)]
    unknown = "backbone.architecture is not set; 'l2s rehearse' measures this model itself"
    return [*checks, Check(name="time", ok=None, detail=unknown)]


def _tried(name: str, look: Callable[[], str]) -> Check:
    try:
        return Check(name=name, ok=True, detail=look())
    except UserError as error:
        return Check(name=name, ok=False, detail=str(error))
    except Exception as error:  # of a library, or of this one: the other checks are still worth having
        return Check(name=name, ok=False, detail=f"{type(error).__name__}: {first_line(error)}")


def _packages() -> str:
    wrong = []
    seen = []
    for line in requires("learn-to-steer") or ():
        requirement = Requirement(line)
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            wrong.append(f"{requirement.name} is missing")
            continue
        seen.append(found)
        if not requirement.specifier.contains(found.split("+")[0], prereleases=True):
            wrong.append(f"{requirement.name} {found} is not {requirement.specifier}")
    if wrong:
        raise UserError("; ".join(wrong) + "; run 'pip install -e .' again")
    return f"{len(seen)} packages as required, torch {torch.__version__}"


def _device(config: RunConfig) -> str:
    device = pick_device(config.device)
    if device == "cuda":
        return torch.cuda.get_device_name()
    if config.backbone.architecture is not None:
        raise UserError("no CUDA device: a full-size model on a CPU takes weeks; run this on a GPU machine")
    return f"CPU, {torch.get_num_threads()} threads"


def _device_here(config: RunConfig) -> str:
    """Return the device to judge by: the wanted one, or the CPU where CUDA is wanted and there is none."""
    return "cuda" if torch.cuda.is_available() and config.device != "cpu" else "cpu"


def _weights(config: RunConfig) -> str:
    require_fit(config)
    components = family_named(config.backbone.family).COMPONENTS
    folder = model_folder(config.backbone)
    require_reach(check_backbone(config.backbone), config)
    stored = sum(path.stat().st_size for path in component_files(folder, components, config.backbone.precision))
    size = image_size(config.backbone)
    return f"{folder}, {stored / GB:.1f} GB, {size_text(size)} px, fingerprint {files_fingerprint(config.backbone)}"


def _judge(config: RunConfig) -> str:
    folder = judge_folder(config.benchmark.judge)
    return f"{folder}, {judge_class(folder).__name__}"


def _data(config: RunConfig) -> str:
    return source_of(config.data).check()


def _memory(config: RunConfig, cost: ModelCost) -> list[Check]:
    device = _device_here(config)
    free = free_bytes(device)
    return [
        Check(
            name=f"memory, {stage}",
            ok=need <= free,
            detail=f"about {need / GB:.1f} GB for a batch of {config.batch}, {free / GB:.1f} GB free on {device}"
            + ("" if need <= free else "; lower batch, or set backbone.offload and backbone.checkpointing to true"),
        )
        for stage, need in memory_bytes(config, cost).items()
    ]


def _disk(config: RunConfig, sizes: FileSizes, home: Path) -> Check:
    need = disk_bytes(config, sizes)
    folder = next(path for path in (home, *home.resolve().parents) if path.exists())
    free = shutil.disk_usage(folder).free
    total = sum(need.values())
    parts = ", ".join(f"{name} {size / GB:.2f}" for name, size in need.items())
    enough = total <= free
    return Check(
        name="disk",
        ok=enough,
        detail=f"about {total / GB:.1f} GB ({parts}), {free / GB:.1f} GB free at {folder}"
        + ("" if enough else "; choose another --home, fewer scenes or fewer capture.layers"),
    )


def _time_rehearsed(config: RunConfig, rehearsal: Rehearsal) -> Check:
    return _time(stage_hours(config, rehearsal.prices), f"as rehearsed on {rehearsal.device}")


def _time_counted(config: RunConfig, cost: ModelCost) -> Check:
    device = _device_here(config)
    dtype = torch.float32 if device == "cpu" else getattr(torch, config.backbone.dtype)  # few processors have others
    speed = _product_speed(device, dtype)
    prices = Prices(forward=cost.forward_flops, guided=cost.guided_flops, gradient=cost.gradient_flops)
    operations = {stage: work.total(prices) for stage, work in work_of(config).items()}
    hours = {stage: count / (speed * UTILISATION) / 3600 for stage, count in operations.items()}
    of_speed = f"{UTILISATION:.0%} of the {speed / 1e12:.2g} Tflop/s of this {'CPU' if device == 'cpu' else 'GPU'}"
    return _time(hours, f"counted operations at {of_speed}; 'l2s rehearse' measures it")


def _time(hours: Mapping[str, float], source: str) -> Check:
    parts = ", ".join(f"{stage} {_hours(value)}" for stage, value in hours.items())
    return Check(name="time", ok=None, detail=f"up to {_hours(sum(hours.values()))} h ({parts}), {source}")


def _hours(value: float) -> str:
    """Return hours as people say them: a decimal below a hundred, and none where it would say nothing."""
    return f"{value:.1f}" if value < 100 else f"{value:,.0f}".replace(",", " ")


def _product_speed(device: str, dtype: torch.dtype) -> float:
    """Return the operations a second of one large matrix product."""
    side = 8192 if device == "cuda" else 1024
    a = torch.ones(side, side, dtype=dtype, device=device)
    best = float("inf")
    for _ in range(3):
        if device == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        a @ a
        if device == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return 2 * side**3 / best
