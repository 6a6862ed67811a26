"""What is built: the client alone, which needs nothing of the server."""

from __future__ import annotations

import ast
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "synap_client"
_IMPURE = {"asyncio", "httpx", "logging", "os", "random", "socket", "threading", "time"}


def imported_by(module: Path) -> set[str]:
    """Return the first words of what a module imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(str(node.module).partition(".")[0])
    return names


def test_client_imports_httpx_and_the_standard_library_alone() -> None:
    imported = set().union(*map(imported_by, PACKAGE.rglob("*.py")))
    assert imported - sys.stdlib_module_names == {"synap_client", "httpx"}


def test_rules_import_no_socket_clock_or_chance() -> None:
    pure = [*PACKAGE.glob("rules/*.py"), PACKAGE / "watching.py"]
    assert set().union(*map(imported_by, pure)) & _IMPURE == set()


def test_build_makes_a_wheel_of_the_package_and_no_more(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", str(ROOT)]
    done = subprocess.run(
        [*build, "--outdir", str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = tmp_path.glob("synap_client-*-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as packed:
        names = packed.namelist()
        (metadata,) = (name for name in names if name.endswith("METADATA"))
        needs = [line for line in packed.read(metadata).decode().splitlines() if "Dist:" in line]
    assert needs == ["Requires-Dist: httpx<1,>=0.27"]
    files = {str(file.relative_to(ROOT)) for file in PACKAGE.rglob("*.py")}
    assert {name for name in names if ".dist-info/" not in name} == {
        *files, "synap_client/py.typed"
    }  # fmt: skip
