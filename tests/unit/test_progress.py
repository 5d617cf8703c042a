"""The time left of a run, what its parts tell, and how both are shown."""

from __future__ import annotations

import io
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from helpers.judged import run_summary
from helpers.small_run import SETTINGS

from flows import display, progress
from flows.changes import LastRun, changes
from flows.display import Bar, Lines, Status, times
from flows.options import waiting
from flows.progress import RunProgress, follow
from l2s_core.backbones.unet import UNetBackbone
from l2s_core.config import PLAIN, load_run_config
from l2s_core.config.dotted import dotted
from l2s_core.data.scenes import PromptForm
from l2s_core.data.source import source_of
from l2s_core.diffusion.noise import invert_scenes
from l2s_core.diffusion.sampler import Sampler
from l2s_core.evaluation.run import Run
from l2s_core.evaluation.samples import sample_items
from l2s_core.planning import pace
from l2s_core.planning.pace import Pace, PlannedStage, TimeLeft, dataset_stages, image_stages, time_left
from tasks.progress import Told, count_evaluations, telling, told_of
from tasks.scenes import choose_scenes, prepare_shard

INVERT = PlannedStage(label="invert", kind="invert", left=100, size=10, evaluations=True)
IMAGES = PlannedStage(label="images", kind="images", left=50, size=5, evaluations=True)
TRAIN = PlannedStage(label="train", kind="train", left=20, size=10)


def test_the_time_left_has_a_basis_or_is_not_told() -> None:
    """Evaluations say what others cost, until those have a pace of their own; of training they say nothing."""
    stages = [INVERT, IMAGES, TRAIN]
    measured = Pace()
    assert time_left(stages, {}, measured) is None
    measured.measure(INVERT, pace.BASIS_SECONDS / 2, 10)
    assert time_left(stages, {}, measured) is None
    measured.measure(INVERT, 40, 20)
    assert time_left(stages, {"invert": 20}, measured) == TimeLeft(seconds=2 * (80 + 50), all_counted=False)
    measured.measure(TRAIN, 30, 10)
    done = {"invert": 100, "train": 10}
    assert time_left(stages, done, measured) == TimeLeft(seconds=2 * 50 + 30, all_counted=True)
    measured.measure(IMAGES, 4, 40)
    assert time_left(stages, done | {"images": 40}, measured) == TimeLeft(seconds=1 + 30, all_counted=True)
    assert time_left(stages, {"invert": 100, "train": 20, "images": 50}, measured) is None


def test_the_planned_evaluations_are_those_that_the_denoiser_tells(tmp_path: Path) -> None:
    """To the last one for inversion and plain images: a bar that counted otherwise would end early or late."""
    classifiers = {"true-only": {"prompts": "true"}, "sampled": {"maps": "trajectories"}}
    run = Run.of(load_run_config("mini-sd", SETTINGS | {"classifiers": classifiers}), tmp_path)
    plans = {stage.label: stage for stage in (*dataset_stages(run), *image_stages(run))}
    backbone = UNetBackbone.from_pretrained("mini-sd")
    count_evaluations(backbone.denoiser)
    items = run.items[:2]
    with telling("stage", "plain"):
        sample_items(Sampler.of(backbone, run.config), items)
    assert told_of("stage")["plain"].units == plans["sample images plain"].size * len(items)
    choose_scenes.fn(run)
    name, entries = next(run.scene_shards())
    scenes, _ = source_of(run.config.data).load_entries(entries[:2], run.paths.inputs.size)
    with telling("stage", "inverted"):
        invert_scenes(
            backbone,
            scenes,
            run.config.inversion,
            steps=run.config.backbone.steps,
            batch=4,
            form=PromptForm.of(run.config.data),
        )
    assert told_of("stage")["inverted"].units == plans["invert scenes"].size * len(scenes)
    assert plans["train classifiers"].left == 3 * SETTINGS["classifier.epochs"]
    prepare_shard(run, name, entries)
    left = {stage.label: stage.left for stage in dataset_stages(run)}
    assert (
        left["prepare scenes"] < plans["prepare scenes"].left and left["invert scenes"] == plans["invert scenes"].left
    )
    assert plans[f"sample images {PLAIN}"].kind != plans["sample images main"].kind
    assert plans["sample images main"].kind == plans["sample images true-only"].kind


class Seen(Lines):
    """Lines that are kept, and every status."""

    def __init__(self) -> None:
        super().__init__()
        self.statuses: list[Status] = []
        self.said: list[str] = []

    def show(self, status: Status) -> None:
        self.statuses.append(status)

    def say(self, line: str) -> None:
        self.said.append(line)


class Future:
    """A future of Prefect's, as far as a run that is followed needs one."""

    def __init__(self, wrapped_future) -> None:
        self.wrapped_future = wrapped_future

    def wait(self, timeout: float) -> None:
        with suppress(TimeoutError):
            self.wrapped_future.exception(timeout)

    def result(self):
        return self.wrapped_future.result()


def test_a_bar_moves_within_a_shard_and_knows_what_was_there_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """One shard was made by an earlier run: it counts as done, and says nothing of the pace."""
    monkeypatch.setattr(progress, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(progress, "create_progress_artifact", lambda **_: None)
    monkeypatch.setattr(progress, "update_progress_artifact", lambda *_, **__: None)
    shown = Seen()
    run = RunProgress([PlannedStage(label="invert scenes", kind="invert", left=80, size=10, evaluations=True)], shown)
    told = {"b": Told(units=40, right=1, judged=2)}
    with ThreadPoolExecutor(1) as pool, run.stage("invert scenes") as stage:

        def work() -> str:
            while not any("12/16" in status.done for status in shown.statuses):
                time.sleep(0.005)
            return "made"

        futures = [Future(pool.submit(lambda: "there")), Future(pool.submit(work))]
        results = follow(futures, stage, [{"a": 8}, {"b": 8}], "scenes", told=lambda: told)
        assert run.done["invert scenes"] == 80
    assert results == ["there", "made"]
    assert [status.done for status in shown.statuses][-1] == "16/16 scenes, 0.50 of 2 right"
    assert shown.said[0].startswith("stage 1 of 1, invert scenes: 16/16 scenes")
    assert {status.stage for status in shown.statuses} == {"stage 1 of 1, invert scenes"}


def test_a_log_gets_few_lines_and_a_terminal_one_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(display.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    lines = Lines()
    left = TimeLeft(seconds=430, all_counted=True)
    for clock[0] in range(200):
        lines.show(Status(stage="stage 1 of 2, invert scenes", done="3/8 scenes", seconds=clock[0], left=left))
    written = sys.stderr.getvalue().splitlines()
    assert written[0] == "stage 1 of 2, invert scenes: 3/8 scenes; 3 s so far, about 7 min left"
    assert len(written) == 4
    monkeypatch.undo()
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    bar = Bar()
    bar.show(
        Status(stage="stage 1 of 2, invert", done="3/8", seconds=50.0, left=TimeLeft(seconds=150, all_counted=True))
    )
    bar.say("plain: relation correct 0.28")
    bar.close()
    drawn = sys.stderr.getvalue()
    assert " 25% |" in drawn and "about 2 min left" in drawn and "plain: relation correct 0.28\n" in drawn


def test_what_is_waited_for_shows_on_a_terminal_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for terminal, shown in ((True, "loading libraries …\r\x1b[K"), (False, "")):
        monkeypatch.setattr(sys, "stderr", io.StringIO())
        monkeypatch.setattr(sys.stderr, "isatty", lambda terminal=terminal: terminal, raising=False)
        with waiting("loading libraries"):
            assert sys.stderr.getvalue() == shown.partition("\r")[0]
        # click writes no control characters to what it does not know for a terminal
        assert sys.stderr.getvalue().startswith(shown.partition("\x1b")[0])


@pytest.mark.parametrize(
    ("left", "words"),
    [
        (None, "5 s so far"),
        (TimeLeft(seconds=30, all_counted=False), "5 s so far, more than 30 s left"),
        (TimeLeft(seconds=11100, all_counted=True), "5 s so far, about 3 h 5 min left"),
        (TimeLeft(seconds=94.2, all_counted=True), "5 s so far, about 2 min left"),
    ],
)
def test_times_claim_no_more_than_is_known(left: TimeLeft | None, words: str) -> None:
    assert times(Status(stage="", done="", seconds=5, left=left)) == words


def test_a_run_says_what_changed_against_the_last_one() -> None:
    config = load_run_config("mini-sd").model_dump(mode="json")
    before = run_summary()
    last = LastRun(run_id="mini-sd-1", started="2026-01-01", settings=dotted(config), summary=before)
    assert changes(last, config, before) == ["nothing: the same settings and the same figures"]
    other = load_run_config("mini-sd", {"inversion.iterations": 3}).model_dump(mode="json")
    assert changes(last, other, before) == ["inversion.iterations: 1 -> 3"]
