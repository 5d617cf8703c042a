"""Prompts, seeds, and who judges."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from l2s_core.config.base import Section
from l2s_core.config.data import Relation
from l2s_core.relations import RELATIONS

Count = Annotated[int, Field(ge=1)]
COLOR_TAGS = ("colors", "color_attr")  # tasks of GenEval that need a classifier of colours


class BenchmarkConfig(Section):
    """Prompts, seeds, and who judges. `prompts` is per kind of prompt: of object pair, of GenEval's task, of form.

    Protocols: `pairs` is GenEval's position task in the small world (seen pairs, unseen pairs, unseen objects); `geneval` has
    GenEval's tasks, `spatial` T2I-CompBench's 2D-spatial task, `several` the paper's prompts of several relations. They draw
    their own prompts by seed, half of them for choices (`dev`) and half for reports (`test`), or read the official ones from
    `file`.
    """

    protocol: Literal["pairs", "geneval", "spatial", "several"] = "pairs"
    suite: Literal["test", "dev"] = "test"
    file: Path | None = Field(
        default=None, description="GenEval's metadata, T2I-CompBench's prompts or a jsonl of several relations"
    )
    tags: tuple[Literal["position", "single_object", "two_object", "counting", "colors", "color_attr"], ...] = Field(
        default=("position",), min_length=1, description="GenEval's tasks"
    )
    forms: tuple[Literal["2+1", "2+2", "3+2", "4+2", "4+3", "5+3"], ...] = Field(
        default=("3+2",), min_length=1, description="objects and relations of a prompt (several); 2+2 is a diagonal"
    )
    objects: Literal["common", "novel", "mixed"] = Field(default="common", description="list of objects (several)")
    prompts: Count | dict[Literal["seen", "unseen", "novel"], Count] = Field(
        description="a number, or for pairs one a kind of pair"
    )
    seeds: int = Field(default=1, ge=1)
    relations: tuple[Relation, ...] = Field(
        default=RELATIONS, min_length=1, description="those that prompts ask for (pairs)"
    )
    judge: str = "mini-seg"
    clip: str | None = Field(
        default=None, description="a CLIPModel that scores images against their prompts (CLIPScore) and tells colours"
    )
    min_score: float = Field(
        default=0.3, ge=0, le=1, description="confidence of a find (pairs, several); the other protocols have their own"
    )

    @model_validator(mode="after")
    def _protocol_fits(self) -> BenchmarkConfig:
        own = {"tags": "geneval", "forms": "several", "objects": "several", "relations": "pairs"}
        fields = type(self).model_fields
        for name, protocol in own.items():
            if getattr(self, name) != fields[name].default and self.protocol != protocol:
                raise ValueError(
                    f"benchmark.{name} is for protocol {protocol}, and protocol is {self.protocol}; leave it out"
                )
        if not isinstance(self.prompts, int) and self.protocol != "pairs":
            raise ValueError(
                f"benchmark.prompts by kind of pair is for protocol pairs, and protocol is {self.protocol}; give one number"
            )
        if self.file is not None and self.protocol == "pairs":
            raise ValueError(
                "benchmark.file needs benchmark.protocol geneval, spatial or several, whose prompts it holds"
            )
        if self.file is None and "counting" in self.tags:
            raise ValueError("benchmark.tags counting needs benchmark.file, GenEval's evaluation_metadata.jsonl")
        if self.asks_for_colors and self.clip is None:
            raise ValueError(
                f"benchmark.tags {', '.join(self.tags)} asks for colours, and nothing here tells them; "
                "set benchmark.clip to a CLIPModel (GenEval's is openai/clip-vit-large-patch14)"
            )
        return self

    @property
    def asks_for_colors(self) -> bool:
        """Whether its tasks have colours, which `clip` then tells."""
        return not set(COLOR_TAGS).isdisjoint(self.tags)
