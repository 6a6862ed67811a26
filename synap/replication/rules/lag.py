"""How far a replica is behind: in entries, and in the age of the oldest one that it lacks.

Plain values and arithmetic: times come in as nanoseconds of a monotonic clock. `follower` keeps its
own `Lag`; `master` notes in an `OffsetClock` when each offset came, by which `roster` tells how far
every replica is behind.
"""

from __future__ import annotations

from bisect import bisect_right

from synap.replication.rules.progress import NS_PER_MS

UNKNOWN_LAG_MS = 2**31 - 1
"""The lag of a replica that can't know how old its data is: above every bound that is asked for."""

# Offsets noted within a millisecond share one mark: finer than any lag that is shown.
_MARK_NS = NS_PER_MS
# With full marks every second one goes, so that old ages get coarser by a fraction of themselves.
_MAX_MARKS = 4096


def lag_entries(master_offset: int, applied_offset: int) -> int:
    """Return how many entries the replica lacks; 0 where it is ahead of what it heard."""
    return max(0, master_offset - applied_offset)


def lag_ms(now_ns: int, lag_since_ns: int, fresh_ns: int, heartbeat_ns: int) -> int:
    """Return the age of the oldest entry that may be unapplied; UNKNOWN_LAG_MS for any.

    Silence is lag: a master that is not heard may have written since, and so may one that is heard
    and does not serve this replica. One heartbeat may be late, so it counts from two intervals on.

    Args:
        now_ns: Monotonic clock.
        lag_since_ns: Since when something known is unapplied; 0 for nothing.
        fresh_ns: When a master that serves this replica was last heard; 0 where nobody knows.
        heartbeat_ns: Time between two heartbeats.
    """
    if not fresh_ns:
        return UNKNOWN_LAG_MS
    since = lag_since_ns or now_ns
    if now_ns - fresh_ns > 2 * heartbeat_ns:
        since = min(since, fresh_ns)
    return max(0, now_ns - since) // NS_PER_MS


def fresh_since_ns(now_ns: int, age_ms: int) -> int:
    """Return `fresh_ns` of what is `age_ms` old; may be below 0, and is never 0."""
    return now_ns - max(0, age_ms) * NS_PER_MS or -1


class OffsetClock:
    """Remembers when offsets were heard of, to tell how old the first unapplied one is.

    An age is never too small; it is too large by a millisecond, or for old ones by a small part.
    """

    def __init__(self) -> None:
        self._offsets: list[int] = []
        self._times_ns: list[int] = []

    def note(self, offset: int, at_ns: int) -> None:
        """Remember that entries up to `offset` exist, the new ones since `at_ns`."""
        offsets, times = self._offsets, self._times_ns
        if offsets:
            if offset <= offsets[-1]:
                return
            if at_ns - times[-1] < _MARK_NS:
                offsets[-1] = offset
                return
            if len(offsets) == _MAX_MARKS:
                # Two marks become one with the later offset and the earlier time.
                del offsets[::2]
                del times[1::2]
        offsets.append(offset)
        times.append(at_ns)

    def forget(self, offset: int) -> None:
        """Forget the entries up to `offset`."""
        offsets = self._offsets
        if offsets and offsets[0] <= offset:
            count = bisect_right(offsets, offset)
            del offsets[:count]
            del self._times_ns[:count]

    def since_ns(self, offset: int) -> int:
        """Return since when an entry after `offset` is known; 0 where none is."""
        at = bisect_right(self._offsets, offset)
        return self._times_ns[at] if at < len(self._offsets) else 0


class Lag:
    """A replica's own lag, by what it hears of its master and what it applies.

    Attributes:
        master_offset: Last offset that the master is known to have.
        known_offset: The same by what the nodes above tell, which may lack the end themselves.
        synced_ns: When the replica last had all that its master had; 0 for never.
    """

    def __init__(self, applied_time_ms: int) -> None:
        """
        Args:
            applied_time_ms: The master's wall clock in the last frame applied; 0 for none.
        """
        self.master_offset = 0
        self.known_offset = 0
        self.synced_ns = 0
        self._applied_time_ms = applied_time_ms
        self._clock = OffsetClock()

    def begin_link(self) -> None:
        """Forget how far the master is; the ages of what was heard of stay."""
        self.master_offset = self.known_offset = 0

    def begin_reign(self) -> None:
        """Forget what was heard: what the reign before had beyond this one's log never comes."""
        self.master_offset = self.known_offset = 0
        self._clock = OffsetClock()

    def hear(self, offset: int, since_ns: int) -> None:
        """Learn that entries up to `offset` exist, the new ones since `since_ns`."""
        self._clock.note(offset, since_ns)
        self.reach(offset)

    def reach(self, offset: int) -> None:
        """Learn that the master's log reaches to `offset`, which may be less than is known."""
        self.master_offset = max(self.master_offset, offset)
        self.known_offset = max(self.known_offset, offset)

    def hear_of(self, offset: int, since_ns: int) -> None:
        """Learn that the master has entries up to `offset`, which this one's upstream lacks too."""
        self._clock.note(offset, since_ns)
        self.known_offset = max(self.known_offset, offset)

    def hear_unseen(self, offset: int, clock_ms: int, now_ns: int) -> None:
        """Learn of entries up to `offset` that the stream did not bring.

        Args:
            clock_ms: The master's wall clock.
        """
        # The first entry that is missing is younger than the last one applied, both by the master's
        # clock, and younger than the moment at which nothing was missing.
        since_ns = now_ns
        if self._applied_time_ms:
            age_ms = max(0, clock_ms - self._applied_time_ms)
            since_ns = max(1, self.synced_ns, now_ns - age_ms * NS_PER_MS)
        self.hear(offset, since_ns)

    def apply(self, offset: int, time_ms: int) -> None:
        """Learn that the replica has all up to `offset`, whose frame is of `time_ms`."""
        self._applied_time_ms = time_ms
        self._clock.forget(offset)

    def note_synced(self, applied_offset: int, now_ns: int) -> None:
        """Note the time where nothing that is known of is unapplied."""
        if applied_offset >= self.known_offset:
            self.synced_ns = now_ns

    def since_ns(self, applied_offset: int) -> int:
        """Return since when an entry after `applied_offset` is known; 0 where none is."""
        return self._clock.since_ns(applied_offset)
