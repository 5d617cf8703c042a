"""Training with early stopping that keeps the best epoch, and evaluation broken down."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import pandas as pd
import torch
from torch import Tensor, nn

from l2s_core.classifier.augmentation import augment_batch
from l2s_core.classifier.labels import Labels, all_read, hits
from l2s_core.classifier.model import build_classifier
from l2s_core.config import ClassifierConfig
from l2s_core.data.scenes import PromptKind
from l2s_core.dataset.reader import MapDataset, RelationMaps
from l2s_core.errors import UserError
from l2s_core.relations import PLANAR

KINDS: dict[str, tuple[PromptKind, ...]] = {"dual": tuple(PromptKind), "true": (PromptKind.POS,)}
"""The prompt kinds that `ClassifierConfig.prompts` names."""
PLATEAU_PATIENCE = 5  # epochs without progress before the rate is halved (METHOD)

EpochFunction = Callable[[int, dict[str, float]], None]
"""(epoch, its metrics) -> None, after each epoch."""
BatchFunction = Callable[[float], None]
"""(share of an epoch) -> None, after each batch of training."""


@dataclass(kw_only=True)
class TrainingResult:
    """The best epoch's model, its number, and the whole history."""

    model: nn.Module
    best_epoch: int
    history: list[dict[str, float]] = field(default_factory=list)


def train_classifier(
    config: ClassifierConfig,
    train: MapDataset,
    val: MapDataset,
    *,
    device: str = "cpu",
    on_epoch: EpochFunction | None = None,
    on_batch: BatchFunction | None = None,
) -> TrainingResult:
    """Train on `train`, stop when the loss on `val` has not improved for `patience` epochs.

    Both sets must already be limited to the prompt kinds that `config.prompts` names, and to records of one true label
    where `config.labels` takes no other. Raises UserError when one of them is empty.
    """
    _require_records("training", train)
    _require_records("validation", val)
    model = build_classifier(config, train.source).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer,
        factor=0.5,
        patience=PLATEAU_PATIENCE,
        threshold=config.plateau_threshold,
        min_lr=config.min_lr,
    )
    generator = torch.Generator().manual_seed(config.seed)
    result = TrainingResult(model=model, best_epoch=-1)
    best_loss = float("inf")
    best_state = copy.deepcopy(model.state_dict())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)  # dropout
        for epoch in range(config.epochs):
            batches = _told(train.batches(config.batch, seed=config.seed, epoch=epoch), len(train), on_batch)
            train_loss, train_accuracy = _train_epoch(
                model, optimizer, config, batches, generator, train.source.relations, device
            )
            metrics = evaluate(model, val, labels=Labels(config.labels), device=device).summary()
            row = {
                "train_loss": train_loss,
                "train_accuracy": train_accuracy,
                "lr": optimizer.param_groups[0]["lr"],
                **{f"val_{k}": v for k, v in metrics.items()},
            }
            result.history.append(row)
            if on_epoch:
                on_epoch(epoch, row)
            plateau.step(row["val_loss"])
            if row["val_loss"] < best_loss:
                best_loss = row["val_loss"]
                result.best_epoch = epoch
                best_state = copy.deepcopy(model.state_dict())
            elif epoch - result.best_epoch >= config.patience:
                break
    model.load_state_dict(best_state)
    model.eval().requires_grad_(False)
    return result


def _require_records(name: str, dataset: MapDataset) -> None:
    if len(dataset) == 0:
        raise UserError(
            f"zero records left in the {name} set; lower inversion.min_psnr, raise inversion.iterations or add scenes"
        )


def _told(batches: Iterable[RelationMaps], records: int, on_batch: BatchFunction | None) -> Iterator[RelationMaps]:
    """Yield batches, and tell of each when it is done."""
    for batch in batches:
        yield batch
        if on_batch:
            on_batch(len(batch.truth_BR) / records)


def _train_epoch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    config: ClassifierConfig,
    batches: Iterable[RelationMaps],
    generator: torch.Generator,
    names: Sequence[str],
    device: str,
) -> tuple[float, float]:
    model.train()
    labels = Labels(config.labels)
    loss_sum = 0.0
    right = 0
    count = 0
    for batch in batches:
        maps = batch.maps_BOMGG.to(device)
        truth_BR = batch.truth_BR.to(device)
        maps, truth_BR = augment_batch(config, maps, truth_BR, generator, names)
        logits_BR = model(maps, batch.capture_index_B.to(device))
        loss = labels.loss(logits_BR, truth_BR).mean()
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimizer.step()
        loss_sum += loss.item() * len(truth_BR)
        right += int(hits(labels.of_labels(logits_BR), truth_BR).sum())
        count += len(truth_BR)
    return loss_sum / count, right / count


@dataclass(kw_only=True)
class Evaluation:
    """Per-record predictions: columns label, predicted, loss, prompt_is_true, step, true and all_read.

    Labels count in `relations`. `label` is a true one: that which was predicted, or where none was, the first. `true`
    is how many are, and `all_read` whether the likeliest ones are all of them.
    """

    records: pd.DataFrame
    relations: tuple[str, ...] = PLANAR

    def summary(self) -> dict[str, float]:
        """Loss and accuracy over all, by prompt kind, by step and by relation.

        Any true label counts as right. Records of two have the accuracy `diagonals`, and that of reading both.
        """
        records = self.records.assign(hit=self.records.label == self.records.predicted)
        values = {"loss": records.loss.mean(), "accuracy": records.hit.mean()}
        for prompt_is_true, share in records.groupby("prompt_is_true").hit.mean().items():
            values[f"accuracy_{'true' if prompt_is_true else 'wrong'}_prompts"] = share
        for step, share in records.groupby("step").hit.mean().items():
            values[f"accuracy_step_{step}"] = share
        for label, share in records.groupby("label").hit.mean().items():
            values[f"accuracy_{self.relations[label].replace(' ', '_')}"] = share
        several = records[records.true > 1]
        if len(several):
            values["accuracy_diagonals"] = several.hit.mean()
            values["accuracy_diagonals_both"] = several.all_read.mean()
        return {name: float(value) for name, value in values.items()}

    def confusion(self) -> list[list[int]]:
        """Counts, rows true, columns predicted, in the order of the relations."""
        table = pd.crosstab(self.records.label, self.records.predicted)
        size = range(len(self.relations))
        counts: list[list[int]] = table.reindex(index=size, columns=size, fill_value=0).to_numpy().tolist()
        return counts


@torch.no_grad()
def evaluate(
    model: nn.Module, dataset: MapDataset, *, labels: Labels = Labels.SINGLE, device: str = "cpu", batch: int = 256
) -> Evaluation:
    """Run the classifier over a dataset; `labels` says what its answers mean."""
    model.eval()
    names = ("label", "predicted", "loss", "prompt_is_true", "step", "true", "all_read")
    columns: dict[str, list[Tensor]] = {name: [] for name in names}
    steps = torch.tensor(dataset.source.steps)
    for part in dataset.batches(batch):
        logits = model(part.maps_BOMGG.to(device), part.capture_index_B.to(device)).cpu()
        logits_BR = labels.of_labels(logits)
        predicted_B = logits_BR.argmax(-1)
        first_B = part.truth_BR.long().argmax(-1)
        columns["label"].append(torch.where(hits(logits_BR, part.truth_BR), predicted_B, first_B))
        columns["predicted"].append(predicted_B)
        columns["true"].append(part.truth_BR.sum(-1))
        columns["all_read"].append(all_read(logits_BR, part.truth_BR))
        columns["loss"].append(labels.loss(logits, part.truth_BR))
        columns["prompt_is_true"].append(part.prompt_is_true_B)
        columns["step"].append(steps[part.capture_index_B])
    records = pd.DataFrame({k: torch.cat(v).numpy() if v else [] for k, v in columns.items()})
    return Evaluation(records=records, relations=dataset.source.relations)
