"""`synap wal check`, `wal show`, `wal replay`, `wal repair` and `synap store rebuild`."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from synap.backup.archive import shown_time
from synap.backup.restore import Target, restore
from synap.commands.once import SCOPE_BYTES, shown_key
from synap.frame import ACCOUNTS, DEL, FLUSH, KEYS, MARK, REQUESTS, SET, Cause, Entry
from synap.repair.inspection import words_for
from synap.repair.log_repair import Repair, RepairPlan
from synap.repair.store_rebuild import rebuild_store
from synap.snapshot.folder import snapshots
from synap.store import digest_image
from synap.wal.scan import BadPlace
from synap.wal.walk import LogReport, LogWalk, Walked, check_log, log_folder
from workers.cli.backup import Output
from workers.process import EXIT_CLEAN, EXIT_FAILED

wal_app = typer.Typer(help="Check, show and repair a node's log.", no_args_is_help=True)
store_app = typer.Typer(help="The live store.", no_args_is_help=True)

_OPERATIONS = {SET: "SET", DEL: "DEL", FLUSH: "FLUSH", MARK: "MARK"}
_BESIDE = {ACCOUNTS: "account", REQUESTS: "request"}
_SPACES = {ACCOUNTS: "accounts", REQUESTS: "requests"}
# A later program may write others: its number is shown.
_CAUSES = {int(cause): cause.name.lower() for cause in Cause}

LogFolder = Annotated[
    Path,
    typer.Argument(metavar="DIR", help="The data directory, or the folder of the segments."),
]
OutputOption = Annotated[Output, typer.Option("--output", "-o", help="As text or JSON.")]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.add_typer(wal_app, name="wal")
    app.add_typer(store_app, name="store")


@wal_app.command("check")
def check_command(directory: LogFolder, output: OutputOption = Output.TEXT) -> None:
    """Read and check every frame; exit with 1 where the log is damaged, or there is none.

    A torn end is no damage: a crash leaves one, and the node cuts it off at its next start. On a
    running node the last write may look torn while it is being written.
    """
    report = check_log(log_folder(directory))
    typer.echo(_report_json(report) if output is Output.JSON else "\n".join(_report_lines(report)))
    is_damaged = report.bad is not None and not report.bad.is_torn
    raise typer.Exit(EXIT_FAILED if is_damaged else EXIT_CLEAN)


@wal_app.command("show")
def show_command(
    directory: LogFolder,
    first: Annotated[int, typer.Option("--from", metavar="N", min=1, help="First offset.")] = 1,
    last: Annotated[
        int | None, typer.Option("--to", metavar="N", min=1, help="Last offset.")
    ] = None,
    values: Annotated[bool, typer.Option("--values", help="Show the values too.")] = False,
    key: Annotated[
        list[str] | None, typer.Option("--key", help="Only of this key; give it several times.")
    ] = None,
    prefix: Annotated[
        str | None, typer.Option("--prefix", help="Only of keys that begin with this.")
    ] = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Print frames and their entries: operation, key, length of the value, expiry, why it went.

    Values are left out unless --values asks for them, and accounts' always. With --key or --prefix
    only what changed such keys is shown, a FLUSH too. With -o json each entry is one line.
    """
    is_wanted = _filter(key or [], prefix)
    walk = LogWalk(log_folder(directory))
    for each in walk.frames(first - 1):
        if each.frame.last_offset < first:
            continue
        if last is not None and each.frame.first_offset > last:
            return
        shown = [
            (offset, entry)
            for offset, entry in enumerate(each.frame.entries(), each.frame.first_offset)
            if first <= offset <= (last or offset) and is_wanted(entry)
        ]
        if output is Output.TEXT and (shown or not (key or prefix)):
            typer.echo(_frame_line(each))
        show = _entry_json if output is Output.JSON else _entry_line
        for offset, entry in shown:
            typer.echo(show(each, offset, entry, values=values))
    bad = walk.bad_place()
    if bad is not None:
        typer.echo(f"the log ends here: {words_for(bad)}", err=True)
        raise typer.Exit(EXIT_CLEAN if bad.is_torn else EXIT_FAILED)


@wal_app.command("replay")
def replay_command(
    directory: LogFolder,
    until: Annotated[
        int | None, typer.Option("--until", metavar="N", min=1, help="Up to and with this offset.")
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option("--from", metavar="FILE", help="A backup or snapshot to begin with."),
    ] = None,
    _digest: Annotated[
        bool, typer.Option("--digest", help="Print the digest; what it does anyway.")
    ] = True,
) -> None:
    """Say what a node held at an offset: replay its log beside it, and print the digest.

    `synap digest` prints the same of a node that stands there. It begins with the newest snapshot
    of the data directory that is not after N, or with FILE. Nothing is changed; beside DIR there
    must be room for two stores while it runs.
    """
    folder = log_folder(directory)
    begin = source or _newest_snapshot(folder.parent / "snapshots", until)
    if begin is None:
        typer.echo("synap: there is no snapshot to begin with; name one, or a backup, by --from")
        raise typer.Exit(EXIT_FAILED)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".replay-") as work:
        now_ms, target = time.time_ns() // 1_000_000, Target(offset=until)
        restored = restore(begin, Path(work, "data"), now_ms=now_ms, wal_dir=folder, target=target)
        if restored.divided is not None:
            first, last = restored.divided
            typer.echo(
                f"synap: offset {until} lies inside one write of entries {first} to {last}, and no "
                "node ever stood there", err=True,
            )  # fmt: skip
            raise typer.Exit(EXIT_FAILED)
        image, _ = snapshots(restored.data_dir / "snapshots")[0]
        facts, digest = digest_image(image)
    typer.echo(f"{digest}  offset {restored.offset}  {facts.keys} keys")


def _newest_snapshot(folder: Path, until: int | None) -> Path | None:
    for path, manifest in snapshots(folder):
        if until is None or manifest.position.offset <= until:
            return path
    return None


@wal_app.command("repair")
def repair_command(
    directory: LogFolder,
    yes: Annotated[bool, typer.Option("--yes", help="Do it without asking.")] = False,
) -> None:
    """Make a damaged log one that the node starts from; shows what would go, and asks first.

    Nothing is deleted: what is removed is kept in DIR/removed-<time>. Where a snapshot or the live
    store of the data directory makes up for the damage, nothing is lost. Refused while a node runs.
    Exits with 1 where there is no log.
    """
    directory = log_folder(directory)
    with Repair(directory) as repair:
        plan = repair.plan
        if plan is None:
            typer.echo(f"{directory} is sound; there is nothing to repair")
            return
        for line in _plan_lines(plan):
            typer.echo(line)
        if not yes:
            typer.confirm("Do it?", abort=True)
        name = time.strftime("removed-%Y%m%dT%H%M%SZ", time.gmtime())
        folder = repair.carry_out(name, time.time_ns() // 1_000_000)
        typer.echo(f"done; what was removed is in {folder}")


@store_app.command("rebuild")
def rebuild_command(
    data_dir: Annotated[Path, typer.Option("--data-dir", metavar="DIR", help="Of the node.")],
) -> None:
    """Have the node rebuild its live store at its next start, from snapshot and log.

    Refused while the node runs, and where snapshot and log would not lead to a whole state. The
    node then begins a new epoch.
    """
    rebuild = rebuild_store(data_dir)
    for fault in rebuild.faults:
        typer.echo(f"not used: {fault}")
    begin = rebuild.snapshot.name if rebuild.snapshot else "the log's first entry"
    end = max(rebuild.base.offset, rebuild.log.position.offset)
    typer.echo(
        f"the next start rebuilds the store in {data_dir} from {begin} up to offset {end}"
        + ("" if rebuild.had_store else "; it would have so already")
    )


def _filter(keys: list[str], prefix: str | None) -> Callable[[Entry], bool]:
    """Return what tells the entries that change such keys; all where none are named."""
    if not keys and prefix is None:
        return lambda _: True
    names = {each.encode() for each in keys}
    begin = None if prefix is None else prefix.encode()

    def is_wanted(entry: Entry) -> bool:
        if entry.operation == FLUSH:
            return True
        is_named = entry.key in names or (begin is not None and entry.key.startswith(begin))
        return entry.space == KEYS and entry.operation != MARK and is_named

    return is_wanted


def _report_lines(report: LogReport) -> list[str]:
    lines = []
    for seen in report.segments:
        span = f"{seen.first_offset} to {seen.last_offset}" if seen.frames else "no entries"
        epoch = f"epoch {seen.header.epoch}, " if seen.header is not None else ""
        times = (
            f", {shown_time(seen.first_time_ms)} to {shown_time(seen.last_time_ms)}"
            if seen.frames
            else ""
        )
        lines.append(
            f"{seen.path.name}: {epoch}{seen.frames} frames, {seen.entries} entries, {span}, "
            f"{seen.size} bytes{times}"
        )
    lines += [f"{path.name}: not read" for path in report.unread]
    lines.append(
        f"{len(report.segments) + len(report.unread)} segments, {report.frames} frames, "
        f"{report.entries} entries, log ends at {report.position}"
    )
    lines.append(words_for(report.bad) or "sound")
    return lines


def _report_json(report: LogReport) -> str:
    document = {
        "sound": report.bad is None,
        "position": str(report.position),
        "frames": report.frames,
        "entries": report.entries,
        "segments": [_segment_document(report, index) for index in range(len(report.segments))],
        "not_read": [path.name for path in report.unread],
        "bad_place": None if report.bad is None else _bad_document(report.bad),
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=2).decode()


def _segment_document(report: LogReport, index: int) -> dict[str, object]:
    seen = report.segments[index]
    document = msgspec.structs.asdict(seen)
    header = document.pop("header")
    document["path"] = seen.path.name
    document["epoch"] = None if header is None else header.epoch
    document["history"] = None if header is None else header.history.hex()
    return document


def _bad_document(bad: BadPlace) -> dict[str, object]:
    return msgspec.structs.asdict(bad) | {"path": bad.path.name}


def _frame_line(each: Walked) -> str:
    frame = each.frame
    return (
        f"frame {frame.position}, {frame.count} entries from {frame.first_offset}, "
        f"{len(frame.encoded)} bytes, {shown_time(frame.time_ms)}"
    )


def _entry_line(each: Walked, offset: int, entry: Entry, *, values: bool) -> str:
    words = [f"  {offset}", _operation(entry)]
    if entry.key:
        words.append(_key(entry))
    if entry.operation == DEL and entry.cause:
        words.append(_cause(entry))
    if entry.operation == SET:
        words.append(f"{len(entry.value)} bytes")
        if entry.expiry_ms:
            words.append(f"until {shown_time(entry.expiry_ms)}")
        if values and entry.space == KEYS:
            words.append(_text(entry.value))
    return " ".join(words)


def _entry_json(each: Walked, offset: int, entry: Entry, *, values: bool) -> str:
    document: dict[str, object] = {
        "offset": offset,
        "epoch": each.frame.epoch,
        "time_ms": each.frame.time_ms,
        "frame": each.frame.first_offset,
        "operation": _OPERATIONS[entry.operation],
        "space": _SPACES.get(entry.space, "keys"),
        "key": _key_text(entry),
        "value_bytes": len(entry.value),
        "expiry_ms": entry.expiry_ms or None,
    }
    if entry.operation == DEL:
        document["cause"] = _cause(entry)
    if entry.space == REQUESTS:
        document["caller"] = entry.key[:SCOPE_BYTES].hex()
    if values and entry.space == KEYS:
        document["value"] = entry.value.decode("utf-8", "backslashreplace")
    return msgspec.json.encode(document).decode()


def _operation(entry: Entry) -> str:
    name = _OPERATIONS[entry.operation]
    return f"{name} {_BESIDE[entry.space]}" if entry.space in _BESIDE else name


def _key(entry: Entry) -> str:
    return ascii(_key_text(entry))


def _key_text(entry: Entry) -> str:
    """Return an entry's key; of a request's record what its client calls it."""
    if entry.space == REQUESTS and entry.key:
        return shown_key(entry.key)
    return entry.key.decode("utf-8", "backslashreplace")


def _cause(entry: Entry) -> str:
    return _CAUSES.get(entry.cause, str(entry.cause))


def _text(raw: bytes) -> str:
    """Return text that a terminal takes for nothing but text."""
    return ascii(raw.decode("utf-8", "backslashreplace"))


def _plan_lines(plan: RepairPlan) -> list[str]:
    lines = [
        f"{plan.directory} is {words_for(plan.bad)}",
        f"sound up to offset {plan.sound_offset}",
    ]
    if plan.takes_snapshot:
        assert plan.cover is not None
        lines.append(f"a snapshot of the live store would be taken, at offset {plan.cover.offset}")
    elif plan.cover is not None:
        lines.append(f"the snapshot of offset {plan.cover.offset} makes up for the damage")
    if plan.cut is not None:
        lines.append(f"{plan.cut.name} would be cut to {plan.keep_bytes} bytes; the rest is kept")
    lines += [f"{path.name} would be moved aside" for path in plan.moved]
    if plan.rebuilds:
        lines.append("the node's next start would rebuild the live store, and begin a new epoch")
    if plan.lost_after is None:
        lines.append("no entry would be lost")
    else:
        lines.append(f"every entry after offset {plan.lost_after} would be lost on this node")
    return lines
