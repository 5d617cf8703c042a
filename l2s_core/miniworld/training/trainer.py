"""One resumable training loop for every small model: AdamW, cosine rate, weight average, safe checkpoints."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from l2s_core.config import Section
from l2s_core.storage.decoding import decode_json
from l2s_core.storage.store import START_AGAIN, opened_weights, write_weights

LossFunction = Callable[[nn.Module, int], Tensor]
LogFunction = Callable[[int, dict[str, float]], None]


class TrainPlan(Section):
    """Length, batch and rates of one training.

    At each step of `restarts` the rate begins anew (Loshchilov & Hutter 2017). With `horizon` the rate falls as in a
    training of so many steps, of which this one is the first piece.
    """

    batch: int
    steps: int
    horizon: int | None = None
    restarts: tuple[int, ...] = ()
    lr: float
    weight_decay: float = 0.01
    warmup: int = 100
    ema: float = 0.999
    clip: float = 1.0
    log_every: int = 25
    checkpoint_every: int = 250
    channels_last: bool = False
    bfloat16: bool = False

    def rate(self, step: int) -> float:
        """Learning rate at a step: linear warm-up, then half a cosine down to 1 % of `lr`, in every round."""
        edges = (0, *self.restarts, max(self.steps, self.horizon or 0))
        begin = max(edge for edge in edges[:-1] if edge <= step)
        step = step - begin
        length = min(edge for edge in edges if edge > begin) - begin
        if step < self.warmup:
            return self.lr * (step + 1) / self.warmup
        progress = (step - self.warmup) / max(1, length - self.warmup)
        return self.lr * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))


@dataclass(frozen=True, kw_only=True)
class Observers:
    """Who hears of a training.

    `log(step, values)` comes every `log_every` steps, `on_checkpoint(step)` after each checkpoint, while the model
    holds its averaged weights.
    """

    log: LogFunction | None = None
    on_checkpoint: Callable[[int], None] | None = None


def fit(
    model: nn.Module,
    loss_function: LossFunction,
    plan: TrainPlan,
    *,
    checkpoint: Path,
    device: str = "cpu",
    seed: int = 0,
    observers: Observers = Observers(),
) -> nn.Module:
    """Train `model` in place and return it holding the averaged weights, in float32 on the CPU.

    `loss_function(model, step)` must draw its batch from `step` alone, so that a training killed at any
    moment and started again from `checkpoint` sees the same batches.
    """
    model.to(device).train()
    if plan.channels_last:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack it
    training = _Training(model, plan)
    start = training.restore(checkpoint)
    window: list[float] = []
    began = time.monotonic()
    for step in range(start, plan.steps):
        torch.manual_seed(seed * 1_000_003 + step)
        window.append(training.step(loss_function, step))
        done = step + 1
        if observers.log and (done % plan.log_every == 0 or done == plan.steps):
            pace = (time.monotonic() - began) / (done - start)
            observers.log(done, {"loss": sum(window) / len(window), "lr": plan.rate(step), "seconds_per_step": pace})
            window.clear()
        if done % plan.checkpoint_every == 0 or done == plan.steps:
            training.store(checkpoint, done)
            if observers.on_checkpoint:
                with training.showing_average():
                    observers.on_checkpoint(done)
    training.take_average()
    return model.to("cpu").eval()


class _Training:
    """A model with its optimizer and the running average of its weights."""

    def __init__(self, model: nn.Module, plan: TrainPlan) -> None:
        self.model = model
        self.plan = plan
        self.trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.optimizer = torch.optim.AdamW(
            self.trainable.values(), lr=plan.lr, weight_decay=plan.weight_decay, betas=(0.9, 0.99)
        )
        self.average = {name: p.detach().clone() for name, p in self.trainable.items()}

    def step(self, loss_function: LossFunction, step: int) -> float:
        """Take a step, unless its gradient is not finite; return the loss."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.plan.rate(step)
        loss = loss_function(self.model, step)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.trainable.values(), self.plan.clip)
        if torch.isfinite(norm):
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        decay = min(self.plan.ema, (1 + step) / (10 + step))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.values()), [p.detach() for p in self.trainable.values()], 1 - decay)
        return loss.item()

    @contextmanager
    def showing_average(self) -> Iterator[None]:
        """Have the model hold its averaged weights for the length of the block, in evaluation mode."""
        kept = {name: p.detach().clone() for name, p in self.trainable.items()}
        self.take_average()
        self.model.eval()
        try:
            yield
        finally:
            self._hold(kept)
        self.model.train()
        for parameter in self.trainable.values():
            parameter.requires_grad_(True)

    def take_average(self) -> None:
        """Have the model hold its averaged weights."""
        self._hold(self.average)

    def _hold(self, values: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            for name, parameter in self.trainable.items():
                parameter.copy_(values[name])

    def store(self, path: Path, step: int) -> None:
        """Write the state after so many steps."""
        tensors = {}
        for name, parameter in self.trainable.items():
            state = self.optimizer.state[parameter]
            tensors[f"weight/{name}"] = parameter.detach()
            tensors[f"average/{name}"] = self.average[name]
            tensors[f"first/{name}"] = state["exp_avg"]
            tensors[f"second/{name}"] = state["exp_avg_sq"]
        tensors |= {f"buffer/{name}": buffer for name, buffer in self._statistics().items()}
        write_weights(path, tensors, {"step": step})

    def restore(self, path: Path) -> int:
        """Take up the state that is stored; return the number of steps that are done, 0 where there is none."""
        step = stored_step(path)
        if step == 0:
            return 0
        with opened_weights(path, START_AGAIN) as stored, torch.no_grad():
            for name, parameter in self.trainable.items():
                parameter.copy_(stored.get_tensor(f"weight/{name}"))
                self.average[name].copy_(stored.get_tensor(f"average/{name}"))
                self.optimizer.state[parameter] = {
                    "step": torch.tensor(float(step)),
                    "exp_avg": stored.get_tensor(f"first/{name}").to(parameter),
                    "exp_avg_sq": stored.get_tensor(f"second/{name}").to(parameter),
                }
            for name, buffer in self._statistics().items():
                buffer.copy_(stored.get_tensor(f"buffer/{name}"))
        for name, buffer in self.model.named_buffers():
            if name.endswith("num_batches_tracked"):  # one batch a step
                buffer.add_(step)
        return min(step, self.plan.steps)

    def _statistics(self) -> dict[str, Tensor]:
        """Floating-point buffers that training changes (batch-norm statistics)."""
        buffers = self.model.named_buffers()
        return {name: b for name, b in buffers if b.is_floating_point() and "running_" in name}


def stored_step(path: Path) -> int:
    """Return the step that a checkpoint was written at, 0 where there is none."""
    if not path.exists():
        return 0
    with opened_weights(path, START_AGAIN) as stored:
        return int(decode_json(stored.metadata()["state"].encode())["step"])
