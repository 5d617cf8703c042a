"""Every model beyond the small world rehearsed on one machine, one after the other.

Usage: ``python -m l2s_core.planning.rehearsals OUT [--models NAME …] [--images 2] [--scale tiny]``.

Each model is drawn and measured in a process of its own: its memory is free again after it, and one that fails costs
the others nothing. OUT has a file for each that is done, which the same call does not do again, and prints their table.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from l2s_core.backbones.architecture import Scale
from l2s_core.backbones.load import pick_device
from l2s_core.config import RunConfig
from l2s_core.errors import UserError, one_line
from l2s_core.planning.cost import BEYOND, PAPER, model_run
from l2s_core.planning.measured import Rehearsal
from l2s_core.planning.rehearsal import rehearse
from l2s_core.storage.files import make_folder, read_json, write_json

MODELS = (*PAPER, *BEYOND)
NOISED = {"sana-sprint": "rectified-flow"}
"""Models whose scenes cannot be inverted otherwise."""
COLUMNS = {
    "prompt": "encode prompt",
    "image to latents": "encode image",
    "pass with capture": "capture",
    "guided step": "guided step",
    "steering gradient": "steering gradient",
    "latents to image": "decode",
}
"""Columns of the table, and the operations that they are of."""


def rehearsed_run(name: str, scale: Scale) -> RunConfig:
    """Return the run that a model is rehearsed in; a tiny one is in float32, which every processor is fast in."""
    inversion = {"inversion.method": NOISED.get(name, "fixed-point")} if name in BEYOND else {}
    return model_run(name, {**inversion, "backbone.dtype": "bfloat16" if scale == "full" else "float32"})


def measure(name: str, scale: Scale, images: int) -> dict[str, Any]:
    """Return the record of one model's rehearsal."""
    return rehearse(rehearsed_run(name, scale), scale=scale, images=images, device=pick_device("auto")).to_json()


def measure_alone(name: str, scale: Scale, images: int) -> dict[str, Any]:
    """Return the same, measured in a process that ends with it; raises UserError, one line, for whatever goes wrong."""
    try:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
            return process.submit(measure, name, scale, images).result()
    except BrokenProcessPool:
        raise UserError(f"{name}: its process was killed, as it is where memory runs out") from None
    except Exception as error:
        raise UserError(f"{name}: {one_line(str(error))}") from None


def table_row(name: str, stored: Mapping[str, Any]) -> str:
    """Return a line of the table: milliseconds an image, and the peak of the steering gradient with the weights."""
    measured = {row.operation: row for row in Rehearsal.from_json(stored).measured}
    times = [f"{measured[operation].seconds * 1000:.0f}" for operation in COLUMNS.values()]
    peak = measured[COLUMNS["steering gradient"]].peak_bytes
    return f"| `{name}` | " + " | ".join(times) + f" | {peak / 1e9:.1f} GB |"


def main(arguments: Sequence[str] | None = None) -> None:
    """Rehearse the models that OUT has no file of; exit code 1 where one of them fails."""
    parser = argparse.ArgumentParser(
        prog="python -m l2s_core.planning.rehearsals", description="Rehearse every model beyond the small world."
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS, metavar="NAME", help=", ".join(MODELS))
    parser.add_argument("--images", type=int, default=2, help="at once (default: 2)")
    parser.add_argument("--scale", choices=("full", "tiny"), default="full")
    given = parser.parse_args(arguments)
    failed = []
    print(f"| | {' | '.join(COLUMNS)} | peak |\n|{'---|' * (len(COLUMNS) + 2)}", flush=True)
    for name in given.models:
        file = make_folder(given.out) / f"{name}-{given.scale}.json"
        try:
            if not file.is_file():
                write_json(file, measure_alone(name, given.scale, given.images))
            print(table_row(name, read_json(file)), flush=True)
        except UserError as error:
            failed.append(str(error))
    if failed:
        parser.exit(1, "\n".join(failed) + "\n")


if __name__ == "__main__":
    main()
