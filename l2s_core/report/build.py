"""From a run's finished stages to its report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from PIL import Image

from l2s_core.backbones.base import Backbone
from l2s_core.classifier.checkpoint import TrainedClassifier
from l2s_core.classifier.experiment import ClassifierResult, load_result
from l2s_core.classifier.labels import Labels
from l2s_core.classifier.training import evaluate
from l2s_core.config import MAIN, PLAIN, TRAJECTORIES
from l2s_core.data.source import source_of
from l2s_core.dataset.reader import MapDataset
from l2s_core.diffusion.sampler import Sampler
from l2s_core.evaluation.detectors.judge import Judge
from l2s_core.evaluation.protocols.items import EvalItem
from l2s_core.evaluation.run import Run
from l2s_core.evaluation.run_summary import ClassifierFigures
from l2s_core.evaluation.statistics.aggregate import Rate
from l2s_core.report.ablations import load_ablations
from l2s_core.report.comparison import (
    compared,
    method_figures,
    method_pictures,
    method_values,
    method_verdicts,
    write_files,
)
from l2s_core.report.dataset_summary import DatasetSummary, dataset_summary
from l2s_core.report.figures import attention_figure, confidence_figure, confusion_figure, curves_figure
from l2s_core.report.gallery import Verdicts, first_items_grid
from l2s_core.report.page import Picture, render_page
from l2s_core.report.provenance import Provenance
from l2s_core.report.scores import Scores
from l2s_core.report.significance_page import p_text
from l2s_core.report.summary import Report
from l2s_core.report.trace import trace
from l2s_core.report.wording import MAPS


@dataclass(frozen=True, kw_only=True)
class LeakageRow:
    """A classifier in the table of relation leakage: what it learned from, its test by kind of prompt, its images.

    `sampling` is its test accuracy on maps of the backbone's own sampling, None without them.
    """

    name: str
    label: str
    augment: str
    prompts: str
    maps: str
    sampling: float | None
    true: float
    wrong: float
    correct: Rate
    all_found: Rate


def build_report(run: Run, backbone: Backbone, judge: Judge) -> Report:
    """Write the report's files into `run.paths.report`; return it as a record."""
    verdicts = method_verdicts(run)
    tests = _tests_by_maps(run)
    device = backbone.device
    dataset = dataset_summary(run, judge)
    classifiers = {name: _classifier_figures(run, name, verdicts, tests, device) for name in run.classifiers}
    report = compared(run, classifiers, verdicts, Scores.of(run, judge, device), dataset)
    main = _result(report, MAIN)
    grid = first_items_grid(run, verdicts)
    traced = _traced(run, verdicts)
    pictures = method_pictures(run, report, verdicts) | {"grid": grid} | _pictures(run, backbone, main, traced)
    values = method_values(run, report) | _page_values(run, report, main, dataset)
    values |= {
        "provenance": Provenance.now(device),
        "traced": traced,
        "repaired": traced and _is_repaired(traced, verdicts),
    }
    write_files(run.paths.report, render_page(values, pictures, p=p_text), report, grid)
    return report


def _tests_by_maps(run: Run) -> dict[str, MapDataset]:
    """The test sets of every kind of maps the run has.

    There are none where it has one kind alone: its classifiers were tested on that.
    """
    folders = run.paths.map_folders
    names = [name for name, _ in run.scene_shards()]
    if len(folders) == 1:
        return {}
    tests = {
        kind: MapDataset(
            [folder / f"{name}.parquet" for name in names], split="test", min_psnr=run.config.inversion.min_psnr
        )
        for kind, folder in folders.items()
    }
    return {kind: test for kind, test in tests.items() if len(test)}


def _classifier_figures(
    run: Run, name: str, verdicts: Verdicts, tests: Mapping[str, MapDataset], device: str
) -> ClassifierFigures:
    """How a classifier was trained, what it does to images, and its test on every kind of maps of `tests`."""
    folder = run.paths.classifier(name)
    model = TrainedClassifier.load(folder, device=device).model
    labels = Labels(run.classifiers[name].labels)
    return ClassifierFigures(
        steered=method_figures(run, name, verdicts),
        result=load_result(folder),
        by_maps={kind: evaluate(model, test, labels=labels, device=device).summary() for kind, test in tests.items()},
    )


def _result(report: Report, name: str) -> ClassifierResult:
    """How a classifier of the run was trained."""
    result = report.run.classifiers[name].result
    if result is None:
        raise ValueError(f"classifier {name} was not trained by this run")
    return result


def _pictures(
    run: Run, backbone: Backbone, main: ClassifierResult, traced: EvalItem | None
) -> dict[str, Picture | list[Image.Image] | None]:
    return {
        **(_traced_pictures(run, backbone, traced) if traced else {}),
        "confusion": confusion_figure(main.confusion, run.config.data.labels),
        "curves": curves_figure(main.history, main.best_epoch),
    }


def _traced(run: Run, verdicts: Verdicts) -> EvalItem | None:
    """The item whose making is shown: the first that steering repaired, else the first with a relation, if any."""
    items = [item for item in run.items if item.prompt.triplets]
    repaired = (item for item in items if _is_repaired(item, verdicts))
    return next(repaired, items[0] if items else None)


def _is_repaired(item: EvalItem, verdicts: Verdicts) -> bool:
    """Whether the plain image of an item is wrong and the steered one right."""
    plain, steered = (
        next(image.correct for image in verdicts[method] if image.item_id == item.item_id) for method in (PLAIN, MAIN)
    )
    return steered and not plain


def _traced_pictures(run: Run, backbone: Backbone, item: EvalItem) -> dict[str, Picture | list[Image.Image] | None]:
    """Attention plain and steered, step by step, and what the classifier said of the steered image."""
    config = run.config
    classifier = TrainedClassifier.load(run.paths.classifier(MAIN), device=backbone.device)
    sampler = Sampler.of(backbone, config)
    plain = trace(sampler, item.prompt, item.seed, classifier, None)
    steered = trace(sampler, item.prompt, item.seed, classifier, config.steering)
    if steered.confidence_SR is None:
        raise ValueError("a steered image has no confidence")
    relations = [f"{t.subject} {t.relation} {t.object}" for t in dict.fromkeys(item.prompt.triplets)]
    return {
        "attention": attention_figure(
            (plain.image, steered.image),
            (plain.maps_TOGG, steered.maps_TOGG),
            ("plain", "steered"),
            classifier.source.steps,
            item.prompt.objects,
        ),
        "confidence": confidence_figure(steered.confidence_SR, relations, config.steering.confidence),
    }


def _page_values(run: Run, report: Report, main: ClassifierResult, dataset: DatasetSummary) -> dict[str, Any]:
    return {
        "versions": dataset.versions,
        "data": dataset.data,
        "inversion": dataset.inversion,
        "trajectories": dataset.trajectories,
        "diagonals": run.config.data.states_diagonals,
        "judge": dataset.judge,
        "ablations": load_ablations(run.home, run.config),
        "leakage": [_leakage(run, report, name) for name in run.classifiers],
        "command": f"l2s reproduce {run.config.name}",
        "accuracies": {
            k.replace("accuracy", "").replace("_", " ").strip() or "all": v
            for k, v in main.test.items()
            if "accuracy" in k
        },
        "records": main.records,
        "train_seconds": main.seconds,
        "scope": source_of(run.config.data).SCOPE,
    }


def _leakage(run: Run, report: Report, name: str) -> LeakageRow:
    config = run.classifiers[name]
    figures = report.run.classifiers[name]
    test = _result(report, name).test
    return LeakageRow(
        name=name,
        label="this run's" if name == MAIN else name,
        augment=config.augment,
        prompts="true and wrong" if config.prompts == "dual" else "true only",
        maps=MAPS[config.maps],
        sampling=figures.by_maps.get(TRAJECTORIES, {}).get("accuracy"),
        true=test["accuracy_true_prompts"],
        wrong=test["accuracy_wrong_prompts"],
        correct=figures.steered.summary.correct,
        all_found=figures.steered.summary.all_found,
    )
