"""Pages: one HTML file each that needs no network."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.figure import Figure
from PIL import Image

TEMPLATE = "template.html"


def render_page(
    values: Mapping[str, Any], pictures: Mapping[str, Figure | Image.Image], template: str = TEMPLATE, **filters: Callable[..., str]
) -> str:
    """Fill a template of this folder, the report's by default; pictures become data URIs, `filters` are added to jinja2's."""
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined)
    environment.filters.update(percent=_percent, rate=_rate, **filters)
    uris = {name: _data_uri(picture) for name, picture in pictures.items()}
    return environment.get_template(template).render(**values, pictures=uris)


def _data_uri(picture: Figure | Image.Image) -> str:
    buffer = io.BytesIO()
    if isinstance(picture, Figure):
        picture.savefig(buffer, format="png", dpi=110)
    else:
        picture.save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _rate(rate: Mapping[str, Any]) -> str:
    return f"{rate['rate']:.2f} ({rate['low']:.2f}–{rate['high']:.2f})"
