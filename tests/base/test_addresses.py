"""Addresses as people write them: what names a place that somebody can come to, and what doesn't."""

import pytest

from tenure.base.addresses import host_port
from tenure.base.errors import Invalid
from tenure.client.endpoints import address


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("h:1", ("h", 1)),
        ("10.0.0.1:65535", ("10.0.0.1", 65_535)),
        ("[::1]:8368", ("::1", 8_368)),
        ("h:00080", ("h", 80)),
    ],
)
def test_an_address_is_a_host_and_a_port(text: str, read: tuple[str, int]) -> None:
    assert host_port(text) == read


@pytest.mark.parametrize("port", ["0", "00", "65536", "-1", "+1", " 1", "1 ", "1_0", "٣", "²", "x", "", "1" * 5_000])
def test_a_port_that_nobody_could_come_to_is_none(port: str) -> None:
    with pytest.raises(ValueError, match="HOST:PORT with a port from 1 to 65535"):
        host_port(f"h:{port}")
    if port.strip() not in ("", "1"):  # a URL may leave out its port
        with pytest.raises(Invalid, match="endpoints"):
            address(f"http://h:{port}")


@pytest.mark.parametrize("text", ["", "h", ":1", "1"])
def test_a_host_or_a_port_alone_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match="must be HOST:PORT, got"):
        host_port(text)
