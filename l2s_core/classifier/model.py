"""Two architectures: the paper's transformer and a small convolutional one.

Both map maps_BOMGG and capture_index_B (position in the captured steps) to logits, one a label or as many as
`ClassifierConfig.labels` has classes. What they read of the maps is `MapInput`'s.
"""

from __future__ import annotations

import math
from math import prod

import torch
from torch import Tensor, nn

from l2s_core.classifier.labels import Labels
from l2s_core.classifier.symmetry import GroupAverage
from l2s_core.config import ClassifierConfig
from l2s_core.dataset.schema import MapSource

STEP_WIDTH = 16
LOG_FLOOR = 0.02  # of a map of mean 1: a cell that has less is as good as empty


def build_classifier(config: ClassifierConfig, source: MapSource) -> nn.Module:
    """Create the untrained classifier for maps of `source`; the same seed gives the same weights."""
    kinds = {"conv": ConvClassifier, "transformer": TransformerClassifier}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        classifier = kinds[config.kind](config, source)
    if not config.group_average:
        return classifier
    return GroupAverage(classifier, source.relations, Labels(config.labels), exchange=config.exchanges)


class MapInput(nn.Module):
    """What a classifier reads of maps: themselves, times `input_scale`, or half the logarithm of that, or both.

    By default the scale is the number of cells: a map that sums to 1 then has mean 1. A cell's attention to a phrase
    is exp(q k) / Z, where Z is of all words: of a foreground cell all phrases may have much. In the logarithm Z is a
    term that the phrases of a cell have in common, so that differences tell them apart. With both, N = 2 M channels.
    """

    def __init__(self, config: ClassifierConfig, source: MapSource) -> None:
        super().__init__()
        self.scale = prod(source.cells) if config.input_scale is None else config.input_scale
        self.reads = config.input
        self.channels = source.channels * (2 if self.reads == "both" else 1)

    def forward(self, maps_BOMGG: Tensor) -> Tensor:
        """Return what is read, (B, O, N, G, G)."""
        maps_BOMGG = maps_BOMGG * self.scale
        if self.reads == "linear":
            return maps_BOMGG
        logs_BOMGG = (maps_BOMGG + LOG_FLOOR).log() / 2
        return torch.cat([maps_BOMGG, logs_BOMGG], dim=2) if self.reads == "both" else logs_BOMGG


class ConvClassifier(nn.Module):
    """A shared mix of channels per object, then strided convolutions over the pair and, if it has one, its context.

    The step enters as a learned scale and shift of the mixed maps.
    """

    def __init__(self, config: ClassifierConfig, source: MapSource) -> None:
        super().__init__()
        width = config.width
        self.input = MapInput(config, source)
        self.mix = nn.Conv2d(self.input.channels, width, 1)
        self.step = nn.Embedding(len(source.steps), 2 * width)
        nn.init.zeros_(self.step.weight)
        self.body = nn.Sequential(
            nn.Conv2d(source.stacks * width, 2 * width, 3, stride=2, padding=1),
            nn.GroupNorm(4, 2 * width),
            nn.SiLU(),
            nn.Conv2d(2 * width, 2 * width, 3, stride=2, padding=1),
            nn.GroupNorm(4, 2 * width),
            nn.SiLU(),
            nn.Flatten(),
            nn.Dropout(config.dropout),
        )
        rows, columns = (-(-side // 4) for side in source.cells)
        self.head = nn.Sequential(
            nn.Linear(2 * width * rows * columns, 4 * width),
            nn.SiLU(),
            nn.Dropout(config.dropout),
            nn.Linear(4 * width, Labels(config.labels).outputs(len(source.relations))),
        )

    def forward(self, maps_BOMGG: Tensor, capture_index_B: Tensor) -> Tensor:
        batch, objects = maps_BOMGG.shape[:2]
        maps = self.input(maps_BOMGG).flatten(0, 1)
        mixed = self.mix(maps).unflatten(0, (batch, objects))
        scale, shift = self.step(capture_index_B)[:, None, :, None, None].chunk(2, dim=2)
        mixed = nn.functional.silu(mixed * (1 + scale) + shift)
        logits_BR: Tensor = self.head(self.body(mixed.flatten(1, 2)))
        return logits_BR


class TransformerClassifier(nn.Module):
    """The paper's classifier (METHOD, "Classifier of the paper"), exactly so with the settings of configs/classifiers.

    A shared extractor turns the M maps of one object into one G x G map: every map is a token, with a
    sinusoidal position over channels and a step embedding added before each pre-norm layer, pooled by
    one learned query. The two results (three with `MapSource.context`) pass a second encoder as one token, then, beside
    another step embedding, an MLP.
    """

    position: Tensor

    def __init__(self, config: ClassifierConfig, source: MapSource) -> None:
        super().__init__()
        pixels = prod(source.cells)
        width = config.width
        steps = len(source.steps)
        self.input = MapInput(config, source)
        self.joint_position = config.joint_position
        self.enter = nn.Linear(pixels, width)
        self.register_buffer("position", _sinusoids(self.input.channels, width), persistent=False)
        self.step_early = nn.Embedding(steps, width)
        self.extractor = nn.ModuleList(_encoder_layer(config, config.heads) for _ in range(config.layers))
        query = torch.randn(1, 1, width)
        deviation = config.query_deviation
        self.query = nn.Parameter(query / width**0.5 if deviation is None else query * deviation)
        pool_dropout = config.dropout if config.pool_dropout is None else config.pool_dropout
        self.pool = nn.MultiheadAttention(width, config.heads, dropout=pool_dropout, batch_first=True)
        self.leave = nn.Linear(width, pixels)
        self.join = nn.Linear(source.stacks * pixels, width)
        self.encoder = nn.ModuleList(_encoder_layer(config, config.head_heads) for _ in range(config.layers))
        self.step_late = nn.Embedding(steps, STEP_WIDTH)
        self.head = nn.Sequential(
            nn.Linear(width + STEP_WIDTH, width),
            nn.LayerNorm(width),
            nn.LeakyReLU(0.1),
            nn.Dropout(config.dropout),
            nn.Linear(width, width // 2),
            nn.LayerNorm(width // 2),
            nn.LeakyReLU(0.1),
            nn.Dropout(config.dropout),
            nn.Linear(width // 2, Labels(config.labels).outputs(len(source.relations))),
        )

    def forward(self, maps_BOMGG: Tensor, capture_index_B: Tensor) -> Tensor:
        batch, objects = maps_BOMGG.shape[:2]
        tokens = self.input(maps_BOMGG).flatten(0, 1).flatten(2)  # (B O, M, G G)
        tokens = self.enter(tokens) + self.position
        step = self.step_early(capture_index_B).repeat_interleave(objects, 0).unsqueeze(1)
        for layer in self.extractor:
            tokens = layer(tokens + step)
        query = self.query.expand(len(tokens), -1, -1)
        pooled = self.leave(self.pool(query, tokens, tokens, need_weights=False)[0])  # (B O, 1, G G)
        joint = self.join(pooled.reshape(batch, 1, -1))
        if self.joint_position:
            joint = joint + self.position[:1]
        for layer in self.encoder:
            joint = layer(joint)
        logits_BR: Tensor = self.head(torch.cat([joint.squeeze(1), self.step_late(capture_index_B)], dim=-1))
        return logits_BR


def _encoder_layer(config: ClassifierConfig, heads: int) -> nn.TransformerEncoderLayer:
    return nn.TransformerEncoderLayer(
        config.width,
        heads,
        config.feedforward,
        config.dropout,
        activation=config.activation,
        batch_first=True,
        norm_first=True,
    )


def _sinusoids(length: int, width: int) -> Tensor:
    """Vaswani et al. 2017, section 3.5."""
    rates = torch.exp(torch.arange(0, width, 2) * (-math.log(10_000.0) / width))
    angles = torch.arange(length).unsqueeze(1) * rates
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)
