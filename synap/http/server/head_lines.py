"""Heads line by line: what a head says, from lines that were seen before.

Clients send the same lines again and again, but seldom the same head: a trace id, a forwarded
address or the body's length differs. So each line is looked at once and kept with a number, and a
head's number is the sum of its lines'. The number has fields, each wide enough for the 100 lines
that a head may have:

    bits    field
     0-23   the body's length in bytes, MAX_BODY_BYTES at most a line
    24-30   how many lines name a Host
    31-37   ... a Content-Length
    38-44   ... a Content-Type that is JSON
    45-51   ... another one
    52-58   ... credentials that are known
    59-     ... something special

The bits from 24 on are the head's kind: whoever knows which kinds it takes has one comparison to
make. What comes twice fails by its count, what is special by its own. A bare CR or LF, a folded
line and whatever else the parser might see another way makes a line special.

The numbers of whole heads are kept too, without the lines that are not kept themselves: a pattern
of the names that were met takes those out. Only whole lines of printable bytes are taken out, so
that what is left has the lines that the head has besides. A head whose only such line is a secret
comes again as it is, and is known by a keyed hash.

Lines come from clients: what is kept is bounded, by number and by size, and holds no credentials.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum
from typing import Any, Protocol

VERSION = b" HTTP/1.1\r\n"

BODY_BITS = 24
BODY_MASK = (1 << BODY_BITS) - 1
HOST = 1 << 24
LENGTH = 1 << 31
JSON_TYPE = 1 << 38
OTHER_TYPE = 1 << 45
CREDENTIALS = 1 << 52
SPECIAL = 1 << 59

# Longer bodies are parsed in parts; their heads are the smallest part of their cost.
MAX_BODY_BYTES = 64 * 1024
# A head of this size is within all limits of the parser but that on the number of lines.
MAX_HEAD_BYTES = 4 * 1024
MAX_LINES = 100

MAX_KEPT_LINES = 4096
MAX_LINE_BYTES = 256
MAX_KEPT_HEADS = 1024
MAX_KEPT_HEAD_BYTES = 1024
MAX_KEPT_NAMES = 512
# A name with more values than this is one whose values differ.
MAX_LINES_OF_NAME = 64
# Names of lines that are not kept, a pattern; more are looked at line by line.
MAX_NAMES_TAKEN_OUT = 32
# Of longer bodies hardly two are of the same length.
_MAX_KEPT_LENGTH = 2048
_MAX_LENGTH_DIGITS = 5

# Leaves printable bytes as they are, and a line that has no others the object that it was.
_CHANGE_ODD_BYTES = bytes(code if 0x20 <= code < 0x7F else int(code == 0) for code in range(256))
_BLANK = 0x20
_TOKEN = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
# By either of them the parser sees whether a connection is kept.
NAMES_OF_CONNECTION = (b"connection", b"proxy-connection")
_SPECIAL_NAMES = frozenset({b"transfer-encoding", b"te", b"trailer", b"upgrade", b"expect"})


Head = tuple[int, int]
"""A head's kind, and the length of its body in bytes."""


class Rule(Enum):
    """What a line of some name comes to.

    Attributes:
        PASSED: Nothing, and it is not kept.
        KEPT: Nothing.
        ASKED: Nothing to the number; its value is told with the head.
        LENGTH, CONNECTION: As HTTP has them.
        VALUED: The number that `Names.number` returns.
        SECRET: The number that `Names.hidden_number` returns, which is asked each time.
        SPECIAL: Something special.
    """

    PASSED = "passed"
    KEPT = "kept"
    ASKED = "asked"
    LENGTH = "length"
    CONNECTION = "connection"
    VALUED = "valued"
    SECRET = "secret"
    SPECIAL = "special"


# The end of the line before, a name whose value is told, a value as `HeadLines.__missing__` takes
# it, and the end of its own line.
_VARYING = rb"\r\n(?:%b|(%b)): *([!-~](?:[ -~]*[!-~])?)(?=\r\n)"
# What stands for no name, and finds no line.
_NOWHERE = rb"(?!)"
_NO_LINE = re.compile(_NOWHERE)

# Under their own names: looking a member up in its class costs a tenth of a microsecond.
_PASSED, _KEPT, _ASKED, _SECRET = Rule.PASSED, Rule.KEPT, Rule.ASKED, Rule.SECRET
_NEVER_KEPT = frozenset({_PASSED, _ASKED, _SECRET})


class Names(Protocol):
    """What an application says of headers, by their names in lower case."""

    def rule(self, name: bytes) -> Rule:
        """Return what a line with this name comes to, where HTTP does not say it."""

    def number(self, name: bytes, value: bytes) -> int:
        """Return what a line comes to whose rule is VALUED."""

    def hidden(self, data: bytes) -> bytes:
        """Return what stands for bytes that are a secret, or hold one; others have another."""

    def hidden_number(self, hidden: bytes) -> int:
        """Return what a line comes to now whose rule is SECRET.

        Args:
            hidden: What stands for its name in lower case and its value.
        """


class HeadLines(dict[bytes, int]):
    """The lines that one process knows, each with its number; a new one is looked at.

    Attributes:
        asked: The values of the last head's lines that were ASKED, by their names.
        by_tail: What is known of whole heads, from VERSION to the end of the blank line.
    """

    def __init__(self, names: Names) -> None:
        super().__init__()
        self.asked: Mapping[bytes, bytes] = _NOTHING
        self.by_tail: dict[bytes, Head] = {}
        self._app = names
        # Of heads with one line that varies, a secret: by what stands for such a head, what is
        # known of the rest of it, and what stands for the secret.
        self._by_hidden: dict[bytes, tuple[Head, bytes]] = {}
        # Whether the last head was one of these: the next one mostly is, too.
        self._has_one_secret = False
        # By the name as it was sent, with the name in lower case.
        self._rules: dict[bytes, tuple[Rule, bytes]] = {}
        self._lines_of: dict[bytes, int] = {}
        # Finds the lines that are PASSED, ASKED or SECRET, and those that are PASSED alone.
        self._varying = self._passed = _NO_LINE
        # Whether the last head had others than PASSED ones: the next one is mostly of its kind.
        self._tells = False
        # Of the head that is read: whether it has a line that may be kept from now on.
        self._has_new = False
        self._asked: dict[bytes, bytes] = {}

    def read(self, tail: bytes) -> Head:
        """Return what a head says.

        Args:
            tail: It without its method and target: from VERSION to the end of the blank line. Any
                other bytes are something special.
        """
        hidden = b""
        if self._has_one_secret and len(tail) <= MAX_KEPT_HEAD_BYTES:
            hidden = self._app.hidden(tail)
            found = self._by_hidden.get(hidden)
            if found is not None:
                self.asked = _NOTHING
                (kind, body_bytes), secret = found
                return kind + (self._app.hidden_number(secret) >> BODY_BITS), body_bytes
        if len(tail) > MAX_HEAD_BYTES or tail.count(b"\r\n") > MAX_LINES + 2:
            return _SPECIAL_HEAD
        self.asked = _NOTHING
        self._has_one_secret = False
        if not self._tells:
            # A third less than to see what the lines say.
            head = self.by_tail.get(self._passed.sub(b"", tail))
            if head is not None:
                return head
        parts = self._varying.split(tail)
        if len(parts) == 4:
            head = self.by_tail.get(parts[0] + parts[3])
            if head is not None:
                return self._add_one(head, parts[1], parts[2], tail, hidden)
        else:
            head = self.by_tail.get(b"".join(parts[::3]))
            if head is not None:
                return self._add_told(head, parts)
        return self._read_lines(tail)

    def _add_one(
        self, head: Head, sent_name: bytes | None, value: bytes, tail: bytes, hidden: bytes
    ) -> Head:
        """Return what `head` says with the one line that was taken out of `tail`.

        Args:
            sent_name: The line's name; None for one that is PASSED.
            value: Its value.
            hidden: What stands for `tail`; b"" where nobody has asked yet.
        """
        self._tells = sent_name is not None
        if sent_name is None:
            return head
        rule, name = self._rules[sent_name]
        if rule is not _SECRET:
            self.asked = {name: value}
            return head
        secret = self._app.hidden(name + value)
        number = self._app.hidden_number(secret)
        if number < SPECIAL and len(tail) <= MAX_KEPT_HEAD_BYTES:
            if len(self._by_hidden) >= MAX_KEPT_HEADS:
                self._by_hidden.clear()
            self._by_hidden[hidden or self._app.hidden(tail)] = head, secret
            self._has_one_secret = True
        return head[0] + (number >> BODY_BITS), head[1]

    def _add_told(self, head: Head, parts: list[Any]) -> Head:
        """Return what `head` says with the lines that were taken out of it.

        Args:
            parts: Bytes between those lines, with each one's name and value; None for a name that
                is PASSED.
        """
        number, asked = 0, _NOTHING
        for at in range(1, len(parts), 3):
            sent_name = parts[at]
            if sent_name is None:
                continue
            rule, name = self._rules[sent_name]
            if rule is _SECRET:
                number += self._app.hidden_number(self._app.hidden(name + parts[at + 1]))
            elif name in asked:
                number += SPECIAL
            else:
                asked = {**asked, name: parts[at + 1]}
        self.asked = asked
        self._tells = bool(asked or number)
        return (head[0] + (number >> BODY_BITS), head[1]) if number else head

    def _read_lines(self, tail: bytes) -> Head:
        lines = tail[len(VERSION) : -4].split(b"\r\n")
        if not (tail.startswith(VERSION) and tail.endswith(b"\r\n\r\n")):
            return _SPECIAL_HEAD
        self._has_new = False
        self._asked = {}
        number = sum(map(self.__getitem__, lines))
        self.asked = self._asked or _NOTHING
        if not self._has_new:
            self._keep_head(tail)
        return number >> BODY_BITS, number & BODY_MASK

    def _keep_head(self, tail: bytes) -> None:
        """Keep a head's number, without the lines that are not kept themselves."""
        rest = self._varying.sub(b"", tail)
        if len(rest) > MAX_KEPT_HEAD_BYTES:
            return
        # By number they would not do: a pattern may leave a line that asks for something, and take
        # out one that was kept before its name was PASSED.
        numbers = [self.get(line) for line in rest[len(VERSION) : -4].split(b"\r\n")]
        known = [number for number in numbers if number is not None]
        if len(known) < len(numbers):
            return
        if len(self.by_tail) >= MAX_KEPT_HEADS:
            self.by_tail.clear()
        number = sum(known)
        self.by_tail[rest] = number >> BODY_BITS, number & BODY_MASK

    def __missing__(self, line: bytes) -> int:
        """Return the number of a line that is not kept, and keep it if it may come again."""
        sent_name, colon, value = line.partition(b":")
        rule, name = self._rules.get(sent_name) or self._meet(sent_name)
        is_odd = line.translate(_CHANGE_ODD_BYTES) is not line
        if is_odd or not colon or not value or line[-1] == _BLANK:
            self._has_new = True
            return SPECIAL
        if rule is _PASSED:
            return 0
        value = value.lstrip(b" ")
        if rule is _ASKED:
            if name in self._asked:
                return SPECIAL
            self._asked[name] = value
            return 0
        if rule is _SECRET:
            return self._app.hidden_number(self._app.hidden(name + value))
        self._has_new = True
        return self._look(line, rule, name, value)

    def _look(self, line: bytes, rule: Rule, name: bytes, value: bytes) -> int:
        if rule is _KEPT:
            number = 0
        elif rule is Rule.LENGTH:
            number = _length(value)
            if number & BODY_MASK > _MAX_KEPT_LENGTH:
                return number
        elif rule is Rule.VALUED:
            number = self._app.number(name, value)
        else:
            is_kept_alive = rule is Rule.CONNECTION and value.lower() == b"keep-alive"
            number = 0 if is_kept_alive else SPECIAL
        if number < SPECIAL and len(line) <= MAX_LINE_BYTES:
            self._keep(line, rule, name, number)
        return number

    def _keep(self, line: bytes, rule: Rule, name: bytes, number: int) -> None:
        if len(self) >= MAX_KEPT_LINES:
            self.forget()
        count = self._lines_of[name] = self._lines_of.get(name, 0) + 1
        if rule is _KEPT and count > MAX_LINES_OF_NAME:
            for spelling, (_, each) in list(self._rules.items()):
                if each == name:
                    self._rules[spelling] = Rule.PASSED, name
            self._make_pattern()
            return
        self[line] = number

    def forget(self) -> None:
        """Know no line any more."""
        self.clear()
        self.by_tail.clear()
        self._by_hidden.clear()
        self._rules.clear()
        self._lines_of.clear()
        self._make_pattern()

    def _meet(self, sent_name: bytes) -> tuple[Rule, bytes]:
        """Return the rule of a name that is new, and the name in lower case."""
        name = sent_name.lower()
        if not name or name.translate(None, _TOKEN) or len(name) > MAX_LINE_BYTES:
            return Rule.SPECIAL, b""
        if name == b"content-length":
            rule = Rule.LENGTH
        elif name in NAMES_OF_CONNECTION:
            rule = Rule.CONNECTION
        else:
            rule = Rule.SPECIAL if name in _SPECIAL_NAMES else self._app.rule(name)
        is_full = len(self._rules) >= MAX_KEPT_NAMES
        if is_full:
            self._rules.clear()
        self._rules[sent_name] = rule, name
        if is_full or rule in _NEVER_KEPT:
            self._make_pattern()
        return rule, name

    def _make_pattern(self) -> None:
        rules = [(sent, rule) for sent, (rule, _) in self._rules.items() if rule in _NEVER_KEPT]
        del rules[MAX_NAMES_TAKEN_OUT:]
        passed = [re.escape(sent) for sent, rule in rules if rule is _PASSED]
        told = [re.escape(sent) for sent, rule in rules if rule is not _PASSED]
        self._varying, self._passed = _pattern(passed, told), _pattern(passed, [])


def _pattern(passed: list[bytes], told: list[bytes]) -> re.Pattern[bytes]:
    either = b"|".join(passed) or _NOWHERE, b"|".join(told) or _NOWHERE
    return re.compile(_VARYING % either) if passed or told else _NO_LINE


_NOTHING: Mapping[bytes, bytes] = {}
_SPECIAL_HEAD: Head = (SPECIAL >> BODY_BITS, 0)


def _length(value: bytes) -> int:
    if not value.isdigit() or len(value) > _MAX_LENGTH_DIGITS:
        return SPECIAL
    length = int(value)
    # As only one way of writing it is known, the way of all decides on the others.
    return LENGTH + length if length <= MAX_BODY_BYTES and b"%d" % length == value else SPECIAL
