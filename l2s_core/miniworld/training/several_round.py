"""One command on a GPU: mini-sd, mini-seg and mini-flux for prompts of two to five objects, trained, measured, packed.

Usage: ``python -m l2s_core.miniworld.training.several_round WORK OUT [--tiny]``.

A call that is stopped goes on from WORK when it is made again; what is finished lies in OUT by then. `--tiny` rehearses
the whole of it in a few steps on a CPU.
"""

from __future__ import annotations

import argparse
import tarfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from l2s_core.backbones.load import pick_device
from l2s_core.config import Section
from l2s_core.miniworld.training.bars import FORMS, judge_line, table
from l2s_core.miniworld.training.pretrain import PretrainConfig, load_pretrain_config, pretrain, show
from l2s_core.storage.files import make_folder

MODELS = ("mini-sd", "mini-flux")
TINY = {"steps": 3, "batch": 8, "scenes": 80}
TINY_FORMS = ("2+1", "5+3")
TINY_PROMPTS = 2
Kind = TypeVar("Kind", bound=Section)


def shortened(section: Kind, sizes: Mapping[str, int]) -> Kind:
    """Return a configuration with the `sizes` given in every section that has them, as a rehearsal of it."""
    update: dict[str, object] = {}
    for name in type(section).model_fields:
        value = getattr(section, name)
        if name in sizes:
            update[name] = sizes[name]
        elif isinstance(value, Section):
            update[name] = shortened(value, sizes)
        elif isinstance(value, tuple) and value and isinstance(value[0], Section):
            update[name] = tuple(shortened(one, sizes) for one in value)
    return section.model_copy(update=update)


def train_and_measure(
    config: PretrainConfig,
    work: Path,
    out: Path,
    *,
    device: str,
    prompts: int,
    forms: Sequence[str],
    workers: int | None,
) -> None:
    """Train one configuration in `work`; leave the packed models, their table and grids of images in `out`."""
    began = time.monotonic()
    models = pretrain(config, work, device=device, observe=show, workers=workers)
    trained = f"trained in {time.monotonic() - began:.0f} s on {device}, counted from the last checkpoint on"
    _pack(models / config.model, out)
    judge = "mini-seg"
    if (models / "mini-seg").is_dir():
        _pack(models / "mini-seg", out)
        judge = str(models / "mini-seg")
    grids = work / f"{config.model}-grids"
    rows = table(
        f"{config.model}={models / config.model}",
        suite="dev",
        prompts=prompts,
        forms=forms,
        judge=judge,
        device=device,
        grids=grids,
    )
    with (out / f"{config.model}.txt").open("w", encoding="utf-8") as report:
        for line in (trained, *rows, judge_line(judge, device)):
            print(line, flush=True)
            report.write(line + "\n")
    _pack(grids, out)


def _pack(folder: Path, out: Path) -> None:
    with tarfile.open(out / f"{folder.name}.tar.gz", "w:gz", compresslevel=6) as pack:
        pack.add(folder, folder.name)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, measure and pack, one model after the other."""
    parser = argparse.ArgumentParser(description="Train the small models for several objects on a GPU.")
    parser.add_argument("work", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--workers", type=int, help="processes that draw scenes ahead")
    parser.add_argument("--prompts", type=int, default=200, help="of each form, measured on the development suite")
    parser.add_argument("--tiny", action="store_true", help="a rehearsal in a few steps")
    given = parser.parse_args(arguments)
    make_folder(given.out)
    for model in given.models:
        config = load_pretrain_config(f"{model}-several-gpu")
        train_and_measure(
            shortened(config, TINY) if given.tiny else config,
            given.work,
            given.out,
            device=pick_device(given.device),
            prompts=TINY_PROMPTS if given.tiny else given.prompts,
            forms=TINY_FORMS if given.tiny else FORMS,
            workers=given.workers,
        )


if __name__ == "__main__":
    main()
