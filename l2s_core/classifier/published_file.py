"""The file of a classifier that was trained elsewhere: safetensors alone, and labels in its metadata."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from l2s_core.errors import UserError
from l2s_core.storage.decoding import decode_json
from l2s_core.storage.store import opened_weights, read_weights, require_finite

PICKLES = (".pth", ".pt", ".bin", ".ckpt", ".pkl", ".pickle")
PICKLE_STARTS = (b"PK\x03\x04", b"\x80")  # torch's archive, and a pickle as it is
CONVERT_AGAIN = "convert or fetch it again"
LABELS = "labels"  # the key of the metadata: a JSON list of texts


@dataclass(frozen=True, kw_only=True)
class PublishedFile:
    """The tensors of a file by name, float32, and its labels in the order of the logits, where it states them."""

    tensors: dict[str, Tensor]
    labels: list[str] | None


def read_published(file: Path) -> PublishedFile:
    """Read a safetensors file; raises UserError for a pickle, a damaged file, and values that are not finite."""
    _refuse_pickles(file)
    with opened_weights(file, CONVERT_AGAIN) as stored:
        metadata = stored.metadata() or {}
    tensors = {name: tensor.float() for name, tensor in read_weights(file, CONVERT_AGAIN).items()}
    require_finite(tensors, file, "train or convert the classifier again")
    return PublishedFile(tensors=tensors, labels=_stated_labels(file, metadata))


def _refuse_pickles(file: Path) -> None:
    """Raise UserError for a file that is a pickle by its name or its first bytes, and for one that cannot be read."""
    try:
        with open(file, "rb") as handle:
            start = handle.read(4)
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}; give a safetensors file") from None
    if file.suffix.lower() in PICKLES or start.startswith(PICKLE_STARTS):
        raise UserError(
            f"{file} is a pickle, which can run code when it is read; convert it to safetensors in a throwaway "
            "environment, with weights_only=True (l2s_core/classifier/README.md has the lines)"
        )


def _stated_labels(file: Path, metadata: Mapping[str, str]) -> list[str] | None:
    if LABELS not in metadata:
        return None
    try:
        labels = decode_json(metadata[LABELS].encode())
    except ValueError:
        labels = None
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise UserError(f"{file}: {LABELS} in its metadata is {metadata[LABELS]!r}; allowed: a JSON list of texts")
    return labels
