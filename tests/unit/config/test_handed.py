"""The configuration that a supervisor hands to its children."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from synap.config.handed import config_of_environment, hand_over
from synap.config.keys import Config, RolePermission
from synap.config.loading import load_config
from synap.config.variables import FILE_VARIABLE, HANDED_VARIABLE

# What a node runs all the time, or starts often.
PROCESSES = ["workers.writer", "workers.replica", "workers.snapshot", "synap.http.api.app"]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "node.yaml"
    file.write_text(
        "server: {port: 16000, cors_origins: [http://a.example]}\ndata_dir: /srv\n"
        "replication: {role: replica, master_address: 'master:1'}\n"
        "auth: {roles: {reporter: [{resource: 'kv:a*', action: read}]}}\n"
    )
    return file


def handed(file: Path) -> dict[str, str]:
    """Return the environment that hands what the file says."""
    environ = {FILE_VARIABLE: str(file)}
    hand_over(load_config(file), file, environ)
    return environ


def test_handed_config_has_every_value_and_what_follows_from_them(file: Path) -> None:
    config, taken = load_config(file), config_of_environment(handed(file))
    assert taken == config
    assert isinstance(taken, Config)
    assert taken.auth.roles["reporter"] == (RolePermission("kv:a*", "read"),)


def test_config_of_environment_reads_a_file_that_changed_since(file: Path) -> None:
    environ = handed(file)
    file.write_text("server: {port: 16001}\n")
    assert config_of_environment(environ).server.port == 16001
    file.unlink()
    environ.pop(FILE_VARIABLE)
    assert config_of_environment(environ).server.port == 15500


def test_config_of_environment_reads_by_itself_what_other_code_has_handed(file: Path) -> None:
    environ = handed(file)
    other = b'[[["/other/keys.py",1,2,3]],{"server":{"was":"renamed"}},{}]'
    descriptor = int(environ[HANDED_VARIABLE])
    os.truncate(descriptor, len(other))
    os.pwrite(descriptor, other, 0)
    assert config_of_environment(environ) == load_config(file)


@pytest.mark.parametrize("module", PROCESSES)
def test_process_of_a_node_starts_without_what_only_checks_and_shows(module: str) -> None:
    wanted = {"pydantic", "yaml", "typer", "rich"}
    code = f"import sys, json, {module}; print(json.dumps(sorted(sys.modules)))"
    environ = {**os.environ, "PYTHONPATH": os.getcwd()}
    command = [sys.executable, "-P", "-c", code]
    told = subprocess.run(command, env=environ, capture_output=True, check=True, timeout=30)
    assert wanted & set(json.loads(told.stdout)) == set()


def test_handed_secret_is_in_no_representation_and_read_again_where_its_file_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "password"
    file.write_text("correct horse")
    monkeypatch.setenv("SYNAP_AUTH_ROOT_PASSWORD_FILE", str(file))
    environ = dict(os.environ)
    hand_over(load_config(None), None, environ)
    password = config_of_environment(environ).auth.root.password
    assert password is not None
    assert password.get_secret_value() == "correct horse"
    assert "correct" not in repr(password) + str(password)
    file.write_text("another horse, longer")
    password = config_of_environment(environ).auth.root.password
    assert password is not None
    assert password.get_secret_value() == "another horse, longer"


def test_handed_environment_has_no_secret_and_they_count_where_the_file_changed(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = {
        "SYNAP_AUTH_ROOT_PASSWORD": "correct horse",
        "SYNAP_PASSWORD": "x",
        "SYNAP_API_KEY": "y",
    }
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    environ = {**os.environ, FILE_VARIABLE: str(file)}
    hand_over(load_config(file), file, environ)
    assert not secrets.keys() & environ.keys()
    for port in (16000, 16001):
        file.write_text(f"server: {{port: {port}}}\n")
        config = config_of_environment(environ)
        assert config.server.port == port
        assert config.auth.root.password is not None
        assert config.auth.root.password.get_secret_value() == "correct horse"


def test_handed_number_of_another_file_is_not_read(file: Path) -> None:
    with file.open() as other:
        environ = {FILE_VARIABLE: str(file), HANDED_VARIABLE: str(other.fileno())}
        assert config_of_environment(environ).server.port == 16000
