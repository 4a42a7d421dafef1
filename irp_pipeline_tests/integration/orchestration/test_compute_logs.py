"""What ops print is read on any machine, if the files of cycles are elsewhere."""

import json
from pathlib import Path
from typing import Any

import pytest

from irp_pipeline.cycle_files import OF_DAGSTER
from irp_pipeline.orchestration.compute_logs import ComputeLogs, StoredComputeLogs
from irp_pipeline.orchestration.internals import ComputeIOType
from irp_pipeline.store.finding import place_of_cycles
from irp_pipeline_tests.support.gate import Gate

KEY = ["a run", "compute_logs", "extract.extract_exposure"]


def logs() -> Any:
    return ComputeLogs.from_config_value(None, {})


def text_of(manager: Any, io_type: ComputeIOType = ComputeIOType.STDERR) -> str:
    content, _ = manager.get_log_data_for_type(KEY, io_type, 0, None)
    return (content or b"").decode()


def write(manager: Any, text: str) -> None:
    with manager.open_log_stream(KEY, ComputeIOType.STDERR) as stream:
        stream.write(text)


def test_another_machine_reads_them(files_elsewhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    here = logs()
    assert isinstance(here, StoredComputeLogs)
    write(here, "12,598 locations\n")
    monkeypatch.setenv("IRP_HOME", str(tmp_path / "second machine"))
    there = logs()
    assert there.is_capture_complete(KEY)
    assert text_of(there) == "12,598 locations\n"
    assert text_of(there, ComputeIOType.STDOUT) == ""
    assert there.get_log_metadata(KEY).stderr_location.endswith("/a run/compute_logs/extract.extract_exposure.err")
    json.dumps(there.get_log_metadata(KEY)._asdict())
    there.delete_logs(log_key=KEY)
    assert not there.is_capture_complete(KEY)
    write(here, "again")
    there.delete_logs(prefix=["a run"])
    assert not list(place_of_cycles().list(OF_DAGSTER))


def test_another_machine_reads_them_while_they_are_written(
    files_elsewhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    here = logs()
    with here.local_manager.open_log_stream(KEY, ComputeIOType.STDERR) as stream:
        stream.write("half\n")
        stream.flush()
        here.on_progress(KEY)
        monkeypatch.setenv("IRP_HOME", str(tmp_path / "second machine"))
        there = logs()
        assert not there.is_capture_complete(KEY)
        assert text_of(there) == "half\n"


def test_a_store_that_is_away_stops_no_op(
    s3_gate: Gate, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setenv("IRP_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("IRP_FILES_URL", bucket)
    monkeypatch.setattr("irp_pipeline.store.patience.SECONDS", 0.1)
    manager = logs()
    s3_gate.refuse()
    write(manager, "12,598 locations\n")
    assert "What an op printed is not in the store of files: Cannot write" in caplog.text


def test_without_a_store_they_are_in_irp_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("IRP_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("IRP_FILES_URL", raising=False)
    manager = logs()
    write(manager, "here")
    assert text_of(manager) == "here"
    assert [path.suffix for path in (tmp_path / "home" / "dagster" / "logs").rglob("extract*")] == [".err"]
