"""The rules of a fail-over."""
