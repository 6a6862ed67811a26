"""The configuration: layers, faults, and the documentation of its keys."""

from __future__ import annotations

import ast
import inspect
import itertools
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import yaml

from synap.config.keys import Config, Secret, Section
from synap.config.loading import SHORT_NAMES, allowed_values, keys, load_config, render
from synap.config.membership import check_membership
from synap.config.variables import variable_of
from synap.errors import ConfigInvalid

CLUSTER_SECRET = "0123456789abcdef0123456789abcdef"
DOCUMENTATION = Path(__file__).parents[3] / "docs" / "configuration.md"


def load(
    content: dict[str, Any] | None = None,
    overrides: dict[str, Any] | None = None,
    environ: dict[str, str] | None = None,
    *,
    folder: Path | None = None,
) -> Config:
    path = None
    if content is not None:
        assert folder is not None
        path = folder / "node.yaml"
        path.write_text(yaml.safe_dump(content))
    return load_config(path, overrides, environ or {})


def faults_of(*arguments: Any, **options: Any) -> list[str]:
    with pytest.raises(ConfigInvalid) as caught:
        load(*arguments, **options)
    return caught.value.faults


def test_config_without_any_source_has_the_defaults() -> None:
    config = load()
    assert (config.server.host, config.server.port) == ("127.0.0.1", 15500)
    assert config.persistence.wal.fsync_mode == "periodic"
    assert (config.replication.role, config.replication.enabled) == ("standalone", False)


def test_config_file_wins_over_the_default(tmp_path: Path) -> None:
    config = load({"server": {"port": 16000}}, folder=tmp_path)
    assert config.server.port == 16000
    assert config.server.host == "127.0.0.1"


def test_config_environment_wins_over_the_file(tmp_path: Path) -> None:
    content = {"server": {"port": 16000, "host": "127.0.0.1"}}
    config = load(content, environ={"SYNAP_SERVER__PORT": "16001"}, folder=tmp_path)
    assert (config.server.host, config.server.port) == ("127.0.0.1", 16001)


def test_config_command_line_wins_over_the_environment() -> None:
    config = load(None, {"server.port": 16002}, {"SYNAP_SERVER__PORT": "16001"})
    assert config.server.port == 16002


def test_config_long_variable_wins_over_the_short_one() -> None:
    config = load(environ={"SYNAP_PORT": "16001", "SYNAP_SERVER__PORT": "16002"})
    assert config.server.port == 16002


@pytest.mark.parametrize(("variable", "key"), SHORT_NAMES.items())
def test_config_short_variable_sets_its_key(variable: str, key: str) -> None:
    values = {
        "replication.role": "master",
        "server.port": "16001",
        "logging.level": "debug",
        "auth.enabled": "False",
        "auth.require_auth": "False",
        "auth.root.password": "long enough",
        "replication.secret": CLUSTER_SECRET,
        "replication.master_address": "master.example:15501",
    }
    value = values.get(key, "somewhere")
    found: Any = load(environ={variable: value})
    for name in key.split("."):
        found = getattr(found, name)
    assert (found.get_secret_value() if isinstance(found, Secret) else str(found)) == value


def test_config_file_named_by_the_environment_is_read(tmp_path: Path) -> None:
    path = tmp_path / "node.yaml"
    path.write_text("server: {port: 16003}")
    assert load(environ={"SYNAP_CONFIG": str(path)}).server.port == 16003


def test_config_key_without_a_value_keeps_its_default(tmp_path: Path) -> None:
    path = tmp_path / "node.yaml"
    path.write_text("server:\nlogging:\n  level:\n")
    config = load_config(path, None, {})
    assert (config.server.port, config.logging.level) == (15500, "info")


def test_config_list_in_a_variable_is_split_at_commas() -> None:
    config = load(environ={"SYNAP_SERVER__CORS_ORIGINS": "http://a.example, http://b.example"})
    assert config.server.cors_origins == ("http://a.example", "http://b.example")


def test_config_with_several_faults_names_all_at_once(tmp_path: Path) -> None:
    faults = faults_of(
        {
            "server": {"port": 70000},
            "logging": {"format": "xml"},
            "replication": {"role": "replica"},
        },
        None,
        {"SYNAP_SERVER__WORKERS": "none"},
        folder=tmp_path,
    )
    file = tmp_path / "node.yaml"
    assert faults == [
        f"server.port = 70000: allowed is a whole number from 1 to 65535 (from {file})",
        "server.workers = 'none': allowed is a whole number from 1 to 512 "
        "(from the environment, SYNAP_SERVER__WORKERS)",
        "replication.master_address not set: a replica needs its master's PUB socket "
        "as host:port, as in 127.0.0.1:15501",
        f"logging.format = 'xml': allowed is one of json, pretty (from {file})",
    ]


def test_config_unknown_key_suggests_the_nearest(tmp_path: Path) -> None:
    (fault,) = faults_of({"server": {"prot": 1}}, folder=tmp_path)
    assert fault.startswith("server.prot: unknown key; did you mean server.port?")


@pytest.mark.parametrize(
    ("section", "key", "meant"),
    [
        ("persistence", "data_dir", "data_dir"),
        ("server", "min_replicas_to_write", "replication.min_replicas_to_write"),
    ],
)
def test_config_key_of_another_section_suggests_its_own_place(
    tmp_path: Path, section: str, key: str, meant: str
) -> None:
    (fault,) = faults_of({section: {key: 1}}, folder=tmp_path)
    assert fault.startswith(f"{section}.{key}: unknown key; did you mean {meant}?")


def test_config_unknown_section_suggests_the_nearest(tmp_path: Path) -> None:
    (fault,) = faults_of({"replicaton": {"role": "master"}}, folder=tmp_path)
    assert fault.startswith("replicaton: unknown key; did you mean replication?")


def test_config_unknown_override_suggests_the_nearest() -> None:
    (fault,) = faults_of(None, {"kv_store.max_memory": 1})
    assert "did you mean kv_store.max_memory_mb? (from the command line)" in fault


def test_config_unknown_variable_suggests_the_nearest() -> None:
    (fault,) = faults_of(environ={"SYNAP_SERVR__PORT": "1"})
    assert fault.startswith("SYNAP_SERVR__PORT: unknown variable; did you mean SYNAP_SERVER__PORT?")


def test_config_variables_of_other_programs_are_left_alone() -> None:
    assert load(environ={"SYNAP_SERVICE_HOST": "10.0.0.1", "SERVER__PORT": "1"}) == load()


def test_config_wrong_short_variable_is_named_in_the_fault() -> None:
    (fault,) = faults_of(environ={"SYNAP_PORT": "tcp://10.0.0.1:15500"})
    assert fault.endswith("(from the environment, SYNAP_SERVER__PORT or SYNAP_PORT)")


@pytest.mark.parametrize("content", ["[1, 2]", "server: {port: [", "\xff"])
def test_config_unreadable_file_is_one_fault_with_its_path(tmp_path: Path, content: str) -> None:
    path = tmp_path / "node.yaml"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(ConfigInvalid, match=re.escape(str(path))):
        load_config(path, None, {})


def test_config_missing_file_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match="No such file"):
        load_config(tmp_path / "none.yaml", None, {})


@pytest.mark.parametrize("role", ["master", "replica"])
def test_replication_role_turns_it_on(role: str) -> None:
    overrides = {"replication.role": role, "replication.master_address": "127.0.0.1:15501"}
    assert load(None, overrides).replication.enabled


def test_files_of_a_node_that_keeps_nothing_are_a_fault() -> None:
    settings = {"persistence.enabled": False, "persistence.wal.path": "/data/wal/synap.wal"}
    (fault,) = faults_of(None, settings)
    assert "wal.path and snapshot.directory name files that would be kept" in fault


def test_replication_role_against_enabled_false_is_a_fault() -> None:
    (fault,) = faults_of(None, {"replication.role": "master", "replication.enabled": False})
    assert "replication.enabled is false; remove it or set it to true" in fault


def test_replication_addresses_follow_each_other_by_default() -> None:
    addresses = {
        "replication.replica_listen_address": "127.0.0.1:7000",
        "replication.master_address": "[::1]:8000",
    }
    replication = load(None, addresses).replication
    assert replication.sync_listen_address == "127.0.0.1:7001"
    assert replication.master_sync_address == "[::1]:8001"


def test_replication_wrong_address_is_one_fault_alone() -> None:
    (fault,) = faults_of(None, {"replication.replica_listen_address": "nowhere"})
    assert fault.startswith("replication.replica_listen_address = 'nowhere': allowed is host:port")


def test_replication_master_with_a_port_twice_is_a_fault() -> None:
    (fault,) = faults_of(None, {"replication.role": "master", "server.port": 15502})
    assert "replication.sync_listen_address uses port 15502, as server.port does" in fault


@pytest.mark.parametrize(("max_size_mb", "segment_mb"), [(1024, 64), (160, 10), (16, 1), (1, 1)])
def test_wal_segment_is_a_sixteenth_but_at_least_one_mib(max_size_mb: int, segment_mb: int) -> None:
    wal = load(None, {"persistence.wal.max_size_mb": max_size_mb}).persistence.wal
    assert wal.segment_bytes == segment_mb * 1024 * 1024


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ({"cert_path": "c.pem"}, "server.tls.key_path not set: server.tls.cert_path needs its"),
        ({"key_path": "k.pem"}, "it needs server.tls.cert_path beside it"),
        ({"client_ca_path": "a.pem"}, "server.tls.client_ca_path ="),
    ],
)
def test_tls_half_configured_is_a_fault(given: dict[str, str], fault: str, tmp_path: Path) -> None:
    faults = faults_of({"server": {"tls": given}}, folder=tmp_path)
    assert len(faults) == 1
    assert fault in faults[0]


def test_render_can_be_loaded_again(tmp_path: Path) -> None:
    config = load(None, {"replication.role": "master", "data_dir": "/srv/synap"})
    path = tmp_path / "shown.yaml"
    path.write_text(render(config))
    assert render(load_config(path, None, {})) == render(config)


PASSWORD = "SYNAP_AUTH_ROOT_PASSWORD"
LONG_PASSWORD = "SYNAP_AUTH__ROOT__PASSWORD"


@pytest.mark.parametrize("variable", [PASSWORD, LONG_PASSWORD])
def test_secret_is_read_from_the_file_that_its_variable_names(
    tmp_path: Path, variable: str
) -> None:
    file = tmp_path / "password"
    file.write_text("correct horse \n")
    password = load(environ={variable + "_FILE": str(file)}).auth.root.password
    assert password is not None
    assert password.get_secret_value() == "correct horse "


def test_secret_file_that_is_missing_or_beside_the_secret_is_a_fault(tmp_path: Path) -> None:
    missing = str(tmp_path / "none")
    (fault,) = faults_of(environ={PASSWORD + "_FILE": missing})
    assert fault.startswith(f"{PASSWORD}_FILE: {missing} can't be read")
    (fault,) = faults_of(environ={PASSWORD + "_FILE": missing, PASSWORD: "correct horse"})
    assert "both set" in fault


def test_secret_is_shown_by_nothing() -> None:
    config = load(environ={PASSWORD: "correct horse"})
    assert "correct" not in render(config) + repr(config)
    assert "password: '****" in render(config)
    (fault,) = faults_of(environ={PASSWORD: "short", "SYNAP_AUTH_ENABLED": "true"})
    assert fault == (
        "auth.root.password = ***: allowed is text of at least 8 characters (from the environment, "
        f"{LONG_PASSWORD} or {PASSWORD})"
    )


@pytest.mark.parametrize("name", ["SYNAP_REPLICATION__SECRET", "SYNAP_REPLICATION_SECRET"])
def test_secret_of_the_cluster_is_read_from_variable_and_file(tmp_path: Path, name: str) -> None:
    file = tmp_path / "secret"
    file.write_text(CLUSTER_SECRET + "\n")
    for environ in ({name: CLUSTER_SECRET}, {name + "_FILE": str(file)}):
        replication = load(environ=environ).replication
        assert replication.secret is not None
        assert replication.secret.get_secret_value() == CLUSTER_SECRET
        assert replication.proves_membership


def test_secret_of_the_cluster_that_is_short_is_a_fault_which_says_how_to_make_one() -> None:
    (fault,) = faults_of(environ={"SYNAP_REPLICATION__SECRET": CLUSTER_SECRET[1:]})
    assert fault.startswith("replication.secret = ***: allowed is text of at least 32 characters")
    assert "`openssl rand -hex 32`" in fault


def test_secret_of_the_cluster_and_a_key_for_each_node_are_a_fault() -> None:
    key = "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7"
    curve = {"enabled": True, "secret_key_file": "/k", "server_key": [key], "allowed_keys": [key]}
    values = {f"replication.curve.{name}": value for name, value in curve.items()}
    (fault,) = faults_of(None, {**values, "replication.secret": CLUSTER_SECRET})
    assert fault.startswith("replication.secret and replication.curve.enabled are both set")


@pytest.mark.parametrize(
    ("address", "secret", "is_open"),
    [
        ("127.0.0.1:7000", None, False),
        ("localhost:7000", None, False),
        ("0.0.0.0:7000", None, True),
        ("10.0.0.1:7000", None, True),
        ("some.host:7000", None, True),
        ("0.0.0.0:7000", CLUSTER_SECRET, False),
    ],
)
def test_replication_is_open_beyond_the_loopback_without_a_secret(
    address: str, secret: str | None, is_open: bool
) -> None:
    given = {"replication.replica_listen_address": address, "replication.secret": secret}
    assert load(None, given).replication.is_open is is_open
    assert not load().replication.is_open


def test_membership_is_asked_for_where_clients_need_credentials() -> None:
    opened = {"replication.replica_listen_address": "0.0.0.0:7000"}
    check_membership(load(None, opened))
    asking = {**opened, "auth.enabled": True, "auth.root.password": "correct horse"}
    with pytest.raises(ConfigInvalid, match=r"0\.0\.0\.0:7000 and 0\.0\.0\.0:7001, is served"):
        check_membership(load(None, asking))
    check_membership(load(None, {**asking, "replication.secret": CLUSTER_SECRET}))


def test_auth_without_a_root_password_is_a_fault_that_names_the_fix() -> None:
    (fault,) = faults_of(environ={"SYNAP_AUTH_ENABLED": "true"})
    assert fault.startswith("auth.root.password not set")
    assert "SYNAP_AUTH_ROOT_PASSWORD_FILE" in fault


def test_auth_roles_are_read_and_own_ones_kept(tmp_path: Path) -> None:
    permissions = [{"resource": "kv:report:*", "action": "read"}]
    config = load({"auth": {"roles": {"reporter": permissions}}}, folder=tmp_path)
    (permission,) = config.auth.roles["reporter"]
    assert (permission.resource, permission.action) == ("kv:report:*", "read")
    (fault,) = faults_of({"auth": {"roles": {"admin": permissions}}}, folder=tmp_path)
    assert "Synap's own" in fault
    permissions[0]["action"] = "own"
    (fault,) = faults_of({"auth": {"roles": {"reporter": permissions}}}, folder=tmp_path)
    assert fault.startswith("auth.roles = 'own': allowed is roles")


def test_documentation_lists_every_key_with_default_and_values() -> None:
    rows = re.findall(
        r"^\| `([a-z_.]+)` \| (.*?) \| (.*?) \| (.*?) \|$", DOCUMENTATION.read_text(), re.M
    )
    documented = {key: (words, about) for key, _, words, about in rows}
    descriptions = dict(described())
    expected = {key: (allowed_values(field), descriptions[key]) for key, field in keys()}
    assert documented == expected


def described(section: type[Section] = Config, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield every key with the docstring below it."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(section))).body[0]
    assert isinstance(tree, ast.ClassDef)
    for key, text in itertools.pairwise(tree.body):
        if isinstance(key, ast.AnnAssign) and isinstance(text, ast.Expr):
            yield prefix + ast.unparse(key.target), ast.literal_eval(text.value)
    for name, kind in get_type_hints(section).items():
        if isinstance(kind, type) and issubclass(kind, Section):
            yield from described(kind, f"{prefix}{name}.")


def test_documentation_names_every_default() -> None:
    text = DOCUMENTATION.read_text()
    plain = [
        (key, field.default)
        for key, field in keys()
        if field.default_factory is None and isinstance(field.default, str | int)
    ]
    missing = [
        key
        for key, default in plain
        if f"| `{key}` | `{str(default).lower() if isinstance(default, bool) else default}` |"
        not in text
    ]
    assert missing == []


def test_variable_of_a_nested_key_has_all_sections() -> None:
    assert variable_of("persistence.wal.fsync_mode") == "SYNAP_PERSISTENCE__WAL__FSYNC_MODE"


# Of nobody: made for these tests.
KEYS = ("rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7", "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID")


def test_curve_without_its_keys_names_each_that_is_missing() -> None:
    faults = faults_of(None, {"replication.curve.enabled": True})
    assert [fault.partition(" not set: encryption needs")[0] for fault in faults] == [
        "replication.curve.secret_key_file",
        "replication.curve.server_key",
        "replication.curve.allowed_keys",
    ]


def test_curve_keys_are_one_text_or_a_list_from_any_source(tmp_path: Path) -> None:
    curve = {"server_key": KEYS[0], "allowed_keys": list(KEYS)}
    found = load({"replication": {"curve": curve}}, folder=tmp_path).replication.curve
    assert (found.server_key, found.allowed_keys) == (KEYS[:1], KEYS)
    found = load(environ={"SYNAP_REPLICATION__CURVE__ALLOWED_KEYS": ",".join(KEYS)})
    assert found.replication.curve.allowed_keys == KEYS
    found = load(None, {"replication.curve.server_key": ",".join(KEYS)})
    assert found.replication.curve.server_key == KEYS


@pytest.mark.parametrize("key", [KEYS[0][:-1], KEYS[0] + "0", '"' + KEYS[0][1:], "#" * 40, "", "é"])
def test_curve_key_that_is_none_is_a_fault_with_its_field(key: str) -> None:
    (fault,) = faults_of(None, {"replication.curve.allowed_keys": [KEYS[1], key]})
    assert fault.startswith("replication.curve.allowed_keys = ")
    assert "allowed is a list of public keys of 40 characters (Z85)" in fault
    (fault,) = faults_of(None, {"replication.curve.public_key": key})
    assert fault.startswith("replication.curve.public_key = ")


def test_ack_timeout_that_a_worker_does_not_wait_for_is_a_fault() -> None:
    late = {"replication.role": "master", "replication.ack_timeout_ms": 5000}
    (fault,) = faults_of(None, late)
    assert fault.startswith("replication.ack_timeout_ms = 5000: must be below server.write_timeout")
    assert load(None, {**late, "server.write_timeout_ms": 5001}).replication.ack_timeout_ms == 5000


def test_reads_that_wait_for_no_replicas_are_a_fault() -> None:
    (fault,) = faults_of(None, {"replication.read_held": True})
    assert "min_replicas_to_write replicas, which is 0" in fault


def test_empty_variable_is_as_one_that_is_not_set(tmp_path: Path) -> None:
    environ = {"SYNAP_MASTER_ADDRESS": "", "SYNAP_SERVER__PORT": "", "SYNAP_AUTH_ROOT_PASSWORD": ""}
    assert load_config(None, {}, environ) == load_config(None, {}, {})


@pytest.mark.parametrize(("enabled", "is_fault"), [("false", False), ("0", False), ("true", True)])
def test_short_root_password_is_a_fault_only_where_somebody_logs_in(
    enabled: str, is_fault: bool
) -> None:
    environ = {"SYNAP_AUTH_ENABLED": enabled, "SYNAP_AUTH_ROOT_PASSWORD": "root"}
    if is_fault:
        with pytest.raises(ConfigInvalid, match=r"auth\.root\.password"):
            load_config(None, {}, environ)
    else:
        assert load_config(None, {}, environ).auth.root.password is None
