"""Families of metrics, made of plain values."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)


def labelled_gauge(
    name: str, meaning: str, labels: tuple[str, ...], values: Mapping[tuple[str, ...], float]
) -> Metric:
    """Return a gauge with a value for each set of label values."""
    family = GaugeMetricFamily(name, meaning, labels=labels)
    for words, value in values.items():
        family.add_metric(words, value)
    return family


def labelled_counter(
    name: str, meaning: str, labels: tuple[str, ...], values: Mapping[tuple[str, ...], float]
) -> Metric:
    """Return a counter with a value for each set of label values; `_total` is added to its name."""
    family = CounterMetricFamily(name, meaning, labels=labels)
    for words, value in sorted(values.items()):
        family.add_metric(words, value)
    return family


def histogram(
    name: str, meaning: str, cells: list[int] | None, bounds: tuple[int, ...], unit: float
) -> Metric:
    """Return a histogram of a series' cells (see `synap.shared.series`), None for nothing counted.

    Args:
        bounds: The buckets', in the unit of the cells.
        unit: How many of these make one of the metric's.
    """
    counts, total = buckets(cells or [0] * (len(bounds) + 2), bounds, unit)
    return HistogramMetricFamily(name, meaning, buckets=counts, sum_value=total)


def buckets(
    cells: list[int], bounds: tuple[int, ...], unit: float
) -> tuple[list[tuple[str, float]], float]:
    """Return cumulated counts by bound, in the family's unit, and the sum."""
    counts: list[tuple[str, float]] = []
    count = 0
    for bound, cell in zip(bounds, cells[1:], strict=False):
        count += cell
        counts.append((str(bound / unit if unit != 1 else float(bound)), count))
    counts.append(("+Inf", count + cells[1 + len(bounds)]))
    return counts, cells[0] / unit
