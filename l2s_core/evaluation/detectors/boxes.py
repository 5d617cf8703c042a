"""From what a detector puts out to detections: boxes in pixels, the best name of each, the largest blob of a mask."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from l2s_core.evaluation.detectors.detection import Box, Detection

PER_NAME = 16  # boxes of one name that are listed, the best ones; as many as GenEval looks at
MASK_THRESHOLD = 120  # of 255; a pixel belongs to an object above it
EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=bool)


def pixel_boxes(boxes_Q4: Tensor, *, frame: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Return corners (x0, y0, x1, y1) in whole pixels (Q, 4) of boxes (centre x, centre y, width, height).

    The given boxes are shares of `frame` (height, width), in pixels: the image, or the image padded below and on
    the right. Corners go to the nearest pixel and are cut to the image's `size` (height, width), so a box outside it
    is left without area.
    """
    centre_Q2 = boxes_Q4[..., :2].double()
    extent_Q2 = boxes_Q4[..., 2:].double()
    corners_Q4 = torch.cat([centre_Q2 - extent_Q2 / 2, centre_Q2 + extent_Q2 / 2], -1)
    scale, limit = (boxes_Q4.new_tensor([width, height] * 2, dtype=torch.double) for height, width in (frame, size))
    return (corners_Q4 * scale + 0.5).floor().clamp(min=0).minimum(limit).long()


def best_named(scores_QN: Tensor, corners_Q4: Tensor, names: Sequence[str], min_score: float) -> list[Detection]:
    """Return each box with the name it scores highest for, best score first.

    Left out are boxes that do not score above `min_score` or have no area, and all but the 16 best of a name. Of
    equal scores the first name, and the first box, counts.
    """
    found = []
    for scores, (x0, y0, x1, y1) in zip(scores_QN.tolist(), corners_Q4.tolist(), strict=True):
        best = max(range(len(names)), key=scores.__getitem__)
        if scores[best] > min_score and x0 < x1 and y0 < y1:
            found.append(Detection(name=names[best], box=(x0, y0, x1, y1), score=scores[best]))
    listed: Counter[str] = Counter()
    kept = []
    for detection in sorted(found, key=lambda d: -d.score):
        listed[detection.name] += 1
        if listed[detection.name] <= PER_NAME:
            kept.append(detection)
    return kept


def mask_detection(probability_HW: np.ndarray, name: str, size: tuple[int, int]) -> Detection | None:
    """Return the largest blob of a probability map as a detection in an image of `size` (height, width), or None.

    The rule of Yiflach et al.'s judge of several relations (arXiv 2509.02295, its published evaluation): a pixel
    counts when its probability, cut to whole 255ths, is above 120; the box of the largest blob is found on the map
    and scaled to the image, rounded down. The score, which the paper has none of, is the blob's mean probability.
    """
    blob_HW = largest_blob((probability_HW * 255).astype(np.uint8) > MASK_THRESHOLD)
    if blob_HW is None:
        return None
    box = scaled_box(box_of(blob_HW), blob_HW.shape, size)
    return Detection(name=name, box=box, score=float(probability_HW[blob_HW].mean()))


def largest_blob(mask_HW: np.ndarray) -> np.ndarray | None:
    """Return the pixels of a mask's largest blob, or None for an empty mask.

    Pixels that touch at a side or a corner are one blob; its size is the area of the polygon through the centres of
    its outermost pixels, holes and all, as OpenCV's contourArea has it: a line has none. Of equal ones the first
    counts, row by row from the top.
    """
    blobs_HW, count = ndimage.label(mask_HW, structure=EIGHT_NEIGHBOURS)
    if not count:
        return None
    areas = [
        _outlined_area(ndimage.binary_fill_holes(blobs_HW[window] == i))
        for i, window in enumerate(ndimage.find_objects(blobs_HW), start=1)
    ]
    largest_HW: np.ndarray = blobs_HW == int(np.argmax(areas)) + 1
    return largest_HW


def _outlined_area(filled_HW: np.ndarray) -> float:
    """The area between pixel centres, in squares of four of them: all four enclose a square, three half of it."""
    ones_HW = filled_HW.astype(np.uint8)
    corners = ones_HW[:-1, :-1] + ones_HW[:-1, 1:] + ones_HW[1:, :-1] + ones_HW[1:, 1:]
    return float((corners == 4).sum() + (corners == 3).sum() / 2)


def box_of(blob_HW: np.ndarray) -> Box:
    """Return the box (x0, y0, x1, y1) around the pixels of a mask that has some; x1 and y1 are one past the last."""
    rows, columns = (np.flatnonzero(blob_HW.any(axis)) for axis in (1, 0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def scaled_box(box: Box, of: tuple[int, int], to: tuple[int, int]) -> Box:
    """Return a box of a map of size `of` (height, width) in an image of size `to`, rounded down.

    It is at least one pixel wide and high.
    """
    map_height, map_width = of
    height, width = to
    x0, x1 = (x * width // map_width for x in box[0::2])
    y0, y1 = (y * height // map_height for y in box[1::2])
    return x0, y0, max(x1, x0 + 1), max(y1, y0 + 1)
