"""The benchmark's curves as pictures."""

from __future__ import annotations

from xml.etree import ElementTree

from ops.bench.chart import HEIGHT, WIDTH, line_chart, short

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


def test_short_numbers_have_units() -> None:
    assert [short(each) for each in (16, 10_000, 1_048_576, 0.5)] == ["16", "10k", "1.049M", "0.5"]
