"""Addresses as people write them: what names a place that somebody can come to, and what doesn't."""

import pytest

from tenure.base.addresses import host_port


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("h:1", ("h", 1)),
        ("10.0.0.1:65535", ("10.0.0.1", 65_535)),
        ("[::1]:8368", ("::1", 8_368)),
        ("[fe80::1%eth0]:80", ("fe80::1%eth0", 80)),
        ("::1:8368", ("::1", 8_368)),
        ("bücher.example:80", ("bücher.example", 80)),
        ("my_host-1.example.:80", ("my_host-1.example.", 80)),
        ("h:00080", ("h", 80)),
    ],
)
def test_an_address_is_a_host_and_a_port(text: str, read: tuple[str, int]) -> None:
    assert host_port(text) == read


@pytest.mark.parametrize("port", ["0", "00", "65536", "-1", "+1", " 1", "1 ", "1_0", "٣", "²", "x", "", "1" * 5_000])
def test_a_port_that_nobody_could_come_to_is_none(port: str) -> None:
    with pytest.raises(ValueError, match="HOST:PORT with a port from 1 to 65535"):
        host_port(f"h:{port}")


@pytest.mark.parametrize("text", ["", "h", ":1", "1"])
def test_a_host_or_a_port_alone_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match="must be HOST:PORT, got"):
        host_port(text)


@pytest.mark.parametrize(
    "host",
    [
        *("[]", "]", "[", "[[::1]", "[::1]]", "[[::1]]", "::1]", "[::1", "[h]", "[10.0.0.1]", "[h", "h]", "x[::1]"),
        *(
            "http://h",
            "h/x",
            "/",
            "h?x",
            "h#x",
            "me@h",
            "h\\x",
            "h%41",
            "<h>",
            "h^",
            "h|x",
            "[::1%a?b]",
            "a:b",
            "::1::2",
            "h:80",
        ),
        *(
            f"h{mark}x"
            for mark in (" ", "\t", "\n", "\0", "\x7f", "\x85", "\xa0", "\u2028", "\u202e", "\u200b", "\ufeff")
        ),
        *(" h", "h ", "h\u3000", "[::1%a b]", "[::1%\u202e]", "\udc80"),
    ],
)
def test_what_is_no_host_makes_no_address(host: str) -> None:
    with pytest.raises(ValueError, match="must be HOST:PORT with a host") as caught:
        host_port(f"{host}:80")
    assert str(caught.value).isprintable(), "nothing of it reaches a terminal as it is"


@pytest.mark.parametrize(
    ("text", "read"),
    [("h", ("h", 8)), ("h:9", ("h", 9)), ("[::1]", ("::1", 8)), ("[::1]:9", ("::1", 9)), ("10.0.0.1", ("10.0.0.1", 8))],
)
def test_a_port_may_be_left_out_where_there_is_a_default(text: str, read: tuple[str, int]) -> None:
    assert host_port(text, 8) == read


@pytest.mark.parametrize(
    "text", ["", "h:", ":9", "h:0", "::1", "::1:9", "fe80::1:9", "[::1]x", "[::1]:", "[::1]:0", "[]"]
)
def test_with_a_default_too_it_is_a_host_and_a_port(text: str) -> None:
    with pytest.raises(ValueError, match="must be HOST:PORT"):
        host_port(text, 8)
