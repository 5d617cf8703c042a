"""What the paper reports for GenEval's position task, to stand beside a run's own figures; not measured here."""

from __future__ import annotations

from dataclasses import dataclass

from l2s_core.config import RunConfig
from l2s_core.data.source import source_of
from l2s_core.evaluation.protocols.protocol import protocol_of

PAPER = "arXiv 2509.02295"


@dataclass(frozen=True, kw_only=True)
class Published:
    """Relation accuracy of a backbone plain and steered; `architecture` is its name in configs/architectures."""

    backbone: str
    architecture: str
    plain: float
    steered: float
    source: str = PAPER


GENEVAL_POSITION = (
    Published(backbone="Stable Diffusion 2.1", architecture="sd21", plain=0.07, steered=0.54),
    Published(backbone="FLUX.1-dev", architecture="flux-dev", plain=0.20, steered=0.61),
)


@dataclass(frozen=True, kw_only=True)
class PublishedBeside:
    """The figures that stand beside a run's, and in a note what a reader must know of the two."""

    figures: tuple[Published, ...]
    note: str


def published_beside(config: RunConfig) -> PublishedBeside:
    """Return the figures to show beside a run's, and what a reader must know of the two.

    A run of the task on a backbone of the paper gets that backbone's line alone; any other run gets all of them.
    """
    if not protocol_of(config).is_papers_task:
        apart = "models, other prompts and another judge" if source_of(config.data).drawable.objects else "prompts"
        return PublishedBeside(
            figures=GENEVAL_POSITION,
            note=f"Not comparable with this run, which has other {apart}; "
            "they say how much steering gives in the paper.",
        )
    same = tuple(figure for figure in GENEVAL_POSITION if figure.architecture == config.backbone.architecture)
    if same:
        return PublishedBeside(
            figures=same,
            note="The same backbone and task. Prompts, noise and training images need not be the paper's, "
            "so a difference has more than one cause.",
        )
    return PublishedBeside(
        figures=GENEVAL_POSITION,
        note="The same task on other backbones than this run's; no figure of this backbone is quoted here.",
    )
