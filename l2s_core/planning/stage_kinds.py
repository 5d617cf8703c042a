"""The kinds of stages of a run: what each leaves behind, and what making one output takes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from l2s_core.config import INVERTED, PLAIN, TRAJECTORIES
from l2s_core.evaluation.run import Run
from l2s_core.evaluation.work import Work
from l2s_core.planning.cost import sizes_of
from l2s_core.planning.estimate import disk_bytes, image_bytes, sampling_work, scenes_of, work_of

SAMPLE_PLAIN = "sample plain"
SAMPLE_STEERED = "sample steered"
SAMPLE_FURTHER = "sample further methods"
TRAIN = "train"
CLASSIFIER_FILES = 2  # of a trained classifier: its weights, and what it is


class StageKind(ABC):
    """A kind of stage; a run has an output of it for each of its classifiers or methods, or one, called ""."""

    name: str

    @abstractmethod
    def outputs(self, run: Run) -> dict[str, Path]:
        """Return the folders of the outputs by what each is for."""

    @abstractmethod
    def files(self, run: Run) -> int:
        """Return how many files a whole output has."""

    @abstractmethod
    def pieces(self, run: Run) -> int:
        """Return how many scenes or images a whole output has; 1 where it is one thing."""

    def own_units(self, run: Run, name: str) -> int:
        """Return the work of one output whose evaluations of the denoiser nothing tells, in units of its own."""
        return self.pieces(run)

    def work(self, run: Run, name: str) -> Work | None:
        """Return what one output takes at most; None where nothing tells."""
        return None

    def bytes(self, run: Run, name: str) -> int | None:
        """Return what one output takes on disk; None where nothing tells."""
        return None

    def missing(self, run: Run, folder: Path) -> float:
        """Return the share of an output's files that are not there."""
        files = self.files(run)
        return max(0, files - sum(1 for path in folder.glob("[!.]*") if path.is_file())) / files

    def is_complete(self, run: Run, folder: Path) -> bool:
        """Whether every file of an output is there; each is checked when it is used."""
        return self.missing(run, folder) == 0


@dataclass(frozen=True, kw_only=True)
class SceneStage(StageKind):
    """A stage of the dataset, in shards of scenes: `leaves` is its name in `disk_bytes`."""

    name: str
    leaves: str
    folder: Callable[[Run], Path | None]

    def outputs(self, run: Run) -> dict[str, Path]:
        folder = self.folder(run)
        return {} if folder is None else {"": folder}

    def files(self, run: Run) -> int:
        return -(-scenes_of(run.config) // run.config.shard)

    def pieces(self, run: Run) -> int:
        return scenes_of(run.config)

    def work(self, run: Run, name: str) -> Work:
        return work_of(run.config).get(self.name, Work())

    def bytes(self, run: Run, name: str) -> int:
        return disk_bytes(run.config, sizes_of(run.config))[self.leaves]


class TrainStage(StageKind):
    """The training of classifiers, whose length nothing tells."""

    name = TRAIN

    def outputs(self, run: Run) -> dict[str, Path]:
        return {name: run.paths.classifier(name) for name in run.classifiers}

    def files(self, run: Run) -> int:
        return CLASSIFIER_FILES

    def pieces(self, run: Run) -> int:
        return 1

    def own_units(self, run: Run, name: str) -> int:
        return run.classifiers[name].epochs


@dataclass(frozen=True, kw_only=True)
class SampleStage(StageKind):
    """The images of some methods of a run, in shards of the benchmark's items."""

    name: str
    methods: Callable[[Run], list[str]]

    def outputs(self, run: Run) -> dict[str, Path]:
        return {name: run.paths.samples(name) for name in self.methods(run)}

    def files(self, run: Run) -> int:
        return -(-len(run.items) // run.config.shard)

    def pieces(self, run: Run) -> int:
        return len(run.items)

    def work(self, run: Run, name: str) -> Work:
        return sampling_work(run.config, [name])

    def bytes(self, run: Run, name: str) -> int:
        return image_bytes(run.config, sizes_of(run.config))


def _scenes(run: Run) -> Path:
    return run.paths.scenes


def _noise(run: Run) -> Path | None:
    return run.paths.noise if run.config.inverts else None


def _inverted_maps(run: Run) -> Path | None:
    return run.paths.map_folders.get(INVERTED)


def _trajectories(run: Run) -> Path | None:
    return run.paths.map_folders.get(TRAJECTORIES)


def _plain(run: Run) -> list[str]:
    return [PLAIN]


def _steered(run: Run) -> list[str]:
    return list(run.classifiers)


def _further(run: Run) -> list[str]:
    """Return the further methods, without those whose images are a classifier's or plain ones."""
    others = [run.paths.samples(name) for name in (PLAIN, *run.classifiers)]
    return [name for name in run.config.methods if run.paths.samples(name) not in others]


STAGE_KINDS: tuple[StageKind, ...] = (
    SceneStage(name="scenes", leaves="scenes", folder=_scenes),
    SceneStage(name="invert", leaves="noise", folder=_noise),
    SceneStage(name="capture", leaves="maps", folder=_inverted_maps),
    SceneStage(name="trajectories", leaves="trajectories", folder=_trajectories),
    TrainStage(),
    SampleStage(name=SAMPLE_PLAIN, methods=_plain),
    SampleStage(name=SAMPLE_STEERED, methods=_steered),
    SampleStage(name=SAMPLE_FURTHER, methods=_further),
)
