"""What given values must be, made of the keys' declarations: the part that needs pydantic.

Each section of `keys` becomes a model of the same fields, which reads texts of the environment,
collects every fault, and, where there is none, gives the section's values. What a key's type can't
say, such as that one key needs another, is said here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache, reduce
from ipaddress import ip_network
from pathlib import Path
from string import ascii_lowercase, ascii_uppercase, digits
from types import UnionType
from typing import Annotated, Any, LiteralString, Union, get_args, get_origin, get_type_hints

import msgspec
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
    ValidationInfo,
    create_model,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError
from pydantic_settings import NoDecode

from synap.addresses import URL_PATTERN, following_port, split_address
from synap.config.account_limits import NAME_PATTERN, OWN_ROLES
from synap.config.keys import FOLLOWS, Config, Form, Length, Role, Secret, Section, Within
from synap.slots import parse_line

# A key of 32 bytes in ZeroMQ's text form, which has neither quotes nor commas.
_Z85_KEY_CHARACTERS = 40
_Z85_ALPHABET = digits + ascii_lowercase + ascii_uppercase + ".-:+=^!/*?&<>()[]{}@%$#"
# As browsers send an origin, or `*` for all of them.
_ORIGIN_PATTERN = r"^(\*|[A-Za-z][A-Za-z0-9+.-]*://[^\s/,]+)$"
_HOST_NAME_PATTERN = r"[A-Za-z0-9_][A-Za-z0-9_.-]*"
_HOST_PATTERN = r"^[A-Za-z0-9_.:-]+$"
# Type of the errors whose message is made here and shown as it is.
CONTRADICTION = "contradiction"


def _checked_address(address: str) -> str:
    split_address(address)
    return address


def _optional_following_port(address: str | None) -> str | None:
    return None if address is None else following_port(address)


def _network_or_name(text: str) -> str:
    """Return a network in its usual form, a host's name as it is; refuse all else."""
    try:
        return str(ip_network(text))
    except ValueError:
        # Digits and points alone were meant to be an address.
        if re.fullmatch(_HOST_NAME_PATTERN, text) and not text.replace(".", "").isdigit():
            return text
        raise


def _split_commas(value: object) -> object:
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


def _checked_key(key: str) -> str:
    """Refuse what is no Z85 text of 32 bytes: five characters stand for a number of four."""
    values = [_Z85_ALPHABET.index(character) for character in key]
    groups = [values[at : at + 5] for at in range(0, len(values), 5)]
    numbers = [reduce(lambda number, digit: number * 85 + digit, group, 0) for group in groups]
    if len(key) != _Z85_KEY_CHARACTERS or max(numbers) >= 2**32:
        raise ValueError("no public key")
    return key


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("it can't be printed")
    return text


def _checked_slots(line: str) -> str:
    _, _, owner = parse_line(line)
    if not (re.fullmatch(NAME_PATTERN, owner.cluster) and re.fullmatch(URL_PATTERN, owner.url)):
        raise ValueError("no name, or no URL")
    return line


# The short names that other versions of Synap gave to the policies.
_POLICY_ALIASES = {
    "none": "noeviction",
    "lru": "allkeys-lru",
    "lfu": "allkeys-lfu",
    "ttl": "volatile-ttl",
}


def _policy_of_alias(value: object) -> object:
    return _POLICY_ALIASES.get(value, value) if isinstance(value, str) else value


_FORMS: dict[str, tuple[Any, ...]] = {
    "address": (AfterValidator(_checked_address),),
    "url": (StringConstraints(pattern=URL_PATTERN),),
    "origin": (StringConstraints(pattern=_ORIGIN_PATTERN, to_lower=True),),
    "host": (StringConstraints(pattern=_HOST_PATTERN, to_lower=True),),
    "public_key": (AfterValidator(_checked_key),),
    "network_or_name": (AfterValidator(_network_or_name),),
    "user_name": (StringConstraints(pattern=NAME_PATTERN),),
    "printable": (AfterValidator(_printable),),
    "seconds": (Field(ge=0.1, le=3600),),
    "ratio": (Field(ge=0, le=1),),
    "slots": (AfterValidator(_checked_slots),),
    "tag": (StringConstraints(pattern=r"^(nofailover|priority=[0-9]{1,6})$"),),
    "list": (NoDecode, BeforeValidator(_split_commas)),
    "lower_case": (BeforeValidator(lambda text: text.lower() if isinstance(text, str) else text),),
    "policy": (BeforeValidator(_policy_of_alias),),
}


class Checked(BaseModel):
    """A section's model; unknown keys are faults."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, coerce_numbers_to_str=True, defer_build=True
    )


# What to do where replication.curve.enabled is true and the key is not set.
_CURVE_NEEDS: dict[str, LiteralString] = {
    "secret_key_file": "encryption needs this node's secret key; `synap keygen` makes one",
    "server_key": "encryption needs the public keys of the nodes that may be master, "
    "to know the master by",
    "allowed_keys": "encryption needs the public keys of the nodes that may replicate; "
    "without one a master would refuse everyone",
}


class _TlsChecks(Checked):
    """Files that go together."""

    @field_validator("key_path", "client_ca_path", check_fields=False)
    @classmethod
    def _goes_with_the_certificate(cls, path: Path | None, info: ValidationInfo) -> Path | None:
        has_certificate = info.data.get("cert_path") is not None
        if path is None and has_certificate:
            raise PydanticCustomError(CONTRADICTION, "server.tls.cert_path needs its private key")
        if path is not None and not has_certificate:
            raise PydanticCustomError(CONTRADICTION, "it needs server.tls.cert_path beside it")
        return path


class _PersistenceChecks(Checked):
    """A node that keeps nothing names no files."""

    @model_validator(mode="after")
    def _keeps_no_named_files(self: Any) -> Any:
        if not self.enabled and (self.wal.path or self.snapshot.directory):
            raise PydanticCustomError(
                CONTRADICTION, "wal.path and snapshot.directory name files that would be kept"
            )
        return self


class _CurveChecks(Checked):
    """Keys that go together."""

    @field_validator("secret_key_file", "server_key", "allowed_keys", check_fields=False)
    @classmethod
    def _given_where_enabled(cls, value: Any, info: ValidationInfo) -> Any:
        if info.data.get("enabled") and not value:
            assert info.field_name is not None
            raise PydanticCustomError(CONTRADICTION, _CURVE_NEEDS[info.field_name])
        return value


class _ReplicationChecks(Checked):
    """What a role needs."""

    @model_validator(mode="before")
    @classmethod
    def _enabled_by_role(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("role") in ("master", "replica"):
            return {"enabled": True, **given}
        return given

    @field_validator("role", check_fields=False)
    @classmethod
    def _agrees_with_enabled(cls, role: Role, info: ValidationInfo) -> Role:
        if role != "standalone" and info.data.get("enabled") is False:
            raise PydanticCustomError(
                CONTRADICTION, "replication.enabled is false; remove it or set it to true"
            )
        return role

    @field_validator("read_held", check_fields=False)
    @classmethod
    def _has_replicas_to_ask(cls, read_held: bool, info: ValidationInfo) -> bool:
        if read_held and not info.data.get("min_replicas_to_write", 1):
            raise PydanticCustomError(
                CONTRADICTION,
                "reads wait for replication.min_replicas_to_write replicas, which is 0",
            )
        return read_held

    @field_validator("master_address", check_fields=False)
    @classmethod
    def _given_for_a_replica(cls, address: str | None, info: ValidationInfo) -> str | None:
        if address is None and info.data.get("role") == "replica":
            raise PydanticCustomError(
                CONTRADICTION,
                "a replica needs its master's PUB socket as host:port, as in 127.0.0.1:15501",
            )
        return address


class _AuthChecks(Checked):
    """Roles that are Synap's own."""

    @field_validator("roles", check_fields=False)
    @classmethod
    def _keeps_own_roles(cls, roles: dict[str, Any]) -> dict[str, Any]:
        for name in OWN_ROLES:
            if name in roles:
                raise PydanticCustomError(
                    CONTRADICTION, f"the role {name} is Synap's own; choose another name"
                )
        return roles


# Those of the keys' declarations that are checked also where they are not given.
_ALSO_DEFAULTS = {
    "Tls": {"key_path"},
    "Curve": {"secret_key_file", "server_key", "allowed_keys"},
    "Replication": {"master_address"},
}
_DERIVED: dict[str, Callable[[dict[str, Any]], str | None]] = {
    "sync_listen_address": lambda given: following_port(given["replica_listen_address"]),
    "master_sync_address": lambda given: _optional_following_port(given["master_address"]),
}
_OWN_CHECKS: dict[str, type[Checked]] = {
    "Tls": _TlsChecks,
    "Persistence": _PersistenceChecks,
    "Curve": _CurveChecks,
    "Replication": _ReplicationChecks,
    "Auth": _AuthChecks,
}


@cache
def model_of(section: type[Section], base: type[BaseModel] | None = None) -> type[BaseModel]:
    """Return the model that checks what is given for a section.

    Args:
        section: Of `keys`.
        base: What the model is derived from; None for what its own checks want.
    """
    kinds = get_type_hints(section, include_extras=True)
    fields: dict[str, Any] = {
        declared.name: (
            _checked_kind(kinds[declared.name]),
            _checked_field(section.__name__, declared),
        )
        for declared in msgspec.structs.fields(section)
    }
    base = base or _OWN_CHECKS.get(section.__name__, Checked)
    model: type[BaseModel] = create_model(
        section.__name__, __base__=base, __doc__=section.__doc__, **fields
    )
    return model


def values_of(checked: BaseModel) -> Config:
    """Return what the whole configuration's model has checked."""
    return msgspec.convert(checked.model_dump(), Config, dec_hook=_value_of)


def _value_of(kind: type, value: SecretStr | Path) -> Secret | Path:
    return Secret(value.get_secret_value()) if isinstance(value, SecretStr) else value


def _checked_kind(kind: Any) -> Any:
    """Return a key's type as pydantic takes it."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        limits = [found for each in arguments[1:] for found in _limits(each)]
        return Annotated[_checked_kind(arguments[0]), *limits]
    if origin in (Union, UnionType):
        return reduce(lambda one, other: one | other, map(_checked_kind, arguments))
    if origin in (tuple, dict):
        return origin[tuple(each if each is ... else _checked_kind(each) for each in arguments)]
    if kind is Secret:
        return SecretStr
    return model_of(kind) if isinstance(kind, type) and issubclass(kind, Section) else kind


def _limits(said: Any) -> tuple[Any, ...]:
    if isinstance(said, Within):
        return (Field(ge=said.lowest, le=said.highest),)
    if isinstance(said, Length):
        return (Field(min_length=said.least, max_length=said.most),)
    return _FORMS[said.name] if isinstance(said, Form) else (said,)


def _checked_field(section: str, declared: msgspec.structs.FieldInfo) -> FieldInfo:
    name, default = declared.name, declared.default
    also_default = name in _ALSO_DEFAULTS.get(section, ())
    if default == FOLLOWS and name in _DERIVED:
        return _field(default_factory=_DERIVED[name])
    if declared.default_factory is not msgspec.NODEFAULT:
        return _field(default_factory=declared.default_factory)
    if default is msgspec.NODEFAULT:
        return _field()
    if isinstance(default, Section):
        return _field(default_factory=model_of(type(default)))
    return _field(default=default, validate_default=also_default)


def _field(**facts: Any) -> FieldInfo:
    found: FieldInfo = Field(**facts)
    return found
