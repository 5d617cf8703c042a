"""The typed schema of an attention dataset and the identity written into every shard."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np
import pyarrow as pa

from l2s_core.attention.layers import AttentionModel
from l2s_core.attention.reader import AttentionReader
from l2s_core.data.scenes import PromptKind
from l2s_core.diffusion.noise import LabelledPrompt
from l2s_core.prompts.pairs import RelatedPair, relations_by_pair
from l2s_core.relations import PLANAR
from l2s_core.sizes import Size, sides

METADATA_KEY = b"l2s"


@dataclass(frozen=True, kw_only=True)
class MapSource:
    """Where maps come from; a classifier carries it, and using it with anything else is an error.

    `grid` is the side of maps of square images, or else their (rows, columns).
    """

    backbone: str
    layers: tuple[str, ...]
    channels: int
    grid: Size
    steps: tuple[int, ...]
    schedule_steps: int
    softmax: str = "text"
    relations: tuple[str, ...] = PLANAR
    antialias: bool = True
    normalize: bool = True
    order: str = "layers"
    attribute_first: bool = True
    context: bool = False

    @property
    def stacks(self) -> int:
        """Stacks of maps of a pair: subject, object and, with `context`, the phrase before them."""
        return 3 if self.context else 2

    @property
    def cells(self) -> tuple[int, int]:
        """Rows and columns of a map."""
        return sides(self.grid)

    def to_json(self) -> dict[str, Any]:
        """The source as shards and classifiers store it."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> MapSource:
        """Read what `to_json` wrote; raises TypeError for other keys."""
        settings: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in value.items()}
        return cls(**settings)

    def reader(
        self, model: AttentionModel, *, normalize: bool | None = None, guidance: float | None = None
    ) -> AttentionReader:
        """Return the reader that gives these maps of a model.

        `normalize` overrides whether each sums to 1; `guidance` is `AttentionReader`'s.
        """
        return AttentionReader(
            model,
            layers=self.layers,
            softmax=self.softmax,
            grid=self.grid,
            antialias=self.antialias,
            normalize=self.normalize if normalize is None else normalize,
            order=self.order,
            guidance=guidance,
        )

    def differences(self, other: MapSource) -> list[str]:
        """Name every field in which two sources differ, with both values."""
        mine = asdict(self)
        theirs = asdict(other)
        return [f"{key} {mine[key]!r} != {theirs[key]!r}" for key in mine if mine[key] != theirs[key]]

    def rescheduled(self, schedule_steps: int) -> MapSource:
        """Return the source with its captured steps at the same places of a schedule of other length, rounded down.

        Several may fall onto one step; the first of them then serves it.
        """
        steps = tuple(step * schedule_steps // self.schedule_steps for step in self.steps)
        return replace(self, steps=steps, schedule_steps=schedule_steps)

    def capture_index_for(self, step: int) -> int:
        """Return the position in `steps` of the smallest captured step >= `step` (METHOD, steering)."""
        for index, captured in enumerate(self.steps):
            if captured >= step:
                return index
        raise ValueError(f"no captured step at or after {step}; captured: {self.steps}")


@dataclass(frozen=True, kw_only=True)
class MapRecord:
    """What the dataset says of the maps of one pair of an image, under one prompt, at one step: all but the maps.

    `stated` are the relations that the prompt states of the pair, `true` those that hold in the image: one each, or the
    two of a diagonal. `prompt_kind` is "pos" where all that is stated is true. `psnr` is that of the image's
    reconstruction, dB, and not a number where nothing was inverted.
    """

    image_id: str
    split: str
    prompt: str
    prompt_kind: PromptKind
    stated: tuple[str, ...]
    true: tuple[str, ...]
    subject: str
    object: str
    step: int
    psnr: float

    @classmethod
    def of(cls, row: LabelledPrompt, pair: RelatedPair, step: int, psnr: float) -> MapRecord:
        """The record of a pair of a row at a step."""
        true = relations_by_pair(row.true)[pair.subject, pair.object]
        return cls(
            image_id=row.image_id,
            split=row.split,
            prompt=row.prompt.text,
            prompt_kind=PromptKind.POS if set(pair.stated) <= set(true) else PromptKind.NEG,
            stated=pair.stated,
            true=true,
            subject=pair.subject,
            object=pair.object,
            step=step,
            psnr=psnr,
        )


COLUMNS: dict[str, pa.DataType] = {
    field.name: {
        "str": pa.string(),
        "PromptKind": pa.string(),
        "tuple[str, ...]": pa.list_(pa.string()),
        "int": pa.int32(),
        "float": pa.float32(),
    }[str(field.type)]
    for field in fields(MapRecord)
}
"""The columns beside the maps: the fields of `MapRecord`."""


@dataclass(frozen=True, kw_only=True)
class MapShard:
    """Records and their maps_NOMGG, float16 (N, O, M, G, G), of one source, which has O stacks.

    A record's first two are of its subject and its object; in an image of an attribute they are exchanged where the
    source's `attribute_first` is off.
    """

    records: list[MapRecord]
    maps_NOMGG: np.ndarray
    source: MapSource

    @classmethod
    def joined(cls, records: list[MapRecord], maps: Sequence[np.ndarray], source: MapSource) -> MapShard:
        """Records and their maps in parts, (n, O, M, G, G) each."""
        none = np.zeros((0, source.stacks, source.channels, *source.cells), np.float16)
        return cls(records=records, maps_NOMGG=np.concatenate(maps) if maps else none, source=source)


def arrow_schema(source: MapSource, config_hash: str) -> pa.Schema:
    """Return the Arrow schema of one record per (image, prompt, pair, step)."""
    maps = pa.fixed_shape_tensor(pa.float16(), (source.stacks, source.channels, *source.cells))
    columns = [pa.field(name, kind, nullable=False) for name, kind in {**COLUMNS, "maps": maps}.items()]
    value = {"source": source.to_json(), "config": config_hash}
    return pa.schema(columns, metadata={METADATA_KEY: json.dumps(value).encode()})


def maps_of(batch: pa.RecordBatch | pa.Table) -> np.ndarray:
    """Return the map column as float16 (N, O, M, G, G), a view where Arrow allows it."""
    column = batch.column("maps")
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
        column = column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
    maps_NOMGG: np.ndarray = column.to_numpy_ndarray()
    return maps_NOMGG
