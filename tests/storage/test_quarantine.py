"""A store that is set aside is kept whole, and leaves a directory in which a new one can be made."""

from pathlib import Path

import pytest

from tenure.storage import Corrupt, Locked, StorageError, Store, set_aside
from tenure.storage.quarantine import quarantined_max


def made(directory: Path) -> str:
    """A store in `directory`, closed; the id that it drew."""
    opened = Store.open(directory, "m1")
    opened.store.close(clean=True)
    return str(opened.identity.member)


def names(directory: Path) -> set[str]:
    return {one.name for one in directory.iterdir()}


def test_everything_is_kept_and_a_new_store_has_a_new_id(tmp_path: Path) -> None:
    directory = tmp_path / "m1"
    old = made(directory)
    before = {one.name: one.read_bytes() for one in directory.iterdir() if one.name != "lock"}
    aside = set_aside(directory, "a page was damaged")
    assert aside == directory / "quarantined-1"
    assert {one.name: one.read_bytes() for one in aside.iterdir() if one.name != "why"} == before
    assert (aside / "why").read_text(encoding="utf-8") == "a page was damaged\n"
    opened = Store.open(directory, "m1")
    assert opened.created
    assert opened.identity.member != old
    opened.store.close(clean=True)
    kept = Store.open(aside, "m1")  # it can be opened, or put back
    assert kept.identity.member == old
    kept.store.close(clean=True)


def test_each_goes_into_a_folder_of_its_own_up_to_a_number(tmp_path: Path) -> None:
    for number in range(quarantined_max):
        made(tmp_path)
        assert set_aside(tmp_path, "again").name == f"quarantined-{number + 1}"
    made(tmp_path)
    before = names(tmp_path)
    with pytest.raises(StorageError, match="set aside here already"):
        set_aside(tmp_path, "again")
    assert names(tmp_path) == before


def test_what_a_process_has_is_not_touched(tmp_path: Path) -> None:
    opened = Store.open(tmp_path, "m1")
    with pytest.raises(Locked):
        set_aside(tmp_path, "no reason")
    assert "quarantined-1" not in names(tmp_path)
    opened.store.close(clean=True)


def test_a_crash_in_the_middle_leaves_what_is_seen_to_be_damaged(tmp_path: Path) -> None:
    """The database goes first: without it nothing that is left can be taken for a store."""
    made(tmp_path)
    (tmp_path / "quarantined-1").mkdir()
    (tmp_path / "tenure.db").rename(tmp_path / "quarantined-1" / "tenure.db")
    with pytest.raises(Corrupt):
        Store.open(tmp_path, "m1")
    assert set_aside(tmp_path, "what was left").name == "quarantined-2"
    assert made(tmp_path)
