"""The relation classifier and its training."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from l2s_core.config.base import MAX_COUNT, Section

INVERTED = "inverted"  # maps of inverted scenes
TRAJECTORIES = "trajectories"  # maps of the backbone's own sampling


class ClassifierConfig(Section):
    """The relation classifier and its training.

    `activation`, `pool_dropout`, `query_deviation` and `joint_position` are the transformer's.

    `maps` says what it learns from: those of inverted scenes (the paper's), those of the backbone's own sampling (see
    `RunConfig.trajectories`), or both.
    """

    OPTIONAL = (
        "maps",
        "labels",
        "input",
        "input_scale",
        "activation",
        "pool_dropout",
        "query_deviation",
        "joint_position",
        "plateau_threshold",
        "min_lr",
    )
    kind: Literal["conv", "transformer"]
    maps: Literal["inverted", "trajectories", "both"] = "inverted"
    prompts: Literal["dual", "true"] = "dual"
    labels: Literal["single", "soft", "multi", "powerset"] = Field(
        default="single",
        description="of pairs with two true relations: left out, a half each, one yes or no a relation, or a class "
        "for every diagonal",
    )
    augment: Literal["none", "mirrors", "symmetry"] = Field(
        default="none",
        description="in training, maps mirrored and transposed at random; symmetry: the two objects exchanged, too",
    )
    group_average: bool = Field(
        default=False, description="answer with the mean over all symmetries of the maps, of mirrors alone with mirrors"
    )
    shift: int = Field(default=0, ge=0, le=16, description="largest joint shift of the maps in training, grid cells")
    channel_dropout: float = Field(default=0.0, ge=0, lt=1, description="share of attention heads left out in training")
    input: Literal["linear", "log", "both"] = Field(
        default="linear", description="what is read: maps as they are, their logarithm, or both"
    )
    input_scale: float | None = Field(
        default=None, gt=0, description="maps are multiplied by it; default: by their number of cells, to mean 1"
    )
    width: int = Field(default=32, ge=4, le=16384)
    layers: int = Field(default=2, ge=1, le=256)
    heads: int = Field(default=2, ge=1, le=256)
    head_heads: int = Field(default=4, ge=1, le=256)
    feedforward: int = Field(default=128, ge=1, le=65536)
    dropout: float = Field(default=0.3, ge=0, lt=1)
    activation: Literal["gelu", "relu"] = "gelu"
    pool_dropout: float | None = Field(
        default=None, ge=0, lt=1, description="dropout of the attention that pools the maps; default: dropout"
    )
    query_deviation: float | None = Field(
        default=None, gt=0, description="standard deviation of the pooling query as drawn; default: 1 / sqrt(width)"
    )
    joint_position: bool = Field(
        default=False, description="add position 0 of the sinusoids to the token that joins both objects"
    )
    lr: float = Field(default=1e-3, gt=0)
    plateau_threshold: float = Field(
        default=1e-4, ge=0, description="share of the best validation loss that counts as progress for the rate"
    )
    min_lr: float = Field(default=0.0, ge=0, description="the rate is not halved below it")
    weight_decay: float = Field(default=0.05, ge=0)
    batch: int = Field(default=64, ge=1, le=MAX_COUNT)
    epochs: int = Field(default=40, ge=1, le=MAX_COUNT)
    patience: int = Field(default=10, ge=1, le=MAX_COUNT)
    seed: int = Field(default=0, ge=0, lt=2**63)

    @property
    def exchanges(self) -> bool:
        """Whether the exchange of subject and object is one of the symmetries."""
        return self.augment != "mirrors"
