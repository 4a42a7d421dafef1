"""The identity of the place where the files of cycles are: made once, and the same for all who share it."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from irp_pipeline import settings
from irp_pipeline.store import StoreError, store_id
from irp_pipeline.store.finding import place_of_cycles
from irp_pipeline.store.identity import IDENTITY


def id_of_another_process(**environment: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", "from irp_pipeline.store import store_id; print(store_id())"],
        env={**os.environ, **environment},
        text=True,
        capture_output=True,
        check=True,
    ).stdout.strip()


@pytest.mark.usefixtures("files_anywhere")
def test_the_identity_is_made_once_and_kept():
    identity = store_id()
    assert len(identity) == 32
    assert set(identity) <= set("0123456789abcdef")
    assert store_id() == id_of_another_process() == identity


@pytest.mark.usefixtures("files_anywhere")
def test_many_who_make_it_at_once_agree():
    place = place_of_cycles()
    if settings.files_url() is None:
        settings.make_irp_home()
    names = [f"{number}".encode() for number in range(16)]
    with ThreadPoolExecutor(16) as pool:
        written = list(pool.map(lambda name: place.create("first.txt", name), names))
    assert place.read("first.txt") == names[written.index(True)]
    assert sum(written) == 1


def test_machines_that_share_files_have_one_identity(files_anywhere: Path, tmp_path: Path):
    other = id_of_another_process(IRP_HOME=str(tmp_path / "other machine"))
    assert (other == store_id()) is (settings.files_url() is not None)


@pytest.mark.usefixtures("files_anywhere")
def test_a_file_of_another_program_is_refused():
    if settings.files_url() is None:
        settings.make_irp_home()
    place_of_cycles().create(IDENTITY, b'{"name": "a shop"}')
    with pytest.raises(StoreError, match=r"store\.json does not hold the identity"):
        store_id()


def test_a_bucket_that_is_not_there_is_told(s3_gate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("IRP_FILES_URL", "s3://not-there/irp")
    with pytest.raises(StoreError, match=r"Cannot read 'store\.json' in s3://not-there/irp: .*AWS_ACCESS_KEY_ID"):
        store_id()


@pytest.mark.parametrize(
    ("url", "wrong"),
    [
        ("/mnt/share", "must be an address"),
        ("ftp://host/irp", "must be an address"),
        ("s3://key:hidden@bucket/irp", "holds a password"),
        ("s3://bucket/irp?token=hidden", "must be an address"),
        ("file://share/irp", "must be absolute"),
        ("s3:///irp", "must be absolute"),
        ("s3://bucket/../other", "must be absolute"),
    ],
)
def test_a_wrong_address_is_refused_without_its_secrets(url: str, wrong: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("IRP_FILES_URL", url)
    with pytest.raises(settings.SettingsError, match=wrong) as refused:
        settings.files_url()
    assert "IRP_FILES_URL" in str(refused.value)
    assert "hidden" not in str(refused.value)
    assert settings.problems()
