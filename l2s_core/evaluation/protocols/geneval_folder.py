"""Images in the layout that GenEval's own scorer reads, and the results that it writes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from l2s_core.errors import UserError
from l2s_core.evaluation.protocols.geneval_metadata import record_row
from l2s_core.evaluation.protocols.geneval_rules import GenevalRecord, all_found
from l2s_core.storage.decoding import decode_json
from l2s_core.storage.files import atomic_path, read_json, write_text
from l2s_core.storage.lines import read_jsonl

Key = tuple[int, int]  # the prompt's place among the records, and the sample's number, both from 0
_SAMPLE = re.compile(r"(?:^|[\\/])(\d+)[\\/]samples[\\/](\d+)\.png$")


@dataclass(frozen=True, kw_only=True)
class OfficialFind:
    """A box (x0, y0, x1, y1), pixels, that GenEval's scorer lists under a class, with its confidence."""

    name: str
    box: tuple[float, float, float, float]
    score: float


@dataclass(frozen=True, kw_only=True)
class OfficialResult:
    """What GenEval's scorer says of the image `sample` of the prompt `prompt_index`; `relation` is None in most tasks.

    Where its line lists boxes, these are the `detections`, and `all_found` says whether every included class was
    found as often as asked; both are None elsewhere.
    """

    prompt_index: int
    sample: int
    tag: str
    prompt: str
    relation: str | None
    correct: bool
    all_found: bool | None
    reason: str
    detections: tuple[OfficialFind, ...] | None


def prompt_folder(root: Path, prompt: int) -> Path:
    """Return the folder of a prompt: root/00000."""
    return Path(root) / f"{prompt:05d}"


def sample_path(root: Path, key: Key) -> Path:
    """Return the file of a sample: root/00000/samples/0000.png."""
    return prompt_folder(root, key[0]) / "samples" / f"{key[1]:04d}.png"


def export_folder(root: Path, records: Sequence[GenevalRecord], images: Mapping[Key, np.ndarray]) -> int:
    """Write every prompt's metadata and the given uint8 images (H, W, 3) as PNG; return the number of images written.

    Files appear only when complete, and those that are there are kept, so an export may be repeated after
    an interruption. Raises UserError when the folder holds another prompt or another image in the place of one given.
    """
    for key in images:
        if not 0 <= key[0] < len(records) or key[1] < 0:
            raise UserError(
                f"sample {key} belongs to no prompt; allowed: prompts 0 to {len(records) - 1}, samples from 0 up"
            )
    for prompt, record in enumerate(records):
        if not _has_metadata(root, prompt, record):
            write_text(prompt_folder(root, prompt) / "metadata.jsonl", json.dumps(record_row(record)) + "\n")
    return sum(_write_sample(sample_path(root, key), image) for key, image in images.items())


def check_folder(root: Path, records: Sequence[GenevalRecord], samples: int) -> None:
    """Raise UserError unless GenEval's scorer would find exactly these prompts and `samples` images of each."""
    for prompt, record in enumerate(records):
        if not _has_metadata(root, prompt, record):
            raise UserError(f"missing file {prompt_folder(root, prompt) / 'metadata.jsonl'}; export the prompts again")
    _require_all(
        (key for key in _keys(records, samples) if sample_path(root, key).exists()), records, samples, str(root)
    )
    wanted = {sample_path(root, key) for key in _keys(records, samples)}
    for path in sorted(Path(root).glob("*/samples/*.png")):
        if path not in wanted and path.name[0].isdigit() and path.parts[-3].isdigit():
            raise UserError(
                f"{path} belongs to no sample of this export, but GenEval's scorer would count it; move it away"
            )


def read_results(path: Path, records: Sequence[GenevalRecord], samples: int) -> list[OfficialResult]:
    """Read the results.jsonl of GenEval's scorer: one result an image, by prompt and sample.

    Images are recognised by the end of their path, so the scorer may have run elsewhere.
    Raises UserError for a damaged line, an unknown or repeated image, another prompt, or a missing image.
    """
    results: dict[Key, OfficialResult] = {}
    for result in read_jsonl(path, lambda value: _result(value, records, samples)):
        key = (result.prompt_index, result.sample)
        if key in results:
            raise UserError(f"{path} has two lines for prompt {key[0]}, sample {key[1]}; keep one")
        results[key] = result
    _require_all(results, records, samples, str(path))
    return [results[key] for key in sorted(results)]


def _keys(records: Sequence[GenevalRecord], samples: int) -> list[Key]:
    return [(prompt, number) for prompt in range(len(records)) for number in range(samples)]


def _require_all(there: Iterable[Key], records: Sequence[GenevalRecord], samples: int, where: str) -> None:
    found = set(there)
    missing = [key for key in _keys(records, samples) if key not in found]
    if missing:
        prompt, number = missing[0]
        name = sample_path(Path(), (prompt, number))
        raise UserError(
            f"{where} lacks {name} ({len(missing)} of {len(records) * samples} images); export or judge them"
        )


def _has_metadata(root: Path, prompt: int, record: GenevalRecord) -> bool:
    """Whether a prompt's metadata is there; raises UserError when it is another's."""
    path = prompt_folder(root, prompt) / "metadata.jsonl"
    if not path.exists():
        return False
    try:
        stored = read_json(path)
    except UserError as error:
        raise UserError(f"{error}; delete it and export again") from None
    if stored != record_row(record):
        shown = stored.get("prompt") if isinstance(stored, dict) else stored
        raise UserError(
            f"{path} is of the prompt {shown!r}, not of {record.prompt!r} with its clauses; choose an empty folder"
        )
    return True


def _write_sample(path: Path, image: np.ndarray) -> bool:
    if not path.exists():
        with atomic_path(path) as temporary:
            Image.fromarray(image).save(temporary, format="PNG")
        return True
    try:
        with Image.open(path, formats=("PNG",)) as picture:
            if picture.size != image.shape[1::-1]:
                raise OSError(f"it is {picture.width} x {picture.height} pixels")
            stored = np.asarray(picture.convert("RGB"))
    except Exception as error:  # decoders raise many kinds for a damaged file
        raise UserError(f"cannot read {path}: {error}; delete it and export again") from None
    if not np.array_equal(stored, image):
        raise UserError(f"{path} holds another image; choose an empty folder for another run")
    return False


def _result(value: Any, records: Sequence[GenevalRecord], samples: int) -> OfficialResult:
    fields = value if isinstance(value, Mapping) else {}
    if not isinstance(fields.get("filename"), str) or not isinstance(fields.get("correct"), bool):
        raise UserError(
            f"not a result of GenEval: {str(value)[:80]!r}; needed: an object with filename and correct (true or false)"
        )
    prompt, number = _result_key(value["filename"], records, samples)
    record = records[prompt]
    if (value.get("tag"), value.get("prompt")) != (record.tag, record.prompt):
        judged = f"{value.get('prompt')!r} ({value.get('tag')})"
        raise UserError(f"{value['filename']} was judged for {judged}, not for {record.prompt!r} ({record.tag})")
    detections = _detections(value.get("details"))
    return OfficialResult(
        prompt_index=prompt,
        sample=number,
        tag=record.tag,
        prompt=record.prompt,
        relation=next((c.position.relation for c in record.include if c.position is not None), None),
        correct=value["correct"],
        all_found=None if detections is None else _all_found(record, detections),
        reason=value.get("reason") or ("correct" if value["correct"] else "no reason given"),
        detections=detections,
    )


def _result_key(filename: str, records: Sequence[GenevalRecord], samples: int) -> Key:
    match = _SAMPLE.search(filename)
    key = (int(match[1]), int(match[2])) if match else (-1, -1)
    if not (0 <= key[0] < len(records) and 0 <= key[1] < samples):
        last = sample_path(Path(), (len(records) - 1, samples - 1))
        raise UserError(f"unknown file {filename!r}; allowed: 00000/samples/0000.png to {last}")
    return key


def _detections(details: Any) -> tuple[OfficialFind, ...] | None:
    """Return the boxes of `details`, a JSON text of class -> [[x0, y0, x1, y1, confidence], ...]; None without."""
    if details is None:
        return None
    try:
        listed = decode_json(details.encode())
        return tuple(_find(name, box) for name, boxes in listed.items() for box in boxes)
    except (ValueError, TypeError, AttributeError, IndexError):
        raise UserError(
            f"damaged details {str(details)[:80]!r}; needed: class -> [[x0, y0, x1, y1, confidence], ...]"
        ) from None


def _find(name: str, box: Sequence[Any]) -> OfficialFind:
    x0, y0, x1, y1 = map(float, box[:4])
    return OfficialFind(name=name, box=(x0, y0, x1, y1), score=float(box[4]))


def _all_found(record: GenevalRecord, detections: Sequence[OfficialFind]) -> bool:
    names = [detection.name for detection in detections]
    return all_found(record, {name: names.count(name) for name in names})
