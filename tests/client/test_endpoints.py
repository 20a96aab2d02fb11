"""Endpoints as people write them: a URL or HOST:PORT, by the rules of every other address."""

import pytest

from tenure.base.errors import Invalid
from tenure.client.endpoints import Address, address, endpoints


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("http://h:80", Address("http://h:80", "h", 80, False)),
        ("https://h:443/", Address("https://h:443", "h", 443, True)),
        ("h:80", Address("http://h:80", "h", 80, False)),
        ("  h:80\n", Address("http://h:80", "h", 80, False)),
        ("h", Address("http://h:8368", "h", 8_368, False)),
        ("https://h", Address("https://h:8368", "h", 8_368, True)),
        ("HTTP://My-Host.Example:00080", Address("http://my-host.example:80", "my-host.example", 80, False)),
        ("[::1]:80", Address("http://[::1]:80", "::1", 80, False)),
        ("http://[::1]", Address("http://[::1]:8368", "::1", 8_368, False)),
        ("[FE80::1%Eth0]:80", Address("http://[fe80::1%Eth0]:80", "fe80::1%Eth0", 80, False)),
        ("bücher.example:80", Address("http://bücher.example:80", "bücher.example", 80, False)),
    ],
)
def test_an_endpoint_is_a_url_or_a_host_and_its_port(text: str, read: Address) -> None:
    assert address(text) == read


@pytest.mark.parametrize("port", ["0", "00", "65536", "-1", "+1", " 1", "1_0", "٣", "²", "x", "", "1" * 5_000])
@pytest.mark.parametrize("before", ["", "http://", "https://"])
def test_a_port_that_nobody_could_come_to_makes_no_endpoint(before: str, port: str) -> None:
    with pytest.raises(Invalid, match="endpoints: must be HOST:PORT with a port from 1 to 65535") as caught:
        address(f"{before}h:{port}")
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "host",
    [
        *("[]", "]", "[", "[[::1]]", "::1]", "[::1", "[h]", "[10.0.0.1]", "h]", "x[::1]", "[::1]x", ":1", "a:b", "::1"),
        *(
            "h/x",
            "h/x/",
            "h?x",
            "h#x",
            "me@h",
            "me:secret@h",
            "h\\x",
            "h%41",
            "a b",
            "h\tx",
            "h\nx",
            "h\0x",
            "h\u202ex",
        ),
        "ftp://h",
    ],
)
@pytest.mark.parametrize("before", ["", "http://"])
def test_what_is_no_host_makes_no_endpoint(before: str, host: str) -> None:
    for text in (f"{before}{host}:80", f"{before}{host}"):
        with pytest.raises(Invalid, match="endpoints: must") as caught:
            address(text)
        assert str(caught.value).isprintable(), "nothing of it reaches a terminal as it is"


@pytest.mark.parametrize("text", ["http://", "http:///", "//h:80", "://h:80", "ws://h:80", "http//h:80", "http:h:80"])
def test_half_a_url_is_none(text: str) -> None:
    with pytest.raises(Invalid, match="endpoints: must"):
        address(text)


def test_of_several_the_one_that_is_none_is_shown() -> None:
    with pytest.raises(Invalid, match=r"endpoints: .*got 'h2:0'"):
        endpoints("http://h1:80, http://h2:0, http://h3:80")
    assert endpoints("h1, H1:8368, http://h2:1/") == ("http://h1:8368", "http://h2:1")
