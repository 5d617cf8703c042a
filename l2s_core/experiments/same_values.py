"""Whether two folders of runs hold the same values, bit for bit, whatever their addresses.

Usage: ``python -m l2s_core.experiments.same_values HOME HOME``; exit code 1 when they differ. A change that is to
change no figure is proved by it: run the same commands before and after, each in a folder of its own, and compare.

Compared are noise, attention maps, classifiers, images and verdicts. Names of files, folders and columns do not count,
and neither do times: an output is the same where its numbers and the texts that belong to them are.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from l2s_core.storage.files import read_json
from l2s_core.storage.store import read_weights

STAGES = "stages"
FOUND = ("all_found", "both")  # the key of a verdict, and its name before


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One kind of stage in two homes: how many outputs are the same in both, and how many only one of them has."""

    stage: str
    same: int
    only_first: int
    only_second: int


def compare_homes(first: Path, second: Path) -> list[Compared]:
    """Return a row for each kind of stage that has values; the homes themselves are only read."""
    rows = []
    for stage, values_of in VALUES.items():
        ours = _digests(first, stage, values_of)
        theirs = _digests(second, stage, values_of)
        rows.append(
            Compared(
                stage=stage,
                same=(ours & theirs).total(),
                only_first=(ours - theirs).total(),
                only_second=(theirs - ours).total(),
            )
        )
    return rows


def _digests(home: Path, stage: str, values_of: Callable[[Path], bytes | None]) -> Counter[str]:
    """Return the digests of the values of every output of a stage, counted."""
    found: Counter[str] = Counter()
    for path in sorted((home / STAGES / stage).glob("*/[!.]*")):
        values = values_of(path)
        if values is not None:
            found[hashlib.sha256(values).hexdigest()] += 1
    return found


def _tensors(path: Path) -> bytes | None:
    """Return names, types, shapes and bytes of a safetensors file; None for another file."""
    if path.suffix != ".safetensors":
        return None
    tensors = read_weights(path)
    return b"".join(
        f"{name} {t.dtype} {tuple(t.shape)}".encode() + t.numpy().tobytes() for name, t in sorted(tensors.items())
    )


def _maps(path: Path) -> bytes | None:
    """Return the attention maps of a Parquet shard and what they are of; None for another file."""
    if path.suffix != ".parquet":
        return None
    table = pq.read_table(path)
    texts = [table.column(name).to_pylist() for name in ("image_id", "split", "prompt", "step")]
    numbers = [table.column(name).combine_chunks() for name in ("psnr", "maps")]
    buffers = [buffer for column in numbers for buffer in column.buffers() if buffer is not None]
    return json.dumps(texts).encode() + b"".join(buffer.to_pybytes() for buffer in buffers)


def _verdicts(path: Path) -> bytes | None:
    """Return what was found in every image and how it was judged; None for another file."""
    if path.name != "verdicts.json":
        return None
    stored = read_json(path)
    rows = stored["images"] if isinstance(stored, dict) else stored
    kept = [
        [
            row["item_id"],
            row["prompt"],
            row["seed"],
            row["correct"],
            next(row[name] for name in FOUND if name in row),
            row["score"],
            row["gradients"],
            row["checks"],
            row["skipped"],
            [[find["name"], find["box"], find["score"]] for find in row["detections"]],
        ]
        for row in rows
    ]
    return json.dumps(kept).encode()


VALUES: dict[str, Callable[[Path], bytes | None]] = {
    "noise": _tensors,
    "maps": _maps,
    "trajectories": _maps,
    "classifier": _tensors,
    "samples": _tensors,
    "verdicts": _verdicts,
}
"""What of a stage's files is compared."""


def main() -> None:
    """Print the table of two homes."""
    if len(sys.argv) != 3:
        sys.exit("usage: python -m l2s_core.experiments.same_values HOME HOME")
    rows = compare_homes(Path(sys.argv[1]), Path(sys.argv[2]))
    print(f"{'stage':14s}{'same':>8s}{'only first':>12s}{'only second':>13s}")
    for row in rows:
        print(f"{row.stage:14s}{row.same:8d}{row.only_first:12d}{row.only_second:13d}")
    if not any(row.same for row in rows) or any(row.only_first or row.only_second for row in rows):
        sys.exit(1)


if __name__ == "__main__":
    main()
