"""Publishing and fetching files: the same for IRP_HOME, a shared folder and an S3 server over HTTP."""

import errno
import hashlib
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
import s3fs
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from irp_pipeline import hashes, store
from irp_pipeline import settings as project_settings
from irp_pipeline.store import StoreError
from irp_pipeline.store.finding import place_of_cycles
from irp_pipeline.store.patience import is_worth_another_try, patiently
from irp_pipeline_tests.support.gate import Gate

_CHARACTERS = st.characters(codec="utf-8", exclude_characters="/", exclude_categories=["Cs", "Cc"])

KEY = "public/Q1-2024/results/losses.parquet"


def a_file(folder: Path, content: bytes) -> tuple[Path, str]:
    path = folder / "made.bin"
    path.write_bytes(content)
    return path, hashlib.sha256(content).hexdigest()


def forget_copy(key: str = KEY) -> None:
    (project_settings.cycles_root() / key).unlink()


def other_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IRP_HOME", str(tmp_path / "other machine"))


@pytest.mark.usefixtures("files_anywhere")
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.binary(max_size=3000),
    name=st.text(_CHARACTERS, min_size=1, max_size=30).filter(lambda name: name not in {".", ".."}),
)
def test_what_is_published_is_fetched(content: bytes, name: str, tmp_path_factory: pytest.TempPathFactory):
    source, digest = a_file(tmp_path_factory.mktemp("source"), content)
    key = f"public/Q1-2024/files/{name}"
    store.publish(source, key, digest)
    store.publish(source, key, digest)
    assert store.exists(key, digest)
    fetched = store.fetch(key, digest)
    assert fetched.read_bytes() == content
    assert fetched == project_settings.cycles_root() / key == store.fetch(key, digest)
    assert source.read_bytes() == content
    with pytest.raises(StoreError, match=r"Run the cycle again|is missing or has other content"):
        store.fetch(key, "0" * 64)


def test_another_machine_fetches_it(files_elsewhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    source, digest = a_file(tmp_path, b"losses")
    store.publish(source, KEY, digest)
    other_machine(tmp_path, monkeypatch)
    assert store.exists(KEY, digest)
    assert store.missing([(KEY, digest, 6), (KEY, "0" * 64, 6), (KEY, digest, 7)]) == [KEY, KEY]
    assert store.fetch(KEY, digest).read_bytes() == b"losses"
    assert not list((tmp_path / "other machine").rglob("*.partial"))


def test_versions_stand_beside_each_other_until_one_is_removed(
    files_elsewhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    digests = []
    for content in (b"first", b"second", b"second"):
        source, digest = a_file(tmp_path, content)
        store.publish(source, KEY, digest)
        digests.append(digest)
    found = {(file.key, file.sha256, file.bytes) for file in store.list_published("public/Q1-2024")}
    assert found == {(KEY, digests[0], 5), (KEY, digests[1], 6)}
    assert {file.key for file in store.list_published("public")} == {KEY}
    assert not list(store.list_published("public/Q1"))
    assert store.fetch(KEY, digests[0]).read_bytes() == b"first"
    assert store.fetch(KEY, digests[1]).read_bytes() == b"second"
    store.remove(KEY, digests[0])
    store.remove(KEY, digests[0])
    assert not store.exists(KEY, digests[0])
    assert store.exists(KEY, digests[1])


@pytest.mark.usefixtures("files_elsewhere")
def test_a_damaged_or_missing_copy_is_fetched_again(tmp_path: Path):
    source, digest = a_file(tmp_path, b"losses")
    store.publish(source, KEY, digest)
    copy = store.fetch(KEY, digest)
    for damage in (b"lossez", b"", b"losses and more"):
        copy.write_bytes(damage)
        assert store.fetch(KEY, digest).read_bytes() == b"losses"
    forget_copy()
    assert store.fetch(KEY, digest).read_bytes() == b"losses"


@pytest.mark.usefixtures("files_elsewhere")
def test_a_file_damaged_in_the_store_is_put_aside_and_published_again(tmp_path: Path):
    source, digest = a_file(tmp_path, b"losses")
    store.publish(source, KEY, digest)
    place = place_of_cycles()
    (stored,) = place.list("public/Q1-2024")
    place.remove(stored.key)
    place.create(stored.key, b"lossez")
    with pytest.raises(StoreError, match=r"does not have the SHA-256 .* was put aside as .*\.damaged\. Run the cycle"):
        store.fetch(KEY, digest)
    assert not store.exists(KEY, digest)
    assert not (project_settings.cycles_root() / KEY).exists()
    assert not list(store.list_published("public"))
    assert place.read(f"{stored.key}.damaged") == b"lossez"
    store.publish(source, KEY, digest)
    assert store.fetch(KEY, digest).read_bytes() == b"losses"


@pytest.mark.usefixtures("files_elsewhere")
def test_a_file_cut_short_in_the_store_is_replaced_when_it_is_published(tmp_path: Path):
    source, digest = a_file(tmp_path, b"losses")
    store.publish(source, KEY, digest)
    place = place_of_cycles()
    (stored,) = place.list("public/Q1-2024")
    place.remove(stored.key)
    place.create(stored.key, b"los")
    assert store.missing([(KEY, digest, 6)]) == [KEY]
    store.publish(source, KEY, digest)
    assert store.fetch(KEY, digest).read_bytes() == b"losses"


@pytest.mark.usefixtures("files_elsewhere")
def test_many_publish_and_fetch_the_same_file_at_once(tmp_path: Path):
    content = os.urandom(300_000)
    source, digest = a_file(tmp_path, content)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: store.publish(source, KEY, digest), range(8)))
        fetched = list(pool.map(lambda _: store.fetch(KEY, digest).read_bytes(), range(8)))
    assert all(one == content for one in fetched)
    assert len(list(store.list_published("public"))) == 1
    assert len(list((project_settings.cycles_root() / KEY).parent.iterdir())) == 1


@pytest.mark.usefixtures("files_elsewhere")
def test_a_fetch_that_is_killed_leaves_nothing_that_is_used(tmp_path: Path):
    source, digest = a_file(tmp_path, os.urandom(20_000_000))
    store.publish(source, KEY, digest)
    copy = project_settings.cycles_root() / KEY
    program = f"from irp_pipeline import store\nwhile True: store.fetch({KEY!r}, {digest!r}).unlink()"
    with subprocess.Popen([sys.executable, "-c", program]) as process:
        while not list(copy.parent.glob(".*.partial")):
            assert process.poll() is None
        process.send_signal(signal.SIGKILL)
    with suppress(FileNotFoundError):
        assert hashes.file_sha256(copy, recheck=True) == digest
    assert hashes.file_sha256(store.fetch(KEY, digest), recheck=True) == digest


def test_a_fetched_file_is_not_hashed_again(files_elsewhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    source, digest = a_file(tmp_path, b"losses")
    store.publish(source, KEY, digest)
    store.fetch(KEY, digest)
    reads: list[object] = []
    monkeypatch.setattr(hashlib, "file_digest", lambda *read: reads.append(read))
    assert store.fetch(KEY, digest).read_bytes() == b"losses"
    assert store.exists(KEY, digest)
    assert not reads


def test_on_the_local_default_nothing_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("IRP_HOME", str(tmp_path))
    monkeypatch.delenv("IRP_FILES_URL", raising=False)
    path = project_settings.cycles_root() / KEY
    path.parent.mkdir(parents=True)
    source, digest = a_file(path.parent, b"losses")
    source.rename(path)
    before = path.stat()
    store.publish(path, KEY, digest)
    assert store.fetch(KEY, digest) == path
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert [found for found in project_settings.cycles_root().rglob("*") if found.is_file()] == [path]


@pytest.mark.parametrize("key", ["losses.parquet", "public/losses.parquet", "/public/Q1/a", "public/Q1/../a/b"])
def test_a_key_outside_of_a_cycle_is_refused(files_elsewhere: Path, tmp_path: Path, key: str):
    source, digest = a_file(tmp_path, b"")
    with pytest.raises(StoreError, match="is not the key of a file of a cycle"):
        store.publish(source, key, digest)


@pytest.fixture
def hasty_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """s3fs does not try again by itself."""
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)


@pytest.mark.usefixtures("hasty_library")
def test_a_server_that_is_away_or_throttles_loses_nothing(
    s3_gate: Gate, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("IRP_FILES_URL", bucket)
    monkeypatch.setenv("IRP_HOME", str(tmp_path / "home"))
    source, digest = a_file(tmp_path, b"losses")
    s3_gate.refuse()
    threading.Timer(3, s3_gate.open).start()
    store.publish(source, KEY, digest)
    s3_gate.throttle()
    threading.Timer(2, s3_gate.open).start()
    assert store.fetch(KEY, digest).read_bytes() == b"losses"


@pytest.mark.usefixtures("hasty_library")
def test_a_server_that_stays_away_is_told_without_secrets(
    s3_gate: Gate, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("irp_pipeline.store.patience.SECONDS", 0.5)
    monkeypatch.setenv("IRP_FILES_URL", bucket)
    monkeypatch.setenv("IRP_HOME", str(tmp_path / "home"))
    source, digest = a_file(tmp_path, b"losses")
    s3_gate.refuse()
    wanted = rf"Cannot write .*losses.* in {bucket}: .* It was tried again for some time"
    with pytest.raises(StoreError, match=wanted) as told:
        store.publish(source, KEY, digest)
    assert "secret-of-tests" not in str(told.value)


def test_only_what_may_pass_is_tried_again():
    from botocore import exceptions as botocore

    passing = [
        botocore.EndpointConnectionError(endpoint_url="http://127.0.0.1:1"),
        botocore.ReadTimeoutError(endpoint_url="http://127.0.0.1:1"),
        ConnectionResetError(),
        OSError(errno.EBUSY, "Please reduce your request rate."),
        TimeoutError(),
    ]
    lasting = [
        botocore.NoCredentialsError(),
        botocore.ParamValidationError(report="Bucket"),
        FileNotFoundError(),
        FileExistsError(),
        PermissionError(errno.EACCES, "Access Denied"),
        ValueError(),
    ]
    assert [is_worth_another_try(error) for error in passing] == [True] * len(passing)
    assert [is_worth_another_try(error) for error in lasting] == [False] * len(lasting)


def test_a_failing_request_is_tried_again_until_its_time_is_over(monkeypatch: pytest.MonkeyPatch):
    tries: list[int] = []

    def fails(times: int) -> int:
        tries.append(1)
        if len(tries) <= times:
            raise ConnectionResetError
        return len(tries)

    assert patiently(lambda: fails(2)) == 3
    tries.clear()
    monkeypatch.setattr("irp_pipeline.store.patience.SECONDS", 0.5)
    with pytest.raises(ConnectionResetError):
        patiently(lambda: fails(1000))
    assert 1 < len(tries) < 1000


def test_the_files_of_a_job_are_read_on_another_machine(
    files_elsewhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    job = project_settings.cycle_dir("public", "Q1-2024") / "jobs" / "3-low"
    (job / "results").mkdir(parents=True)
    _, digest = a_file(job / "results", b"losses")
    result = {"files": {"losses": {"path": "results/made.bin", "sha256": digest, "bytes": 6}}}
    (job / "log.txt").symlink_to("/etc/passwd")
    store.publish_job_files(job, result)
    (job / "log.txt").unlink()
    for said in ("half", "all of it"):
        (job / "log.txt").write_text(said)
        store.publish_job_files(job, result)
    store.publish_job_files(job, None)
    other_machine(tmp_path, monkeypatch)
    job = project_settings.cycle_dir("public", "Q1-2024") / "jobs" / "3-low"
    assert store.fetch_job_file(job, "results/made.bin", digest).read_bytes() == b"losses"
    assert store.fetch_job_file(job, "log.txt").read_text() == "all of it"
    with pytest.raises(store.MissingFileError):
        store.fetch_job_file(job.with_name("4-high"), "log.txt")
