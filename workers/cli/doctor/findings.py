"""What was found: how bad it is, what it is, and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Level(IntEnum):
    """How bad something is, worst first."""

    FAULT = 0
    """Something does not work, or data is in danger."""
    WARNING = 1
    """It works, and will not for long, or not after the next mishap."""
    NOTE = 2
    """Worth knowing; it may be as it should be."""

    @property
    def word(self) -> str:
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found.

    Attributes:
        level: How bad it is.
        about: A node's name or URL, a path, or what else it is about.
        what: What is wrong, without that name.
        remedy: What to do.
    """

    level: Level
    about: str
    what: str
    remedy: str

    @property
    def sentence(self) -> str:
        """What is wrong, with the name."""
        return f"{self.about} {self.what}" if self.about else self.what

    def shown(self) -> dict[str, str]:
        """Return the fields for JSON."""
        return {
            "level": self.level.word, "about": self.about, "what": self.what, "remedy": self.remedy,
        }  # fmt: skip


def fault(about: str, what: str, remedy: str) -> Finding:
    return Finding(Level.FAULT, about, what, remedy)


def warning(about: str, what: str, remedy: str) -> Finding:
    return Finding(Level.WARNING, about, what, remedy)


def note(about: str, what: str, remedy: str) -> Finding:
    return Finding(Level.NOTE, about, what, remedy)
