"""The page and its pictures: structure, places, and that nothing in them is taken for markup."""

import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from typing import Any
from xml.etree import ElementTree

import pytest
from report_content import FMA, READ, elsewhere, kernel, made_up

from handglass.runtime.pages.arrivals import draw_arrivals, tower_of
from handglass.runtime.pages.axes import LogAxis, bytes_text, digits, ms_text, si, spread_out
from handglass.runtime.pages.content import (
    LEAST_NUMBER,
    MAX_NUMBER,
    Arrival,
    Content,
    as_json,
    parse_content,
)
from handglass.runtime.pages.flame import WIDTH, draw_flame
from handglass.runtime.pages.labels import Label, place_labels
from handglass.runtime.pages.page import draw_page
from handglass.runtime.pages.ratios import kernel_pairs, pairs
from handglass.runtime.pages.roofline import draw_roofline
from handglass.runtime.pages.svg import shortened, standalone

HOSTILE = '"><script>alert(1)</script>\x1b[31m\u202e'
SVG = "{http://www.w3.org/2000/svg}"


class Reader(HTMLParser):
    """Collects elements; fails for one that is closed by another's end."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    return reader


def picture(content: Content, *others: Content) -> ElementTree.Element:
    return ElementTree.fromstring(standalone(draw_roofline([content, *others])))


def with_kernel(name: str, rule: str = "r") -> Content:
    """A report whose first kernel, in the plot, the flame and the tables, has this name."""
    content = made_up()
    assert content.measured
    first = content.measured.phases[0]
    odd = replace(kernel(name, 6.0, 0.6, 6e7, 3e9), rule=rule)
    part = replace(first.parts[0], kernels=(replace(first.parts[0].kernels[0], kernel=name),))
    phase = replace(first, phase=name, kernels=(odd, *first.kernels[1:]), parts=(part,))
    measured = replace(content.measured, phases=(phase,))
    scheduled = (replace(content.kernels[0], kernel=name, record=name, device=name),)
    about = replace(content.bundle, model=name, scheme={name: name}, features=(name,))
    return replace(content, measured=measured, kernels=scheduled, bundle=about, revision=name)


@pytest.mark.parametrize("sides", [[made_up()], [elsewhere()], [made_up(), elsewhere()]])
def test_the_page_is_one_file_that_loads_nothing(sides: list[Content]) -> None:
    page = draw_page(sides)
    found = read(page)
    for tag, attributes in found.elements:
        assert not {"src", "href"} & attributes.keys(), tag
    assert [tag for tag, _ in found.elements].count("script") == 1
    assert "default-src 'none'" in str([a for t, a in found.elements if t == "meta"])
    assert not re.search(r"https?://(?!www\.w3\.org)", page)


def test_names_are_text_wherever_they_are_shown() -> None:
    hostile, plain = with_kernel(HOSTILE, HOSTILE), with_kernel("k", "r")
    page = draw_page([hostile, hostile])
    tags = [tag for tag, _ in read(page).elements]
    assert tags == [tag for tag, _ in read(draw_page([plain, plain])).elements]
    assert "\x1b" not in page and "\u202e" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_what_was_not_measured_is_said() -> None:
    page = draw_page([elsewhere()])
    assert page.count("Not measured") == 2, "kernels and parity"
    assert "needs sve2" in page and 'class="picture roofline"' not in page
    assert "2 kernels are scheduled" in page, "the records need no device"


def test_every_kernel_is_a_point_or_only_timed() -> None:
    marks = picture(made_up()).findall(f"{SVG}path[@data-tip]")
    assert len(marks) == 3 * 4, "the virtual machine has neither bytes nor operations"
    tip = marks[0].attrib["data-tip"].split("\n")
    assert tip[0] == "matmul3" and "cpu-dot" in tip[1]
    assert "of its limit: 4-bit integers" in tip[-1]
    assert all(mark.attrib["aria-label"] and mark.find(f"{SVG}title") is not None for mark in marks)


def test_roofs_are_where_the_points_say() -> None:
    """The slope has the achieved rate of a kernel that reads at the full rate."""
    content = made_up()
    assert content.measured
    ms = 2.0
    bound = kernel("stream", ms, 0.5, READ * ms / 1e3, FMA * ms / 1e3, "read", 1.0)
    phase = replace(content.measured.phases[0], kernels=(bound,))
    content = replace(content, measured=replace(content.measured, phases=(phase,)))
    found = picture(content)
    place = re.findall(r"-?\d+\.?\d*", found.find(f"{SVG}path[@data-tip]").attrib["d"])  # type: ignore[union-attr]
    radius = 3.5 + 15 * math.sqrt(0.5)
    x, y = float(place[0]) + radius, float(place[1])
    roofs = [r.attrib["d"] for r in found.iter(f"{SVG}path") if r.get("class") == "roof"]
    lines = [[float(n) for n in re.findall(r"-?\d+\.?\d*", d)] for d in roofs]
    level = min(lines, key=lambda line: abs(line[1] - y) + 1000 * (line[1] != line[3]))
    assert level[1] == pytest.approx(y, abs=0.1), "float32"
    assert level[0] == pytest.approx(x, abs=0.1), "it is at the ridge"


def test_little_was_measured() -> None:
    """Nothing before an interrupt, and an old bundle without probes."""
    content = made_up()
    assert content.measured
    for measured in (
        replace(content.measured, limits={}),
        replace(content.measured, limits={}, phases=()),
        replace(content.measured, limits={"fma": content.measured.limits["fma"]}),
    ):
        assert picture(replace(content, measured=measured)).findall(f"{SVG}path")
        read(draw_page([replace(content, measured=measured)] * 2))


def with_numbers(value: Any, number: float) -> Any:
    """A JSON document with another number in place of each."""
    if isinstance(value, dict):
        return {k: v if k == "version" else with_numbers(v, number) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [with_numbers(item, number) for item in value]
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    return int(number) if isinstance(value, int) else number


@pytest.mark.parametrize("number", [0.0, LEAST_NUMBER, MAX_NUMBER])
def test_any_number_within_its_bounds_can_be_drawn(number: float) -> None:
    data = json.dumps(with_numbers(as_json(made_up()), number)).encode()
    odd = parse_content(data, "odd.json")
    for sides in ([odd], [made_up(), odd]):
        assert not re.search(r'[" ]-?(nan|inf)[" ]', draw_page(sides))


def test_nothing_is_drawn_outside() -> None:
    found = picture(made_up(), made_up())
    _, _, width, height = map(float, found.attrib["viewBox"].split())
    for words in found.iter(f"{SVG}text"):
        assert 0 <= float(words.attrib["x"]) <= width and 0 <= float(words.attrib["y"]) <= height
    assert {m.get("class", "").split()[-1] for m in found.iter(f"{SVG}path")} >= {"hollow", "other"}


def test_the_cells_of_a_row_of_the_flame_fill_it() -> None:
    content = made_up()
    assert content.measured
    for phase in content.measured.phases:
        svg = ElementTree.fromstring(draw_flame(phase, content.bundle))
        cells = [c for c in svg.iter("rect") if c.get("class", "").startswith("cell")]
        rows: dict[str, float] = {}
        for cell in cells:
            rows[cell.attrib["y"]] = rows.get(cell.attrib["y"], 0.0) + float(cell.attrib["width"])
        assert len(rows) == 3
        assert all(width == pytest.approx(WIDTH, abs=0.1) for width in rows.values())
        words = [t.text or "" for t in svg.iter("text")]
        assert any("4 layers" in text for text in words)
        assert len([b for b in svg.iter("rect") if b.get("class") == "bar"]) == 4


def test_ratios_of_two_reports() -> None:
    a, b = made_up(), made_up()
    assert b.measured
    slower = tuple(
        replace(p, step_ms=replace(p.step_ms, median=2 * (p.step_ms.median or 0)))
        for p in b.measured.phases
    )
    b = replace(b, measured=replace(b.measured, phases=slower))
    found = {(pair.group, pair.name): pair for pair in pairs(a, b)}
    assert found["step", "encode"].ratio == 2.0 and found["limit", "reading"].ratio == 1.0
    assert found["parity", "logits"].ratio is None, "a ratio of decibels says nothing"
    one_sided = {(p.group, p.name): p for p in pairs(a, elsewhere())}
    assert one_sided["step", "encode"].ratio is None
    assert one_sided["step", "encode"].show(None) == "not measured"
    assert all(pair.ratio == 1.0 for pair in kernel_pairs(a, b))


def test_labels_do_not_touch() -> None:
    points = [(50.0 + 7 * i, 50.0 + 3 * i, 4.0) for i in range(20)]
    wanted = [Label(f"kernel {i}", x, y, r) for i, (x, y, r) in enumerate(points)]
    placed = place_labels(wanted, points, (0, 0, 400, 300))
    boxes = [label.box for label in placed]
    assert 2 <= len(placed) < 20
    for i, a in enumerate(boxes):
        for b in boxes[:i]:
            assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]


def test_places_are_spread_but_keep_their_order() -> None:
    found = spread_out([10.0, 11.0, 12.0, 80.0], 15)
    assert found[3] == 80.0
    assert all(b - a >= 15 - 1e-3 for a, b in pairwise(found))


AXIS: list[tuple[float, float]] = [(1, 0), (10, 50), (100, 100), (0.001, 0), (1e9, 100)]


@pytest.mark.parametrize(("value", "place"), AXIS)
def test_a_logarithmic_axis(value: float, place: float) -> None:
    assert LogAxis(1, 100, 0, 100).place(value) == pytest.approx(place)


TEXTS: list[tuple[Any, str]] = [
    (si(2.07e12, "OP/s"), "2.07 TOP/s"),
    (si(999.6), "1 k"),
    (digits(0.0125), "0.0125"),
    (digits(0), "0"),
    (bytes_text(1.22e9), "1.22 GB"),
    (bytes_text(17), "17 B"),
    (ms_text(0.0421), "42.1 µs"),
    (shortened("fused_matmul15_multiply_add", 11), "fused…y_add"),
]


@pytest.mark.parametrize(("shown", "expected"), TEXTS)
def test_figures_have_three_digits(shown: str, expected: str) -> None:
    assert shown == expected


def arrivals(*rows: tuple[str, float, float]) -> list[Arrival]:
    return [Arrival(*row) for row in rows]


def test_what_arrives_is_drawn_tower_by_tower() -> None:
    rows = arrivals(
        ("vpm.layers.0", 50.0, 120.0),
        ("vpm.layers.1", 40.0, 90.0),
        ("vpm.post_layernorm", -300.0, 80.0),
        ("llm.layers.0", 300.0, 300.0),
        (HOSTILE, 10.0, math.inf),
    )
    assert [tower_of(row) for row in rows[:4]] == ["vpm", "vpm", "vpm", "llm"]
    root = ElementTree.fromstring(standalone(draw_arrivals(rows)))
    marks = [mark for mark in root.iter(f"{SVG}circle") if mark.get("data-tip")]
    assert len(marks) == 2 * len(rows)
    tips = [str(mark.get("data-tip")) for mark in marks]
    assert "exact" in tips[6] and "not finite" in tips[5]
    falling = [float(str(mark.get("cy"))) for mark in marks[:6]]
    assert falling[3] < falling[4] < falling[5] <= 141, "lower ratios are lower"
    assert "<script>" not in draw_arrivals(rows)
    assert draw_arrivals(()).startswith("<svg")
