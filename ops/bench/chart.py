"""Curves as an SVG picture, written by hand: a logarithmic x axis, y from 0 or by decades."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 640, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 80, 110, 40, 50
_COLOURS = ("#1f6fb4", "#c8551b", "#2c8a4b", "#7d4fa3")
_STEPS = 4
# Between the names of two curves that end close to each other.
_NAME_HEIGHT = 14
Points = Sequence[tuple[float, float]]


def short(number: float) -> str:
    """Return a number in few characters, as `20k` or `1.5M`."""
    for unit, name in ((1e6, "M"), (1e3, "k")):
        if number >= unit:
            return f"{number / unit:.4g}{name}"
    return f"{number:.4g}"


def short_bytes(number: float) -> str:
    """Return a number of bytes in few characters, as `64 KiB`."""
    for unit, name in ((1 << 20, "MiB"), (1 << 10, "KiB")):
        if number >= unit:
            return f"{number / unit:.4g} {name}"
    return f"{number:.4g}"


def line_chart(
    title: str,
    x_title: str,
    lines: Mapping[str, Points],
    *,
    x_name: Callable[[float], str] = short,
    by_decades: bool = False,
) -> str:
    """Return a picture of `lines`.

    Args:
        title: Stands above, and says what y is.
        x_title: Stands below.
        lines: For each name the points (x, y), in the order of x; x above 0, y not below.
        x_name: How an x is written.
        by_decades: Whether y is logarithmic, and all of them above 0.
    """
    xs = sorted({x for points in lines.values() for x, _ in points})
    ys = [y for points in lines.values() for _, y in points] or [1.0]
    grid, height = _decades(ys) if by_decades else _steps(ys)
    first, last = (math.log10(xs[0]), math.log10(xs[-1])) if xs else (0.0, 1.0)
    span = last - first or 1.0

    def across(x: float) -> float:
        return _LEFT + (math.log10(x) - first) / span * (WIDTH - _LEFT - _RIGHT)

    def up(y: float) -> float:
        return HEIGHT - _BOTTOM - height(y) * (HEIGHT - _TOP - _BOTTOM)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        _text(_LEFT, 22, title, "start", ' font-size="14" font-weight="bold"'),
        _text((_LEFT + WIDTH - _RIGHT) / 2, HEIGHT - 10, x_title, "middle"),
    ]
    for y in grid:
        parts.append(f'<path d="M{_LEFT} {up(y):.1f}H{WIDTH - _RIGHT}" stroke="#ddd" fill="none"/>')
        parts.append(_text(_LEFT - 8, up(y) + 4, short(y), "end"))
    parts += [_text(across(x), HEIGHT - _BOTTOM + 18, x_name(x), "middle") for x in xs]
    names = _apart([up(points[-1][1]) for points in lines.values()])
    for (name, points), colour, name_y in zip(lines.items(), _COLOURS, names, strict=False):
        places = [(across(x), up(y)) for x, y in points]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
        parts.append(f'<path d="M{path}" stroke="{colour}" stroke-width="2" fill="none"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in places]
        parts.append(_text(places[-1][0] + 8, name_y + 4, name, "start", f' fill="{colour}"'))
    return "\n".join((*parts, "</svg>")) + "\n"


def _steps(ys: Sequence[float]) -> tuple[list[float], Callable[[float], float]]:
    """Return the grid's lines, and what gives the part of the height at which a y stands."""
    top = _round_up(max(ys))
    return [top * step / _STEPS for step in range(_STEPS + 1)], lambda y: y / top


def _decades(ys: Sequence[float]) -> tuple[list[float], Callable[[float], float]]:
    """As `_steps`, for a logarithmic axis."""
    first, last = math.floor(math.log10(min(ys))), math.ceil(math.log10(max(ys)))
    span = last - first or 1
    grid = [10.0**power for power in range(first, first + span + 1)]
    return grid, lambda y: (math.log10(y) - first) / span


def _apart(heights: Sequence[float]) -> list[float]:
    """Return the heights moved up where they are too close to one below, in their order."""
    moved: dict[int, float] = {}
    free = math.inf
    for place, height in sorted(enumerate(heights), key=lambda each: -each[1]):
        moved[place] = min(height, free)
        free = moved[place] - _NAME_HEIGHT
    return [moved[place] for place in range(len(heights))]


def _round_up(number: float) -> float:
    """Return the next of 1, 2, 4 and 8 times a power of ten."""
    if number <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(number))
    return next(step * power for step in (1, 2, 4, 8, 10) if step * power >= number)


def _text(x: float, y: float, text: str, anchor: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{more}>{escape(text)}</text>'
