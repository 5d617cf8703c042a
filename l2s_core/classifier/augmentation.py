"""What is done to training batches: symmetries, joint shifts, whole channels left out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from l2s_core.classifier.symmetry import augment
from l2s_core.config import ClassifierConfig


def augment_batch(
    config: ClassifierConfig, maps_BOMGG: Tensor, truth_BR: Tensor, generator: torch.Generator, names: Sequence[str]
) -> tuple[Tensor, Tensor]:
    """Apply the augmentations that `config` asks for; returns new maps and which of the labels `names` are true."""
    if config.augment != "none":
        maps_BOMGG, truth_BR = augment(maps_BOMGG, truth_BR, generator, names, exchange=config.exchanges)
    if config.shift:
        maps_BOMGG = shift_maps(maps_BOMGG, config.shift, generator)
    if config.channel_dropout:
        maps_BOMGG = drop_channels(maps_BOMGG, config.channel_dropout, generator)
    return maps_BOMGG, truth_BR


def shift_maps(maps_BOMGG: Tensor, reach: int, generator: torch.Generator) -> Tensor:
    """Move both objects' maps of every record together by up to `reach` cells on each axis; zeros come in.

    A relation does not depend on where in the image the pair stands.
    """
    batch = len(maps_BOMGG)
    height, width = maps_BOMGG.shape[-2:]
    dy_B1 = torch.randint(-reach, reach + 1, (batch, 1), generator=generator)
    dx_B1 = torch.randint(-reach, reach + 1, (batch, 1), generator=generator)
    rows_BG = torch.arange(height) - dy_B1
    columns_BG = torch.arange(width) - dx_B1
    row_inside_BG = (rows_BG >= 0) & (rows_BG < height)
    column_inside_BG = (columns_BG >= 0) & (columns_BG < width)
    inside_BGG = row_inside_BG[:, :, None] & column_inside_BG[:, None, :]
    nearest_row_BG = rows_BG.clamp(0, height - 1)
    nearest_column_BG = columns_BG.clamp(0, width - 1)
    source_BGG = (nearest_row_BG[:, :, None] * width + nearest_column_BG[:, None, :]).to(maps_BOMGG.device)
    flat = maps_BOMGG.flatten(-2)
    moved = flat.gather(-1, source_BGG.flatten(1)[:, None, None, :].expand_as(flat)).view_as(maps_BOMGG)
    return moved * inside_BGG[:, None, None].to(maps_BOMGG)


def drop_channels(maps_BOMGG: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Zero each channel (attention head) of a record with probability `share`, and rescale the others.

    The channels are the same for both objects.

    A classifier that cannot rely on single heads is harder to please without moving the objects.
    """
    keep_BM = torch.rand(maps_BOMGG.shape[0], maps_BOMGG.shape[2], generator=generator) >= share
    return maps_BOMGG * (keep_BM[:, None, :, None, None].to(maps_BOMGG) / (1 - share))
