"""From inverted noise to records: denoise again and keep the phrases' attention at the captured steps."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from l2s_core.attention.reader import AttentionReader
from l2s_core.backbones.base import Backbone
from l2s_core.config import CaptureConfig
from l2s_core.dataset.schema import MapSource
from l2s_core.diffusion.noise import LabelledPrompt, NoiseShard
from l2s_core.diffusion.rectified_flow import Control
from l2s_core.relations import RELATIONS


def map_source(
    backbone: Backbone, capture: CaptureConfig, steps: int, relations: tuple[str, ...] = RELATIONS
) -> MapSource:
    """Return the identity of the maps that `capture` takes from a backbone sampled in `steps` steps; `relations` label them."""
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
    )


@torch.no_grad()
def collect_maps(
    backbone: Backbone, shard: NoiseShard, source: MapSource, *, batch: int
) -> tuple[list[dict[str, Any]], np.ndarray]:
    """Return one record per (row, captured step) and maps_NOMGG float16, without guidance.

    The latents take the way back that the inversion took to measure what the noise gives back, any control included.

    Each pass records and denoises at once; the pass of the last captured step ends after its last layer.
    """
    schedule = backbone.schedule(source.schedule_steps)
    reader = source.reader(backbone)
    records, maps = [], []
    for first in range(0, len(shard.rows), batch):
        rows = shard.rows[first : first + batch]
        qualities = shard.psnr[first : first + batch].tolist()
        latents = shard.noise[first : first + batch].to(backbone.device)
        prompts = [row.prompt for row in rows]
        condition, weights_BOK = backbone.encode_prompts([p.text for p in prompts]), backbone.phrase_weights(prompts)
        way_back = shard.way_back(backbone, slice(first, first + batch), schedule)
        for step in range(source.steps[-1] + 1):
            timestep = schedule.timesteps[step]
            if step in source.steps:
                if step == source.steps[-1]:
                    maps_BOMGG, prediction = reader.read(latents, timestep, condition, weights_BOK), None
                else:
                    maps_BOMGG, prediction = reader.read_and_predict(latents, timestep, condition, weights_BOK)
                maps.append(maps_BOMGG.half().cpu().numpy())
                records += [map_record(row, step, value) for row, value in zip(rows, qualities, strict=True)]
                if isinstance(way_back, Control) and prediction is not None:
                    prediction = way_back.adjust(latents, prediction, timestep)
            else:
                prediction = way_back.predict(latents, timestep, condition)
            if step < source.steps[-1]:
                latents = schedule.advance(latents, prediction, step)
    shape = (0, 2, source.channels, source.grid, source.grid)
    return records, np.concatenate(maps) if maps else np.zeros(shape, np.float16)


def map_record(row: LabelledPrompt, step: int, psnr: float) -> dict[str, Any]:
    """Return what the dataset says of the maps of one image, under one prompt at one step."""
    triplet = row.prompt.triplet
    return {
        "image_id": row.image_id,
        "split": row.split,
        "prompt": row.prompt.text,
        "prompt_kind": row.kind,
        "stated": triplet.relation,
        "true": row.true,
        "subject": triplet.subject,
        "object": triplet.object,
        "step": step,
        "psnr": psnr,
    }
