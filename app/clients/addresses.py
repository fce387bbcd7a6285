"""Which addresses the service may dial on somebody else's word: none of ours, none that lead inside.

`ipaddress.is_global` is no such check: NAT64, 6to4 and multicast pass it. The list is explicit (IANA special-purpose
registries, RFC 6890 and successors, and the metadata addresses of clouds).
"""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_DENIED = tuple(
    ip_network(block)
    for block in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.31.196.0/24",
        "192.52.193.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "192.175.48.0/24",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
)
_ALLOWED_V6 = ip_network("2000::/3")
_DENIED_V6 = tuple(
    ip_network(block)
    for block in (
        "2001::/23",
        "2001:db8::/32",
        "2002::/16",
        "2620:4f:8000::/48",
        "3fff::/20",
    )
)


def is_dialable(address: Address) -> bool:
    """Whether a resolved address is an ordinary public one."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _DENIED)
    # Addresses that carry an IPv4 address inside (mapped, NAT64, 6to4, Teredo) lie outside what is left here.
    return (
        address.scope_id is None
        and address in _ALLOWED_V6
        and not any(address in network for network in _DENIED_V6)
    )
