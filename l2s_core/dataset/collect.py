"""From inverted noise to records: denoise again and keep the phrases' attention at the captured steps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from l2s_core.attention.reader import AttentionReader
from l2s_core.backbones.base import Backbone
from l2s_core.config import CaptureConfig
from l2s_core.dataset.schema import MapRecord, MapShard, MapSource
from l2s_core.diffusion.noise import LabelledPrompt, NoiseShard
from l2s_core.diffusion.schedule import Schedule
from l2s_core.relations import ATTRIBUTE, RELATIONS


def map_source(
    backbone: Backbone, capture: CaptureConfig, steps: int, relations: tuple[str, ...] = RELATIONS
) -> MapSource:
    """Return the identity of the maps that `capture` takes from a backbone sampled in `steps` steps.

    `relations` label them.
    """
    reader = AttentionReader(backbone, layers=capture.layers, softmax=capture.softmax, grid=capture.grid)
    return MapSource(
        backbone=backbone.fingerprint,
        layers=reader.names,
        channels=reader.channels,
        grid=capture.grid,
        steps=capture.steps,
        schedule_steps=steps,
        softmax=capture.softmax,
        relations=relations,
        antialias=capture.antialias,
        normalize=capture.normalize,
        order=capture.order,
        attribute_first=capture.attribute_first,
    )


@torch.no_grad()
def collect_maps(backbone: Backbone, shard: NoiseShard, source: MapSource, *, batch: int) -> MapShard:
    """Return one record per (row, captured step) with its maps, without guidance.

    The latents are sampled as they were when the inversion measured what the noise gives back, under its control if it
    has one.
    """
    schedule = backbone.schedule(source.schedule_steps)
    reader = source.reader(backbone)
    records: list[MapRecord] = []
    maps: list[np.ndarray] = []
    for first in range(0, len(shard.rows), batch):
        part = slice(first, first + batch)
        qualities = shard.psnr[part].tolist()
        for step, maps_BOMGG in _captured(backbone, reader, shard, part, schedule, source):
            maps.append(maps_BOMGG.half().cpu().numpy())
            records += [MapRecord.of(row, step, value) for row, value in zip(shard.rows[part], qualities, strict=True)]
    return MapShard.joined(records, maps, source)


def _captured(
    backbone: Backbone,
    reader: AttentionReader,
    shard: NoiseShard,
    part: slice,
    schedule: Schedule,
    source: MapSource,
) -> Iterator[tuple[int, Tensor]]:
    """Sample a part of the rows and yield (step, maps_BOMGG) of every captured step.

    One pass reads and denoises at once. The pass of the last captured step ends after its last layer.
    """
    rows = shard.rows[part]
    steps = source.steps
    condition = backbone.encode_prompts([row.prompt.text for row in rows])
    weights_BOK = _phrase_weights(backbone, rows, source)
    latents = shard.noise[part].to(backbone.device)
    control = shard.control_of(part, backbone.device)
    model = backbone if control is None else control.over(backbone)
    for step in range(steps[-1]):
        timestep = schedule.timesteps[step]
        if step not in steps:
            prediction = model.predict(latents, timestep, condition)
        else:
            maps_BOMGG, prediction = reader.read_and_predict(latents, timestep, condition, weights_BOK)
            yield step, maps_BOMGG
            if control is not None:
                prediction = control.velocity(latents, prediction, timestep)
        latents = schedule.advance(latents, prediction, step)
    yield steps[-1], reader.read(latents, schedule.timesteps[steps[-1]], condition, weights_BOK)


def _phrase_weights(backbone: Backbone, rows: Sequence[LabelledPrompt], source: MapSource) -> Tensor:
    """Return weights_BOK of the rows' subjects and objects, in the order in which `source` has them.

    The image decides, whatever its prompt states: a wrong prompt of an attribute names the same two.
    """
    weights_BOK = backbone.phrase_weights([row.prompt for row in rows])
    if not source.attribute_first:
        exchanged = [place for place, row in enumerate(rows) if row.true == ATTRIBUTE]
        weights_BOK[exchanged] = weights_BOK[exchanged].flip(1)
    return weights_BOK
