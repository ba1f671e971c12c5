"""Which addresses are the public internet."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import Final, TypeAlias

__all__ = ["Address", "is_public"]

Address: TypeAlias = IPv4Address | IPv6Address

_REFUSED: Final = [
    ip_network("168.63.129.16/32"),  # looks public, but is the host agent of every Azure machine
    ip_network("::/96"),  # RFC 4291: IPv4 in the last 32 bits, deprecated
    ip_network("2001::/32"),  # Teredo: tunnels to an IPv4 address of the sender's choice
    ip_network("64:ff9b:1::/48"),  # NAT64 for local use (RFC 8215)
]
_NAT64: Final = ip_network("64:ff9b::/96")  # RFC 6052: the IPv4 address is the last 32 bits


def is_public(address: Address) -> bool:
    """Whether anybody on the internet could reach this address.

    Private, loopback, link-local, multicast, reserved and unspecified ones are not, whether they are written as IPv4
    or wrapped into IPv6 (mapped, NAT64, 6to4).
    """
    inner = _embedded(address)
    if inner is not None:
        return is_public(inner)
    if any(address in network for network in _REFUSED):
        return False
    # Python counts some multicast, reserved and IPv6's old site-local addresses as global.
    if address.is_multicast or address.is_reserved or (isinstance(address, IPv6Address) and address.is_site_local):
        return False
    return address.is_global


def _embedded(address: Address) -> IPv4Address | None:
    """The IPv4 address that packets to this IPv6 address end up at."""
    if isinstance(address, IPv4Address):
        return None
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour
