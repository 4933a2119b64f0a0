from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.net.public_addresses import is_public, literal_address


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "1.1.1.1", "93.184.215.14", "2606:4700::1111", "2a00:1450:4001::200e"]
)
def test_public_hosts(address):
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.1",
        "100.64.0.1",
        "100.127.255.254",
        "127.0.0.1",
        "127.255.255.254",
        "168.63.129.16",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.8",
        "192.0.0.9",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.1.1",
        "198.18.0.1",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "239.255.255.250",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::127.0.0.1",
        "::8.8.8.8",
        "::ffff:127.0.0.1",
        "::ffff:8.8.8.8",
        "::ffff:0:127.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b::808:808",
        "64:ff9b:1::a00:1",
        "100::1",
        "2001::1",
        "2001:0:4136:e378:8000:63bf:3fff:fdd2",
        "2001:db8::1",
        "2002:7f00:1::",
        "2002:808:808::",
        "3fff::1",
        "5f00::1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fe80::1%eth0",
        "2606:4700::1111%eth0",
        "fec0::1",
        "ff02::1",
        "ff0e::1",
        "localhost",
        "",
    ],
)
def test_all_else_is_not_public(address):
    assert not is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.1",
        "168.63.129.15",
        "168.63.129.17",
        "169.253.255.255",
        "169.255.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "191.255.255.255",
        "192.0.1.0",
        "192.88.98.255",
        "192.88.100.0",
        "192.167.255.255",
        "192.169.0.0",
        "223.255.255.255",
        "2001:200::",
        "2001:4860:4860::8888",
        "2001:db7:ffff::1",
        "2001:db9::1",
        "2003::1",
        "3ffe:ffff::1",
        "3fff:1000::1",
    ],
)
def test_the_neighbours_of_what_is_not_public_are(address):
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "100.64.0.0",
        "100.127.255.255",
        "168.63.129.16",
        "192.0.0.0",
        "192.0.0.255",
        "192.88.99.0",
        "192.88.99.255",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "1fff:ffff::1",
        "2001::",
        "2001:20::1",  # ORCHIDv2: no host, though newer Pythons call it global
        "2001:1ff:ffff::1",
        "2001:db8::1",
        "2001:db8:ffff::1",
        "2002::",
        "2002:ffff::1",
        "3fff::1",
        "3fff:fff:ffff::1",
        "4000::1",
        "64:ff9b::808:808",
        "::ffff:8.8.8.8",
        "ff0e::1",
        "2606:4700::1111%eth0",
    ],
)
def test_the_librarys_table_alone_makes_nothing_public(address, monkeypatch):
    """Which blocks the standard library calls global differs from Python to Python."""
    assert not is_public(address)
    for kind in (ipaddress.IPv4Address, ipaddress.IPv6Address):
        monkeypatch.setattr(kind, "is_global", True)
    assert not is_public(address)


@given(st.ip_addresses(v=4))
def test_no_private_address_is_public_in_any_ipv6_dress(address):
    packed = int(address)
    dressed = [
        ipaddress.IPv6Address(packed),
        ipaddress.IPv6Address(0xFFFF << 32 | packed),
        ipaddress.IPv6Address(int(ipaddress.IPv6Address("64:ff9b::")) | packed),
        ipaddress.IPv6Address(0x2002 << 112 | packed << 80),
    ]
    assert not any(is_public(str(dress)) for dress in dressed)


@given(st.ip_addresses())
def test_what_is_public_is_global_in_the_standard_library_too(address):
    if is_public(str(address)):
        assert address.is_global
        assert not address.is_multicast


@pytest.mark.parametrize(
    "host", ["a.example", "a-b.example.", "xn--bcher-kva.example", "a_b.c", "0x.a"]
)
def test_names_are_no_addresses(host):
    assert literal_address(host) is None


def test_the_longest_names():
    assert literal_address("a" * 63 + ".example") is None
    longest = ".".join(["a" * 63] * 3 + ["b" * 61])
    assert len(longest) == 253
    assert literal_address(longest) is None
    with pytest.raises(ValueError, match="not a host name"):
        literal_address(longest + "b")


@pytest.mark.parametrize(
    ("host", "address"), [("8.8.8.8", "8.8.8.8"), ("2606:4700:0::1111", "2606:4700::1111")]
)
def test_addresses_come_in_canonical_form(host, address):
    assert literal_address(host) == address


@pytest.mark.parametrize(
    "host",
    [
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0177.0.0.1",
        "127.1",
        "127.0.0.1.",
        "1.2.3.4.5",
        "256.1.1.1",
        "0x",
        "a.1",
        "a..b",
        "",
        ".",
        "-a.b",
        "a-.b",
        "a b",
        "a%2eb",
        "ü.example",
        "a/b",
        "a" * 64,
        "a." * 130 + "b",
        ":::",
        "1:2",
    ],
)
def test_what_is_neither_is_refused(host):
    with pytest.raises(ValueError, match=r".*"):
        literal_address(host)
