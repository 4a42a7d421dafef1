"""Files that people put into the store, or at an address: the copy on this machine is as new as they are."""

import os
from pathlib import Path

import pytest

from irp_pipeline import settings, store
from irp_pipeline.columns.paths import resolve_path
from irp_pipeline.store.finding import place_at, place_of_cycles


@pytest.fixture(autouse=True)
def _always_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("irp_pipeline.store.named._LOOK_AGAIN_SECONDS", -1)


def put(tmp_path: Path, key: str, content: str) -> None:
    source = tmp_path / "of a person"
    source.write_text(content)
    store.put(source, key)


@pytest.mark.usefixtures("files_elsewhere")
def test_a_source_is_as_new_as_in_the_store(tmp_path: Path):
    data = settings.cycle_dir("public", "Q1-2024")
    for content in ("LocNumber\n1\n", "LocNumber\n2\n", "LocNumber\n"):
        put(tmp_path, "public/Q1-2024/property/location.csv", content)
        assert resolve_path(data, "property\\location.csv").read_text() == content
    resolve_path(data, "property/location.csv").write_text("changed here")
    assert resolve_path(data, "./property/location.csv").read_text() == "LocNumber\n"
    place_of_cycles().remove("public/Q1-2024/property/location.csv")
    assert not resolve_path(data, "property/location.csv").exists()


@pytest.mark.usefixtures("files_elsewhere")
def test_a_file_that_is_only_here_stays(tmp_path: Path):
    data = settings.cycle_dir("public", "Q1-2024")
    data.mkdir(parents=True)
    (data / "location.csv").write_text("here")
    assert resolve_path(data, "location.csv").read_text() == "here"
    put(tmp_path, "public/Q1-2024/location.csv", "there")
    assert resolve_path(data, "location.csv").read_text() == "there"


@pytest.mark.usefixtures("files_elsewhere")
def test_what_is_unchanged_is_not_copied_again(tmp_path: Path):
    put(tmp_path, "public/Q1-2024/location.csv", "there")
    data = settings.cycle_dir("public", "Q1-2024")
    before = resolve_path(data, "location.csv").stat()
    after = resolve_path(data, "location.csv").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_a_name_may_be_a_path_or_an_address(
    files_elsewhere: Path, tmp_path: Path, bucket: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here.xlsx").touch()
    address = os.environ["IRP_FILES_URL"]
    cycles = settings.cycles_root()
    assert store.path_of_name("here.xlsx") == Path("here.xlsx")
    assert store.path_of_name("shared/book.xlsx") == cycles / "shared/book.xlsx"
    assert store.path_of_name(f"{address}/shared/book.xlsx") == cycles / "shared/book.xlsx"
    assert store.name_of_path(cycles / "shared") == f"{address}/shared"
    assert store.path_of_name("/a/b.xlsx") == Path("/a/b.xlsx")
    assert store.path_of_name("file:///a/b%20c.xlsx") == Path("/a/b c.xlsx")
    assert store.name_of_path(tmp_path) is None
    for name in (f"{bucket}/of others/q1 = 2024/b k.xlsx", bucket):
        assert store.name_of_path(store.path_of_name(name)) == name
        assert store.path_of_name(name).is_relative_to(files_elsewhere / "addresses")


def test_a_file_at_another_address_is_copied(s3_gate, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("IRP_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("IRP_FILES_URL", raising=False)
    place_at(bucket).create("q1/configuration.xlsx", b"a workbook")
    place_at(bucket).create("q1/data/location.csv", b"LocNumber")
    workbook = store.bring(store.path_of_name(f"{bucket}/q1/configuration.xlsx"))
    assert workbook.read_bytes() == b"a workbook"
    assert resolve_path(workbook.parent, "data/location.csv").read_bytes() == b"LocNumber"
    assert not resolve_path(workbook.parent, "data/account.csv").exists()


@pytest.mark.parametrize("name", ["s3://key:hidden@bucket/q1.xlsx", "http://host/hidden.xlsx", "s3://b/../hidden"])
def test_an_address_that_cannot_be_used_is_not_quoted(name: str):
    with pytest.raises(store.StoreError, match=r"The address of a file cannot be used: .*") as refused:
        store.path_of_name(name)
    assert "hidden" not in str(refused.value)
