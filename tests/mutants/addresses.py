"""Bugs of how addresses are read: what names no place that somebody can come to is refused where it is said (P7)."""

from tests.mutants.mutant import Mutant

MUTANTS = (
    Mutant(
        "port-0-is-an-address", "P7", "base/addresses.py",
        "and 0 < int(port) <= port_max):\n",
        "and int(port) <= port_max):\n",
        "a member listens at whatever port is free, and is told of as at port 0",
        ("base/test_addresses.py::test_a_port_that_nobody_could_come_to_is_none",),
    ),
    Mutant(
        "digits-of-any-script", "P7", "base/addresses.py",
        "    if not (port.isascii() and port.isdigit() and ",
        "    if not (port.isdigit() and ",
        "two addresses that are compared, and differ, are one place",
        ("base/test_addresses.py::test_a_port_that_nobody_could_come_to_is_none",),
    ),
    Mutant(
        "hidden-marks-in-a-host", "P7", "base/addresses.py",
        'unicodedata.category(mark)[0] in "CZ" for mark',
        "mark.isspace() for mark",
        "a host shows as another one, or commands the terminal of who looks at it",
        ("base/test_addresses.py::test_what_is_no_host_makes_no_address",),
    ),
    Mutant(
        "marks-of-urls-in-a-host", "P7", "base/addresses.py",
        "any(mark in ends or ",
        "any(",
        "what is put into a URL there means another host, or ends it early",
        (
            "base/test_addresses.py::test_what_is_no_host_makes_no_address",
            "client/test_endpoints.py::test_what_is_no_host_makes_no_endpoint",
        ),
    ),
    Mutant(
        "brackets-around-a-name", "P7", "base/addresses.py",
        '((in_brackets or ":" in bare) and not is_six)',
        '(":" in bare and not is_six)',
        "[h]:80 and h:80 are two addresses of one place",
        ("base/test_addresses.py::test_what_is_no_host_makes_no_address",),
    ),
    Mutant(
        "bare-version-six-with-a-default-port", "P7", "base/addresses.py",
        "    is_six = (in_brackets or default is None) and ",
        "    is_six = ",
        "of fe80::1:80 the end is taken for the port, although one may be left out",
        ("base/test_addresses.py::test_with_a_default_too_it_is_a_host_and_a_port",),
    ),
)  # fmt: skip
