"""Picture grids with the judge's boxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from l2s_core.evaluation.judged_image import JudgedImage
from l2s_core.storage.files import atomic_path

COLOURS = (
    (214, 39, 40),
    (31, 119, 180),
    (44, 160, 44),
    (255, 127, 14),
    (148, 103, 189),
)  # boxes, by an object's place in the prompt
OTHER = (120, 120, 120)
GOOD = (34, 139, 34)  # colour of a caption
BAD = (190, 30, 30)
BLACK = (0, 0, 0)
MARGIN = 6
LINE = 13


def draw_boxes(image: np.ndarray, judged: JudgedImage, side: int) -> Image.Image:
    """Enlarge an image to a height of `side` pixels and outline every detection.

    Its colour is that of its place among the objects asked for; others are grey.
    """
    scale = side / image.shape[0]
    picture = Image.fromarray(image).resize((round(image.shape[1] * scale), side), Image.Resampling.LANCZOS)
    draw = ImageDraw.Draw(picture)
    colours = dict(zip(judged.objects, COLOURS, strict=False))
    for detection in judged.detections:
        draw.rectangle([round(v * scale) for v in detection.box], outline=colours.get(detection.name, OTHER), width=2)
    return picture


def _width(images: Sequence[np.ndarray], height: int) -> int:
    """Return the width of images (H, W, 3) of one size that are enlarged to a height."""
    rows, columns = images[0].shape[:2]
    return round(columns * height / rows)


def side_by_side(images: Sequence[np.ndarray], verdicts: Sequence[JudgedImage], *, side: int = 144) -> Image.Image:
    """Draw images with their boxes next to each other."""
    pictures = [draw_boxes(image, judged, side) for image, judged in zip(images, verdicts, strict=True)]
    sheet = Image.new(
        "RGB", (sum(p.width for p in pictures) + 2 * (len(pictures) - 1), max(p.height for p in pictures)), "white"
    )
    left = 0
    for picture in pictures:
        sheet.paste(picture, (left, 0))
        left += picture.width + 2
    return sheet


def comparison_grid(
    columns: Mapping[str, Sequence[np.ndarray]],
    verdicts: Mapping[str, Sequence[JudgedImage]],
    *,
    side: int = 128,
    across: int = 4,
) -> Image.Image:
    """Lay out items in blocks, `across` to a row; a block has the methods side by side.

    `columns` maps a method to its uint8 images, `verdicts` to the same, judged. Above each block
    stands the prompt, below each image the verdict's reason.
    """
    methods = list(columns)
    count = len(columns[methods[0]])
    across = min(across, count)
    width = _width(columns[methods[0]], side)
    block_width = len(methods) * (width + 2) + MARGIN
    prompts = [_lines(_title(judged), block_width - MARGIN) for judged in verdicts[methods[0]]]
    reasons = {
        method: [_lines(judged.verdict.reason, width - MARGIN) for judged in verdicts[method]] for method in methods
    }
    head = max(map(len, prompts)) * LINE
    foot = (1 + max(len(lines) for column in reasons.values() for lines in column)) * LINE
    block_height = head + side + foot + MARGIN
    sheet = Image.new("RGB", (across * block_width + MARGIN, -(-count // across) * block_height + MARGIN), "white")
    draw = ImageDraw.Draw(sheet)
    for i in range(count):
        left = MARGIN + i % across * block_width
        top = MARGIN + i // across * block_height
        _write(draw, (left, top + head - len(prompts[i]) * LINE), prompts[i])
        for k, method in enumerate(methods):
            judged = verdicts[method][i]
            x = left + k * (width + 2)
            sheet.paste(draw_boxes(columns[method][i], judged, side), (x, top + head))
            _write(draw, (x, top + head + side), [method])
            _write(draw, (x, top + head + side + LINE), reasons[method][i], GOOD if judged.correct else BAD)
    return sheet


def stacked_grid(
    rows: Mapping[str, Sequence[np.ndarray]], verdicts: Mapping[str, Sequence[JudgedImage]], *, side: int = 128
) -> Image.Image:
    """Lay out items in columns, one method above the other; on top stands the prompt, below each image its reason.

    `rows` maps a method to its uint8 images, `verdicts` to the same, judged.
    """
    width = _width(next(iter(rows.values())), side)
    prompts = [_lines(_title(judged), width) for judged in next(iter(verdicts.values()))]
    head = max(map(len, prompts)) * LINE
    height = side + 2 * LINE
    size = (len(prompts) * (width + MARGIN) + MARGIN, head + len(rows) * height + 2 * MARGIN)
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    for column, lines in enumerate(prompts):
        left = MARGIN + column * (width + MARGIN)
        _write(draw, (left, MARGIN + head - len(lines) * LINE), lines)
        for row, (method, images) in enumerate(rows.items()):
            judged = verdicts[method][column]
            top = MARGIN + head + row * height
            sheet.paste(draw_boxes(images[column], judged, side), (left, top))
            reason = _lines(f"{method}: {judged.verdict.reason}", width)[:2]
            _write(draw, (left, top + side), reason, GOOD if judged.correct else BAD)
    return sheet


@cache
def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(10)


def _title(judged: JudgedImage) -> str:
    return judged.prompt.removeprefix("a photo of ")


def _lines(text: str, width: int) -> list[str]:
    """Break a text into lines of at most `width` pixels; a longer word has a line of its own."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and _font().getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def _write(
    draw: ImageDraw.ImageDraw, place: tuple[int, int], lines: Sequence[str], colour: tuple[int, int, int] = BLACK
) -> None:
    for number, line in enumerate(lines):
        draw.text((place[0], place[1] + number * LINE), line, fill=colour, font=_font())


def tile(images: np.ndarray, across: int = 8) -> Image.Image:
    """Lay out uint8 images (N, H, W, 3) without gaps."""
    count, height, width = images.shape[:3]
    sheet = Image.new("RGB", (across * width, -(-count // across) * height))
    for i, image in enumerate(images):
        sheet.paste(Image.fromarray(image), (i % across * width, i // across * height))
    return sheet


def save_png(picture: Image.Image, path: Path) -> None:
    """Write a PNG atomically."""
    with atomic_path(path) as temporary:
        picture.save(temporary, format="PNG")
