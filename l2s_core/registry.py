"""Tables of what can be chosen by name: one line for each backbone family, method, protocol, judge and data source.

A table is lazy: it knows where a thing is defined, and imports that module when the thing is asked for. Installed
packages add to a table by a Python entry point of its group; the name of the entry point is the name to choose.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from typing import Any

from l2s_core.errors import UserError, first_line, unknown_name


@dataclass(frozen=True, kw_only=True)
class Registry:
    """Things of one kind by name.

    `kind` says in words what they are, `group` is the group of entry points that adds to them, and `own` maps the
    names of the project's own to "module:attribute".
    """

    kind: str
    group: str
    own: Mapping[str, str]

    def names(self) -> tuple[str, ...]:
        """Return every name: the project's own, then those of installed packages. Nothing is imported."""
        return (*self.own, *(name for name in self._plugins() if name not in self.own))

    def known(self, name: str) -> str:
        """Return a name that the table has; raises ValueError for any other, as validators of settings do."""
        if name not in self.names():
            raise ValueError(str(unknown_name(self.kind, name, self.names())))
        return name

    def load(self, name: str) -> Any:
        """Return the thing of a name; raises UserError for an unknown one, and for a plugin that cannot be used."""
        plugin = self._plugins().get(name)
        if name in self.own:
            if plugin is not None:
                raise UserError(
                    f"{plugin.value} calls a {self.kind} {name!r}, and the project has one of that name; "
                    f"rename the entry point of group {self.group}, or uninstall its package"
                )
            module, _, attribute = self.own[name].partition(":")
            return getattr(import_module(module), attribute)
        if plugin is None:
            raise unknown_name(self.kind, name, self.names())
        try:
            return plugin.load()
        except Exception as error:
            raise UserError(
                f"the {self.kind} {name!r} of {plugin.value} cannot be loaded ({first_line(error)}); "
                "mend or uninstall its package"
            ) from None

    def _plugins(self) -> dict[str, EntryPoint]:
        return {point.name: point for point in _installed(self.group, tuple(sys.path))}


@cache
def _installed(group: str, _where: tuple[str, ...]) -> EntryPoints:
    """Return what the packages in the folders of sys.path add; every package's files are read for it, and so once."""
    return entry_points(group=group)


FAMILIES = Registry(
    kind="backbone family",
    group="l2s.backbones",
    own={
        "unet": "l2s_core.backbones.unet:UNetBackbone",
        "sdxl": "l2s_core.backbones.sdxl:SDXLBackbone",
        "flux": "l2s_core.backbones.flux:FluxBackbone",
        "flux2": "l2s_core.backbones.flux2:Flux2Backbone",
        "flux2-dev": "l2s_core.backbones.flux2_dev:Flux2DevBackbone",
        "sd3": "l2s_core.backbones.sd3:SD3Backbone",
        "pixart": "l2s_core.backbones.pixart:PixArtBackbone",
        "sana": "l2s_core.backbones.sana:SanaBackbone",
        "sana-sprint": "l2s_core.backbones.sana_sprint:SanaSprintBackbone",
        "zimage": "l2s_core.backbones.zimage:ZImageBackbone",
        "qwen-image": "l2s_core.backbones.qwen_image:QwenImageBackbone",
    },
)

SOURCES = Registry(
    kind="source of scenes",
    group="l2s.sources",
    own={
        "miniworld": "l2s_core.data.miniworld:Miniworld",
        "gqa": "l2s_core.data.gqa:Gqa",
        "orm": "l2s_core.data.orm:Orm",
        "jsonl": "l2s_core.data.jsonl:Jsonl",
    },
)

METHODS = Registry(
    kind="method",
    group="l2s.methods",
    own={
        "plain": "l2s_core.evaluation.methods.plain:Plain",
        "classifier": "l2s_core.evaluation.methods.steered:Steered",
        "paper": "l2s_core.evaluation.methods.paper:Paper",
        "centroid": "l2s_core.evaluation.methods.centroid:Centroid",
        "attend-and-excite": "l2s_core.evaluation.methods.attend_and_excite:AttendAndExcite",
        "best-of-n": "l2s_core.evaluation.methods.best_of_n:BestOfN",
        "best-of-n-judge": "l2s_core.evaluation.methods.best_of_n:BestOfNByJudge",
    },
)

PROTOCOLS = Registry(
    kind="protocol",
    group="l2s.protocols",
    own={
        "pairs": "l2s_core.evaluation.protocols.pairs:Pairs",
        "geneval": "l2s_core.evaluation.protocols.geneval:Geneval",
        "spatial": "l2s_core.evaluation.protocols.spatial:Spatial",
        "several": "l2s_core.evaluation.protocols.several:Several",
    },
)

JUDGES = Registry(
    kind="judge",
    group="l2s.judges",
    own={
        "SegformerForSemanticSegmentation": "l2s_core.evaluation.detectors.segformer:SegformerJudge",
        "Mask2FormerForUniversalSegmentation": "l2s_core.evaluation.detectors.mask2former:Mask2FormerJudge",
        "GroundingDinoForObjectDetection": "l2s_core.evaluation.detectors.grounding_dino:GroundingDinoJudge",
        "Owlv2ForObjectDetection": "l2s_core.evaluation.detectors.owlv2:Owlv2Judge",
        "CLIPSegForImageSegmentation": "l2s_core.evaluation.detectors.clipseg:ClipSegJudge",
    },
)
"""Judges by the class of their model in transformers, which a model's folder states."""

CLASSIFIER_STORES = Registry(
    kind="store of classifiers",
    group="l2s.classifier_stores",
    own={
        "models": "tasks.tracking.stored_classifier:stored_classifier",
        "runs": "tasks.tracking.stored_classifier:stored_classifier",
    },
)
"""Where classifiers are fetched from, by the scheme of their address ("models:/…"): (address, home) -> folder."""
