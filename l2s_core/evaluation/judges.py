"""Finding and loading a judge: the small world's own, or a detector of transformers."""

from __future__ import annotations

from pathlib import Path

from l2s_core.backbones.folder import find_folder, fingerprint_of
from l2s_core.errors import UserError
from l2s_core.evaluation.detectors import MIN_AREA, Judge, SegmentationJudge
from l2s_core.evaluation.instances import InstanceJudge
from l2s_core.files import digest, read_json

KINDS: dict[str, type[Judge]] = {
    "SegformerForSemanticSegmentation": SegmentationJudge, "Mask2FormerForUniversalSegmentation": InstanceJudge,
}  # fmt: skip


def judge_folder(model: str) -> Path:
    """Return the folder of a judge: a shipped name, a path or a hub id; raises UserError when there is none."""
    return find_folder("judge", model, "config.json", (), "mini-seg, a model folder")


def judge_fingerprint(model: str) -> str:
    """Return a digest of the judge's files and of what counts as a find."""
    return digest([fingerprint_of(judge_folder(model)), MIN_AREA])


def load_judge(model: str, *, device: str = "cpu") -> Judge:
    """Load a judge by the class its settings state; raises UserError when it is missing or of another class."""
    folder = judge_folder(model)
    stated = (read_json(folder / "config.json").get("architectures") or ["nothing"])[0]
    if stated not in KINDS:
        raise UserError(f"{folder} holds a {stated}, which is no judge; allowed: {', '.join(KINDS)}")
    return KINDS[stated](folder, device=device)
