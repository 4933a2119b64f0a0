"""Addresses that a stranger's URL may lead to: those of public hosts."""

from __future__ import annotations

import ipaddress
import re

_IPV4_SPECIAL = (
    ipaddress.ip_network("100.64.0.0/10"),  # carrier-grade NAT
    ipaddress.ip_network("192.0.0.0/24"),  # protocol assignments
    ipaddress.ip_network("192.88.99.0/24"),  # 6to4 relays
    ipaddress.ip_network("168.63.129.16/32"),  # public in form, but Azure's host agent
)
_IPV6_UNICAST = ipaddress.ip_network("2000::/3")  # all that has been given out; no mapped IPv4
_IPV6_SPECIAL = (
    ipaddress.ip_network("2001::/23"),  # Teredo, which holds an IPv4 address, and others
    ipaddress.ip_network("2001:db8::/32"),  # documentation
    ipaddress.ip_network("2002::/16"),  # 6to4, which holds an IPv4 address
    ipaddress.ip_network("3fff::/20"),  # documentation
)
_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")
_NUMBER = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")


def is_public(address: str) -> bool:
    """Tell whether a canonical IP address is that of a public host of the internet.

    IPv6 forms that carry an IPv4 address (mapped, compatible, NAT64, 6to4, Teredo) and
    addresses with a scope are not, whatever they carry.
    """
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    if not found.is_global or found.is_multicast or found.is_reserved:
        return False
    if isinstance(found, ipaddress.IPv4Address):
        return not any(found in network for network in _IPV4_SPECIAL)
    return (
        found.scope_id is None
        and found in _IPV6_UNICAST
        and not any(found in network for network in _IPV6_SPECIAL)
    )


def literal_address(host: str) -> str | None:
    """Give the canonical form of a host that is an IP address, or None for a name.

    Raises ValueError for a host that is neither. A host ending in a number is an address, as
    browsers and the C library have it; it must then be written as four decimal numbers, so
    that 2130706433, 0x7f.1 and 0177.0.0.1 are refused and not guessed at.
    """
    if ":" in host:
        return str(ipaddress.IPv6Address(host))
    labels = host.removesuffix(".").split(".")
    if _NUMBER.fullmatch(labels[-1]):
        return str(ipaddress.IPv4Address(host))
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise ValueError("not a host name")
    return None
