"""What the description of the API knows of one method of one path."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from synap.http.api.openapi.answer_schemas import TEXT, Schema

# What a route does decides on the headers that it knows and on the answers that it shares with its
# like. `read` is about keys and accounts, `write` about keys, `account` changes accounts, `node` is
# about the node, `public` for load balancers.
Kind = Literal["read", "write", "account", "node", "public"]


class Parameter(msgspec.Struct, frozen=True):
    """A parameter of the query, or a header where `place` says so."""

    name: str
    schema: Schema
    description: str
    is_required: bool = False
    place: Literal["query", "header"] = "query"


# Conditions that every route of a kind takes, as headers.
CONDITIONS: dict[Kind, tuple[str, ...]] = {
    "read": (
        "X-Synap-Min-Position", "X-Synap-Min-Offset", "X-Synap-Min-Replicas", "X-Synap-Consistency",
    ),
    "write": (
        "X-Synap-Min-Position", "X-Synap-Min-Offset", "X-Synap-Min-Replicas", "Idempotency-Key",
    ),
    "account": ("X-Synap-Min-Position", "X-Synap-Min-Offset", "X-Synap-Min-Replicas"),
    "node": (),
    "public": (),
}  # fmt: skip


class Route(msgspec.Struct, frozen=True):
    """One method of one path.

    Attributes:
        method: In capitals. HEAD is left out: it works wherever GET does.
        path: Its fields in braces.
        summary: A sentence without its full stop.
        answer: Name of the form of the answer with 200, in `synap.http.api.openapi.answer_schemas`.
        kind: See there.
        body: The struct that the request's body is decoded into.
        is_body_optional: Whether there may be none.
        takes_bytes: Whether the body is bytes, and not JSON.
        parameters: Of the query and the headers; those that its kind shares are left out.
        statuses: Of answers, beside 200 and those that its kind shares.
        media_type: Of the answer with 200.
        other_forms: Media types that a client may ask for by Accept, each with its form's name.
        headers: Of the answer with 200, beside those that its kind shares.
    """

    method: str
    path: str
    summary: str
    answer: str
    kind: Kind = "read"
    body: type[msgspec.Struct] | None = None
    is_body_optional: bool = False
    takes_bytes: bool = False
    parameters: tuple[Parameter, ...] = ()
    statuses: tuple[int, ...] = ()
    media_type: str = "application/json"
    other_forms: tuple[tuple[str, str], ...] = ()
    headers: tuple[str, ...] = ()

    @property
    def query(self) -> tuple[Parameter, ...]:
        """The parameters of the query."""
        return tuple(each for each in self.parameters if each.place == "query")

    @property
    def conditions(self) -> tuple[str, ...]:
        """The headers that are conditions on the request, and that it takes."""
        own = tuple(each.name for each in self.parameters if each.place == "header")
        return CONDITIONS[self.kind] + own

    @property
    def takes_body(self) -> bool:
        """Whether the request's body means something."""
        return self.takes_bytes or self.body is not None


def get(path: str, summary: str, answer: str, **more: Any) -> Route:
    """Return the route of a GET, a read where nothing else is said."""
    return Route("GET", path, summary, answer, **more)


def post(path: str, summary: str, answer: str, **more: Any) -> Route:
    """Return the route of a POST, a write where nothing else is said."""
    return Route("POST", path, summary, answer, **{"kind": "write", **more})


def delete(path: str, summary: str, answer: str, **more: Any) -> Route:
    """Return the route of a DELETE, a write where nothing else is said."""
    return Route("DELETE", path, summary, answer, **{"kind": "write", **more})


IF_MATCH = Parameter("If-Match", TEXT, "Only where the key has such a version", place="header")
IF_NONE_MATCH = Parameter(
    "If-None-Match", TEXT, "Only where the key has none of these versions", place="header"
)
