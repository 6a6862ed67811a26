"""How long and how hard a run measures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ops.bench.fleet import Fleet


@dataclass(frozen=True, slots=True)
class Settings:
    """What every group of rows is given.

    Attributes:
        fleet: The systems that groups share.
        folder: Where the systems keep their data while they are measured; on the disk to measure.
        rounds: Times that each system is measured for each row.
        seconds: Length of one measurement.
        keys: Number of distinct keys.
        connections: Open HTTP connections of the load.
        stored: Number of distinct keys where it is about a large store.
        largest: Number of distinct keys up to which a store grows; a power of ten.
        stride: Of the points of a curve, one in so many is measured.
        calibrations: Attempts at the delay that makes half of a system's rate.
    """

    fleet: Fleet
    folder: Path
    rounds: int = 5
    seconds: int = 5
    keys: int = 100_000
    connections: int = 32
    stored: int = 1_000_000
    largest: int = 10_000_000
    stride: int = 1
    calibrations: int = 2
