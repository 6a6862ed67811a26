"""The layers: what each module may import, walked with `ast`."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# From the bottom up; a module may import its own layer and those below, but never in a cycle.
# `package.*` stands for the modules that nothing names more exactly.
LAYERS = (
    (
        "leaf",
        (
            "synap",
            "synap.errors",
            "synap.request_errors",
            "synap.account_limits",
            "synap.addresses",
            "synap.config_keys",
            "synap.config",
            "synap.variables",
            "synap.handed_config",
        ),
    ),
    (
        "pure",
        (
            "synap.position",
            "synap.frame",
            "synap.records",
            "synap.commands",
            "synap.eviction",
            "synap.permissions",
            "synap.accounts",
            "synap.values",
            "synap.snapshot_rule",
            "synap.transactions",
            "synap.replication",
            "synap.replication.*",
        ),
    ),
    ("I/O", ("synap.*", "synap.replication.curve", "synap.replication.handshakes")),
    (
        "engine",
        (
            "synap.recovery",
            "synap.replay",
            "synap.log",
            "synap.snapshotter",
            "synap.owner_series",
            "synap.upkeep",
            "synap.roles",
            "synap.writer",
            "synap.turn",
            "synap.writer_status",
            "synap.replication.catch_up",
            "synap.replication.herald",
            "synap.replication.inquirer",
            "synap.replication.replica_board",
            "synap.replication.sockets",
            "synap.replication.transfers",
            "synap.replication.publisher",
            "synap.replication.snapshot_service",
            "synap.replication.installer",
            "synap.replication.subscriber",
        ),
    ),
    ("http", ("synap.http", "synap.http.*")),
    ("process", ("workers", "workers.*")),
)
IMPURE = {"lmdb", "zmq", "falcon", "asyncio", "socket", "time", "os", "logging"}
# Each library and the only modules that may import it.
HOMES = {
    "lmdb": ("synap.store",),
    "zmq": ("synap.replication.",),
    "falcon": ("synap.http",),
    "httptools": ("synap.http.",),
    "orjson": ("synap.http", "synap.values"),
    "pydantic": ("synap.config",),
    "pydantic_core": ("synap.config",),
    "pydantic_settings": ("synap.config",),
    "annotated_types": ("synap.config",),
    "yaml": ("synap.config",),
    "gunicorn": ("synap.http.worker", "workers.gunicorn_logger", "gunicorn.conf"),
    "uvloop": ("synap.http.worker", "workers."),
    "prometheus_client": ("synap.http.metrics", "synap.http.families"),
    "typer": ("workers.cli",),
    "rich": ("workers.cli", "workers.cluster"),
    "zstandard": ("synap.snapshot",),
    "msgspec": ("synap", "workers.cli_", "workers.logs"),
}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def modules() -> dict[str, ast.Module]:
    paths = [ROOT / "gunicorn.conf.py", *ROOT.glob("synap/**/*.py"), *ROOT.glob("workers/*.py")]
    return {module_name(path): ast.parse(path.read_text(), str(path)) for path in sorted(paths)}


MODULES = modules()


def imported_names(node: ast.AST) -> list[str]:
    """Return the modules that one import statement names, own ones down to the module."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module:
        inner = [f"{node.module}.{alias.name}" for alias in node.names]
        return [name if name in MODULES else node.module for name in inner]
    return []


def imports_of(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        yield from imported_names(node)


def rank(module: str) -> int:
    """Return the number of a module's layer; the longest name or pattern that fits decides."""
    fitting = [
        (len(name), number)
        for number, (_, names) in enumerate(LAYERS)
        for name in names
        if name == module or (name.endswith(".*") and module.startswith(name[:-1]))
    ]
    return max(fitting)[1]


def own_imports(module: str) -> set[str]:
    return {name for name in imports_of(MODULES[module]) if name in MODULES and name != module}


PACKAGE_MODULES = [name for name in MODULES if name != "gunicorn.conf"]


@pytest.mark.parametrize("module", PACKAGE_MODULES)
def test_imports_point_down_only(module: str) -> None:
    upward = {name for name in own_imports(module) if rank(name) > rank(module)}
    assert upward == set()


def test_imports_make_no_cycle() -> None:
    remaining = {name: own_imports(name) - {"synap", "workers"} for name in PACKAGE_MODULES}
    while free := [name for name, needs in remaining.items() if not needs & remaining.keys()]:
        for name in free:
            del remaining[name]
    assert remaining == {}


@pytest.mark.parametrize("module", MODULES)
def test_imports_stand_outside_functions(module: str) -> None:
    functions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
    bodies = [node for node in ast.walk(MODULES[module]) if isinstance(node, functions)]
    inside = [
        inner.lineno
        for body in bodies
        for inner in ast.walk(body)
        if isinstance(inner, ast.Import | ast.ImportFrom)
    ]
    assert inside == []


@pytest.mark.parametrize("module", [name for name in PACKAGE_MODULES if rank(name) == 1])
def test_pure_module_imports_nothing_impure(module: str) -> None:
    found = {name.partition(".")[0] for name in imports_of(MODULES[module])}
    assert found & IMPURE == set()


@pytest.mark.parametrize("module", MODULES)
def test_library_is_imported_in_its_one_place(module: str) -> None:
    libraries = {name.partition(".")[0] for name in imports_of(MODULES[module])}
    libraries -= sys.stdlib_module_names | {"synap", "workers"}
    strays = {name for name in libraries if not module.startswith(HOMES.get(name, ()))}
    assert strays == set()


def test_only_processes_configure_log_handlers() -> None:
    configured = [
        module
        for module, tree in MODULES.items()
        if module.startswith("synap")
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and node.attr in ("basicConfig", "addHandler", "setLevel")
    ]
    assert configured == []
