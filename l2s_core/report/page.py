"""Pages: one HTML file each that needs no network."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.figure import Figure
from PIL import Image

from l2s_core.evaluation.metrics.kid import KID
from l2s_core.evaluation.statistics.aggregate import Rate

TEMPLATE = "template.html"
UNKNOWN = "–"

Picture = Figure | Image.Image


def render_page(
    values: Mapping[str, Any],
    pictures: Mapping[str, Picture | list[Image.Image] | None],
    template: str = TEMPLATE,
    **filters: Callable[..., str],
) -> str:
    """Fill a template of this folder, the report's by default.

    Pictures become data URIs, lists of them lists; None is left out. `filters` are added to jinja2's.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined
    )
    environment.filters.update(percent=_percent, rate=_rate, change=_change, memory=_memory, **filters)
    there = {name: picture for name, picture in pictures.items() if picture is not None}
    uris = {
        name: [_data_uri(p) for p in picture] if isinstance(picture, list) else _data_uri(picture)
        for name, picture in there.items()
    }
    return navigable(environment.get_template(template).render(**values, pictures=uris))


def navigable(page: str) -> str:
    """Give sections names to link to, a page of several its contents at the top, and tables boxes to scroll in."""
    titles: list[str] = []

    def named(match: re.Match[str]) -> str:
        titles.append(match[1])
        return f'<h2 id="section-{len(titles)}">{match[1]}</h2>'

    page = re.sub(r"<h2>(.*?)</h2>", named, page)
    page = re.sub(r"<table", '<div class="scroll"><table', page).replace("</table>", "</table></div>")
    if len(titles) < 3:
        return page
    links = "\n".join(f'<a href="#section-{number}">{title}</a>' for number, title in enumerate(titles, start=1))
    return page.replace('<h2 id="section-1">', f'<nav>\n{links}\n</nav>\n<h2 id="section-1">', 1)


def _data_uri(picture: Picture) -> str:
    buffer = io.BytesIO()
    if isinstance(picture, Figure):
        picture.savefig(buffer, format="png", dpi=110)
    else:
        picture.save(buffer, format="PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _rate(rate: Rate) -> str:
    return f"{rate.rate:.2f} ({rate.low:.2f}–{rate.high:.2f})"


def _change(kid: KID | None) -> str:
    """A KID or its change, times 1000, with its error."""
    return f"{1000 * kid.mean:+.1f} ± {1000 * kid.error:.1f}" if kid else UNKNOWN


def _memory(peak_bytes: int | None) -> str:
    return f"{peak_bytes / 2**30:.2f} GiB" if peak_bytes else UNKNOWN
