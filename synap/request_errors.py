"""What is wrong with a request: two branches of the tree of `errors`.

    SynapError
    ├── CommandError               the client asked for what can't be done
    │   ├── InvalidRequest         it can't be read, or asks for what does not go together
    │   │   ├── ParameterUnknown   a parameter of the query is none that counts here
    │   │   └── ConditionUnsupported  a condition is none that counts here
    │   ├── FieldInvalid           a field is of the wrong form
    │   │   ├── FieldMissing       it is not there
    │   │   └── FieldUnknown       there is none of this name
    │   ├── InvalidValue           the stored or given value does not fit the command
    │   ├── KeyInvalid             the key is empty or too long
    │   ├── KeyNotFound            there is no such key
    │   ├── KeyExists              the destination is taken
    │   ├── ValueTooLarge          over kv_store.max_value_size_bytes
    │   ├── AnswerTooLarge         the answer would take too much memory
    │   ├── AccountNotFound        there is no such user, role or API key
    │   ├── AccountConflict        the account can't be changed like this
    │   ├── TransactionLost        the client's transaction is not, or no longer, open
    │   ├── PreconditionFailed     If-Match or If-None-Match does not hold
    │   ├── ShareTaken             who asks holds their share of something already
    │   ├── IdempotencyKeyReused   the key of an Idempotency-Key belongs to another request
    │   ├── IdempotencyFull        no more requests can be remembered
    │   ├── RequestUnknown         no request with this key is remembered
    │   ├── CrossSlot              its keys do not lie in one slot
    │   ├── KeyMismatch            X-Synap-Key names another key
    │   ├── CommandUnknown         there is no such command
    │   └── CommandDisabled        the configuration does not allow it
    └── AccessRefused              who asks may not
        ├── NotAuthenticated       no credentials, or wrong ones
        ├── Forbidden              they do not allow it
        ├── CrossOrigin            a web page of another site wants something changed
        ├── HostNotAllowed         the request is for a host that this node is not
        ├── TooManyLogins          too many passwords wait to be checked
        └── RateLimited            the client asks too often

Raised by the commands and the HTTP layer alone; what a node can't do with a sound request, and all
else that fails, is in `errors`.
"""

from __future__ import annotations

from synap.errors import SynapError


class CommandError(SynapError):
    """The command can't be carried out."""

    reason = "invalid_request"


class InvalidRequest(CommandError):
    """The request is not valid."""

    reason = "invalid_request"


class FieldInvalid(CommandError):
    """A field is missing or of the wrong form."""

    reason = "invalid_field"


class FieldMissing(FieldInvalid):
    """A field is missing."""

    def __init__(self, field: str) -> None:
        self.field = field
        super().__init__(f"missing field '{field}'")


class FieldUnknown(FieldInvalid):
    """There is no field of this name."""

    reason = "unknown_field"


class ParameterUnknown(InvalidRequest):
    """There is no parameter of this name."""

    reason = "unknown_parameter"


class ConditionUnsupported(InvalidRequest):
    """The request has a condition that does not count here."""

    reason = "condition_unsupported"


class InvalidValue(CommandError):
    """The value does not fit the command."""

    reason = "invalid_value"


class KeyInvalid(CommandError):
    """The key is not valid."""

    reason = "key_invalid"


class KeyNotFound(CommandError):
    """Key not found."""

    reason = "key_not_found"


class KeyExists(CommandError):
    """The destination key exists."""

    reason = "key_exists"


class ValueTooLarge(CommandError):
    """The value is too large."""

    reason = "value_too_large"


class RecordCorrupt(CommandError):
    """What is stored for the key is damaged on this node, and is not given out."""

    reason = "record_corrupt"

    def __init__(self, key: bytes) -> None:
        self.key = key
        super().__init__(
            f"what is stored for key {key.decode(errors='backslashreplace')!r} is damaged on this "
            "node, and is not given out; another node may have it"
        )


class AnswerTooLarge(CommandError):
    """The answer would be too large; ask for less at once (server.worker_memory_mb)."""

    reason = "answer_too_large"


class AccountNotFound(CommandError):
    """There is no such account."""

    reason = "account_not_found"


class AccountConflict(CommandError):
    """The account was changed by somebody else at the same time; try again."""

    reason = "account_conflict"


class TransactionLost(InvalidRequest):
    """No transaction of this client is open, so nothing was changed; begin again from `multi`."""

    reason = "transaction_lost"
    retryable = True


class PreconditionFailed(CommandError):
    """The key is not in the state that the request asks for; nothing was changed."""

    reason = "precondition_failed"


class ShareTaken(CommandError):
    """Who asks holds their share already; nothing was changed."""

    reason = "share_taken"
    retryable = True

    def __init__(self, what: str, unit: str, total: int) -> None:
        """
        Args:
            what: What is shared, in the plural.
            unit: What it is counted in.
            total: How much all may hold together.
        """
        super().__init__(
            f"{what} come to at most {total} {unit} together, and nobody has more of that than is "
            "left for others; nothing was changed, try again later"
        )


class IdempotencyKeyReused(CommandError):
    """This Idempotency-Key came with another request before; nothing was changed."""

    reason = "idempotency_key_reused"


class IdempotencyFull(CommandError):
    """As many requests are remembered as may be, so that one with a key is not taken; nothing was
    changed. Requests without Idempotency-Key are."""

    reason = "idempotency_full"
    retryable = True


class RequestUnknown(CommandError):
    """No request with this Idempotency-Key has taken effect here, or it is too long ago."""

    reason = "request_unknown"


class CrossSlot(CommandError):
    """The keys of one request must have one tag, the part in braces, so that they lie together."""

    reason = "cross_slot"

    def __init__(self, one: bytes, other: bytes) -> None:
        names = " and ".join(repr(key.decode(errors="backslashreplace")) for key in (one, other))
        super().__init__(
            f"{names} have different tags; keys of one request must have one, the part in braces, "
            "so that they lie in one cluster"
        )


class KeyMismatch(CommandError):
    """X-Synap-Key names another key than the request; nothing was done."""

    reason = "key_mismatch"

    def __init__(self, key: bytes) -> None:
        name = key.decode(errors="backslashreplace")
        super().__init__(
            f"X-Synap-Key has another tag than {name!r}, which the request is about; nothing was "
            "done"
        )


class CommandUnknown(CommandError):
    """There is no such command."""

    reason = "unknown_command"


class CommandDisabled(CommandError):
    """The configuration does not allow this command."""

    reason = "command_disabled"


class AccessRefused(SynapError):
    """Access was refused."""

    reason = "access_refused"


class NotAuthenticated(AccessRefused):
    """Credentials are missing or wrong."""

    reason = "unauthorized"


class Forbidden(AccessRefused):
    """The credentials do not allow this."""

    reason = "forbidden"

    def __init__(self, resource: str, action: str) -> None:
        self.resource = resource
        self.action = action
        super().__init__(
            f"Forbidden: Insufficient permissions for resource: {resource}, action: {action}"
        )


class CrossOrigin(AccessRefused):
    """Pages of another site may change nothing here unless server.cors_origins names it."""

    reason = "cross_origin"


class HostNotAllowed(AccessRefused):
    """This node does not go by the name in Host; server.allowed_hosts lists others."""

    reason = "host_not_allowed"


class TooManyLogins(AccessRefused):
    """Too many passwords wait to be checked; try again in a second."""

    reason = "too_many_logins"
    retryable = True


class RateLimited(AccessRefused):
    """The client asks too often; try again when Retry-After is over."""

    reason = "rate_limited"
    retryable = True

    def __init__(self, retry_seconds: int = 1) -> None:
        self.retry_seconds = retry_seconds
        super().__init__()
