"""From inverted noise to records: denoise again and keep the phrases' attention at the captured steps."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from l2s_core.attention.reader import AttentionReader
from l2s_core.backbones.base import Backbone
from l2s_core.config import CaptureConfig
from l2s_core.dataset.schema import MapRecord, MapShard, MapSource
from l2s_core.diffusion.noise import LabelledPrompt, NoiseShard
from l2s_core.diffusion.schedule import Schedule
from l2s_core.prompts.pairs import RelatedPair, related_pairs
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
    """Return one record per (row, related pair of its prompt, captured step) with the pair's maps, without guidance.

    The latents are sampled as they were when the inversion measured what the noise gives back, under its control if it
    has one.
    """
    schedule = backbone.schedule(source.schedule_steps)
    reader = source.reader(backbone)
    records: list[MapRecord] = []
    maps: list[np.ndarray] = []
    for first in range(0, len(shard.rows), batch):
        part = slice(first, first + batch)
        rows = shard.rows[part]
        qualities = shard.psnr[part].tolist()
        pairs = [(place, pair) for place, row in enumerate(rows) for pair in related_pairs(row.prompt)]
        row_P1 = torch.tensor([[place] for place, _ in pairs])
        phrases_P2 = torch.tensor([_phrases(rows[place], pair, source) for place, pair in pairs])
        for step, maps_BOMGG in _captured(backbone, reader, shard, part, schedule, source.steps):
            maps.append(maps_BOMGG[row_P1, phrases_P2].half().cpu().numpy())
            records += [MapRecord.of(rows[place], pair, step, qualities[place]) for place, pair in pairs]
    return MapShard.joined(records, maps, source)


def _captured(
    backbone: Backbone,
    reader: AttentionReader,
    shard: NoiseShard,
    part: slice,
    schedule: Schedule,
    steps: tuple[int, ...],
) -> Iterator[tuple[int, Tensor]]:
    """Sample a part of the rows and yield (step, maps_BOMGG) of every captured step.

    One pass reads and denoises at once. The pass of the last captured step ends after its last layer.
    """
    prompts = [row.prompt for row in shard.rows[part]]
    condition = backbone.encode_prompts([prompt.text for prompt in prompts])
    weights_BOK = backbone.phrase_weights(prompts)
    latents = shard.noise[part].to(backbone.device, backbone.latents_dtype)
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


def _phrases(row: LabelledPrompt, pair: RelatedPair, source: MapSource) -> tuple[int, int]:
    """Return a pair's places among the objects of its prompt, in the order in which `source` has them.

    The image decides, whatever its prompt states: a wrong prompt of an attribute names the same two.
    """
    exchanged = not source.attribute_first and any(triplet.relation == ATTRIBUTE for triplet in row.true)
    return pair.places[::-1] if exchanged else pair.places
