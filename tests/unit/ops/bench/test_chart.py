"""The benchmark's curves as pictures."""

from __future__ import annotations

from itertools import pairwise
from xml.etree import ElementTree

from ops.bench.chart import HEIGHT, WIDTH, line_chart, short, short_bytes

SVG = "{http://www.w3.org/2000/svg}"


def test_line_chart_is_svg_with_a_dot_for_each_point_inside_the_picture() -> None:
    lines = {"GET": [(10, 5.0), (1000, 0.0)], "SET": [(10, 7.5)]}
    picture = ElementTree.fromstring(line_chart("Speed & size", "keys", lines))
    dots = [(float(d.get("cx", "")), float(d.get("cy", ""))) for d in picture.iter(f"{SVG}circle")]
    assert len(dots) == 3
    assert all(0 < x < WIDTH and 0 < y < HEIGHT for x, y in dots)
    assert dots[0][1] > dots[2][1], "a larger number stands higher"
    assert "Speed & size" in [text.text for text in picture.iter(f"{SVG}text")]


def test_line_chart_of_zeros_is_flat() -> None:
    assert "nan" not in line_chart("", "", {"GET": [(1, 0.0)]})


def test_line_chart_by_decades_gives_each_power_of_ten_the_same_height() -> None:
    lines = {"GET": [(1, 5000.0), (2, 500.0), (3, 50.0)]}
    picture = ElementTree.fromstring(line_chart("", "", lines, by_decades=True))
    first, second, third = (float(dot.get("cy", "")) for dot in picture.iter(f"{SVG}circle"))
    assert abs((second - first) - (third - second)) < 0.2
    assert {"10", "100", "1k", "10k"} <= {text.text for text in picture.iter(f"{SVG}text")}


def test_line_chart_keeps_the_names_of_curves_that_end_together_apart() -> None:
    lines = {"GET": [(1, 5.0)], "SET": [(1, 5.0)], "DEL": [(1, 4.9)]}
    texts = ElementTree.fromstring(line_chart("", "", lines)).iter(f"{SVG}text")
    heights = sorted(float(text.get("y", "")) for text in texts if text.text in lines)
    assert min(b - a for a, b in pairwise(heights)) >= 12


def test_short_bytes_count_in_powers_of_two() -> None:
    assert [short_bytes(each) for each in (16, 65_536, 1_048_576)] == ["16", "64 KiB", "1 MiB"]


def test_short_numbers_have_units() -> None:
    assert [short(each) for each in (16, 10_000, 1_048_576, 0.5)] == ["16", "10k", "1.049M", "0.5"]
