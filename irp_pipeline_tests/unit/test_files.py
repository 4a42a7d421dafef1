"""Folders and files that are made below one that only its owner can enter are the owner's alone, whatever the umask."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from irp_pipeline.files import appearing_when_whole, make_folder, write_atomically


@pytest.fixture(autouse=True)
def usual_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


@pytest.mark.parametrize(("above", "folders", "files"), [(0o700, 0o700, 0o600), (0o755, 0o755, 0o644)])
def test_privacy_is_inherited(tmp_path: Path, above: int, folders: int, files: int):
    place = tmp_path / "place"
    place.mkdir()
    place.chmod(above)
    made = make_folder(place / "a" / "b")
    write_atomically(place / "c" / "d" / "file.json", "{}")
    with appearing_when_whole(made / "replaced") as partial:
        partial.unlink()
        partial.write_text("another file under the same name")
    assert {mode(path) for path in (place / "a", made, place / "c", place / "c" / "d")} == {folders}
    assert {mode(path) for path in (place / "c" / "d" / "file.json", made / "replaced")} == {files}


def test_a_link_to_a_file_of_somewhere_else_leaves_that_one_as_it_is(tmp_path: Path):
    original, private = tmp_path / "original", tmp_path / "private"
    original.touch(mode=0o644)
    private.mkdir(mode=0o700)
    with appearing_when_whole(private / "link") as partial:
        partial.unlink()
        os.link(original, partial)
    assert mode(original) == 0o644


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_root_makes_below_somebodys_folder_belongs_to_that_one(tmp_path: Path):
    place = tmp_path / "place"
    place.mkdir(mode=0o700)
    os.chown(place, 65534, 65534)
    write_atomically(place / "a" / "file", "x")
    assert [path.stat().st_uid for path in (place / "a", place / "a" / "file")] == [65534, 65534]
