"""A run's images out to GenEval's own scorer, and its verdicts back beside ours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from l2s_core.errors import UserError, unknown_name
from l2s_core.evaluation.pictures import has_images, method_images
from l2s_core.evaluation.protocols.geneval import Geneval
from l2s_core.evaluation.protocols.geneval_folder import check_folder, export_folder, read_results
from l2s_core.evaluation.protocols.geneval_rules import GenevalRecord
from l2s_core.evaluation.protocols.protocol import protocol_of
from l2s_core.evaluation.run import Run
from l2s_core.evaluation.statistics.aggregate import Rate
from l2s_core.storage.versioned import read_versioned, write_versioned

NAME = "official.json"  # beside a method's own verdicts
FORMAT = 1  # of the file


def export_images(run: Run, method: str, folder: Path) -> int:
    """Write the images of a method in GenEval's layout; return how many were new.

    Raises UserError for a run of another protocol, an unknown method, images that are not there yet, and a folder that
    holds images of another export besides: the scorer would count them.
    """
    records = _records(run, method)
    images = _images(run, method)
    seeds = run.config.benchmark.seeds
    written = export_folder(folder, records, {divmod(place, seeds): image for place, image in enumerate(images)})
    check_folder(folder, records, seeds)
    return written


def import_results(run: Run, method: str, path: Path) -> dict[str, Rate]:
    """Keep what GenEval's scorer wrote about a method's images; return its rates by task, and of "all".

    Raises UserError as `export_images` and `read_results` do; nothing is kept then.
    """
    results = read_results(path, _records(run, method), run.config.benchmark.seeds)
    content = {"images": [asdict(result) for result in results]}
    write_versioned(run.paths.verdicts(method) / NAME, FORMAT, content)
    return _rates([(result.tag, result.correct) for result in results])


def official_summary(run: Run) -> dict[str, dict[str, Rate]]:
    """Return, by method and by task ("all" with them), the rates of the methods whose results were brought back."""
    paths = {method: run.paths.verdicts(method) / NAME for method in run.methods}
    return {method: _read_rates(path) for method, path in paths.items() if path.is_file()}


def _read_rates(path: Path) -> dict[str, Rate]:
    return read_versioned(
        path,
        FORMAT,
        lambda stored: _rates([(row["tag"], row["correct"]) for row in stored["images"]]),
        what="results of GenEval's scorer",
        remedy="import them again ('l2s geneval import')",
    )


def _rates(outcomes: Sequence[tuple[str, bool]]) -> dict[str, Rate]:
    """Return the rate of each task, in the order in which tasks first come, and of all."""
    tags = dict.fromkeys(tag for tag, _ in outcomes)
    rates = {tag: Rate.of([correct for other, correct in outcomes if other == tag]) for tag in tags}
    return {**rates, "all": Rate.of([correct for _, correct in outcomes])}


def _records(run: Run, method: str) -> list[GenevalRecord]:
    protocol = protocol_of(run.config)
    if not isinstance(protocol, Geneval):
        raise UserError(
            f"{run.config.name} has benchmark.protocol {protocol.protocol}, whose prompts GenEval's scorer cannot "
            "judge; set benchmark.protocol=geneval"
        )
    if method not in run.methods:
        raise unknown_name("method", method, run.methods)
    return protocol.records(run.config)


def _images(run: Run, method: str) -> list[np.ndarray]:
    if not has_images(run, method):
        raise UserError(
            f"no images of {method} for {run.config.name} in {run.home}; "
            "run 'l2s reproduce' or 'l2s benchmark' with the same settings first"
        )
    return method_images(run, method)
