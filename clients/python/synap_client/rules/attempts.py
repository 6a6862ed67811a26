"""One request: whom it is sent to, when it is sent again, and when that ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from synap_client.rules.answers import Answer, Verdict, verdict_of
from synap_client.rules.kinds import Kind, Way
from synap_client.rules.nodes import Nodes
from synap_client.rules.positions import Positions

_FIRST_PAUSE_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 1.0


# Above the second that a replica waits for a position, by default; doubled with each round.
_FIRST_READ_SECONDS = 3.0
# So often those that answer may say that they can't tell, while others are silent.
_UNFIT_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Send:
    """Send it to a node.

    Attributes:
        node: Its number.
        url: Its address.
        min_position: What a read has to see; empty where that is nothing.
        at: When, by the clock of `next`.
        seconds: How long to wait for an answer at most.
    """

    node: int
    url: str
    min_position: str
    at: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Pause:
    """All nodes were asked: wait before the next round."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Stop:
    """No more: what was answered last is what there is.

    Attributes:
        is_unknown: Whether the request may have taken effect all the same.
    """

    is_unknown: bool


@dataclass(slots=True)
class _Round:
    """What came of asking each node once."""

    unfit: Answer | None = None
    position: str = ""
    pause: float = 0.0
    has_later: bool = False
    has_silence: bool = False


class Attempts:
    """The attempts at one request.

    Who uses it asks for the `next` step, carries it out, and tells what came of it.
    """

    def __init__(
        self,
        kind: Kind,
        nodes: Nodes,
        positions: Positions,
        *,
        has_key: bool,
        max_lag_ms: int | None,
        deadline: float,
        random: Callable[[], float],
    ) -> None:
        """Begin.

        Args:
            kind: What the request is.
            nodes: Whom it can be sent to; what it learns of them is kept there.
            positions: What was written; a write that is answered is noted there.
            has_key: Whether it is sent with an `Idempotency-Key`.
            max_lag_ms: How old what a replica tells may be; None where anything goes.
            deadline: When it is given up, by the clock of `next`.
            random: Returns a number from 0 to 1, so that clients do not come in step.
        """
        self._kind = kind
        self._nodes = nodes
        self._positions = positions
        self._may_repeat = has_key or kind.is_repeatable
        self._max_lag_ms = max_lag_ms
        self._deadline = deadline
        self._random = random
        self._asked: set[int] = set()
        self._round = _Round()
        self._rounds = 0
        self._unfit_rounds = 0
        self._is_unknown = False

    def next(self, now: float) -> Send | Pause | Stop:
        """Return what to do now."""
        left = self._deadline - now
        if left <= 0:
            return Stop(self._is_unknown)
        node = self._nodes.next(self._asked, now, needs_master=self._kind.needs_master)
        if node is None:
            return self._end_round(left)
        self._asked.add(node)
        url = self._nodes.urls[node]
        if self._kind.way is not Way.READ:
            return Send(node, url, "", now, left)
        # Another node may answer at once where this one stands still.
        seconds = min(_FIRST_READ_SECONDS * 2 ** min(self._rounds, 10), left)
        return Send(node, url, self._positions.newest, now, seconds)

    def answered(self, sent: Send, answer: Answer) -> bool:
        """Note an answer, and say whether it is the one for the caller."""
        self._nodes.heard(sent.node)
        is_read = self._kind.way is Way.READ
        verdict = verdict_of(answer, is_read=is_read, max_lag_ms=self._max_lag_ms)
        if verdict is Verdict.ELSEWHERE:
            self._nodes.refused_write(sent.node, answer.master)
        elif verdict is Verdict.LATER:
            self._round.has_later = True
            self._round.pause = max(self._round.pause, answer.retry_after_seconds)
        elif verdict is Verdict.UNKNOWN:
            self._is_unknown = self._is_unknown or not self._kind.is_repeatable
            return not self._may_repeat
        elif verdict is Verdict.UNFIT:
            self._round.unfit = answer
            self._round.position = sent.min_position
        else:
            self._note_result(sent, answer)
            return True
        return False

    def broke(self, sent: Send, now: float, *, was_sent: bool) -> bool:
        """Note that no answer came, and say whether to give up.

        Args:
            sent: What was tried.
            now: By the clock of `next`.
            was_sent: Whether any of it may have reached the node.
        """
        self._nodes.silent(sent.node, now, waited_seconds=now - sent.at)
        self._round.has_silence = True
        if not was_sent or self._kind.is_repeatable:
            return False
        self._is_unknown = True
        return not self._may_repeat

    def _end_round(self, left: float) -> Pause | Stop:
        ended, self._round = self._round, _Round()
        self._asked.clear()
        if ended.unfit is not None and not ended.has_later:
            self._unfit_rounds += 1
            if not ended.has_silence or self._unfit_rounds >= _UNFIT_ROUNDS:
                if ended.unfit.is_position_lost:
                    self._positions.lost(ended.position)
                return Stop(self._is_unknown)
        pause = min(_FIRST_PAUSE_SECONDS * 2 ** min(self._rounds, 10), _LONGEST_PAUSE_SECONDS)
        self._rounds += 1
        return Pause(min(max(pause * (1 + self._random()) / 2, ended.pause), left))

    def _note_result(self, sent: Send, answer: Answer) -> None:
        if self._kind.way is not Way.WRITE or not 200 <= answer.status < 300:
            return
        self._nodes.took_write(sent.node)
        self._positions.wrote(answer.position)
