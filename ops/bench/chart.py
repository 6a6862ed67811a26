"""Curves as an SVG picture, written by hand: a logarithmic x axis, y from 0."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 640, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 80, 110, 40, 50
_COLOURS = ("#1f6fb4", "#c8551b", "#2c8a4b", "#7d4fa3")
_STEPS = 4
Points = Sequence[tuple[float, float]]


def line_chart(title: str, x_title: str, lines: Mapping[str, Points]) -> str:
    """Return a picture of `lines`.

    Args:
        title: Stands above, and says what y is.
        x_title: Stands below.
        lines: For each name the points (x, y), in the order of x; x above 0, y not below.
    """
    xs = sorted({x for points in lines.values() for x, _ in points})
    top = _round_up(max((y for points in lines.values() for _, y in points), default=1.0))
    first, last = (math.log10(xs[0]), math.log10(xs[-1])) if xs else (0.0, 1.0)
    span = last - first or 1.0

    def across(x: float) -> float:
        return _LEFT + (math.log10(x) - first) / span * (WIDTH - _LEFT - _RIGHT)

    def up(y: float) -> float:
        return HEIGHT - _BOTTOM - y / top * (HEIGHT - _TOP - _BOTTOM)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        _text(_LEFT, 22, title, "start", ' font-size="14" font-weight="bold"'),
        _text((_LEFT + WIDTH - _RIGHT) / 2, HEIGHT - 10, x_title, "middle"),
    ]
    for step in range(_STEPS + 1):
        y = top * step / _STEPS
        parts.append(f'<path d="M{_LEFT} {up(y):.1f}H{WIDTH - _RIGHT}" stroke="#ddd" fill="none"/>')
        parts.append(_text(_LEFT - 8, up(y) + 4, short(y), "end"))
    parts += [_text(across(x), HEIGHT - _BOTTOM + 18, short(x), "middle") for x in xs]
    for (name, points), colour in zip(lines.items(), _COLOURS, strict=False):
        places = [(across(x), up(y)) for x, y in points]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
        parts.append(f'<path d="M{path}" stroke="{colour}" stroke-width="2" fill="none"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in places]
        end_x, end_y = places[-1]
        parts.append(_text(end_x + 8, end_y + 4, name, "start", f' fill="{colour}"'))
    return "\n".join((*parts, "</svg>")) + "\n"


def short(number: float) -> str:
    """Return a number in few characters, as `20k` or `1.5M`."""
    for unit, name in ((1e6, "M"), (1e3, "k")):
        if number >= unit:
            return f"{number / unit:.4g}{name}"
    return f"{number:.4g}"


def _round_up(number: float) -> float:
    """Return the next of 1, 2, 4 and 8 times a power of ten."""
    if number <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(number))
    return next(step * power for step in (1, 2, 4, 8, 10) if step * power >= number)


def _text(x: float, y: float, text: str, anchor: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{more}>{escape(text)}</text>'
