"""The shared page with the lease's deadline."""

import mmap
import os
import struct

import pytest

from tenure.agent.page import MAGIC, PAGE_BYTES, Page, Reading, View


def test_what_is_written_is_read() -> None:
    page = Page()
    view = View(page.fd)
    assert view.read() == Reading(0, 0, 0, 0)
    page.write(Reading(1_000, 7, 900, 980))
    assert view.read() == Reading(1_000, 7, 900, 980)
    view.close()
    page.close()


def test_remaining_is_zero_after_the_end_and_for_any_other_term() -> None:
    reading = Reading(1_000, 7, 900, 980)
    assert reading.remaining_us(400, 7) == 600
    assert reading.remaining_us(1_000, 7) == 0
    assert reading.remaining_us(2_000, 7) == 0
    assert reading.remaining_us(400, 6) == 0


@pytest.mark.parametrize("sequence", [3, 4])
def test_a_torn_page_counts_as_no_lease(sequence: int) -> None:
    fd = os.memfd_create("torn")
    os.ftruncate(fd, PAGE_BYTES)
    os.pwrite(fd, MAGIC + struct.pack("@QQQQQQ", sequence, 1_000, 7, 900, 980, 12345), 0)
    view = View(fd)
    assert view.read() == Reading(0, 0, 0, 0)
    view.close()
    os.close(fd)


def test_an_application_cant_lengthen_its_own_lease() -> None:
    page = Page()
    with pytest.raises(PermissionError):
        mmap.mmap(page.fd, PAGE_BYTES)
    with pytest.raises(PermissionError):
        os.pwrite(page.fd, b"x", 16)
    page.write(Reading(1, 1, 1, 1))
    page.close()


def test_what_isnt_a_page_is_refused() -> None:
    fd = os.memfd_create("other")
    os.ftruncate(fd, PAGE_BYTES)
    with pytest.raises(ValueError, match="no page"):
        View(fd)
    os.close(fd)
