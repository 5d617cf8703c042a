"""Draw the sprite atlas from the Noto Color Emoji font (run once by a maintainer; the result is shipped).

Usage: ``python -m l2s_core.miniworld.world.build_atlas /usr/share/fonts/truetype/noto/NotoColorEmoji.ttf``
"""

from __future__ import annotations

import sys

from PIL import Image, ImageDraw, ImageFont

from l2s_core.miniworld.world.sprites import ATLAS_PATH, CELL, COLUMNS, OBJECTS

EMOJI = {
    "dog": "🐶",
    "cat": "🐱",
    "bird": "🐦",
    "elephant": "🐘",
    "zebra": "🦓",
    "car": "🚗",
    "boat": "⛵",
    "train": "🚆",
    "banana": "🍌",
    "broccoli": "🥦",
    "donut": "🍩",
    "orange": "🍊",
    "umbrella": "☂",
    "clock": "🕒",
    "teddy bear": "🧸",
    "traffic light": "🚦",
}
FONT_SIZE = 109  # the only bitmap strike of the font


def draw(glyph: str, font: ImageFont.FreeTypeFont) -> Image.Image:
    """Return one emoji as RGBA, cropped to its ink and centred in a CELL x CELL square."""
    canvas = Image.new("RGBA", (2 * FONT_SIZE, 2 * FONT_SIZE))
    ImageDraw.Draw(canvas).text((16, 16), glyph, font=font, embedded_color=True)
    ink = canvas.crop(canvas.getbbox())
    ink.thumbnail((CELL, CELL), Image.Resampling.LANCZOS)
    cell = Image.new("RGBA", (CELL, CELL))
    cell.paste(ink, ((CELL - ink.width) // 2, (CELL - ink.height) // 2))
    return cell


def main(font_path: str) -> None:
    """Write the atlas PNG beside its licence."""
    font = ImageFont.truetype(font_path, FONT_SIZE)
    rows = -(-len(OBJECTS) // COLUMNS)
    atlas = Image.new("RGBA", (COLUMNS * CELL, rows * CELL))
    for i, name in enumerate(OBJECTS):
        atlas.paste(draw(EMOJI[name], font), (i % COLUMNS * CELL, i // COLUMNS * CELL))
    atlas.save(ATLAS_PATH, optimize=True)


if __name__ == "__main__":
    main(sys.argv[1])
