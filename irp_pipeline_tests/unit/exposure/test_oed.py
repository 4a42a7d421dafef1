"""The columns of the standard: their spelling and their types."""

import subprocess
import sys

import pytest

from irp_pipeline.exposure import ExposureError
from irp_pipeline.exposure.oed import ColumnType, OedTable, oed_columns


def types_of(table: OedTable, *names: str) -> dict[str, ColumnType]:
    return {column.name: column.type for column in oed_columns(table, names, "test")}


def test_columns_get_the_spelling_of_oed_whatever_their_case() -> None:
    columns = oed_columns(OedTable.LOCATION, ["portnumber", "BUILDINGTIV", " LocNumber "], "test")
    assert [column.name for column in columns] == ["PortNumber", "BuildingTIV", "LocNumber"]
    assert [column.source_name for column in columns] == ["portnumber", "BUILDINGTIV", " LocNumber "]


def test_identifiers_are_text_and_amounts_are_numbers() -> None:
    assert types_of(OedTable.LOCATION, "PortNumber", "PostalCode", "AreaCode", "BuildingTIV", "NumberOfStoreys") == {
        "PortNumber": ColumnType.TEXT,
        "PostalCode": ColumnType.TEXT,
        "AreaCode": ColumnType.TEXT,
        "BuildingTIV": ColumnType.NUMBER,
        "NumberOfStoreys": ColumnType.INTEGER,
    }
    assert types_of(OedTable.ACCOUNT, "PolNumber", "LayerLimit") == {
        "PolNumber": ColumnType.TEXT,
        "LayerLimit": ColumnType.NUMBER,
    }
    assert types_of(OedTable.RI_INFO, "ReinsNumber") == {"ReinsNumber": ColumnType.LARGE_INTEGER}
    assert types_of(OedTable.RI_SCOPE, "CededPercent") == {"CededPercent": ColumnType.NUMBER}


def test_open_ended_columns_keep_their_own_ending() -> None:
    assert types_of(OedTable.LOCATION, "geogscheme1", "flexilocRoofAge", "CommodityVintage2") == {
        "GeogScheme1": ColumnType.TEXT,
        "FlexiLocRoofAge": ColumnType.TEXT,
        "CommodityVintage2": ColumnType.INTEGER,
    }


def test_unknown_columns_are_kept_as_text() -> None:
    assert types_of(OedTable.LOCATION, "MyOwnColumn") == {"MyOwnColumn": ColumnType.TEXT}


def test_a_column_that_occurs_twice_is_named_in_both_spellings() -> None:
    with pytest.raises(
        ExposureError, match=r"loc\.csv: the column BuildingTIV occurs twice.*'BuildingTIV'.*'buildingtiv'"
    ):
        oed_columns(OedTable.LOCATION, ["BuildingTIV", "LocNumber", "buildingtiv"], "loc.csv")


def test_a_column_without_a_name_is_named_by_its_position() -> None:
    with pytest.raises(ExposureError, match="column 2 has no name"):
        oed_columns(OedTable.LOCATION, ["LocNumber", " "], "loc.csv")


def test_importing_the_package_loads_nothing_heavy() -> None:
    program = (
        "import sys, irp_pipeline.exposure.extract, irp_pipeline.exposure.totals, irp_pipeline.exposure.validate\n"
        "print({'pandas', 'pyarrow', 'ods_tools', 'numpy', 'sqlalchemy', 'dagster'} & set(sys.modules))"
    )
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "set()\n"


def test_extracting_a_file_loads_neither_pandas_nor_ods_tools(tmp_path) -> None:
    (tmp_path / "location.csv").write_text("PortNumber,BuildingTIV\n1,5\n")
    program = (
        "import sys; from pathlib import Path\n"
        "from irp_pipeline.exposure.extract import extract\n"
        "from irp_pipeline.exposure.oed import OedTable\n"
        "from irp_pipeline.exposure.readers.sources import FileSource\n"
        "extract(FileSource(Path('location.csv')), OedTable.LOCATION, Path('location.parquet'))\n"
        "print({'pandas', 'ods_tools', 'sqlalchemy', 'dagster'} & set(sys.modules))"
    )
    assert subprocess.check_output([sys.executable, "-c", program], text=True, cwd=tmp_path) == "set()\n"
