"""What can go wrong with a measurement."""

from __future__ import annotations


class MeasurementFailed(Exception):
    """A number can't be had honestly: an answer was wrong or missing, or a system failed."""


class ProgramMissing(MeasurementFailed):
    """A program that the benchmark drives is not installed."""

    def __init__(self, program: str, package: str) -> None:
        super().__init__(f"{program} is not installed; it is in the Debian package {package}")
