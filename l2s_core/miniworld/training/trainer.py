"""One resumable training loop for every small model: AdamW, cosine rate, weight average, safe checkpoints."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from l2s_core.config import Section
from l2s_core.storage.files import atomic_path

LossFunction = Callable[[nn.Module, int], Tensor]
LogFunction = Callable[[int, dict[str, float]], None]


class TrainPlan(Section):
    """Length, batch and rates of one training.

    At each step of `restarts` the rate begins anew (Loshchilov & Hutter 2017).
    """

    batch: int
    steps: int
    restarts: tuple[int, ...] = ()
    lr: float
    weight_decay: float = 0.01
    warmup: int = 100
    ema: float = 0.999
    clip: float = 1.0
    log_every: int = 25
    checkpoint_every: int = 250
    channels_last: bool = False

    def rate(self, step: int) -> float:
        """Learning rate at a step: linear warm-up, then half a cosine down to 1 % of `lr`, in every round."""
        edges = (0, *self.restarts, self.steps)
        begin = max(edge for edge in edges[:-1] if edge <= step)
        step = step - begin
        length = min(edge for edge in edges if edge > begin) - begin
        if step < self.warmup:
            return self.lr * (step + 1) / self.warmup
        progress = (step - self.warmup) / max(1, length - self.warmup)
        return self.lr * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))


def fit(
    model: nn.Module,
    loss_function: LossFunction,
    plan: TrainPlan,
    *,
    checkpoint: Path,
    device: str = "cpu",
    log: LogFunction | None = None,
    on_checkpoint: Callable[[int], None] | None = None,
    seed: int = 0,
) -> nn.Module:
    """Train `model` in place and return it holding the averaged weights, in float32 on the CPU.

    `loss_function(model, step)` must draw its batch from `step` alone, so that a training killed at any
    moment and started again from `checkpoint` sees the same batches. `on_checkpoint(step)` is called
    after each checkpoint, while the model holds its averaged weights.
    """
    model.to(device).train()
    if plan.channels_last:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack it
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW(trainable.values(), lr=plan.lr, weight_decay=plan.weight_decay, betas=(0.9, 0.99))
    average = {name: p.detach().clone() for name, p in trainable.items()}
    start = _restore(checkpoint, model, trainable, average, optimizer, plan)
    window: list[float] = []
    began = time.monotonic()
    began_step = start
    for step in range(start, plan.steps):
        torch.manual_seed(seed * 1_000_003 + step)
        for group in optimizer.param_groups:
            group["lr"] = plan.rate(step)
        loss = loss_function(model, step)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(trainable.values(), plan.clip)
        if torch.isfinite(norm):
            optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        decay = min(plan.ema, (1 + step) / (10 + step))
        with torch.no_grad():
            torch._foreach_lerp_(list(average.values()), [p.detach() for p in trainable.values()], 1 - decay)
        window.append(loss.item())
        done = step + 1
        if log and (done % plan.log_every == 0 or done == plan.steps):
            pace = (time.monotonic() - began) / (done - began_step)
            log(done, {"loss": sum(window) / len(window), "lr": plan.rate(step), "seconds_per_step": pace})
            window.clear()
        if done % plan.checkpoint_every == 0 or done == plan.steps:
            _store(checkpoint, done, model, trainable, average, optimizer)
            if on_checkpoint:
                with _holding(trainable, average):
                    model.eval()
                    on_checkpoint(done)
                model.train()
                for parameter in trainable.values():
                    parameter.requires_grad_(True)
    with torch.no_grad():
        for name, parameter in trainable.items():
            parameter.copy_(average[name])
    return model.to("cpu").eval()


@contextmanager
def _holding(trainable: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> Iterator[None]:
    """Let the parameters hold other values for the length of the block."""
    kept = {name: p.detach().clone() for name, p in trainable.items()}
    with torch.no_grad():
        for name, parameter in trainable.items():
            parameter.copy_(values[name])
    try:
        yield
    finally:
        with torch.no_grad():
            for name, parameter in trainable.items():
                parameter.copy_(kept[name])


def _statistics(model: nn.Module) -> dict[str, Tensor]:
    """Floating-point buffers that training changes (batch-norm statistics)."""
    return {name: b for name, b in model.named_buffers() if b.is_floating_point() and "running_" in name}


def _store(
    path: Path, step: int, model: nn.Module, trainable: dict, average: dict, optimizer: torch.optim.Optimizer
) -> None:
    tensors = {}
    for name, parameter in trainable.items():
        state = optimizer.state[parameter]
        tensors[f"weight/{name}"] = parameter.detach()
        tensors[f"average/{name}"] = average[name]
        tensors[f"first/{name}"] = state["exp_avg"]
        tensors[f"second/{name}"] = state["exp_avg_sq"]
    tensors |= {f"buffer/{name}": buffer for name, buffer in _statistics(model).items()}
    with atomic_path(path) as temporary:
        save_file(
            {k: v.contiguous() for k, v in tensors.items()}, temporary, metadata={"state": json.dumps({"step": step})}
        )


def _restore(
    path: Path, model: nn.Module, trainable: dict, average: dict, optimizer: torch.optim.Optimizer, plan: TrainPlan
) -> int:
    if not path.exists():
        return 0
    with safe_open(path, "pt") as stored, torch.no_grad():
        step = json.loads(stored.metadata()["state"])["step"]
        for name, parameter in trainable.items():
            parameter.copy_(stored.get_tensor(f"weight/{name}"))
            average[name].copy_(stored.get_tensor(f"average/{name}"))
            optimizer.state[parameter] = {
                "step": torch.tensor(float(step)),
                "exp_avg": stored.get_tensor(f"first/{name}").to(parameter),
                "exp_avg_sq": stored.get_tensor(f"second/{name}").to(parameter),
            }
        for name, buffer in _statistics(model).items():
            buffer.copy_(stored.get_tensor(f"buffer/{name}"))
    return min(step, plan.steps)
