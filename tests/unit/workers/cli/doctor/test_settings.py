"""What a configuration leaves open, and variables of the environment that nothing reads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from synap.config.loading import load_config
from workers.cli.doctor.findings import Level
from workers.cli.doctor.settings import configuration, setting_findings, variable_findings

REMOTE = {"server.host": "0.0.0.0"}
OPEN = {"replication.role": "master", "replication.replica_listen_address": "0.0.0.0:15501"}


def told_of(settings: Mapping[str, object]) -> str:
    found = setting_findings(load_config(None, settings, {}))
    return "\n".join(each.sentence for each in found)


def test_misspelt_short_variable_is_told_with_the_nearest() -> None:
    (told,) = variable_findings({"SYNAP_PROT": "1", "SYNAP_PORT": "2", "SYNAP_URL": "x"})
    assert (told.about, told.remedy) == ("SYNAP_PROT", "did you mean SYNAP_PORT?")


def test_variable_like_no_other_is_a_note() -> None:
    (told,) = variable_findings({"SYNAP_SERVICE_HOST": "10.0.0.1"})
    assert told.level is Level.NOTE


def test_every_fault_of_a_configuration_is_a_finding() -> None:
    loaded, found = configuration(None, None, {"SYNAP_SERVER__PROT": "1", "SYNAP_SERVR__HOST": "x"})
    assert loaded is None
    assert len(found) == 2
    assert "did you mean SYNAP_SERVER__PORT?" in found[0].what


def test_configuration_that_leaves_nothing_open_has_no_findings() -> None:
    assert told_of({}) == ""


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (REMOTE, "whoever reaches it may do everything"),
        (OPEN, "is served all data"),
        ({"persistence.snapshot.enabled": False}, "the log grows without end"),
        ({"persistence.wal.fsync_mode": "never"}, "half a minute of writes"),
        ({"persistence.enabled": False}, "gone when the node ends"),
    ],
)
def test_setting_that_leaves_something_open_is_told(
    settings: dict[str, object], words: str
) -> None:
    assert words in told_of(settings)


def test_certificate_that_is_none_is_a_fault(tmp_path: Path) -> None:
    for name in ("c.pem", "k.pem"):
        (tmp_path / name).write_text("none")
    tls = {"server.tls.cert_path": tmp_path / "c.pem", "server.tls.key_path": tmp_path / "k.pem"}
    (told,) = setting_findings(load_config(None, tls, {}))
    assert told.level is Level.FAULT
