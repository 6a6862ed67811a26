"""What accounts may be called, for the configuration and for HTTP alike."""

from __future__ import annotations

# What a user's name may be made of: it stands in logs, paths and HTTP headers.
NAME_PATTERN = r"^[A-Za-z0-9._@-]{1,64}$"
MIN_PASSWORD_CHARACTERS = 8
# The roles that `synap.auth.permissions` defines.
OWN_ROLES = ("admin", "readwrite", "readonly")
