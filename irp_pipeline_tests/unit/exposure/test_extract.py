"""Extracting files: what arrives in the Parquet file, and what is said about a file that cannot be read."""

import bz2
import errno
import gzip
import os
import signal
import subprocess
import sys
import time
import zipfile
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from irp_pipeline.exposure import ExposureError
from irp_pipeline.exposure.extract import Extract, extract
from irp_pipeline.exposure.oed import OedTable
from irp_pipeline.exposure.readers.sources import FileSource

HEADER = "PortNumber,AccNumber,LocNumber,PostalCode,CountryCode,BuildingTIV,NumberOfStoreys,LocCurrency\n"


def extract_csv(folder: Path, text: str | bytes, name: str = "location.csv", encoding: str = "utf-8") -> Extract:
    file = folder / name
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return extract(FileSource(file, encoding), OedTable.LOCATION, folder / "location.parquet")


def rows_of(result: Extract) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = pq.read_table(result.path).to_pylist()
    return rows


def test_a_csv_file_arrives_with_the_types_of_oed(tmp_path) -> None:
    result = extract_csv(tmp_path, HEADER + "001,A01,0007,01234,US,1500.25,2,USD\n001,A01,0008,,US,,,USD\n")
    assert result.rows == 2
    assert result.columns == tuple(HEADER.strip().split(","))
    assert result.source == "location.csv"
    assert rows_of(result) == [
        {
            "PortNumber": "001",
            "AccNumber": "A01",
            "LocNumber": "0007",
            "PostalCode": "01234",
            "CountryCode": "US",
            "BuildingTIV": 1500.25,
            "NumberOfStoreys": 2,
            "LocCurrency": "USD",
        },
        {
            "PortNumber": "001",
            "AccNumber": "A01",
            "LocNumber": "0008",
            "PostalCode": None,
            "CountryCode": "US",
            "BuildingTIV": None,
            "NumberOfStoreys": None,
            "LocCurrency": "USD",
        },
    ]


def test_na_is_namibia_and_not_an_empty_cell(tmp_path) -> None:
    result = extract_csv(tmp_path, "LocNumber,CountryCode,AreaCode\n1,NA,N/A\n")
    assert rows_of(result) == [{"LocNumber": "1", "CountryCode": "NA", "AreaCode": None}]


def test_whole_numbers_written_with_a_fraction_and_blanks_around_numbers_are_read(tmp_path) -> None:
    result = extract_csv(tmp_path, "LocNumber,NumberOfStoreys,BuildingTIV\n1,2.0, 10.5 \n2, ,1e6\n")
    assert rows_of(result) == [
        {"LocNumber": "1", "NumberOfStoreys": 2, "BuildingTIV": 10.5},
        {"LocNumber": "2", "NumberOfStoreys": None, "BuildingTIV": 1e6},
    ]


def test_a_byte_order_mark_semicolons_and_quoted_line_breaks_are_read(tmp_path) -> None:
    result = extract_csv(tmp_path, '\ufeffLocNumber;City;LocPerilsCovered\r\n01;"New\nYork";"WTC;WSS"\r\n')
    assert rows_of(result) == [{"LocNumber": "01", "City": "New\nYork", "LocPerilsCovered": "WTC;WSS"}]


@pytest.mark.parametrize("name", ["location.csv.gz", "location.csv.bz2", "location.zip"])
def test_compressed_files_give_the_same_extract(tmp_path, name) -> None:
    text = (HEADER + "1,A,7,01234,US,1.5,2,USD\n").encode()
    if name.endswith(".zip"):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("location.csv", text)
    else:
        (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith(".gz") else bz2.compress(text))
    packed = extract(FileSource(tmp_path / name), OedTable.LOCATION, tmp_path / "packed.parquet")
    plain = extract_csv(tmp_path, text)
    assert packed.sha256 == plain.sha256


def test_another_encoding_can_be_given(tmp_path) -> None:
    result = extract_csv(tmp_path, "LocNumber,City\n1,Zürich\n".encode("cp1252"), encoding="cp1252")
    assert rows_of(result) == [{"LocNumber": "1", "City": "Zürich"}]


def test_a_parquet_file_is_brought_to_the_types_of_oed(tmp_path) -> None:
    source = pa.table(
        {
            "portnumber": pa.array([1, 2], pa.int32()),
            "LocNumber": pa.array(["01", "02"]).dictionary_encode(),
            "BuildingTIV": pa.array([Decimal("10.10"), None], pa.decimal128(12, 2)),
            "OtherTIV": pa.array([1.5, float("nan")], pa.float32()),
            "NumberOfStoreys": pa.array([2.0, None]),
            "PostalCode": pa.array([1234.0, 99.0]),
            "LocInceptionDate": pa.array([date(2024, 1, 31), None]),
            "LocExpiryDate": pa.array([datetime(2024, 12, 31), datetime(2024, 12, 31, 12)]),  # noqa: DTZ001
            "IsTenant": pa.array([True, False]),
            "AreaName": pa.nulls(2),
        }
    )
    pq.write_table(source, tmp_path / "source.parquet")
    result = extract(FileSource(tmp_path / "source.parquet"), OedTable.LOCATION, tmp_path / "location.parquet")
    assert rows_of(result) == [
        {
            "PortNumber": "1",
            "LocNumber": "01",
            "BuildingTIV": 10.1,
            "OtherTIV": 1.5,
            "NumberOfStoreys": 2,
            "PostalCode": "1234",
            "LocInceptionDate": "2024-01-31",
            "LocExpiryDate": "2024-12-31",
            "IsTenant": 1,
            "AreaName": None,
        },
        {
            "PortNumber": "2",
            "LocNumber": "02",
            "BuildingTIV": None,
            "OtherTIV": None,
            "NumberOfStoreys": None,
            "PostalCode": "99",
            "LocInceptionDate": None,
            "LocExpiryDate": "2024-12-31 12:00:00",
            "IsTenant": 0,
            "AreaName": None,
        },
    ]


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        (pa.array([100000000000001.0, float("nan"), None]), ["100000000000001", None, None]),
        (pa.array([2.0**53, 0.0, -0.0]), ["9007199254740992", "0", "0"]),
        (pa.array([16777216.0, None], pa.float32()), ["16777216", None]),
        (pa.array([2**62 + 1, None]), ["4611686018427387905", None]),
        (pa.array([2**64 - 1], pa.uint64()), ["18446744073709551615"]),
        (pa.array([Decimal("12345678901234567890.00"), Decimal("0E-8")]), ["12345678901234567890", "0"]),
        (pa.array(["007", "1e5", "1.0"]), ["007", "1e5", "1.0"]),
        (pa.array(["007"]).dictionary_encode(), ["007"]),
        (pa.array([None], pa.bool_()), [None]),
    ],
)
def test_identifiers_of_a_parquet_file_become_the_text_they_stand_for(tmp_path, values, texts) -> None:
    pq.write_table(pa.table({"LocNumber": values}), tmp_path / "source.parquet")
    result = extract(FileSource(tmp_path / "source.parquet"), OedTable.LOCATION, tmp_path / "location.parquet")
    assert [row["LocNumber"] for row in rows_of(result)] == texts


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (pa.array([1.0, 1.5]), "record 2, column LocNumber: 1.5 has a fraction, so it is not an identifier"),
        (pa.array([1.0, 2.0**53 + 2]), "record 2, column LocNumber: .* so large that another number could be meant"),
        (
            pa.array([16777218.0], pa.float32()),
            "record 1, column LocNumber: .* so large that another number could be meant",
        ),
        (pa.array([float("inf")]), "record 1, column LocNumber: inf is not an identifier"),
        (pa.array([Decimal("1.50")]), "record 1, column LocNumber: 1.50 has a fraction"),
        (pa.array([None, True]), "record 2, column LocNumber: True is a boolean, not an identifier"),
        (pa.array([date(2024, 1, 31)]), "record 1, column LocNumber: 2024-01-31 is a date or time, not an identifier"),
    ],
)
def test_what_cannot_be_an_identifier_is_refused_with_its_place(tmp_path, values, message) -> None:
    pq.write_table(pa.table({"LocNumber": values}), tmp_path / "source.parquet")
    with pytest.raises(ExposureError, match=f"^source.parquet, {message}"):
        extract(FileSource(tmp_path / "source.parquet"), OedTable.LOCATION, tmp_path / "location.parquet")


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        (
            "BuildingTIV",
            ["1234.5", "850.000"],
            "record 2, .*: the text '850.000' can be 850 or 850,000: give the column",
        ),
        ("BuildingTIV", pa.array(["1.250"]).dictionary_encode(), "record 1, .*: the text '1.250' can be 1.25 or 1,250"),
        ("NumberOfBuildings", ["2.000"], "record 1, .*: the text '2.000' can be 2 or 2,000"),
        ("BuildingTIV", [None, True], "record 2, .*: True is not a number"),
        ("LocNumber", ["1", "2\0"], r"record 2, .*: '2\\x00' contains a NUL character"),
        ("LocInceptionDate", [2460341.5], "record 1, .*: 2460341.5 has a fraction, so it is not a date"),
    ],
)
def test_what_can_be_read_in_two_ways_or_in_none_is_refused_with_its_place(tmp_path, column, values, message) -> None:
    pq.write_table(pa.table({column: values}), tmp_path / "source.parquet")
    with pytest.raises(ExposureError, match=f"^source.parquet, {message}"):
        extract(FileSource(tmp_path / "source.parquet"), OedTable.LOCATION, tmp_path / "location.parquet")


def test_text_that_can_only_be_one_number_is_read(tmp_path) -> None:
    values = {"BuildingTIV": ["1234.500", " 850.0 ", "0.125"], "Latitude": ["51.123", "-0.500", None]}
    pq.write_table(pa.table(values), tmp_path / "source.parquet")
    result = extract(FileSource(tmp_path / "source.parquet"), OedTable.LOCATION, tmp_path / "location.parquet")
    assert [row["BuildingTIV"] for row in rows_of(result)] == [1234.5, 850.0, 0.125]
    assert [row["Latitude"] for row in rows_of(result)] == [51.123, -0.5, None]


def test_columns_of_the_user_take_any_value_as_text(tmp_path) -> None:
    values = {"LocUserDef1": [1.5, 2.0], "FlexiLocNew": [True, False], "Mine": [Decimal("1.50"), Decimal("2.00")]}
    pq.write_table(pa.table(values), tmp_path / "source.parquet")
    result = extract(FileSource(tmp_path / "source.parquet"), OedTable.LOCATION, tmp_path / "location.parquet")
    assert rows_of(result) == [
        {"LocUserDef1": "1.5", "FlexiLocNew": "1", "Mine": "1.50"},
        {"LocUserDef1": "2", "FlexiLocNew": "0", "Mine": "2"},
    ]


def test_the_schema_does_not_depend_on_the_data(tmp_path) -> None:
    """One file has nothing but empty cells where the other one has values, and far more rows than fit a batch."""
    empty = extract_csv(tmp_path, HEADER + "1,,,,,,,\n" * 200_000)
    empty_schema = pq.read_schema(empty.path)
    full = extract_csv(tmp_path, HEADER + "1,,,,,,,\n" * 200_000 + "1,A,7,01234,US,1.5,2,USD\n")
    assert pq.read_schema(full.path) == empty_schema
    assert pq.read_table(full.path).column("BuildingTIV").to_pylist()[-2:] == [None, 1.5]


def test_the_same_rows_give_the_same_file(tmp_path) -> None:
    text = HEADER + "".join(f"1,A{number},7,01234,US,{number}.5,2,USD\n" for number in range(1000))
    first, again = extract_csv(tmp_path, text), extract_csv(tmp_path, text)
    changed = extract_csv(tmp_path, text.replace("A999", "A998"))
    assert first.sha256 == again.sha256 != changed.sha256


def test_progress_tells_the_rows_so_far(tmp_path) -> None:
    (tmp_path / "location.csv").write_text(HEADER + "1,A,7,01234,US,1.5,2,USD\n" * 300_000)
    told: list[int] = []
    extract(
        FileSource(tmp_path / "location.csv"),
        OedTable.LOCATION,
        tmp_path / "location.parquet",
        progress=told.append,
    )
    assert told == sorted(told)
    assert len(told) > 1
    assert told[-1] == 300_000


def test_all_misfits_of_a_batch_are_named_with_row_and_column(tmp_path) -> None:
    text = HEADER + "1,A,7,01234,US,1.5,2,USD\n" * 3 + "1,A,8,1,US,a lot,2.5,USD\n"
    with pytest.raises(ExposureError) as caught:
        extract_csv(tmp_path, text)
    assert str(caught.value).splitlines() == [
        "location.csv, line 5, column BuildingTIV: 'a lot' is not a number",
        "location.csv, line 5, column NumberOfStoreys: '2.5' is not a whole number between -2147483648 and 2147483647",
    ]


def test_a_misfit_is_found_in_a_later_batch_too(tmp_path) -> None:
    text = HEADER + "1,A,7,01234,US,1.5,2,USD\n" * 250_000 + "1,A,8,1,US,1.5.1,2,USD\n"
    with pytest.raises(ExposureError, match=r"line 250002, column BuildingTIV: '1\.5\.1'"):
        extract_csv(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the first row is empty"),
        (HEADER, "has no location record at all"),
        (HEADER + "1,A,7,01234,US,1.5,2,USD\n1,A,8\n", r"line 3: 3 cells, but the first row names 8 columns"),
        (HEADER + "1,A,7,01234,US,1,500.25,2,USD\n", r"line 2: 9 cells, but .* must be in quotation marks"),
        ("LocNumber,locnumber\n1,2\n", "LocNumber occurs twice"),
        ("LocNumber,City\n1,a\n2,Z\xfcrich\n".encode("latin-1"), "line 3: not utf-8 text; .* Save it as 'CSV UTF-8'"),
        ("LocNumber,City\xfc\n1,a\n".encode("latin-1"), "line 1: not utf-8 text"),
        ('LocNumber,City\n1,"Miami\n2,Tampa\n3,Orlando\n', "a quotation mark is opened and never closed"),
        (HEADER + "1,A,7,01234,US,inf,2,USD\n", "line 2, column BuildingTIV: 'inf' is not a number"),
        (HEADER + "1,A,7,01234,US,1,99999999999,USD\n", "line 2, column NumberOfStoreys: '99999999999'"),
    ],
)
def test_a_broken_csv_file_is_told_with_its_place(tmp_path, text, message) -> None:
    with pytest.raises(ExposureError, match=message):
        extract_csv(tmp_path, text)
    assert [file.name for file in tmp_path.iterdir()] == ["location.csv"]


def test_a_cell_with_a_line_break_at_the_end_of_the_file_is_no_fault(tmp_path) -> None:
    result = extract_csv(tmp_path, 'LocNumber,City\n1,"New\nYork\n"\n')
    assert rows_of(result) == [{"LocNumber": "1", "City": "New\nYork\n"}]


def test_a_missing_file_and_a_workbook_are_refused(tmp_path) -> None:
    with pytest.raises(ExposureError, match=r"there is no file .*nowhere\.csv"):
        extract(FileSource(tmp_path / "nowhere.csv"), OedTable.LOCATION, tmp_path / "x.parquet")
    (tmp_path / "location.xlsx").write_bytes(b"PK")
    with pytest.raises(ExposureError, match="Save it as CSV"):
        extract(FileSource(tmp_path / "location.xlsx"), OedTable.LOCATION, tmp_path / "x.parquet")


@pytest.mark.parametrize("name", ["location.parquet", "location.csv.gz", "location.zip"])
def test_a_file_that_is_not_what_its_name_says_is_refused(tmp_path, name) -> None:
    (tmp_path / name).write_bytes(b"LocNumber,City\n1,Miami\n")
    with pytest.raises(ExposureError, match=f"{name} cannot be read"):
        extract(FileSource(tmp_path / name), OedTable.LOCATION, tmp_path / "x.parquet")


def test_a_failed_extraction_leaves_the_earlier_file_as_it_was(tmp_path) -> None:
    result = extract_csv(tmp_path, HEADER + "1,A,7,01234,US,1.5,2,USD\n")
    before = result.path.read_bytes()
    with pytest.raises(ExposureError):
        extract_csv(tmp_path, HEADER + "1,A,7,01234,US,broken,2,USD\n")
    assert result.path.read_bytes() == before
    assert sorted(file.name for file in tmp_path.iterdir()) == ["location.csv", "location.parquet"]


def test_a_killed_extraction_leaves_nothing_that_looks_done_and_the_next_one_tidies_up(tmp_path) -> None:
    (tmp_path / "location.csv").write_text(HEADER + "1,A,7,01234,US,1.5,2,USD\n" * 400_000)
    program = (
        "import os, signal; from pathlib import Path\n"
        "from irp_pipeline.exposure.extract import extract\n"
        "from irp_pipeline.exposure.oed import OedTable\n"
        "from irp_pipeline.exposure.readers.sources import FileSource\n"
        "extract(FileSource(Path('location.csv')), OedTable.LOCATION, Path('location.parquet'),\n"
        "        progress=lambda rows: os.kill(os.getpid(), signal.SIGKILL))"
    )
    killed = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=False)
    assert killed.returncode == -signal.SIGKILL
    left = [file for file in tmp_path.iterdir() if file.name != "location.csv"]
    assert [file.suffix for file in left] == [".partial"]

    an_hour_ago = time.time() - 3600
    os.utime(left[0], (an_hour_ago, an_hour_ago))
    extract(FileSource(tmp_path / "location.csv"), OedTable.LOCATION, tmp_path / "location.parquet")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["location.csv", "location.parquet"]


def test_a_compressed_file_that_breaks_off_is_refused(tmp_path) -> None:
    whole = gzip.compress((HEADER + "1,A,7,01234,US,1.5,2,USD\n" * 1000).encode())
    (tmp_path / "location.csv.gz").write_bytes(whole[:-20])
    with pytest.raises(ExposureError, match=r"location\.csv\.gz cannot be read"):
        extract(FileSource(tmp_path / "location.csv.gz"), OedTable.LOCATION, tmp_path / "x.parquet")


def test_a_place_that_cannot_be_written_to_is_named(tmp_path) -> None:
    (tmp_path / "location.csv").write_text(HEADER + "1,A,7,01234,US,1.5,2,USD\n")
    (tmp_path / "folder").write_text("a file")
    with pytest.raises(ExposureError, match=r"folder/x\.parquet cannot be written"):
        extract(FileSource(tmp_path / "location.csv"), OedTable.LOCATION, tmp_path / "folder" / "x.parquet")


def test_a_full_disk_is_told_as_such_and_not_as_a_broken_source(tmp_path) -> None:
    result = extract_csv(tmp_path, HEADER + "1,A,7,01234,US,1.5,2,USD\n")

    def fill_the_disk(rows: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(ExposureError, match=r"again\.parquet cannot be written: .*No space left"):
        extract(FileSource(result.path), OedTable.LOCATION, tmp_path / "again.parquet", progress=fill_the_disk)
    assert not (tmp_path / "again.parquet").exists()


def test_only_locations_have_control_totals(tmp_path) -> None:
    with pytest.raises(ValueError, match="only a location table has control totals, not account"):
        extract(FileSource(tmp_path / "a.csv"), OedTable.ACCOUNT, tmp_path / "a.parquet", with_totals=True)
