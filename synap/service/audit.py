"""The audit log: logins, refusals and administration, as records of one logger, `synap.audit`.

Each says who (`caller`), from where (`address`) and what; never a password or a key. The address is
that of the request under way, which `Guard` notes.
"""

from __future__ import annotations

import logging
from contextvars import ContextVar

audit = logging.getLogger("synap.audit")
address_of_request: ContextVar[str] = ContextVar("address_of_request", default="")


def record(
    action: str, message: str, *, caller: str, is_refusal: bool = False, **facts: object
) -> None:
    """Write one record.

    Args:
        action: The word for machines: `login`, `login_refused`, `refused`, `administration`.
        caller: Who it was; "" for somebody without credentials.
        is_refusal: Whether something was refused, which is a warning.
        facts: More fields.
    """
    told = {"caller": caller, "address": address_of_request.get(), **facts}
    shown = {
        name: _line(value) if isinstance(value, str) else value for name, value in told.items()
    }
    level = logging.WARNING if is_refusal else logging.INFO
    audit.log(level, _line(message), extra={"action": action, **shown})


def forbidden(caller: str, resource: str, action: str) -> None:
    """Write that a caller lacked a permission."""
    record(
        "refused", f"{caller or 'somebody'} may not {action} {resource}",
        caller=caller, is_refusal=True, resource=resource, wanted=action,
    )  # fmt: skip


def _line(text: str) -> str:
    """Return `text` without what would end its line or steer a terminal: clients choose it."""
    return text if text.isprintable() else ascii(text)[1:-1]
