"""Fetches pictures from the hosts that are allowed, and from nowhere else.

A URL in a request must not lead this server into its own network: the host must be listed, every
address that it has must be public, the connection goes to the address that was checked, and
redirects are not followed.
"""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import time
from collections.abc import Callable, Collection, Sequence
from urllib.parse import SplitResult, urlsplit

from .refusal import bad

PICTURE_BYTES = 32 << 20
SECONDS = 20.0
PORTS = {"http": 80, "https": 443}
Resolve = Callable[[str, int], Sequence[str]]


def fetcher(hosts: Collection[str]) -> Callable[[str], bytes]:
    """A function that fetches from these hosts; without any, one that refuses."""
    allowed = {host.lower() for host in hosts}
    return lambda url: fetch(url, allowed)


def resolve(host: str, port: int) -> list[str]:
    """The addresses of a host."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


def is_public(address: str) -> bool:
    """Whether an address is one of the internet: not private, loopback, link-local or reserved."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    inner = getattr(ip, "ipv4_mapped", None) or getattr(ip, "sixtofour", None)
    return ip.is_global and not ip.is_multicast and (inner is None or inner.is_global)


def fetch(
    url: str,
    allowed: Collection[str],
    resolve: Resolve = resolve,
    is_public: Callable[[str], bool] = is_public,
) -> bytes:
    """The body behind a URL. Raises Refusal."""
    parts, port = _checked(url, allowed)
    host = parts.hostname or ""
    try:
        addresses = list(resolve(host, port))
        if not addresses or not all(map(is_public, addresses)):
            raise bad(f"{host}: has an address that is not public")
        return _get(parts, addresses[0], port)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise bad(f"{host}: cannot be fetched: {type(error).__name__}") from error


def _checked(url: str, allowed: Collection[str]) -> tuple[SplitResult, int]:
    if not allowed:
        raise bad("this server fetches no URLs (--allow-urls); send a data URL")
    try:
        parts = urlsplit(url)
        port = parts.port or PORTS[parts.scheme]
    except (ValueError, KeyError) as error:
        raise bad("must be an http or https URL, or a data URL") from error
    if (parts.hostname or "") not in allowed or parts.username is not None:
        raise bad(f"{parts.hostname!r:.100} is not among the hosts of --allow-urls")
    if port != PORTS[parts.scheme]:
        raise bad(f"port {port} is not the usual one of {parts.scheme}")
    return parts, port


def _get(parts: SplitResult, address: str, port: int) -> bytes:
    end = time.monotonic() + SECONDS
    connection = _connected(parts, address, port)
    try:
        path = f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}"
        connection.request("GET", path, headers={"Accept": "image/*", "Connection": "close"})
        response = connection.getresponse()
        if response.status != 200:  # a redirect may lead anywhere
            raise bad(f"{parts.hostname}: answered {response.status}; redirects are not followed")
        return _body(response, end)
    finally:
        connection.close()


def _connected(parts: SplitResult, address: str, port: int) -> http.client.HTTPConnection:
    """A connection to the address that was checked, under the name of the host."""
    host = parts.hostname or ""
    connection = http.client.HTTPConnection(host, port, timeout=SECONDS)
    plain = socket.create_connection((address, port), SECONDS)
    connection.sock = (
        ssl.create_default_context().wrap_socket(plain, server_hostname=host)
        if parts.scheme == "https"
        else plain
    )
    return connection


def _body(response: http.client.HTTPResponse, end: float) -> bytes:
    parts, size = [], 0
    while part := response.read1(1 << 16):
        parts.append(part)
        size += len(part)
        if size > PICTURE_BYTES:
            raise bad(f"the picture is larger than {PICTURE_BYTES >> 20} MB")
        if time.monotonic() > end:
            raise bad(f"the picture did not arrive within {SECONDS:g} s")
    return b"".join(parts)
