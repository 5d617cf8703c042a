"""Classifiers in the layout of the paper's published code, read from safetensors (README.md, "Import")."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from l2s_core.backbones.load import backbone_without_weights, model_fingerprint
from l2s_core.classifier.checkpoint import DESCRIPTION, TrainedClassifier
from l2s_core.classifier.model import TransformerClassifier, build_classifier
from l2s_core.classifier.published_file import read_published
from l2s_core.config import RunConfig
from l2s_core.dataset.collect import map_source
from l2s_core.dataset.schema import MapSource
from l2s_core.errors import UserError, did_you_mean
from l2s_core.relations import ATTRIBUTE, WORDINGS, relation_named
from l2s_core.storage.files import read_json

PARTS = {
    "object_extractor.input_projection": "enter",
    "object_extractor.timestep_embedding": "step_early",
    "object_extractor.transformer.layers": "extractor",
    "object_extractor.query_vector": "query",
    "object_extractor.layer_attention": "pool",
    "object_extractor.output_projection": "leave",
    "relation_classifier.projection": "join",
    "relation_classifier.transformer.layers": "encoder",
    "relation_classifier.timestep_embedding": "step_late",
    "relation_classifier.fc": "head",
}
"""What the published code calls a part of the classifier, and its name in `TransformerClassifier`."""
POSITION = ".positional_encoding.pe"
POSITION_ERROR = 1e-4  # of sinusoids that were computed in float32
STEP_TABLES = ("step_early.weight", "step_late.weight")
LABELLED = ("head.8.weight", "head.8.bias")  # a row a label
SETTINGS: dict[str, Any] = {
    "classifier.kind": "transformer",
    "classifier.input": "linear",
    "classifier.input_scale": 1.0,
    "classifier.activation": "relu",
    "classifier.joint_position": True,
    "classifier.group_average": False,
    "classifier.labels": "single",
    "capture.softmax": "text",
    "capture.antialias": False,
    "capture.order": "side",
    "capture.attribute_first": False,
    "capture.context": False,
}
"""What a configuration must say for such a classifier to read the maps that it was trained on."""


def read_classifier(
    file: Path, run: RunConfig, *, names: Path | None = None, labels: Sequence[str] | None = None
) -> TrainedClassifier:
    """Return the classifier of a safetensors file, for the maps that a run's model and settings give.

    `names` is a JSON file, {a tensor's name: its name in `TransformerClassifier`, or null for one to leave out}, for
    what is not called as in the published code. `labels` are those of the logits, in their order; left out, they are
    the file's own ("labels" of its metadata), or the run's in the order of the alphabet. No weight of the model is
    read. Raises UserError for a pickle, a tensor that is unknown, missing or of another shape, labels that are not the
    run's, and settings under which the maps are not the ones that it knows.
    """
    _require_settings(run)
    stored = read_published(file)
    backbone = backbone_without_weights(run.backbone, fingerprint=model_fingerprint(run.backbone))
    source = map_source(backbone, run.capture, run.backbone.steps, run.data.labels)
    model = build_classifier(run.classifier, source)
    if not isinstance(model, TransformerClassifier):
        raise TypeError(f"the settings say a transformer, not {type(model).__name__}")
    state = _renamed(file, stored.tensors, _aliases(names, model.state_dict()), model.position)
    for table in STEP_TABLES:
        if table in state:
            state[table] = _captured_rows(file, state[table], source)
    rows = _label_rows(file, labels or stored.labels or sorted(map(_wording, source.relations)), source)
    for name in LABELLED:
        if name in state:
            state[name] = _labelled_rows(file, state[name], rows)
    _require_shapes(file, state, model.state_dict())
    model.load_state_dict(state)
    return TrainedClassifier(model=model.eval().requires_grad_(False), config=run.classifier, source=source)


def import_published(
    file: Path, folder: Path, run: RunConfig, *, names: Path | None = None, labels: Sequence[str] | None = None
) -> MapSource:
    """Write the classifier of `read_classifier` to a folder that has none yet; return the source of its maps."""
    if (folder / DESCRIPTION).exists():
        raise UserError(f"{folder} holds a classifier already; choose another --out, or remove it")
    classifier = read_classifier(file, run, names=names, labels=labels)
    classifier.save(folder)
    return classifier.source


def published_name(name: str) -> str:
    """Return what the published code calls a tensor of `TransformerClassifier`."""
    theirs = {ours: part for part, ours in PARTS.items()}
    part, dot, rest = name.partition(".")
    return f"{theirs[part]}{dot}{rest}"


def _require_settings(run: RunConfig) -> None:
    """Raise UserError for a run whose maps, or whose classifier, are not the published code's."""
    for key, wanted in SETTINGS.items():
        section, field = key.split(".")
        found = getattr(getattr(run, section), field)
        if found != wanted:
            raise UserError(
                f"{key} of {run.name} is {_said(found)}, but classifiers of the paper's layout want {_said(wanted)}; "
                f"set it (--set {key}={_said(wanted)}), or name a configuration that has it, such as sd21"
            )


def _said(value: object) -> str:
    return str(value).lower() if value is None or isinstance(value, bool) else f"{value}"


def _aliases(file: Path | None, known: Iterable[str]) -> dict[str, str | None]:
    """Return the names of a file of `names`."""
    if file is None:
        return {}
    aliases = read_json(file)
    if not isinstance(aliases, dict):
        raise UserError(f"{file} is no mapping; needed: a JSON object of tensors' names to names of ours, or to null")
    for theirs, ours in aliases.items():
        if ours is not None and ours not in known:
            raise UserError(
                f"{file}: {theirs!r} becomes {ours!r}, which is no tensor of this classifier;"
                f"{did_you_mean(ours, known)} allowed: {', '.join(known)}, or null"
            )
    return aliases


def _renamed(
    file: Path, tensors: Mapping[str, Tensor], aliases: Mapping[str, str | None], position: Tensor
) -> dict[str, Tensor]:
    """Return the tensors by our names; tables of positions are compared and left out."""
    state: dict[str, Tensor] = {}
    for theirs, tensor in tensors.items():
        ours = aliases[theirs] if theirs in aliases else _name_of(theirs)
        if ours is None:
            if theirs.endswith(POSITION) and theirs not in aliases:
                _require_position(file, theirs, tensor, position)
            continue
        if ours in state:
            raise UserError(f"{file}: two tensors become {ours!r}, {theirs!r} is the second; mend --names")
        state[ours] = tensor
    unused = next((theirs for theirs in aliases if theirs not in tensors), None)
    if unused is not None:
        raise UserError(f"--names names {unused!r}, but {file} has no such tensor;{did_you_mean(unused, tensors)}")
    return state


def _name_of(theirs: str) -> str | None:
    """Return our name of a tensor, None for a table of positions, and a name that nothing has for an unknown one."""
    if theirs.endswith(POSITION):
        return None
    for part, ours in PARTS.items():
        if theirs == part or theirs.startswith(f"{part}."):
            return ours + theirs.removeprefix(part)
    return theirs


def _require_position(file: Path, name: str, table: Tensor, position: Tensor) -> None:
    """Raise UserError for a table (1, maps or more, width) that is not the sinusoids which are added here."""
    count, width = position.shape
    table = table.reshape(-1, table.shape[-1])[:count]
    if table.shape[-1] != width or (table - position[: len(table)]).abs().max() > POSITION_ERROR:
        raise UserError(
            f"{file}: {name!r} is not the table of sinusoids of width {width} that positions are here; "
            "such a classifier reads something else, and cannot be imported"
        )


def _captured_rows(file: Path, table: Tensor, source: MapSource) -> Tensor:
    """Return the rows of the captured steps of a table that has a row for each of them, or for each step."""
    if len(table) == len(source.steps):
        return table
    if len(table) != source.schedule_steps:
        raise UserError(
            f"{file}: a step embedding has {len(table)} rows; allowed: {source.schedule_steps} (backbone.steps), "
            f"or {len(source.steps)} (capture.steps)"
        )
    return table[list(source.steps)]


def _label_rows(file: Path, labels: Sequence[str], source: MapSource) -> list[int]:
    """Return the place, among `labels`, of every label of the source."""
    named = [ATTRIBUTE if label == ATTRIBUTE else relation_named(label) or label for label in labels]
    if sorted(named) != sorted(source.relations):
        raise UserError(
            f"{file} tells apart {', '.join(labels)}; the configuration's labels are {', '.join(source.relations)}; "
            "data.attributes brings 'is', --labels names a file's own in the order of its logits"
        )
    return [named.index(label) for label in source.relations]


def _labelled_rows(file: Path, table: Tensor, rows: list[int]) -> Tensor:
    """Return the rows of a table that has one for each label."""
    if len(table) != len(rows):
        raise UserError(
            f"{file} tells {len(table)} labels apart, the configuration {len(rows)}; data.attributes brings 'is'"
        )
    return table[rows]


def _wording(label: str) -> str:
    """Return a label as the published code names it."""
    return WORDINGS[label][0] if label in WORDINGS else label


def _require_shapes(file: Path, state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Raise UserError for the first tensor that is unknown, missing or of another shape."""
    ways = "change classifier.layers or classifier.width, or name it in --names"
    for name, tensor in state.items():
        if name not in wanted:
            raise UserError(f"{file} has {_both(name)}, which is no tensor of this configuration's classifier; {ways}")
        if tensor.shape != wanted[name].shape:
            raise UserError(
                f"{file}: {_both(name)} is {_size(tensor)}, but this configuration's classifier wants "
                f"{_size(wanted[name])}; {ways}"
            )
    missing = [name for name in wanted if name not in state]
    if missing:
        raise UserError(f"{file} lacks {_both(missing[0])} and {len(missing) - 1} more tensors; {ways}")


def _both(name: str) -> str:
    part = name.partition(".")[0]
    return f"{published_name(name)!r} (here {name!r})" if part in PARTS.values() else f"{name!r}"


def _size(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape))
