"""Sections chosen by name: built by their own class, written with its keys, and wrong in the place where they stand."""

from __future__ import annotations

from typing import Annotated, Literal

import pytest
from pydantic import Field

from l2s_core.config import Section, validate
from l2s_core.config.chosen import chosen_by
from l2s_core.errors import UserError
from l2s_core.registry import Registry


class Shape(Section):
    kind: str
    color: str = "red"


class Circle(Shape):
    kind: Literal["circle"] = "circle"
    radius: int


class Square(Shape):
    kind: Literal["square"] = "square"
    side: Literal["small", "large"] = "small"


HERE = "test_chosen:"
SHAPES = Registry(
    kind="shape",
    group="l2s.no-such-group",
    own={"circle": HERE + "Circle", "square": HERE + "Square", "odd": HERE + "HERE"},
)


class Drawing(Section):
    first: Annotated[Shape, chosen_by("kind", SHAPES)]
    others: dict[str, Annotated[Shape, chosen_by("kind", SHAPES)]] = {}
    row: tuple[Annotated[Shape, chosen_by("kind", SHAPES)], ...] = ()


class Cut(Section):
    by: Literal["knife"]
    depth: int = 1


class Bend(Section):
    by: Literal["hand"]


class Work(Section):
    how: Annotated[Cut | Bend, Field(discriminator="by")] | None = None


CIRCLE = {"kind": "circle", "radius": 2}


def test_a_section_is_of_the_class_it_names_and_is_written_with_its_keys() -> None:
    tree = {"first": CIRCLE, "others": {"a": {"kind": "square", "side": "large"}}, "row": [CIRCLE]}
    drawing = validate(Drawing, tree, "x")
    assert (type(drawing.first), type(drawing.others["a"]), type(drawing.row[0])) == (Circle, Square, Circle)
    written = drawing.model_dump(mode="json")
    assert written["first"] == {"kind": "circle", "color": "red", "radius": 2}
    assert written["others"]["a"]["side"] == "large" and written["row"][0]["radius"] == 2
    assert validate(Drawing, written, "x") == drawing
    assert Drawing(first=drawing.first).first is drawing.first


def test_two_values_of_one_section_have_two_digests() -> None:
    digests = {Drawing(first={**CIRCLE, "radius": radius}).digest() for radius in (1, 2)}
    assert len(digests) == 2


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"first": {"kind": "circel"}}, "first.kind: unknown shape 'circel'; did you mean 'circle'. allowed: circle, "),
        ({"first": {"radius": 1}}, "missing key 'first.kind'; add it"),
        ({"first": {"kind": "circle"}}, "missing key 'first.radius'; add it"),
        ({"first": {**CIRCLE, "radios": 1}}, "unknown key 'first.radios'; did you mean 'radius'. allowed: color, kind"),
        (
            {"first": {**CIRCLE, "side": "large"}},
            "unknown key 'first.side'; allowed: color, kind, radius; side is a key of shape square$",
        ),
        ({"first": {**CIRCLE, "radius": "x"}}, "first.radius: .*valid integer.* .got 'x'."),
        ({"first": 3}, "first: .*Shape"),
        ({"first": {"kind": "odd"}}, "first.kind: the shape 'odd' is 'test_chosen:', .*; needed: a subclass of Shape"),
        (
            {"first": CIRCLE, "others": {"a": {"kind": "square", "side": "lrge"}}},
            "others.a.side: .*'small' or 'large' .got 'lrge'. did you mean 'large'",
        ),
        (
            {"first": CIRCLE, "others": {"a": {"kind": "square", "sde": "x"}}},
            "unknown key 'others.a.sde'; did you mean 'side'. allowed: color, kind, side",
        ),
        ({"first": CIRCLE, "row": [CIRCLE, {"kind": "x"}]}, "row.1.kind: unknown shape 'x'; allowed: circle"),
        (
            {"first": CIRCLE, "row": [CIRCLE, {**CIRCLE, "x": 1}]},
            "unknown key 'row.1.x'; allowed: color, kind, radius$",
        ),
    ],
)
def test_a_mistake_names_its_place_and_what_is_allowed_there(tree: dict, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        validate(Drawing, tree, "file.yaml")
    assert "\n" not in str(caught.value) and str(caught.value).startswith("file.yaml: ")


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"by": "knive"}, "how.by: unknown value 'knive'; did you mean 'knife'. allowed: knife, hand"),
        ({}, "missing key 'how.by'; add it"),
        ({"by": "knife", "deph": 2}, "unknown key 'how.deph'; did you mean 'depth'. allowed: by, depth"),
        ({"by": "knife", "depth": "x"}, "how.depth: .*valid integer"),
    ],
)
def test_a_mistake_in_one_of_two_sections_names_its_place(how: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        validate(Work, {"how": how}, "file.yaml")
