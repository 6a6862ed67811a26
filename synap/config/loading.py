"""The configuration of a node: its keys, their defaults, and where their values come from.

A value on the command line wins over one in the environment, that over the file, and that over the
default. `load_config` is the only reader of the three; everything below it is handed a frozen
`Config`. Every fault is found in one go and named with its key, its value, what is allowed and
where it was set. `docs/configuration.md` lists the same keys for operators.

A variable of the environment is SYNAP_<SECTION>__<KEY>, with one more `__` for each level; the few
short names in `SHORT_NAMES` mean the same as the long ones, which win over them. A variable of a
secret with _FILE after it names a file that holds the secret. No message shows a secret.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, cast, get_args, get_origin

import yaml
from annotated_types import Ge, Le
from pydantic import BaseModel, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from synap.addresses import split_address
from synap.config.account_limits import MIN_PASSWORD_CHARACTERS
from synap.config.checks import CONTRADICTION, model_of, values_of
from synap.config.failover import lease_margin
from synap.config.keys import Allowed, Config, Replication
from synap.config.variables import (
    FILE_VARIABLE,
    OTHER_VARIABLES,
    PREFIX,
    SECRET_FILE_SUFFIX,
    variable_of,
)
from synap.config.yaml_file import read_yaml
from synap.errors import ConfigInvalid
from synap.nearest import nearest_name
from synap.slots import owners_of

ENVIRONMENT = "the environment"
# Characters of a value that a message about its fault shows.
_MAX_SHOWN = 200
# Of a label of Kubernetes, less what is put before and behind it.
_LEASE_NAME = "[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?"
# How a file, a variable or --set turns something off.
_OFF = ("false", "0", "no", "off", "f", "n")
SHORT_NAMES = {
    "SYNAP_ROLE": "replication.role",
    "SYNAP_MASTER_ADDRESS": "replication.master_address",
    "SYNAP_REPLICATION_SECRET": "replication.secret",
    "SYNAP_HOST": "server.host",
    "SYNAP_PORT": "server.port",
    "SYNAP_DATA_DIR": "data_dir",
    "SYNAP_LOG_LEVEL": "logging.level",
    "SYNAP_AUTH_ENABLED": "auth.enabled",
    "SYNAP_AUTH_REQUIRE_AUTH": "auth.require_auth",
    "SYNAP_AUTH_ROOT_USERNAME": "auth.root.username",
    "SYNAP_AUTH_ROOT_PASSWORD": "auth.root.password",
}


class _Sources(BaseSettings):
    """What the whole configuration's model is derived from.

    It reads nothing by itself: `load_config` puts the layers together.
    """

    model_config = SettingsConfigDict(
        extra="forbid", frozen=True, env_prefix=PREFIX, env_nested_delimiter="__"
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take only what the constructor is given."""
        return (init_settings,)


_MODEL = cast(type[_Sources], model_of(Config, _Sources))


def load_config(
    path: Path | None,
    overrides: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Config:
    """Read the configuration from its three sources.

    Args:
        path: The YAML file; None for the one that SYNAP_CONFIG names, if any.
        overrides: The command line's values by dotted key, as `{"server.port": 15500}`.
        environ: The environment.

    Raises:
        ConfigInvalid: With every fault of every source, each one a line.
    """
    # Compose files and units hand over what nobody has filled in.
    environ = {name: value for name, value in environ.items() if value}
    if path is None and environ.get(FILE_VARIABLE):
        path = Path(environ[FILE_VARIABLE])
    layers = {
        "the command line": _nested(overrides or {}),
        ENVIRONMENT: _environment_values(environ),
        str(path): _file_values(path),
    }
    values: dict[str, Any] = {}
    for layer in reversed(layers.values()):
        _merge(values, layer)
    _stand_in_for_the_master(values)
    _drop_idle_password(values)
    faults = _unknown_variables(environ)
    try:
        config = values_of(_MODEL(**values))
    except ValidationError as error:
        faults += [_describe(details, layers) for details in _reported(error)]
        raise ConfigInvalid(faults) from error
    faults += [*_shared_ports(config), *_late_quorum(config), *_missing_password(config)]
    faults += [*_two_memberships(config), *_failover_faults(config), *_slot_faults(config)]
    if faults:
        raise ConfigInvalid(faults)
    return config


def keys(section: type[BaseModel] = _MODEL, prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Yield every key with its field, in the order of the sections, as `server.port`."""
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from keys(field.annotation, f"{prefix}{name}.")
        else:
            yield prefix + name, field


def allowed_values(field: FieldInfo) -> str:
    """Say in words what may be given for `field`."""
    kinds = [kind for kind in get_args(field.annotation) if kind is not type(None)]
    metadata = [*(m for k in kinds for m in getattr(k, "__metadata__", ())), *field.metadata]
    limits = {type(limit): limit for limit in metadata}
    if Allowed in limits:
        return str(limits[Allowed].words)
    if get_origin(field.annotation) is Literal:
        return "one of " + ", ".join(map(str, kinds))
    if _is_secret(field):
        return f"text of at least {MIN_PASSWORD_CHARACTERS} characters"
    if field.annotation is bool:
        return "true or false"
    if field.annotation is int:
        return f"a whole number from {limits[Ge].ge} to {limits[Le].le}"
    return "a path" if Path in (field.annotation, *kinds) else "text that is not empty"


def render(config: Config) -> str:
    """Return the effective values as YAML."""
    return yaml.safe_dump(config.shown(), sort_keys=False)


def secrets() -> list[str]:
    """Return the keys whose values nobody is to see."""
    return [key for key, field in keys() if _is_secret(field)]


def _is_secret(field: FieldInfo) -> bool:
    kinds = (field.annotation, *get_args(field.annotation))
    return any(getattr(kind, "__origin__", kind) is SecretStr for kind in kinds)


def _environment_values(environ: Mapping[str, str]) -> dict[str, Any]:
    environ = {**environ, **_secrets_from_files(environ)}
    named = {
        variable_of(key): environ[short] for short, key in SHORT_NAMES.items() if short in environ
    }
    known = {variable_of(key) for key, _ in keys()}
    named.update({name: environ[name] for name in known & environ.keys()})
    source = EnvSettingsSource(_MODEL)
    source.env_vars = {name.lower(): value for name, value in named.items()}
    return source()


def _secrets_from_files(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the secrets that files hold, by the variables that they are given for."""
    found = {}
    for variable in secret_variables():
        path = environ.get(variable + SECRET_FILE_SUFFIX)
        if not path:
            continue
        if variable in environ:
            raise ConfigInvalid(
                [f"{variable} and {variable}{SECRET_FILE_SUFFIX} are both set; unset one"]
            )
        try:
            found[variable] = Path(path).read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigInvalid(
                [f"{variable}{SECRET_FILE_SUFFIX}: {path} can't be read: {error}"]
            ) from error
    return found


def secret_variables() -> list[str]:
    """Return the variables of the environment that hold a secret."""
    hidden = secrets()
    short = [variable for variable, key in SHORT_NAMES.items() if key in hidden]
    return [*map(variable_of, hidden), *short]


def _file_values(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        values = read_yaml(path) or {}
    except (OSError, ValueError) as error:
        raise ConfigInvalid([f"{path} can't be read: {error}"]) from error
    if not isinstance(values, dict):
        raise ConfigInvalid([f"{path} must hold keys and values, as in `server: {{port: 15500}}`"])
    return {str(key): value for key, value in values.items()}


def _nested(values: Mapping[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for key, value in values.items():
        *sections, name = key.split(".")
        branch = tree
        for section in sections:
            branch = branch.setdefault(section, {})
        branch[name] = value
    return tree


def _merge(target: dict[str, Any], layer: Mapping[str, Any]) -> None:
    # None is a key without a value in YAML: not set here.
    for key, value in layer.items():
        if isinstance(value, dict) and isinstance(target.get(key, {}), dict):
            _merge(target.setdefault(key, {}), value)
        elif value is not None:
            target[key] = value


def _reported(error: ValidationError) -> Iterator[ErrorDetails]:
    # A default that is made from another key can't be made where that one has a fault of its own.
    for details in error.errors():
        if details["type"] != "default_factory_not_called":
            yield details


def _describe(details: ErrorDetails, layers: Mapping[str, Mapping[str, Any]]) -> str:
    fields = dict(keys())
    key = ".".join(str(part) for part in details["loc"])
    where = _origin(details["loc"], layers)
    if details["type"] == "extra_forbidden":
        sections = {name.rpartition(".")[0] for name in fields} - {""}
        return f"{key}: unknown key{_suggestion(key, [*sections, *fields])}{where}"
    if details["type"] == CONTRADICTION:
        value = (
            "not set" if details["input"] in (None, ()) else f"= {_shown_input(details['input'])}"
        )
        return f"{key} {value}: {details['msg']}{where}"
    while key not in fields and "." in key:
        key = key.rpartition(".")[0]
    allowed = allowed_values(fields[key]) if key in fields else "keys with values"
    if key in fields and _is_secret(fields[key]):
        return f"{key} = ***: allowed is {allowed}{where}"
    return f"{key} = {_shown_input(details['input'])}: allowed is {allowed}{where}"


def _shown_input(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "…"


def _origin(location: tuple[int | str, ...], layers: Mapping[str, Mapping[str, Any]]) -> str:
    for name, layer in layers.items():
        if not _holds(layer, location):
            continue
        if name != ENVIRONMENT:
            return f" (from {name})"
        key = ".".join(str(part) for part in location)
        short = [variable for variable, meant in SHORT_NAMES.items() if meant == key]
        return f" (from {name}, {' or '.join([variable_of(key), *short])})"
    return ""


def _holds(layer: Any, location: tuple[int | str, ...]) -> bool:
    for part in location:
        if not isinstance(layer, Mapping):
            return layer is not None
        if part not in layer:
            return False
        layer = layer[part]
    return layer is not None


def _unknown_variables(environ: Mapping[str, str]) -> list[str]:
    known = [variable_of(key) for key, _ in keys()]
    known += [variable + SECRET_FILE_SUFFIX for variable in secret_variables()]
    return [
        f"{name}: unknown variable{_suggestion(name, known)} (from {ENVIRONMENT})"
        for name in sorted(environ)
        if name.startswith(PREFIX) and "__" in name and name not in known
    ]


def unread_variables(environ: Mapping[str, str]) -> dict[str, str | None]:
    """Return the variables that begin as Synap's do and that nothing reads, with what may be meant.

    Those with two underscores are keys, of which an unknown one is a fault.
    """
    known = {*SHORT_NAMES, *OTHER_VARIABLES}
    known |= {name + SECRET_FILE_SUFFIX for name in secret_variables()}
    return {
        # Others take names of the same beginning, such as links between services of a scheduler.
        name: nearest_name(name, known, cutoff=0.8)
        for name in sorted(environ)
        if name.startswith(PREFIX) and "__" not in name and name not in known
    }


def _suggestion(name: str, known: list[str]) -> str:
    # A key that stands in the wrong section is no misspelt one.
    last = name.rpartition(".")[2]
    elsewhere = [each for each in known if each.rpartition(".")[2] == last]
    nearest = nearest_name(name, elsewhere, cutoff=0) or nearest_name(name, known, cutoff=0.5)
    return f"; did you mean {nearest}?" if nearest else ""


def _drop_idle_password(values: dict[str, Any]) -> None:
    """Take away a password that is too short where nobody logs in: published files have one."""
    auth = values.get("auth")
    root = auth.get("root") if isinstance(auth, dict) else None
    if not isinstance(auth, dict) or not isinstance(root, dict):
        return
    if str(auth.get("enabled", False)).lower() not in _OFF:
        return
    if len(str(root.get("password", ""))) < MIN_PASSWORD_CHARACTERS:
        root.pop("password", None)


def _missing_password(config: Config) -> Iterator[str]:
    """Yield a fault where authentication has nobody who could log in."""
    if config.auth.enabled and config.auth.root.password is None:
        yield (
            "auth.root.password not set: authentication is on and there is no default password; "
            "set SYNAP_AUTH_ROOT_PASSWORD or SYNAP_AUTH_ROOT_PASSWORD_FILE"
        )


def _two_memberships(config: Config) -> Iterator[str]:
    """Yield a fault where members are to prove it in two ways at once."""
    replication = config.replication
    if replication.secret is not None and replication.curve.enabled:
        yield (
            "replication.secret and replication.curve.enabled are both set, and are two ways to "
            "prove the same; leave one out, on all nodes the same one"
        )


def _shared_ports(config: Config) -> Iterator[str]:
    """Yield a fault for each port that two sockets of a master or a relay would listen on."""
    if config.replication.role != "master" and not config.replication.relay:
        return
    taken = {config.server.port: "server.port"}
    for name in ("replica_listen_address", "sync_listen_address"):
        port = split_address(getattr(config.replication, name))[1]
        if port in taken:
            yield f"replication.{name} uses port {port}, as {taken[port]} does; give each its own"
        taken.setdefault(port, f"replication.{name}")


def _stand_in_for_the_master(values: dict[str, Any]) -> None:
    """Name an address for a replica that an agent tells where its master is.

    Its own: nobody is there while it is a replica.
    """
    failover, replication = values.get("failover"), values.get("replication")
    if not isinstance(failover, dict) or not isinstance(replication, dict):
        return
    if failover.get("engine", "none") != "none" and replication.get("role") == "replica":
        own = replication.get("replica_listen_address", Replication().replica_listen_address)
        replication.setdefault("master_address", own)


def _failover_faults(config: Config) -> Iterator[str]:
    """Yield what keeps a fail-over agent from its work."""
    failover = config.failover
    if failover.engine == "none":
        return
    if failover.engine == "etcd" and not failover.endpoints:
        yield "failover.endpoints not set: the engine's client URLs, as in http://10.0.0.1:2379"
    if failover.engine == "kubernetes":
        yield from _kubernetes_faults(config)
    if config.replication.role == "standalone":
        yield (
            "failover.engine: a standalone node has nobody to take its place; set replication.role "
            "to master or replica"
        )
    if config.replication.upstream:
        yield (
            "replication.upstream and failover.engine are both set: who follows a replica is no "
            "candidate for master, and an agent there has nothing to do; leave the agent out"
        )
    needed = failover.loop_secs + 2 * failover.retry_secs
    least = failover.ttl_secs - lease_margin(failover.ttl_secs)
    if needed > least:
        yield (
            f"failover.ttl_secs = {failover.ttl_secs}: loop_secs + 2 * retry_secs is {needed:g} s, "
            f"and must fit into the {least:g} s that a lease counts for, so that a master with one "
            "slow answer stays one"
        )


def _kubernetes_faults(config: Config) -> Iterator[str]:
    """Yield what Kubernetes' API would refuse."""
    failover = config.failover
    if len(failover.endpoints) > 1:
        yield "failover.endpoints: Kubernetes has one, the API server's address"
    if not re.fullmatch(_LEASE_NAME, failover.cluster):
        yield (
            f"failover.cluster = {failover.cluster}: a part of the Leases' names, so up to 40 of "
            "a-z, 0-9 and -, with neither end a -"
        )


def _slot_faults(config: Config) -> Iterator[str]:
    """Yield what is wrong with the slots as a whole."""
    sharding = config.sharding
    if not sharding.slots:
        return
    try:
        owners = owners_of(sharding.slots)
    except ValueError as error:
        yield f"sharding.slots: {error}"
        return
    clusters = sorted({owner.cluster for owner in owners})
    if sharding.cluster not in clusters:
        yield (
            f"sharding.cluster = '{sharding.cluster}': sharding.slots names {', '.join(clusters)}; "
            "a cluster that has no slots yet is added by `synap slots move`, with one slot to begin"
        )


def _late_quorum(config: Config) -> Iterator[str]:
    """Yield a fault where a worker gives a write up before the quorum's deadline."""
    replication, write_timeout_ms = config.replication, config.server.write_timeout_ms
    if replication.role != "standalone" and replication.ack_timeout_ms >= write_timeout_ms:
        yield (
            f"replication.ack_timeout_ms = {replication.ack_timeout_ms}: must be below "
            f"server.write_timeout_ms, which is {write_timeout_ms}; a write that waits for "
            "replicas would be given up before it is known whether they have it"
        )
