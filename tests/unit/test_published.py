"""Classifiers in the layout of the paper's published code become ours; what does not fit is one clear line."""

from __future__ import annotations

import json
import math
import pickle
import re
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file
from torch import Tensor, nn

from flows.cli import main
from l2s_core.backbones.load import load_backbone
from l2s_core.classifier import published_file
from l2s_core.classifier.checkpoint import TrainedClassifier
from l2s_core.classifier.published import import_published, read_classifier
from l2s_core.classifier.published_file import read_published
from l2s_core.config import RunConfig, load_run_config
from l2s_core.dataset.collect import map_source
from l2s_core.errors import UserError
from l2s_core.relations import LABELS

SMALL = {"backbone.size": None, "backbone.dtype": "float32", "device": "cpu"}
RUNS = {  # the paper's configurations over the models that ship
    "sd21": {**SMALL, "backbone.model": "mini-sd"},
    "flux-schnell": {**SMALL, "backbone.model": "mini-flux", "backbone.size": 64},
}
ALPHABET = ("above", "below", "is", "to the left of", "to the right of")
OURS = {"to the left of": "left of", "to the right of": "right of"}


def run_of(name: str, **more: Any) -> RunConfig:
    return load_run_config(name, {**RUNS[name], **more})


class Published(nn.Module):
    """A classifier whose parts have the names and shapes of the paper's code, written for this test.

    Step embeddings have a row for every step of the schedule, and tables of positions are stored.
    """

    def __init__(self, run: RunConfig, channels: int, labels: int) -> None:
        super().__init__()
        config = run.classifier
        width = config.width
        cells = run.capture.grid**2

        def encoder(heads: int) -> nn.Module:
            layer = nn.TransformerEncoderLayer(
                width, heads, config.feedforward, 0.3, "relu", batch_first=True, norm_first=True
            )
            return nn.TransformerEncoder(layer, config.layers, enable_nested_tensor=False)

        extractor = nn.Module()
        extractor.input_projection = nn.Linear(cells, width)
        extractor.timestep_embedding = nn.Embedding(run.backbone.steps, width)
        extractor.positional_encoding = table(channels, width)
        extractor.transformer = encoder(config.heads)
        extractor.query_vector = nn.Parameter(torch.randn(1, 1, width))
        extractor.layer_attention = nn.MultiheadAttention(width, config.heads, batch_first=True)
        extractor.output_projection = nn.Linear(width, cells)
        relation = nn.Module()
        relation.projection = nn.Linear(2 * cells, width)
        relation.positional_encoding = table(256, width)
        relation.transformer = encoder(config.head_heads)
        relation.timestep_embedding = nn.Embedding(run.backbone.steps, 16)
        sizes = [(width + 16, width), (width, width // 2)]
        hidden = [
            part for a, b in sizes for part in (nn.Linear(a, b), nn.LayerNorm(b), nn.LeakyReLU(0.1), nn.Dropout())
        ]
        relation.fc = nn.Sequential(*hidden, nn.Linear(width // 2, labels))
        self.object_extractor = extractor
        self.relation_classifier = relation

    def forward(self, maps: Tensor, step: Tensor) -> Tensor:
        """Logits of maps (B, 2, M, G, G) at steps of the schedule."""
        extractor = self.object_extractor
        relation = self.relation_classifier
        found = []
        for place in range(2):
            tokens = extractor.input_projection(maps[:, place].flatten(2)) + extractor.positional_encoding.pe
            for layer in extractor.transformer.layers:
                tokens = layer(tokens + extractor.timestep_embedding(step)[:, None])
            query = extractor.query_vector.expand(len(maps), 1, -1)
            found.append(extractor.output_projection(extractor.layer_attention(query, tokens, tokens)[0][:, 0]))
        joint = relation.projection(torch.cat(found, 1))[:, None] + relation.positional_encoding.pe[:, :1]
        joint = relation.transformer(joint)[:, 0]
        return relation.fc(torch.cat([joint, relation.timestep_embedding(step)], 1))


def table(length: int, width: int) -> nn.Module:
    """Sines and cosines by their definition, as a buffer `pe`."""
    rows = [
        [(math.sin, math.cos)[i % 2](p / 10_000 ** ((i - i % 2) / width)) for i in range(width)] for p in range(length)
    ]
    module = nn.Module()
    module.register_buffer("pe", torch.tensor([rows]))
    return module


def published(run: RunConfig, channels: int) -> Published:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = Published(run, channels, len(ALPHABET)).eval()
        for parameter in model.parameters():  # weights as after training: no zero biases, no even norms
            parameter.data += 0.1 * torch.randn_like(parameter)
    return model


def write(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> Path:
    save_file({name: tensor.clone().contiguous() for name, tensor in tensors.items()}, path, metadata)
    return path


def channels_of(name: str) -> int:
    run = run_of(name)
    return map_source(load_backbone(run.backbone, "cpu"), run.capture, run.backbone.steps).channels


@pytest.fixture(scope="module")
def tensors() -> dict[str, Tensor]:
    return dict(published(run_of("sd21"), channels_of("sd21")).state_dict())


@torch.no_grad()
@pytest.mark.parametrize("name", RUNS)
def test_an_imported_classifier_answers_as_its_own_code_does(name: str, tmp_path: Path) -> None:
    """Logits, label by label, at every captured step; and 'l2s benchmark' takes the folder for this model's maps."""
    run = run_of(name)
    backbone = load_backbone(run.backbone, "cpu")
    source = map_source(backbone, run.capture, run.backbone.steps, run.data.labels)
    theirs = published(run, source.channels)
    file = write(tmp_path / "theirs.safetensors", theirs.state_dict())
    assert import_published(file, tmp_path / "ours", run) == source
    ours = TrainedClassifier.load(tmp_path / "ours")
    ours.require(source)
    maps = torch.rand(6, 2, source.channels, 16, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    maps = maps**20 / (maps**20).sum((-1, -2), keepdim=True)
    index = torch.arange(6) % len(source.steps)
    logits = theirs.double()(maps, torch.tensor(source.steps)[index])
    found = ours.model.double()(maps, index)
    order = [LABELS.index(OURS.get(label, label)) for label in ALPHABET]
    assert logits.std(0).max() > 1e-3 and (found[:, order] - logits).abs().max() < 1e-6


def test_labels_and_names_of_its_own(tensors: dict[str, Tensor], tmp_path: Path) -> None:
    """The file's labels go before the alphabet's order, those that are given before both; so do names."""
    run = run_of("sd21")
    plain = read_classifier(write(tmp_path / "a.safetensors", tensors), run).model.state_dict()
    backwards = json.dumps(ALPHABET[::-1])
    stated = write(tmp_path / "b.safetensors", tensors, {"labels": backwards})
    swapped = read_classifier(stated, run).model.state_dict()["head.8.bias"]
    bias = tensors["relation_classifier.fc.8.bias"]
    assert torch.equal(plain["head.8.bias"], bias[[3, 4, 0, 1, 2]]) and torch.equal(swapped, bias[[1, 0, 4, 3, 2]])
    again = read_classifier(stated, run, labels=ALPHABET).model.state_dict()
    assert all(torch.equal(again[name], plain[name]) for name in plain)

    renamed = {("mine" if name.endswith("query_vector") else name): tensor for name, tensor in tensors.items()}
    captured = list(run.capture.steps)
    for name in ("object_extractor", "relation_classifier"):
        renamed[f"{name}.timestep_embedding.weight"] = renamed[f"{name}.timestep_embedding.weight"][captured]
    file = write(tmp_path / "c.safetensors", {**renamed, "count": torch.ones(1)})
    names = tmp_path / "names.json"
    names.write_text(json.dumps({"mine": "query", "count": None}))
    same = read_classifier(file, run, names=names).model.state_dict()
    assert all(torch.equal(same[name], plain[name]) for name in plain)
    for wrong, message in (
        ({"mine": "querry"}, "'mine' becomes 'querry', .* did you mean 'query'"),
        ({"mine": "query", "other": None}, "--names names 'other', but .*c.safetensors has no such tensor"),
        ({"mine": "enter.bias", "count": None}, "two tensors become 'enter.bias', .* is the second; mend --names"),
        (["mine"], "is no mapping"),
    ):
        names.write_text(json.dumps(wrong))
        with pytest.raises(UserError, match=message):
            read_classifier(file, run, names=names)


FC = "relation_classifier.fc.8.bias"
QUERY = "object_extractor.query_vector"
STEPS = "object_extractor.timestep_embedding.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({QUERY: None}, "lacks 'object_extractor.query_vector' .here 'query'. and 0 more tensors"),
        ({"other": torch.ones(1)}, "has 'other', which is no tensor of this configuration's classifier; .*--names"),
        ({QUERY: torch.ones(1, 1, 8)}, "query_vector' .here 'query'. is 1 x 1 x 8, but .* wants 1 x 1 x 256"),
        (
            {QUERY: torch.full((1, 1, 256), float("nan"))},
            "not finite numbers, as object_extractor.query_vector; train",
        ),
        ({STEPS: torch.ones(7, 256)}, "step embedding has 7 rows; allowed: 50 .backbone.steps., or 6 .capture.steps."),
        ({FC: torch.ones(4)}, "tells 4 labels apart, the configuration 5; data.attributes"),
        ({"object_extractor.positional_encoding.pe": torch.ones(1, 28, 256)}, "is not the table of sinusoids"),
    ],
)
def test_what_does_not_fit_is_one_clear_line(
    change: dict[str, Tensor | None], message: str, tensors: dict[str, Tensor], tmp_path: Path
) -> None:
    changed = {name: tensor for name, tensor in {**tensors, **change}.items() if tensor is not None}
    with pytest.raises(UserError, match=message) as error:
        read_classifier(write(tmp_path / "a.safetensors", changed), run_of("sd21"))
    assert "\n" not in str(error.value)


def test_labels_that_are_not_the_runs_are_named(tensors: dict[str, Tensor], tmp_path: Path) -> None:
    file = write(tmp_path / "a.safetensors", tensors)
    for labels in (ALPHABET[:4], (*ALPHABET[:4], "near")):
        with pytest.raises(UserError, match=f"tells apart {', '.join(labels)}; the configuration's labels are"):
            read_classifier(file, run_of("sd21"), labels=labels)
    for bad in ("no json", '{"a": 1}'):
        with pytest.raises(UserError, match="labels in its metadata is .* allowed: a JSON list of texts"):
            read_classifier(write(tmp_path / "b.safetensors", tensors, {"labels": bad}), run_of("sd21"))


def test_other_maps_than_the_papers_are_refused(tensors: dict[str, Tensor], tmp_path: Path) -> None:
    """A classifier that reads channels in another order, or phrases, would answer, and be wrong."""
    file = write(tmp_path / "a.safetensors", tensors)
    for setting, value in (("capture.order", "layers"), ("capture.attribute_first", True), ("capture.antialias", True)):
        with pytest.raises(UserError, match=rf"{setting} of sd21 is {str(value).lower()}, .*--set {setting}="):
            read_classifier(file, run_of("sd21", **{setting: value}))
    with pytest.raises(UserError, match="classifier.kind of mini-sd is conv, .* want transformer"):
        read_classifier(file, load_run_config("mini-sd"))


class Harmful:
    """Creates a file when it is unpickled."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple:
        return Path.touch, (self.proof,)


def test_pickles_are_refused_whatever_they_are_called(tmp_path: Path) -> None:
    proof = tmp_path / "ran"
    for name in ("model.pth", "model.PT", "model.bin", "model.ckpt", "model.safetensors"):
        file = tmp_path / name
        file.write_bytes(pickle.dumps(Harmful(proof)))
        with pytest.raises(UserError, match="is a pickle, .* throwaway environment, with weights_only=True"):
            read_classifier(file, run_of("sd21"))
    archive = tmp_path / "archive.safetensors"
    torch.save({"a": torch.ones(1)}, archive)
    with pytest.raises(UserError, match="is a pickle"):
        read_classifier(archive, run_of("sd21"))
    (tmp_path / "cut.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{")
    with pytest.raises(UserError, match="cut.safetensors holds no weights .*; convert or fetch it again"):
        read_classifier(tmp_path / "cut.safetensors", run_of("sd21"))
    assert not proof.exists()


def test_the_guides_lines_make_safetensors_of_a_checkpoint(
    tensors: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkpoint as the paper's code saves it: weights, labels and settings in one pickle."""
    guide = (Path(published_file.__file__).parent / "README.md").read_text(encoding="utf-8")
    lines = re.search(r"<<'END'\n(.*?)^    END$", guide, re.M | re.S).group(1)
    places = {label: str(place) for place, label in enumerate(reversed(ALPHABET))}
    stored = {"model_state_dict": tensors, "rel_name_to_idx": places, "input_channels": 28, "config": {"map_size": 16}}
    torch.save(stored, tmp_path / "model.pth")
    monkeypatch.setattr(sys, "argv", ["-", str(tmp_path / "model.pth"), str(tmp_path / "theirs.safetensors")])
    exec(compile(textwrap.dedent(lines), "README.md", "exec"), {})
    found = read_published(tmp_path / "theirs.safetensors")
    assert found.labels == list(reversed(ALPHABET)) and found.tensors.keys() == tensors.keys()
    assert all(torch.equal(found.tensors[name], tensors[name]) for name in tensors)
    torch.save({**stored, "model_state_dict": Harmful(tmp_path / "ran")}, tmp_path / "model.pth")
    with pytest.raises(pickle.UnpicklingError):
        exec(compile(textwrap.dedent(lines), "README.md", "exec"), {})
    assert not (tmp_path / "ran").exists()


def test_the_guide_names_every_tensor(tensors: dict[str, Tensor]) -> None:
    guide = (Path(published_file.__file__).parent / "README.md").read_text(encoding="utf-8")
    for name in tensors:
        part = re.sub(r"layers[.].*", "layers.i", name).removesuffix(".weight").removesuffix(".bias")
        part = re.sub(r"(fc|layer_attention)[.].*", r"\1", part)
        assert f"`{part}" in guide


def test_the_command_makes_a_folder_and_keeps_one_that_is_there(tensors: dict[str, Tensor], tmp_path: Path) -> None:
    file = write(tmp_path / "theirs.safetensors", tensors)
    sets = [part for key, value in RUNS["sd21"].items() for part in ("--set", f"{key}={json.dumps(value)}")]
    command = ["import-classifier", str(file), "--config", "sd21", "--out", str(tmp_path / "ours"), *sets]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0 and "a classifier of 28 maps at steps 5, 10, 15, 20, 25, 49 in" in done.output
    assert f"l2s benchmark sd21 --classifier {tmp_path / 'ours'} --set backbone.size=null" in done.output
    assert {path.name for path in (tmp_path / "ours").iterdir()} == {"model.safetensors", "classifier.json"}
    again = CliRunner().invoke(main, command)
    assert again.exit_code == 2 and "holds a classifier already; choose another --out" in again.output
