"""The layers: what each module may import, walked with `ast`."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Collection
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]

# From the bottom up: a module may import its own layer and those above it in this table, and no
# cycle joins packages. A name stands for a module, or for a package with all that is in it.
LAYERS = (
    (
        "leaf",
        (
            "synap.errors",
            "synap.request_errors",
            "synap.addresses",
            "synap.shares",
            "synap.disk",
            "synap.position",
            "synap.place",
            "synap.frame",
            "synap.sealed",
            "synap.config",
            "synap.tls",
            "synap.login_environment",
            "synap.nearest",
            "synap.slots",
        ),
    ),
    ("rules", ("synap.commands", "synap.auth", "synap.replication.rules", "synap.failover.rules")),
    ("files", ("synap.wal", "synap.store", "synap.snapshot", "synap.shared", "synap.eviction")),
    ("node", ("synap.node", "synap.backup", "synap.repair")),
    ("channels", ("synap.ipc", "synap.replication.transport")),
    (
        "engines",
        ("synap.owner", "synap.writer", "synap.replication", "synap.failover", "synap.watch"),
    ),
    ("service", ("synap.service",)),
    ("http", ("synap.http.server", "synap.http.vendor", "synap.http.api")),
    ("process", ("workers", "gunicorn.conf")),
)
IMPURE = {"lmdb", "zmq", "falcon", "asyncio", "socket", "time", "os", "logging"}
# Leaves that are as pure as the rules.
PURE_LEAVES = {
    "synap.position", "synap.place", "synap.frame", "synap.sealed", "synap.shares",
    "synap.nearest", "synap.slots",
}  # fmt: skip
# Each library and the only modules that may import it.
HOMES = {
    "lmdb": ("synap.store",),
    "zmq": ("synap.replication.transport",),
    "falcon": ("synap.http.api",),
    "httptools": ("synap.http.server",),
    "orjson": ("synap.http", "synap.commands.values"),
    "pydantic": ("synap.config",),
    "pydantic_core": ("synap.config",),
    "pydantic_settings": ("synap.config",),
    "annotated_types": ("synap.config",),
    "yaml": ("synap.config",),
    "gunicorn": ("synap.http.server", "workers.gunicorn_logger", "gunicorn.conf"),
    "uvloop": ("synap.http.server", "workers."),
    "opentelemetry": ("synap.http.api.spans",),
    "prometheus_client": ("synap.http.api.endpoints",),
    "typer": ("workers.cli",),
    "prompt_toolkit": ("workers.cli.shell_prompt",),
    "rich": ("workers.cli", "workers.cluster"),
    "zstandard": ("synap.snapshot", "synap.frame"),
    "msgspec": ("synap", "workers.cli.", "workers.log_output"),
}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def modules() -> dict[str, Path]:
    paths = [ROOT / "gunicorn.conf.py", *ROOT.glob("synap/**/*.py"), *ROOT.glob("workers/**/*.py")]
    return {module_name(path): path for path in sorted(paths)}


MODULES = modules()
ROOTS = {"synap", "synap.http"}


@cache
def tree_of(module: str) -> ast.Module:
    # Not at import: each of xdist's processes imports this, and one runs the tests.
    path = MODULES[module]
    return ast.parse(path.read_text(), str(path))


def faults(
    look: Callable[[str], set[str]], modules: Collection[str] = MODULES
) -> dict[str, set[str]]:
    """Return what `look` finds, by module, where it finds anything."""
    assert modules
    return {module: found for module in modules if (found := look(module))}


def imported_names(node: ast.AST) -> list[str]:
    """Return the modules that one import statement names, own ones down to the module."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module:
        inner = [f"{node.module}.{alias.name}" for alias in node.names]
        return [name if name in MODULES else node.module for name in inner]
    return []


@cache
def imports_of(module: str) -> frozenset[str]:
    return frozenset(name for node in ast.walk(tree_of(module)) for name in imported_names(node))


def is_in(module: str, name: str) -> bool:
    return module == name or module.startswith(f"{name}.")


def place(module: str) -> tuple[int, str]:
    """Return the number of a module's layer and the name there that it belongs to, the longest."""
    fitting = [
        (len(name), number, name)
        for number, (_, names) in enumerate(LAYERS)
        for name in names
        if is_in(module, name)
    ]
    assert fitting, f"no layer has {module}: add its package to LAYERS"
    _, number, name = max(fitting)
    return number, name


def is_pure(module: str) -> bool:
    return module in PURE_LEAVES or LAYERS[place(module)[0]][0] == "rules"


def own_imports(module: str) -> set[str]:
    return {name for name in imports_of(module) if name in MODULES and name != module}


def ends_of(needs: dict[str, set[str]]) -> set[str]:
    """Return what is left when everything is taken away that needs nothing that is left."""
    remaining = {name: set(wanted) for name, wanted in needs.items()}
    while free := [name for name, wanted in remaining.items() if not wanted & remaining.keys()]:
        for name in free:
            del remaining[name]
    return set(remaining)


# Roots hold a version and a map, and import nothing.
PACKAGE_MODULES = [name for name in MODULES if name not in ROOTS]


def test_roots_import_nothing_of_their_own() -> None:
    assert faults(own_imports, ROOTS) == {}


def test_imports_point_down_only() -> None:
    def above(module: str) -> set[str]:
        mine, _ = place(module)
        return {name for name in own_imports(module) - ROOTS if place(name)[0] > mine}

    assert faults(above, PACKAGE_MODULES) == {}


def test_imports_make_no_cycle_between_modules() -> None:
    assert ends_of({name: own_imports(name) - ROOTS for name in PACKAGE_MODULES}) == set()


def test_imports_make_no_cycle_between_packages() -> None:
    needs: dict[str, set[str]] = {}
    for module in PACKAGE_MODULES:
        _, package = place(module)
        wanted = {place(name)[1] for name in own_imports(module) - ROOTS}
        needs.setdefault(package, set()).update(wanted - {package})
    assert ends_of(needs) == set()


def test_api_is_known_to_no_server() -> None:
    servers = [name for name in MODULES if is_in(name, "synap.http.server")]
    assert servers
    assert [
        name for name in servers if any(is_in(n, "synap.http.api") for n in own_imports(name))
    ] == []


def test_no_name_of_a_layer_stands_for_nothing() -> None:
    names = {name for _, layer in LAYERS for name in layer}
    assert names == {place(module)[1] for module in PACKAGE_MODULES}


def test_imports_stand_outside_functions() -> None:
    functions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)

    def inside(module: str) -> set[str]:
        return {
            f"line {inner.lineno}"
            for body in ast.walk(tree_of(module))
            if isinstance(body, functions)
            for inner in ast.walk(body)
            if isinstance(inner, ast.Import | ast.ImportFrom)
        }

    assert faults(inside) == {}


def test_pure_modules_import_nothing_impure() -> None:
    def impure(module: str) -> set[str]:
        return {name.partition(".")[0] for name in imports_of(module)} & IMPURE

    assert faults(impure, [name for name in PACKAGE_MODULES if is_pure(name)]) == {}


def test_library_is_imported_in_its_one_place() -> None:
    def strays(module: str) -> set[str]:
        libraries = {name.partition(".")[0] for name in imports_of(module)}
        libraries -= sys.stdlib_module_names | {"synap", "workers"}
        return {name for name in libraries if not module.startswith(HOMES.get(name, ()))}

    assert faults(strays) == {}


def test_map_of_a_folder_names_what_is_in_it() -> None:
    """The docstring of each folder's `__init__` has a word for every module and folder there."""

    def unnamed(module: str) -> set[str]:
        folder, _, name = module.rpartition(".")
        if module == "gunicorn.conf" or folder in {"", "synap", "workers"}:
            return set()
        told = ast.get_docstring(tree_of(folder)) or ""
        return set() if re.search(rf"\b{name}\b", told) else {f"not in {folder}/__init__.py"}

    assert faults(unnamed) == {}


def test_only_processes_configure_log_handlers() -> None:
    configured = [
        module
        for module in MODULES
        if module.startswith("synap")
        for node in ast.walk(tree_of(module))
        if isinstance(node, ast.Attribute)
        and node.attr in ("basicConfig", "addHandler", "setLevel")
    ]
    assert configured == []
