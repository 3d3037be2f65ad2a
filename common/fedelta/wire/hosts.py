"""Hosts and ports: how addresses are put together and taken apart, and which hosts are this machine itself."""

import ipaddress
import socket
from typing import TypeAlias

from fedelta._names import DEFAULT_PORT

IpAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address


def join(host: str, port: int) -> str:
    """HOST:PORT, with brackets around an IPv6 address."""
    found = bare(host)
    return f"[{found}]:{port}" if ":" in found else f"{found}:{port}"


def split(address: str) -> tuple[str, int]:
    """Host (without brackets) and port of HOST:PORT."""
    host, _, port = address.rpartition(":")
    return bare(host), int(port or DEFAULT_PORT)


def bare(host: str) -> str:
    """The host without the brackets that an IPv6 address has in front of a port."""
    return host.removeprefix("[").removesuffix("]")


def ip_of(host: str) -> IpAddress | None:
    """The IP address that `host` is; None for a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def dialable(host: str) -> str:
    """The host by which a process on this machine reaches one that listens on `host`."""
    found = ip_of(bare(host))
    if found is None or not found.is_unspecified:
        return host
    return "127.0.0.1" if found.version == 4 else "::1"


def is_loopback(host: str) -> bool:
    """Whether `host` is this machine by its looks: a loopback address, or localhost. Asks no name server."""
    found, name = ip_of(host), host.lower().rstrip(".")
    return found.is_loopback if found else name == "localhost" or name.endswith(".localhost")


def resolves_to_loopback(host: str) -> bool:
    """Whether `host` is reached from this machine only: all its addresses are loopback. False where it has none."""
    try:
        found = {str(info[4][0]) for info in socket.getaddrinfo(bare(host), None)}
    except OSError:
        return False
    return bool(found) and all(map(is_loopback, found))
