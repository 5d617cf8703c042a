"""T2I-CompBench's 2D- and 3D-spatial prompts and their soft scores (Huang et al. 2023, arXiv 2307.06350)."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from l2s_core.errors import UserError
from l2s_core.evaluation.detectors.depth import PlacedDetection
from l2s_core.evaluation.detectors.detection import Detection
from l2s_core.evaluation.protocols.verdict import Failure, FailureKind, Verdict
from l2s_core.prompts.grammar import Span
from l2s_core.prompts.prompt import Prompt
from l2s_core.relations import PLANAR, Triplet
from l2s_core.storage.lines import read_lines

# How the prompts word a relation -> our name for it, or None where only closeness is asked for.
PHRASES: dict[str, str | None] = {
    "on the left of": "left of",
    "on the right of": "right of",
    "on the top of": "above",
    "on the bottom of": "below",
    "next to": None,
    "near": None,
    "on side of": None,
    "in front of": "in front of",
    "behind": "behind",
    "hidden by": "behind",
}
PHRASES_3D = ("in front of", "behind", "hidden by")
PHRASES_2D = tuple(phrase for phrase in PHRASES if phrase not in PHRASES_3D)
MIN_SCORE = 0.5  # a detection takes part above this confidence
OVERLAP_3D = 0.5  # IoU from which depth scores 1; below it IoU / 0.5
MAX_IOU = 0.1  # overlap beyond which the score of a side shrinks, as 0.1 / IoU
NEAR = 150.0  # pixels of the frame within which objects are close on an axis
SHORT_SIDE = 479  # the frame, pixels: its shorter side, unless the longer one would pass its bound
LONG_SIDE = 480
PEOPLE = ("girl", "boy", "man", "woman")  # all of them are the detector's class "person"
_NAME = r"\w[^\s,;:.!?]*(?:\s+\w[^\s,;:.!?]*)*?"
_LINE = re.compile(rf"an?\s+({_NAME}),?\s+({'|'.join(map(re.escape, PHRASES))})\s+an?\s+({_NAME})", re.IGNORECASE)

Box = tuple[float, float, float, float]


@dataclass(frozen=True, kw_only=True)
class SpatialPrompt:
    """A prompt "a A <phrase> a B" with the character spans [start, end) of its objects."""

    text: str
    subject: str
    phrase: str
    object: str
    subject_span: Span
    object_span: Span

    @property
    def is_3d(self) -> bool:
        """Whether it asks for depth."""
        return self.phrase in PHRASES_3D

    def as_prompt(self) -> Prompt | None:
        """Return the prompt with its relation for steering, or None where only closeness is asked for."""
        relation = PHRASES[self.phrase]
        if relation is None:
            return None
        triplet = Triplet(subject=self.subject, relation=relation, object=self.object)
        return Prompt(text=self.text, triplet=triplet, subject_span=self.subject_span, object_span=self.object_span)


def phrases_of(relations: Collection[str]) -> tuple[str, ...]:
    """Return the phrases that mean one of `relations`; where one of the 2D task is among them, closeness, too."""
    flat = not set(PLANAR).isdisjoint(relations)
    return tuple(phrase for phrase, meant in PHRASES.items() if meant in relations or (flat and meant is None))


def read_prompts(path: Path) -> list[SpatialPrompt]:
    """Read the official file of prompts, one a line; raises UserError naming the file and the line."""
    return read_lines(path, parse_prompt)


def parse_prompt(text: str) -> SpatialPrompt:
    """Read "a A <phrase> a B"; raises UserError for any other sentence, and for an object related to itself."""
    match = _LINE.fullmatch(text.strip().rstrip(".!?"))
    if match is None or any(f" {phrase} a" in match[3].lower() for phrase in PHRASES):
        raise UserError(
            f"cannot read the prompt {text!r}; allowed: 'a A <relation> a B' with one of {', '.join(PHRASES)}"
        )
    subject, phrase, object_ = match.groups()
    if subject.lower() == object_.lower():
        raise UserError(f"the prompt {text!r} relates {subject!r} to itself; allowed: objects of different names")
    return SpatialPrompt(
        text=match.string,
        subject=subject,
        phrase=phrase.lower(),
        object=object_,
        subject_span=match.span(1),
        object_span=match.span(3),
    )


def score_image(prompt: SpatialPrompt, detections: Sequence[Detection], size: tuple[int, int]) -> Verdict:
    """Score an image of `size` (width, height) pixels as T2I-CompBench does.

    Of detections above confidence 0.5 the best of each class takes part, the first listed among equals.
    With both objects the score is a quarter of each confidence plus half of the position's score; with one
    it is a quarter of its confidence. In the 2D task a sum below 0.5 becomes 0, so an image that lacks an object always
    scores 0; in the 3D task it does not. Raises UserError for a prompt of that task and finds without nearness.
    """
    best: dict[str, Detection] = {}
    for detection in sorted(detections, key=lambda d: -d.score):
        if detection.score > MIN_SCORE:
            best.setdefault(detector_class(detection.name), detection)
    missing = tuple(name for name in (prompt.subject, prompt.object) if detector_class(name) not in best)
    if missing:
        names = {detector_class(prompt.subject), detector_class(prompt.object)}
        score = sum(best[name].score for name in names & best.keys()) / 4 if prompt.is_3d else 0.0
        return Verdict(failures=(Failure(kind=FailureKind.MISSING, objects=missing),), score=score)
    a = best[detector_class(prompt.subject)]
    b = best[detector_class(prompt.object)]
    flat = not prompt.is_3d
    position = position_score(prompt.phrase, a.box, b.box, size) if flat else depth_score(prompt.phrase, a, b)
    total = (a.score + b.score) / 4 + position / 2
    wrong = Failure(
        kind=FailureKind.WRONG_RELATION,
        objects=(prompt.subject, prompt.object),
        asked=prompt.phrase,
        score=position,
    )
    return Verdict(failures=() if position == 1 else (wrong,), score=total if total >= 0.5 or prompt.is_3d else 0.0)


def position_score(phrase: str, box_a: Box, box_b: Box, size: tuple[int, int]) -> float:
    """Return the soft score in [0, 1] of "A <phrase> B" from two boxes and the image's (width, height) in pixels.

    A side scores min(1, 0.1 / IoU) where the offset of centres has the right sign on its axis and is strictly the
    larger of the two offsets, else 0. Closeness scores 1 where either offset is below 150 pixels, else 150
    divided by the larger one. Pixels are those of the frame to which the detector's input is resized (479 for a
    square image), not of the image. Two boxes without area do not overlap; the public code divides by zero there.
    """
    if phrase not in PHRASES_2D:
        raise UserError(f"unknown relation {phrase!r}; allowed: {', '.join(PHRASES_2D)}")
    a, b = (_in_frame(box, size) for box in (box_a, box_b))
    dx = (b[0] + b[2]) / 2 - (a[0] + a[2]) / 2
    dy = (b[1] + b[3]) / 2 - (a[1] + a[3]) / 2
    side = PHRASES[phrase]
    if side is None:
        return 1.0 if min(abs(dx), abs(dy)) < NEAR else NEAR / max(abs(dx), abs(dy))
    along, across = (dx, dy) if side in ("left of", "right of") else (dy, dx)
    signed = along if side in ("left of", "above") else -along
    if signed <= 0 or abs(along) <= abs(across):
        return 0.0
    overlap = iou(a, b)
    return 1.0 if overlap < MAX_IOU else MAX_IOU / overlap


def depth_score(phrase: str, a: Detection, b: Detection) -> float:
    """Return the soft score in [0, 1] of "A <phrase> B" in the 3D task.

    It is min(1, IoU / 0.5) where A's box is on average nearer ("in front of") or farther ("behind", "hidden by") than
    B's, else 0: what hides another thing overlaps it. The public code means this, and differs in two places: it takes
    boxes' columns for rows where it reads depth, and gives 0 at an IoU of exactly 0.5.
    """
    if not isinstance(a, PlacedDetection) or not isinstance(b, PlacedDetection):
        raise UserError(
            f"a prompt asks for {phrase!r}, and nothing here tells depth; set benchmark.depth to a depth model"
        )
    nearer, farther = (a, b) if phrase == "in front of" else (b, a)
    return min(1.0, iou(a.box, b.box) / OVERLAP_3D) if nearer.nearness > farther.nearness else 0.0


def iou(a: Box, b: Box) -> float:
    """Return the intersection over the union of two boxes; 0 where neither has an area."""
    width, height = (max(0.0, min(a[i + 2], b[i + 2]) - max(a[i], b[i])) for i in (0, 1))
    union = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)) - width * height
    return width * height / union if union > 0 else 0.0


def frame_size(size: tuple[int, int]) -> tuple[int, int]:
    """Return the (width, height) to which an image is resized before detection: 479 by 479 for a square one."""
    if min(size) < 1:
        raise UserError(f"the image size is {size}; allowed: a width and a height in pixels, from 1 up")
    short, long = sorted(size)
    new_short = SHORT_SIDE
    new_long = SHORT_SIDE * long // short
    if new_long > LONG_SIDE:
        new_short = LONG_SIDE * new_short // new_long
        new_long = LONG_SIDE
    return (new_short, new_long) if size[0] <= size[1] else (new_long, new_short)


def _in_frame(box: Box, size: tuple[int, int]) -> Box:
    x, y = (new / old for new, old in zip(frame_size(size), size, strict=True))
    return box[0] * x, box[1] * y, box[2] * x, box[3] * y


def detector_class(name: str) -> str:
    """Return the class that a detector of COCO's classes has for a name of the protocol."""
    return "person" if name.lower() in PEOPLE else name.lower()
