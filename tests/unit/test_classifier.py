"""Both classifiers learn, keep their best epoch, survive the disk and refuse foreign maps."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from helpers.fakes import SOURCE, write_fake_shards
from torch.nn.functional import one_hot

from l2s_core.classifier import training
from l2s_core.classifier.augmentation import drop_channels, shift_maps
from l2s_core.classifier.checkpoint import WEIGHTS, TrainedClassifier
from l2s_core.classifier.experiment import load_result, run_experiment, save_experiment
from l2s_core.classifier.labels import Labels
from l2s_core.classifier.model import LOG_FLOOR, MapInput, build_classifier
from l2s_core.classifier.symmetry import augment, symmetries_of
from l2s_core.classifier.training import train_classifier
from l2s_core.config import ClassifierConfig
from l2s_core.dataset.reader import MapDataset
from l2s_core.errors import UserError
from l2s_core.relations import PLANAR

CONFIGS = {
    "conv": ClassifierConfig(kind="conv", width=8, epochs=8, batch=32, dropout=0.1),
    "conv of maps and logarithms": ClassifierConfig(
        kind="conv", input="both", width=8, epochs=8, batch=32, dropout=0.1
    ),
    "transformer": ClassifierConfig(
        kind="transformer", width=32, feedforward=32, epochs=12, batch=32, dropout=0.0, lr=1e-3
    ),
}


@pytest.mark.parametrize("kind", CONFIGS)
def test_it_learns_geometry_and_survives_the_disk(tmp_path: Path, kind: str) -> None:
    shards = write_fake_shards(tmp_path / "maps")
    classifier, result = run_experiment(CONFIGS[kind], shards)
    assert result.test["accuracy"] > 0.9 and result.test["accuracy_wrong_prompts"] > 0.9
    assert sum(map(sum, result.confusion)) == result.records["test"] > 0
    save_experiment(tmp_path / "c", classifier, result)
    assert load_result(tmp_path / "c") == result
    batch = next(MapDataset(shards, split="test").batches(8))
    loaded = TrainedClassifier.load(tmp_path / "c")
    with torch.no_grad():
        assert torch.equal(
            loaded.model(batch.maps_BOMGG, batch.capture_index_B),
            classifier.model(batch.maps_BOMGG, batch.capture_index_B),
        )


def test_logarithms_take_out_what_the_phrases_of_a_cell_have_in_common() -> None:
    """Attention to a phrase is exp(q k) / Z of the cell: the difference of two phrases' logarithms knows no Z."""
    source = dataclasses.replace(SOURCE, grid=4)
    score = torch.randn(2, 2, source.channels, 4, 4, generator=torch.Generator().manual_seed(0))
    common = torch.tensor([1.0, 20.0]).repeat(8).view(4, 4)
    plain, brighter = score.exp() * 10, score.exp() * 10 * common
    read = {
        kind: MapInput(ClassifierConfig(kind="conv", input=kind, input_scale=1.0), source) for kind in ("linear", "log")
    }
    difference = {
        kind: [(entered[:, 0] - entered[:, 1]) for entered in (module(plain), module(brighter))]
        for kind, module in read.items()
    }
    wanted = (score[:, 0] - score[:, 1]) / 2
    assert all((found - wanted).abs().max() < 0.02 for found in difference["log"])
    assert (difference["linear"][0] - difference["linear"][1]).abs().max() > 10
    empty = torch.zeros_like(plain).requires_grad_(True)
    read["log"](empty).sum().backward()
    assert torch.allclose(empty.grad, torch.tensor(0.5 / LOG_FLOOR))


def test_training_twice_gives_the_same_weights(tmp_path: Path) -> None:
    shards = write_fake_shards(tmp_path)
    models = [run_experiment(CONFIGS["conv"], shards)[0].model.state_dict() for _ in range(2)]
    assert all(torch.equal(models[0][k], models[1][k]) for k in models[0])


def test_the_best_epoch_is_kept_not_the_one_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Early stopping once compared and copied in the wrong order.

    It returned the weights of the epoch after the best.
    """
    shards = write_fake_shards(tmp_path)
    losses = iter([3.0, 1.0, 2.0, 2.5, 9.0])
    states = []
    real = training.evaluate

    def scripted(model, dataset, **options):
        states.append({k: v.clone() for k, v in model.state_dict().items()})
        evaluation = real(model, dataset, **options)
        evaluation.records["loss"] = next(losses)
        return evaluation

    monkeypatch.setattr(training, "evaluate", scripted)
    config = CONFIGS["conv"].model_copy(update={"epochs": 5, "patience": 3})
    train, val = (MapDataset(shards, split=s) for s in ("train", "val"))
    result = train_classifier(config, train, val)
    assert result.best_epoch == 1 and len(result.history) == 5
    kept = result.model.state_dict()
    assert all(torch.equal(kept[k], states[1][k]) for k in kept)
    assert not all(torch.equal(kept[k], states[2][k]) for k in kept)


def test_nothing_to_train_on_is_a_clear_error(tmp_path: Path) -> None:
    shards = write_fake_shards(tmp_path)
    empty = MapDataset(shards, split="train", kinds=())
    val = MapDataset(shards, split="val")
    with pytest.raises(UserError, match="zero records left in the training set.*min_psnr"):
        train_classifier(CONFIGS["conv"], empty, val)


def test_foreign_maps_and_damaged_files_are_refused(tmp_path: Path) -> None:
    classifier = TrainedClassifier(
        model=build_classifier(CONFIGS["conv"], SOURCE), config=CONFIGS["conv"], source=SOURCE
    )
    for change in ({"backbone": "x"}, {"steps": (1, 5)}, {"layers": ("b",)}, {"grid": 8}, {"schedule_steps": 20}):
        with pytest.raises(UserError, match=f"other maps: {next(iter(change))}"):
            classifier.require(dataclasses.replace(SOURCE, **change))
    classifier.save(tmp_path)
    (tmp_path / WEIGHTS).write_bytes((tmp_path / WEIGHTS).read_bytes()[:100])
    with pytest.raises(UserError, match="model.safetensors .*is damaged.*train it again"):
        TrainedClassifier.load(tmp_path)
    with pytest.raises(UserError, match="no classifier in"):
        TrainedClassifier.load(tmp_path / "nowhere")


def test_symmetries_move_labels_with_the_maps() -> None:
    """The subject's mass sits where the label says, before and after."""
    offsets = torch.tensor([[-1, 0], [1, 0], [0, -1], [0, 1]])  # x, y of PLANAR
    assert PLANAR == ("left of", "right of", "above", "below")
    labels = torch.arange(4).repeat(64)
    maps = torch.zeros(len(labels), 2, 1, 9, 9)
    for i, label in enumerate(labels):
        dx, dy = offsets[label].tolist()
        maps[i, 0, 0, 4 + 2 * dy, 4 + 2 * dx] = 1
        maps[i, 1, 0, 4 - 2 * dy, 4 - 2 * dx] = 1
    moved, truth = augment(maps, one_hot(labels, 4).bool(), torch.Generator().manual_seed(0), PLANAR)
    relabelled = truth.long().argmax(1)
    assert (truth.sum(1) == 1).all()
    grid = torch.arange(9.0)
    centre = torch.stack([(moved.sum(-2) * grid).sum(-1), (moved.sum(-1) * grid).sum(-1)], -1)[:, :, 0]  # (B, O, xy)
    assert torch.equal((centre[:, 0] - centre[:, 1]).sign().long(), offsets[relabelled])
    assert (relabelled != labels).float().mean() > 0.5


@pytest.mark.parametrize(
    ("labels", "kind", "grid"),
    [("single", "conv", 16), ("powerset", "conv", 16), ("single", "conv", (5, 8)), ("single", "transformer", (5, 8))],
)
def test_a_group_average_answers_moved_maps_with_moved_labels(tmp_path: Path, labels: str, kind: str, grid) -> None:
    config = ClassifierConfig(kind=kind, width=8, heads=2, head_heads=2, group_average=True, labels=labels)
    source = dataclasses.replace(SOURCE, grid=grid)
    TrainedClassifier(model=build_classifier(config, source), config=config, source=source).save(tmp_path)
    model = TrainedClassifier.load(tmp_path).model
    maps = torch.rand(6, 2, source.channels, *source.cells, generator=torch.Generator().manual_seed(0))
    step = torch.arange(6) % len(SOURCE.steps)
    logits = Labels(labels).log_probability(model(maps, step))
    chosen = symmetries_of(PLANAR, square=grid == 16)
    assert len(chosen) == (4 if grid == 16 else 3)  # maps that are not square cannot be transposed
    for symmetry in chosen:
        moved = Labels(labels).log_probability(model(symmetry.move(maps), step))
        assert (moved[:, symmetry.labels_R] - logits).abs().max() < 1e-6
    assert (logits - logits[:, :1]).abs().max() > 1e-3  # and it does not say the same of everything


def test_shifts_move_both_objects_together_and_channels_drop_whole() -> None:
    maps = torch.zeros(50, 2, 2, 16, 16)
    maps[:, 0, :, 8, 6] = 1.0
    maps[:, 1, :, 8, 10] = 1.0
    moved = shift_maps(maps, 3, torch.Generator().manual_seed(0))
    assert torch.equal(moved.sum((-1, -2)), torch.ones(50, 2, 2))
    columns = moved.sum(-2).argmax(-1)
    assert torch.equal(columns[:, 1] - columns[:, 0], torch.full((50, 2), 4)) and columns.unique().numel() > 4
    low = shift_maps(maps[..., 5:11, :], 3, torch.Generator().manual_seed(0))  # the same moves, of a wide part of it
    inside = low.sum((-1, -2)) > 0
    assert torch.equal(low.sum(-2).argmax(-1)[inside], columns[inside]) and 0 < inside.float().mean() < 1
    dropped = drop_channels(torch.ones(50, 2, 6, 4, 4), 0.5, torch.Generator().manual_seed(0)).flatten(3)
    assert torch.equal(dropped.amax(-1), dropped.amin(-1)) and torch.equal(dropped[:, 0], dropped[:, 1])
    assert set(dropped.unique().tolist()) == {0.0, 2.0}
