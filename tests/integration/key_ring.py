"""The CURVE keys of a test's nodes."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from synap.config.keys import Config
from synap.config.loading import load_config
from workers.cli.app import app


class KeyRing:
    """Key files of several nodes in one folder, made by `synap keygen`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.public: dict[str, str] = {}

    def file(self, name: str) -> Path:
        path = self._folder / f"{name}.key"
        if name not in self.public:
            result = CliRunner().invoke(app, ["keygen", "--secret-key-file", str(path)])
            assert result.exit_code == 0, result.output
            self.public[name] = result.stdout.strip()
        return path

    def settings(self, name: str, servers: str, allowed: str) -> dict[str, object]:
        """Return what the node `name` is configured with; the others are named, by spaces."""
        for other in [*servers.split(), *allowed.split()]:
            self.file(other)
        return {
            "replication__curve__enabled": True,
            "replication__curve__secret_key_file": str(self.file(name)),
            "replication__curve__server_key": [self.public[each] for each in servers.split()],
            "replication__curve__allowed_keys": [self.public[each] for each in allowed.split()],
        }

    def config(self, name: str, **changed: object) -> Config:
        settings = {**self.settings(name, name, name), **changed}
        return load_config(None, {key.replace("__", "."): v for key, v in settings.items()}, {})
