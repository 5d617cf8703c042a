"""Train the small world's models, with their curves and grids in MLflow."""

from __future__ import annotations

from pathlib import Path

from tqdm import tqdm

from l2s_core.backbones.load import pick_device
from l2s_core.miniworld.training.pretrain import PretrainConfig, length_of, pretrain
from tasks.stage_task import GPU, accelerator, stage_task
from tasks.tracking.pretrain_run import PretrainRun


@stage_task(name="pretrain", tags=[GPU])
def pretrain_models(config: PretrainConfig, work: Path, device: str, home: Path) -> Path:
    """Train from the last checkpoints on; return the folder of the finished models."""
    run = PretrainRun(home, config)
    bars = {}

    def observe(model: str, step: int, values: dict[str, float]) -> None:
        if model not in bars:
            bars[model] = tqdm(desc=f"pretrain {model}", dynamic_ncols=True, total=length_of(config, model))
        bars[model].update(step - bars[model].n)
        bars[model].set_postfix({k: f"{v:.3g}" for k, v in values.items() if k in ("loss", "psnr")})
        run.log(model, step, values)

    try:
        with accelerator():
            out = pretrain(config, work, device=pick_device(device), observe=observe)
    finally:
        for bar in bars.values():
            bar.close()
    run.finish(work)
    return out
