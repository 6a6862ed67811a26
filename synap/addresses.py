"""Addresses of the form `host:port`, with brackets around an IPv6 host.

Pure: nothing is resolved or opened here.
"""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address, ip_network

# A node's HTTP address. No user, no path, and nothing that means something to a log or a header.
URL_PATTERN = r"^https?://[A-Za-z0-9._:%\[\]-]{1,255}$"
# One IPv6 customer mostly has a whole network of these first bits.
_CLIENT_BITS_OF_IPV6 = 64
_WILDCARDS = ("0.0.0.0", "::")


def split_address(address: str) -> tuple[str, int]:
    """Split `host:port` or `[ipv6]:port` into the host, without brackets, and the port.

    Raises:
        ValueError: There is no host, or the port is not a number from 1 to 65535.
    """
    host, colon, port = address.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError("an IPv6 address goes in brackets")
    if not (colon and host and port.isascii() and port.isdigit() and 1 <= int(port) <= 65535):
        raise ValueError("it is not host:port")
    return host, int(port)


def join_address(host: str, port: int) -> str:
    """Return `host:port`, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def following_port(address: str) -> str:
    """Return `address` with the next port, or with the same where there is none.

    Raises:
        ValueError: `address` is not host:port.
    """
    host, port = split_address(address)
    return join_address(host, min(port + 1, 65535))


def reachable_url(url: str, host: str) -> str:
    """Return `url` with `host` in place of a wildcard address.

    A node that listens on all addresses and is told no `server.advertise_url` can't know the one
    that others reach it by; whoever has a connection with it does.
    """
    scheme, _, rest = url.partition("://")
    try:
        named, port = split_address(rest)
    except ValueError:
        return url
    return f"{scheme}://{join_address(host, port)}" if named in _WILDCARDS and host else url


def reachable_address(address: str, host: str) -> str:
    """Return `address` with `host` in place of a wildcard address; as `reachable_url`."""
    named, port = split_address(address)
    return join_address(host, port) if named in _WILDCARDS and host else address


def plain_address(text: str) -> str:
    """Return an address in its usual form, IPv4 in IPv6 as IPv4; "" where it is none."""
    try:
        address = ip_address(text)
    except ValueError:
        return ""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)


def client_group(address: str) -> str:
    """Return what all addresses of one client have in common: of IPv6, the first 64 bits.

    Args:
        address: As `plain_address` returns it.
    """
    if ":" not in address:
        return address
    network = ip_network((ip_address(address), _CLIENT_BITS_OF_IPV6), strict=False)
    return str(network.network_address)


def is_loopback(host: str) -> bool:
    """Return whether a host's name or address leads to the machine itself and nowhere else."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def host_of_url(url: str) -> str:
    """Return the host of `http://host:port`, without brackets; empty where there is none."""
    try:
        return split_address(url.partition("://")[2])[0]
    except ValueError:
        return ""
