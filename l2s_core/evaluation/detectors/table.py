"""Finding and loading a judge: the small world's own, or a detector of transformers."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from l2s_core.backbones.complete import vocabulary_digests
from l2s_core.backbones.folder import find_folder, fingerprint_of
from l2s_core.errors import UserError, first_line, unknown_name
from l2s_core.evaluation.detectors.cache import CachedJudge
from l2s_core.evaluation.detectors.clipseg import ClipSegJudge
from l2s_core.evaluation.detectors.grounding_dino import GroundingDinoJudge
from l2s_core.evaluation.detectors.instances import ALIASES, InstanceJudge
from l2s_core.evaluation.detectors.judge import Judge, SegmentationJudge
from l2s_core.evaluation.detectors.owlv2 import Owlv2Judge
from l2s_core.evaluation.protocols.classes import geneval_name
from l2s_core.hashing import digest
from l2s_core.storage.files import read_json

KINDS: dict[str, type[Judge]] = {
    judge.kind: judge for judge in (SegmentationJudge, InstanceJudge, GroundingDinoJudge, Owlv2Judge, ClipSegJudge)
}
# The class of a model whose settings state a type of model alone.
MODEL_TYPES = {"grounding-dino": GroundingDinoJudge.kind, "owlv2": Owlv2Judge.kind, "clipseg": ClipSegJudge.kind}


def judge_folder(model: str) -> Path:
    """Return the folder of a judge: a shipped name, a path or a hub id; raises UserError when there is none."""
    return find_folder("judge", model, "config.json", (), "mini-seg, a model folder")


def judge_kind(folder: Path) -> type[Judge]:
    """Return the class of judge that a model folder's settings state; raises UserError when it is none."""
    settings = read_json(folder / "config.json")
    settings = settings if isinstance(settings, dict) else {}
    stated = (
        settings.get("architectures")
        or [MODEL_TYPES.get(settings.get("model_type"), settings.get("model_type") or "nothing")]
    )[0]
    if stated not in KINDS:
        raise UserError(f"{folder} holds a {stated}, which is no judge; allowed: {', '.join(KINDS)}")
    return KINDS[stated]


def judge_fingerprint(model: str) -> str:
    """Return a digest of the judge's files and of what counts as a find; where it reads text, of its vocabulary too."""
    folder = judge_folder(model)
    kind = judge_kind(folder)
    texts = [vocabulary_digests(folder)] if kind.open_vocabulary else []
    return digest([fingerprint_of(folder), *kind.criteria, *texts])


def require_names(model: str, names: Iterable[str]) -> None:
    """Raise UserError for a class that a judge of a closed set cannot find, by what its settings state."""
    folder = judge_folder(model)
    if judge_kind(folder).open_vocabulary:
        return
    stated = read_json(folder / "config.json").get("id2label", {}).values()
    known = sorted({geneval_name(ALIASES.get(label, label)) for label in stated} - {"background"})
    for name in names:
        if geneval_name(name) not in known:
            raise unknown_name(f"object of the judge {model}", name, known)


def load_judge(model: str, *, device: str = "cpu", cache: Path | None = None) -> Judge:
    """Load a judge by the class its settings state; with `cache`, a folder, it remembers there what it found.

    Raises UserError when it is missing, damaged or of another class.
    """
    folder = judge_folder(model)
    kind = judge_kind(folder)
    try:
        judge = kind(folder, device=device)
    except UserError:
        raise
    except Exception as error:  # the libraries raise many kinds for one cause: a file they cannot read
        raise UserError(
            f"cannot load the judge {folder}: {first_line(error)}; a file is missing or damaged (weights must be safetensors), "
            "fetch it again"
        ) from None
    return judge if cache is None else CachedJudge(judge, judge_fingerprint(model), cache)
