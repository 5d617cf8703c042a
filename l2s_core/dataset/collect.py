"""From inverted noise to records: denoise again, keep the phrases' attention at the captured steps and the PSNR."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from l2s_core.attention.pairs import pair_maps
from l2s_core.attention.pooling import grid_over
from l2s_core.attention.reader import AttentionReader
from l2s_core.backbones.base import Backbone
from l2s_core.config import CaptureConfig
from l2s_core.dataset.schema import MapRecord, MapShard, MapSource
from l2s_core.diffusion.inversion import psnr
from l2s_core.diffusion.noise import LabelledPrompt, NoiseShard
from l2s_core.diffusion.schedule import Schedule
from l2s_core.prompts.pairs import RelatedPair, related_pairs
from l2s_core.relations import ATTRIBUTE, PLANAR


def map_source(
    backbone: Backbone, capture: CaptureConfig, steps: int, relations: tuple[str, ...] = PLANAR
) -> MapSource:
    """Return the identity of the maps that `capture` takes from a backbone sampled in `steps` steps.

    `relations` label them.
    """
    reader = AttentionReader(backbone, layers=capture.layers, softmax=capture.softmax)
    height, width = backbone.latent_shape[-2:]
    return MapSource(
        backbone=backbone.fingerprint,
        layers=reader.names,
        channels=reader.channels,
        grid=grid_over(capture.grid, (height, width)),
        steps=capture.steps,
        schedule_steps=steps,
        softmax=capture.softmax,
        relations=relations,
        antialias=capture.antialias,
        normalize=capture.normalize,
        order=capture.order,
        attribute_first=capture.attribute_first,
        context=capture.context,
    )


@torch.no_grad()
def collect_maps(
    backbone: Backbone, shard: NoiseShard, images: Mapping[str, np.ndarray], source: MapSource, *, batch: int
) -> MapShard:
    """Return one record per (row, related pair of its prompt, captured step) with the pair's maps, without guidance.

    The noise is sampled to the end, under its control if it has one; a record's PSNR is that of the outcome against the
    row's image in `images`, uint8 (H, W, 3) by id, what the autoencoder loses included.
    """
    schedule = backbone.schedule(source.schedule_steps)
    reader = source.reader(backbone)
    records: list[MapRecord] = []
    maps: list[np.ndarray] = []
    for first in range(0, len(shard.rows), batch):
        part = slice(first, first + batch)
        rows = shard.rows[part]
        pairs = [(place, pair) for place, row in enumerate(rows) for pair in related_pairs(row.prompt)]
        row_P = torch.tensor([place for place, _ in pairs])
        phrases_P2 = torch.tensor([_phrases(rows[place], pair, source) for place, pair in pairs])
        captured, returned = _denoised(backbone, reader, shard, part, schedule, source.steps)
        maps += [pair_maps(maps_BOMGG, row_P, phrases_P2, source.context).numpy() for maps_BOMGG in captured]
        references = np.stack([images[row.image_id] for row in rows])
        qualities = psnr(torch.from_numpy(returned), torch.from_numpy(references)).tolist()
        records += [
            MapRecord.of(rows[place], pair, step, qualities[place]) for step in source.steps for place, pair in pairs
        ]
    return MapShard.joined(records, maps, source)


def _denoised(
    backbone: Backbone,
    reader: AttentionReader,
    shard: NoiseShard,
    part: slice,
    schedule: Schedule,
    steps: tuple[int, ...],
) -> tuple[list[Tensor], np.ndarray]:
    """Sample a part of the rows; return the maps_BOMGG of every captured step, float16 on the CPU, and the images.

    One pass reads and denoises at once.
    """
    prompts = [row.prompt for row in shard.rows[part]]
    condition = backbone.encode_prompts([prompt.text for prompt in prompts])
    weights_BOK = backbone.phrase_weights(prompts)
    latents = shard.noise[part].to(backbone.device, backbone.latents_dtype)
    control = shard.control_of(part, backbone.device)
    model = backbone if control is None else control.over(backbone)
    captured = []
    for step, timestep in enumerate(schedule.timesteps):
        if step not in steps:
            prediction = model.predict(latents, timestep, condition)
        else:
            maps_BOMGG, prediction = reader.read_and_predict(latents, timestep, condition, weights_BOK)
            captured.append(maps_BOMGG.to("cpu", torch.float16))
            if control is not None:
                prediction = control.velocity(latents, prediction, timestep)
        latents = schedule.advance(latents, prediction, step)
    return captured, backbone.decode(latents)


def _phrases(row: LabelledPrompt, pair: RelatedPair, source: MapSource) -> tuple[int, int]:
    """Return a pair's places among the objects of its prompt, in the order in which `source` has them.

    The image decides, whatever its prompt states: a wrong prompt of an attribute names the same two.
    """
    exchanged = not source.attribute_first and any(triplet.relation == ATTRIBUTE for triplet in row.true)
    return pair.places[::-1] if exchanged else pair.places
