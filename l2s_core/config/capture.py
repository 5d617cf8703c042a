"""Which attention is kept."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from l2s_core.config.base import Section


class CaptureConfig(Section):
    """Which attention is kept.

    Schedule indices, patterns of layers' names, the softmax that it comes from, and the map grid: the cells of its
    longer side. The shorter one has as many as keep the cells square.
    """

    OPTIONAL = ("antialias", "normalize", "order", "attribute_first", "context")
    steps: tuple[int, ...] = Field(min_length=1)
    layers: tuple[str, ...] = Field(default=("*",), min_length=1)
    softmax: Literal["text", "joint"] = Field(
        default="text", description="over the text keys alone, or over text and image keys"
    )
    grid: int = Field(default=16, ge=4, le=64)
    antialias: bool = Field(default=True, description="smooth maps that are larger than the grid before resizing them")
    normalize: bool = Field(default=True, description="divide every map by its sum; else it is the attention itself")

    order: Literal["layers", "side"] = Field(
        default="layers", description="of a phrase's maps: that of the layers, or by the side of their attention first"
    )
    attribute_first: bool = Field(
        default=True, description="of an attribute's two phrases: its word, then the object; else the other way round"
    )
    context: bool = Field(
        default=False, description="beside a pair's maps, those of the phrase that stands before the pair"
    )

    @model_validator(mode="after")
    def _ordered(self) -> CaptureConfig:
        if list(self.steps) != sorted(set(self.steps)) or self.steps[0] < 0:
            raise ValueError("steps must be distinct, not negative and in rising order")
        return self
