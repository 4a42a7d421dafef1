"""Factors by segment: which tables and models are refused, and what Oasis LMF is given."""

import struct
from pathlib import Path
from typing import Any

import pytest

from irp_pipeline.engines.oasis.amplify import Amplify
from irp_pipeline.engines.oasis.failures import OasisError
from irp_pipeline.engines.oasis.model import Model
from irp_pipeline.engines.oasis.multiplier import amplification
from irp_pipeline.engines.oasis.segment_factors import by_segment

REQUEST: dict[str, Any] = {"analysis": {"loss_multiplier": 2.0}}


@pytest.fixture
def job(tmp_path: Path) -> Path:
    """The folder of a job with three locations, beside a table and the data of a model with two events."""
    folder = tmp_path / "job"
    (folder / "inputs").mkdir(parents=True)
    (folder / "inputs" / "location.csv").write_text("LocNumber,OccupancyCode\n1,1050\n2,1100\n3,1050\n")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "events_p.bin").write_bytes(struct.pack("<ii", 5, 9))
    return folder


def prepared(job: Path, table: str, **configuration: Any) -> tuple[dict[str, str], list[str]]:
    path = job.parent / "factors.csv"
    path.write_text(table)
    model = Model(job.parent, {"model_data_dir": "data", **configuration}, {})
    return by_segment(job, REQUEST | {"segment_multipliers": str(path)}, model)


def test_each_location_gets_the_id_of_its_factor_and_each_event_all_factors(job: Path) -> None:
    entries, unused = prepared(job, "OccupancyCode,factor\n1050,1.5\n1200,3\n")
    assert unused == ["line 3 of factors.csv: no location has OccupancyCode 1200"]
    expected = b"\0\0\0\0" + b"".join(struct.pack("<iiifif", event, 2, 1, 2.0, 2, 3.0) for event in (5, 9))
    assert (Path(entries["user_data_dir"]) / "lossfactors.bin").read_bytes() == expected
    assert Path(entries["post_file_gen_setting_json"]).read_text() == '{"amplification_of_row": [2, 1, 2]}'


def test_items_get_the_ids_of_their_locations(tmp_path: Path) -> None:
    (tmp_path / "gul_summary_map.csv").write_text("item_id,loc_idx\n2,1\n1,0.0\n3,1\n")
    hook = Amplify(str(tmp_path), {"amplification_of_row": [7, 8]}, logger=None)
    hook.run()
    assert (tmp_path / "amplifications.bin").read_bytes() == struct.pack("<iiiiiii", 0, 1, 7, 2, 8, 3, 8)
    with pytest.raises(ValueError, match="amplification ids of its own"):
        hook.run()


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("", "must have a column factor and at least one OED field"),
        ("factor\n1\n", "must have a column factor and at least one OED field"),
        ("Occupancy,factor\n1050,2\n", "'Occupancy' is no OED field of the location table"),
        ("OccupancyCode,factor\n1050,0\n", "line 2: the factor 0 must be above 0 and at most 100"),
        ("OccupancyCode,factor\n1050,nan\n", "line 2: the factor nan must be above 0 and at most 100"),
        ("OccupancyCode,factor\n1050,x\n", "line 2: the factor 'x' is not a number"),
        ("OccupancyCode,factor\n1050\n", "line 2: has 1 cells; the header has 2"),
        ("OccupancyCode,factor\n1050,2\n1050,3\n", "line 3: the segment 1050 is there twice"),
        ("OccupancyCode,factor\n1,2\n", "applies to no location of the portfolio: line 2 of factors.csv: no location"),
        ("OccupancyCode,factor\n", "applies to no location of the portfolio: it is empty"),
    ],
)
def test_a_table_that_cannot_be_meant_is_refused(job: Path, table: str, message: str) -> None:
    with pytest.raises(OasisError) as caught:
        prepared(job, table)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("configuration", "message"),
    [
        ({"post_file_gen_module": "hook.py"}, "it changes the files of a run itself (post_file_gen_module)"),
        ({"exposure_pre_analysis_module": "hook.py"}, "it changes the portfolio before it runs"),
        ({"model_custom_gulcalc": "gulcalc"}, "it computes ground-up losses by a program of its own"),
        ({"model_storage_json": "storage.json"}, "its data are in a storage"),
    ],
)
def test_a_model_that_cannot_have_factors_by_segment_is_refused(job: Path, configuration, message) -> None:
    with pytest.raises(OasisError) as caught:
        prepared(job, "OccupancyCode,factor\n1050,2\n", **configuration)
    assert message in str(caught.value)


def test_a_model_with_loss_factors_of_its_own_is_refused(job: Path) -> None:
    (job.parent / "data" / "lossfactors.bin").touch()
    with pytest.raises(OasisError, match="loss factors of its own"):
        prepared(job, "OccupancyCode,factor\n1050,2\n")


def test_without_a_table_nothing_is_written(job: Path) -> None:
    assert by_segment(job, REQUEST, Model(job.parent, {}, {})) == ({}, [])
    assert [path.name for path in job.iterdir()] == ["inputs"]


def test_a_uniform_factor_is_part_of_the_settings_and_refused_where_oasis_lmf_cannot_apply_it() -> None:
    own, custom = Model(Path("m"), {}, {}), Model(Path("m"), {"model_custom_gulcalc": "gulcalc"}, {})
    assert amplification({"loss_multiplier": 1.5}, {}, own) == {"pla": True, "pla_uniform_factor": 1.5}
    assert amplification({"loss_multiplier": 1.5, "segment_multipliers": "t.csv"}, {}, own) == {"pla": True}
    assert amplification({}, {"pla": True}, custom) == {}
    with pytest.raises(OasisError, match="loss_multiplier would replace the loss factors of the model"):
        amplification({"loss_multiplier": 1.0}, {"pla": True}, own)
    with pytest.raises(OasisError, match="computes ground-up losses by a program of its own"):
        amplification({"loss_multiplier": 1.0}, {}, custom)
