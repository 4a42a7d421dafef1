"""How a CSV file is written is found out and told; what can be read in two ways is refused, with the place."""

import zipfile
from decimal import Decimal
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irp_pipeline.exposure import ExposureError
from irp_pipeline.exposure.extract import Extract, extract
from irp_pipeline.exposure.oed import OedTable
from irp_pipeline.exposure.readers.files import open_file
from irp_pipeline.exposure.readers.numerals import with_point, with_points
from irp_pipeline.exposure.readers.opening import open_source
from irp_pipeline.exposure.readers.sources import FileSource
from irp_pipeline.exposure.readers.totals import source_totals
from irp_pipeline.exposure.totals.comparison import whole_totals

CASES = Path(__file__).parents[2] / "cases"
HEADER = "AccNumber,LocNumber,StreetAddress,BuildingTIV,ContentsTIV\n"
ROW = "A,007,1 Main Street,100.5,20\n"


def read(folder: Path, text: str | bytes, name: str = "location.csv", **options: str) -> Extract:
    file = folder / name
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    source = FileSource(file, **options)
    return extract(source, OedTable.LOCATION, folder / "location.parquet", with_totals=True)


def cells(result: Extract, column: str) -> list[object]:
    values: list[object] = pq.read_table(result.path).column(column).to_pylist()
    return values


def tiv(source: FileSource) -> Decimal:
    return sum((total.tiv for total in whole_totals(source_totals(source))), Decimal(0))


class TestCases:
    """Small files that went wrong once, with their right values."""

    def test_stray_quotation_marks_that_swallow_rows_are_refused_with_their_place(self, tmp_path) -> None:
        source = FileSource(CASES / "quote-swallows-rows" / "location.csv")
        with pytest.raises(ExposureError) as caught:
            extract(source, OedTable.LOCATION, tmp_path / "x.parquet")
        assert str(caught.value) == (
            "location.csv, lines 2 to 4, column StreetAddress: a quotation mark in line 2 and one in line 4 make one "
            "cell of 3 lines, which look like separate records. Remove both marks, or double them if they belong there"
        )

    def test_points_before_three_digits_are_asked_about_and_decided_by_the_workbook(self) -> None:
        file = CASES / "dot-thousands" / "location.csv"
        with pytest.raises(ExposureError) as caught:
            source_totals(FileSource(file))
        assert str(caught.value) == (
            "location.csv, line 2, column BuildingTIV: '1.250' can be 1.25 or 1,250: write '.' or ',' in the column "
            "decimal of sheet Portfolios"
        )
        assert tiv(FileSource(file, decimal=",")) == Decimal(971_750)
        assert tiv(FileSource(file, decimal=".")) == Decimal("1471.25")

    def test_a_file_in_cp1252_is_read_once_that_is_said_and_the_error_names_the_column(self, tmp_path) -> None:
        file = CASES / "cp1252-no-encoding-in-workbook" / "location.csv"
        with pytest.raises(ExposureError, match=r"line 2: .*'Zürcher' in cp1252.* the column encoding of sheet Port"):
            extract(FileSource(file), OedTable.LOCATION, tmp_path / "x.parquet")
        result = extract(FileSource(file, "cp1252"), OedTable.LOCATION, tmp_path / "x.parquet")
        assert cells(result, "StreetAddress") == ["Zürcher Str. 5"]

    def test_identifiers_in_a_float_column_stay_what_they_are(self, tmp_path) -> None:
        import pandas as pd

        folder = CASES / "ids-in-float-columns"
        frame = pd.read_csv(folder / "ri_scope.csv")
        assert frame["LocNumber"].dtype == "float64"
        frame.to_parquet(tmp_path / "ri_scope.parquet")
        from_parquet = extract(
            FileSource(tmp_path / "ri_scope.parquet"), OedTable.RI_SCOPE, tmp_path / "from_parquet.parquet"
        )
        from_csv = extract(FileSource(folder / "ri_scope.csv"), OedTable.RI_SCOPE, tmp_path / "from_csv.parquet")
        assert cells(from_parquet, "LocNumber") == ["10000000002", "10000000003", None]
        assert pq.read_table(from_parquet.path).equals(pq.read_table(from_csv.path))


class TestWhatIsFoundIsTold:
    @pytest.mark.parametrize(
        ("text", "reading"),
        [
            (HEADER + ROW, "utf-8, delimiter comma, decimal '.', 2 lines holding 1 record"),
            (
                "\ufeff" + HEADER + ROW,
                "utf-8 with a byte order mark, delimiter comma, decimal '.', 2 lines holding 1 record",
            ),
            (
                (HEADER + ROW).replace(",", ";").replace("100.5", "100,5"),
                "utf-8, delimiter semicolon, decimal ',' in BuildingTIV and '.' elsewhere, 2 lines holding 1 record",
            ),
            (
                (HEADER + ROW).replace(",", "\t").encode("utf-16"),
                "utf-16 with a byte order mark, delimiter tab, decimal '.', 2 lines holding 1 record",
            ),
            (
                HEADER + 'A,007,"1 Main Street,\nTown",100.5,20\n',
                "utf-8, delimiter comma, decimal '.', 3 lines holding 1 record",
            ),
        ],
    )
    def test_encoding_delimiter_decimal_sign_lines_and_records(self, tmp_path, text, reading) -> None:
        result = read(tmp_path, text)
        assert result.reading == reading
        assert cells(result, "LocNumber") == ["007"]
        assert cells(result, "BuildingTIV") == [100.5]


class TestLines:
    """What is not a record is passed over, and places are lines of the file all the same."""

    FAULTY = "A,008,2 Main Street,much,20\n"

    @pytest.mark.parametrize(
        ("text", "line"),
        [
            (HEADER + ROW + FAULTY, 3),
            ("sep=,\r\n" + HEADER + ROW + FAULTY, 4),
            ("\n\n" + HEADER + "\n" + ROW + "   \n" + FAULTY, 7),
            (HEADER + 'A,007,"1 Main Street,\nTown",1,2\n' + FAULTY, 4),
            ((HEADER + ROW + "\n" + FAULTY).replace("\n", "\r\n"), 4),
            ((HEADER + ROW + FAULTY).replace("\n", "\r"), 3),
            (HEADER + ROW + FAULTY + "\x1a", 3),
        ],
    )
    def test_a_misfit_is_found_in_the_line_that_an_editor_shows(self, tmp_path, text, line) -> None:
        with pytest.raises(ExposureError, match=f"^location.csv, line {line}, column BuildingTIV: 'much' is not a num"):
            read(tmp_path, text)

    @pytest.mark.parametrize("end", ["", "\x1a", "\n\x1a\r\n", "\n\n  \n", "\n\n\x1a\x1a"])
    def test_what_programs_end_files_with_is_no_record(self, tmp_path, end) -> None:
        assert cells(read(tmp_path, HEADER + ROW.rstrip() + end), "LocNumber") == ["007"]

    def test_an_extract_knows_the_lines_its_records_came_from(self, tmp_path) -> None:
        result = read(tmp_path, "sep=,\n" + HEADER + 'A,1,"1 Main Street,\nTown",1,2\n' + ROW + "\n" + ROW)
        with open_source(FileSource(result.path), OedTable.LOCATION) as reader:
            places = [reader.locate(record) for record in range(3)]
        assert places == ["location.csv, line 3", "location.csv, line 5", "location.csv, line 7"]

    def test_the_same_records_have_the_same_hash_wherever_they_stand(self, tmp_path) -> None:
        assert read(tmp_path, HEADER + ROW).sha256 == read(tmp_path, "\n\n" + HEADER + "\n" + ROW).sha256

    def test_what_macos_puts_into_archives_is_passed_over(self, tmp_path) -> None:
        with zipfile.ZipFile(tmp_path / "location.zip", "w") as archive:
            for name in ("__MACOSX/._location.csv", "__MACOSX/", ".DS_Store", "data/.DS_Store", "data/._location.csv"):
                archive.writestr(name, b"\0\5\x16\7")
            archive.writestr("data/location.csv", HEADER + ROW)
        result = extract(FileSource(tmp_path / "location.zip"), OedTable.LOCATION, tmp_path / "location.parquet")
        assert cells(result, "LocNumber") == ["007"]

    def test_an_archive_with_two_files_names_them(self, tmp_path) -> None:
        with zipfile.ZipFile(tmp_path / "location.zip", "w") as archive:
            archive.writestr("a.csv", HEADER + ROW)
            archive.writestr("b.csv", HEADER + ROW)
        with pytest.raises(ExposureError, match=r"must contain one CSV file, but contains 2: a\.csv, b\.csv"):
            extract(FileSource(tmp_path / "location.zip"), OedTable.LOCATION, tmp_path / "location.parquet")


class TestRefused:
    @pytest.mark.parametrize(
        ("text", "message"),
        [
            (HEADER + 'A,1,"x,1,2\nB,2,y,1,2\n', "line 2, column StreetAddress: .* never closed, .* line 3 on: 'B,2,y"),
            (HEADER + 'A,1,"x" y,1,2\n', "line 2, column StreetAddress: .* text follows the one that closes it"),
            (HEADER + 'A,1,"x,1,2\nB,2,y",1,2\n', "lines 2 to 3, column StreetAddress: .* separate records"),
            (HEADER + 'A,1,"x,1,2\nB,2,z,1,2\nC,3,y",1,2\n', "lines 2 to 4, column StreetAddress: .* cell of 3 lines"),
            (HEADER + 'A,1,"x\ny",1\n', "lines 2 to 3: 4 cells, but the first row names 5 columns"),
            (HEADER + "A,1,x,1\n", "line 2: 4 cells"),
            (HEADER + ROW + "A,1,x,1,2,3\n", "line 3: 6 cells"),
            (HEADER + "A,1,x\ry,1,2\n", "line 2: 3 cells"),
            (HEADER + ROW + "A,1,x\0y,1,2\n", "line 3, column StreetAddress: contains a NUL"),
            (b"a" * (10 * 2**20), "line 1: has more than 1,048,576 characters and no line break"),
            (b"LocNumber," * 2**20, "line 1: has more than 1,048,576 characters"),
            ("LocNumber,locnumber\n1,2\n", "LocNumber occurs twice"),
            ("LocNumber;AccNumber,BuildingTIV;X,CountryCode\n1;2;3\n", "delimiter can be comma .* or semicolon"),
        ],
    )
    def test_what_cannot_be_a_table_is_named_with_its_place(self, tmp_path, text, message) -> None:
        with pytest.raises(ExposureError, match=message):
            read(tmp_path, text)

    def test_an_address_of_several_lines_in_quotation_marks_is_fine(self, tmp_path) -> None:
        address = "Unit 5, Floor 2,\nBuilding C, 12 High Street,\nTown"
        result = read(tmp_path, HEADER + f'A,1,"{address}",1,2\n' + ROW)
        assert cells(result, "StreetAddress") == [address, "1 Main Street"]

    def test_a_quotation_mark_inside_of_a_cell_is_a_character(self, tmp_path) -> None:
        result = read(tmp_path, HEADER + 'A,1,Shop 5" left,1,2\nA,2,"Shop 5"" left",1,2\n')
        assert cells(result, "StreetAddress") == ['Shop 5" left', 'Shop 5" left']


class TestEncodings:
    @pytest.mark.parametrize("encoding", ["cp1252", "cp1250", "mac_roman", "utf-16", "utf-16-le", "utf-8", "utf-8-sig"])
    def test_a_stated_encoding_is_used(self, tmp_path, encoding) -> None:
        text = HEADER + "A,1,Zürcher Straße,1,2\n"
        assert cells(read(tmp_path, text.encode(encoding), encoding=encoding), "StreetAddress") == ["Zürcher Straße"]

    @pytest.mark.parametrize(
        ("written", "stated", "message"),
        [
            ("utf-8", "cp1252", "says cp1252, but the file is utf-8: 'Straße' would become 'StraÃŸe'"),
            ("utf-8-sig", "cp1252", "begins with the byte order mark of utf-8"),
            ("cp1252", "utf-8", "line 2: not utf-8 text; .*'Straße' in cp1252"),
            ("cp1252", "utf-16", "not utf-16 text"),
            ("utf-16-le", None, "it may be utf-16-le"),
            ("utf-8", "utf-16-le", "column encoding|no column of OED|not utf-16-le text"),
            ("cp1252", "klingon", "says 'klingon', which is not an encoding"),
            ("cp1252", "base64", "says 'base64', which is not an encoding"),
        ],
    )
    def test_an_encoding_that_cannot_be_true_is_noticed(self, tmp_path, written, stated, message) -> None:
        text = HEADER + "A,1,Straße,1,2\n"
        with pytest.raises(ExposureError, match=message):
            read(tmp_path, text.encode(written), **({"encoding": stated} if stated else {}))

    def test_bytes_that_an_encoding_does_not_have_are_noticed(self, tmp_path) -> None:
        with pytest.raises(ExposureError, match="line 2: not cp1252 text: the byte 0x81 is not a character"):
            read(tmp_path, HEADER.encode() + b"A,1,\x81,1,2\n", encoding="cp1252")
        with pytest.raises(
            ExposureError, match=r"line 2: contains the control character U\+0080 .* Probably it is cp1252"
        ):
            read(tmp_path, HEADER.encode() + b"A,1,\x80,1,2\n", encoding="latin-1")


class TestDecimalSigns:
    def amounts(self, folder: Path, *texts: str, delimiter: str = ";", **options: str) -> list[object]:
        rows = "".join(f'A{delimiter}{number}{delimiter}"{text}"\n' for number, text in enumerate(texts))
        header = f"AccNumber{delimiter}LocNumber{delimiter}BuildingTIV\n"
        result = read(folder, header + rows, **options)
        values = cells(result, "BuildingTIV")
        assert [total.building_tiv for total in whole_totals(result.source_totals or ())] == [
            pytest.approx(Decimal(str(sum(map(float, map(str, values))))))
        ]
        return values

    @pytest.mark.parametrize(
        ("texts", "values"),
        [
            (("1234.5", "850.000"), [1234.5, 850.0]),
            (("1.234.567", "850.000"), [1234567.0, 850000.0]),
            (("1.234,5", "850.000"), [1234.5, 850000.0]),
            (("12,5", "1,250"), [12.5, 1.25]),
            (("1,234.50", "1,250"), [1234.5, 1250.0]),
            (("0.125", "1.125"), [0.125, 1.125]),
            (("1234.567",), [1234.567]),
            (("850", "-1e6"), [850.0, -1e6]),
        ],
    )
    def test_other_cells_of_the_column_decide(self, tmp_path, texts, values) -> None:
        assert self.amounts(tmp_path, *texts) == values
        assert self.amounts(tmp_path, *texts, delimiter=",") == values

    @pytest.mark.parametrize(
        ("text", "delimiter", "readings"),
        [
            ("850.000", ";", "850 or 850,000"),
            ("850.000", "|", "850 or 850,000"),
            ("850.125", "\t", "850.125 or 850,125"),
            ("1,234", ",", "1.234 or 1,234"),
            ("1,234", ";", "1.234 or 1,234"),
        ],
    )
    def test_where_nothing_decides_both_readings_are_shown(self, tmp_path, text, delimiter, readings) -> None:
        with pytest.raises(ExposureError, match=f"line 2, column BuildingTIV: '{text}' can be {readings}: write"):
            self.amounts(tmp_path, text, delimiter=delimiter)
        comma, point = (self.amounts(tmp_path, text, delimiter=delimiter, decimal=sign) for sign in ",.")
        assert comma != point

    def test_between_commas_a_point_is_a_decimal_point_unless_a_cell_has_a_decimal_comma(self, tmp_path) -> None:
        assert cells(read(tmp_path, HEADER + "A,1,x,850.000,2\n"), "BuildingTIV") == [850.0]
        with pytest.raises(ExposureError, match=r"'850\.000' can be 850 or 850,000"):
            read(tmp_path, HEADER + 'A,1,x,850.000,"2,5"\n')

    def test_what_cannot_be_in_a_column_does_not_make_it_unclear(self, tmp_path) -> None:
        result = read(
            tmp_path, "LocNumber;Latitude;NumberOfBuildings\n1;52.123;1.250\n2;-0,895;3\n".replace("-0,", "-0.")
        )
        assert cells(result, "Latitude") == [52.123, -0.895]
        assert cells(result, "NumberOfBuildings") == [1250, 3]

    @pytest.mark.parametrize(
        ("texts", "options", "message"),
        [
            (("1.234,5", "1,234.5"), {}, "line 3, .*'1,234.5' has another decimal sign than '1.234,5' in line 2"),
            (("12,34",), {"decimal": "."}, "'12,34' has the decimal sign ',', but the column decimal .* says '.'"),
            (("12.34", "1.250"), {"decimal": ","}, "'12.34' has the decimal sign '.', but the column decimal"),
            (("1.2.3",), {}, "'1.2.3' is not a number"),
            (("1.23.456",), {"decimal": ","}, "'1.23.456' is not a number"),
        ],
    )
    def test_contradictions_are_refused(self, tmp_path, texts, options, message) -> None:
        with pytest.raises(ExposureError, match=message):
            self.amounts(tmp_path, *texts, **options)

    @given(
        number=st.decimals(0, 10**9, places=3),
        sign=st.sampled_from(".,"),
        grouped=st.booleans(),
    )
    def test_both_ways_to_read_a_number_agree(self, number, sign, grouped) -> None:
        import pyarrow as pa

        text = f"{number:,.3f}" if grouped else f"{number:.3f}"
        if sign == ",":
            text = text.translate(str.maketrans(",.", ".,"))
        (cell,) = with_points(pa.array([text]), sign).to_pylist()
        assert float(cell) == float(with_point(text, sign)) == float(number)


def test_a_title_above_the_names_of_the_columns_is_shown(tmp_path) -> None:
    with pytest.raises(ExposureError, match="line 1: must hold the names of the columns, but is 'Portfolio of May'"):
        read(tmp_path, "Portfolio of May\n\n" + HEADER + ROW)


class TestStated:
    def test_a_stated_delimiter_that_is_not_there_is_noticed(self, tmp_path) -> None:
        with pytest.raises(ExposureError, match="line 1: names no column of OED, but begins with 'AccNumber,LocNumber"):
            read(tmp_path, HEADER + ROW, delimiter="semicolon")

    @pytest.mark.parametrize("delimiter", ["tab", "\t", "\\t"])
    def test_a_delimiter_may_be_stated_by_name_or_sign(self, tmp_path, delimiter) -> None:
        result = read(tmp_path, (HEADER + ROW).replace(",", "\t"), delimiter=delimiter)
        assert cells(result, "LocNumber") == ["007"]

    def test_an_unknown_word_is_refused(self, tmp_path) -> None:
        for column in ("delimiter", "decimal"):
            with pytest.raises(ExposureError, match=f"'#' in the column {column} of sheet Portfolios is none of"):
                read(tmp_path, HEADER + ROW, **{column: "#"})


LINES = [
    "PortNumber,AccNumber,LocNumber,StreetAddress,CountryCode,BuildingTIV,NumberOfBuildings,LocCurrency",
    '1,A1,007,"12 High Street,\nTown",GB,1000.25,2,GBP',
    '1,A1,008,"Shop ""5"", left",GB,2000,1,GBP',
    "1,A2,100000000000001,3 Road,GB,3000.5,,GBP",
    "01,A3,0001,,GB,4000,3,GBP",
]
TEXT = "\n".join(LINES) + "\n"


@pytest.mark.parametrize("sign", ["\x0b", "\x0c", "\x1c", "\x1e", "\x85", "\u2028", "\u2029"])
def test_signs_that_end_a_line_elsewhere_end_none_in_csv(tmp_path, sign) -> None:
    text = f"PortNumber,LocNumber,My{sign}Remark,BuildingTIV\n1,7,new{sign}roof,5\n"
    result = read(tmp_path, text)
    assert list(result.columns) == ["PortNumber", "LocNumber", f"My{sign}Remark", "BuildingTIV"]
    assert cells(result, f"My{sign}Remark") == [f"new{sign}roof"]
    assert cells(result, "BuildingTIV") == [5]


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_damaged_file_is_refused_or_read_as_it_stands(tmp_path_factory, data) -> None:
    """Whatever happens to a byte or a line: no record is swallowed, split or shifted."""
    content = bytearray(TEXT.encode())
    place = data.draw(st.integers(0, len(content) - 1))
    damage = data.draw(st.sampled_from(["change", "quote", "cut", "insert"]))
    if damage == "change":
        content[place] = data.draw(st.integers(0, 255))
    elif damage == "quote":
        content[place:place] = b'"' * data.draw(st.sampled_from([1, 1, 2]))
    elif damage == "insert":
        content[place:place] = data.draw(st.sampled_from([b",", b"\n", b"\r", b"\0", b";", b"\x1a"]))
    else:
        end = content.find(b"\n", place)
        del content[place : end if data.draw(st.booleans()) else end + 1]
    folder = tmp_path_factory.mktemp("damaged")
    (folder / "location.csv").write_bytes(bytes(content))
    try:
        result = extract(FileSource(folder / "location.csv"), OedTable.LOCATION, folder / "x.parquet", with_totals=True)
    except ExposureError:
        return
    header, *records = records_by_hand(content.decode())
    assert list(result.columns) == [name.strip() for name in header]
    assert result.rows == len(records)
    table = pq.read_table(result.path).to_pydict()
    for column, values in enumerate(zip(*records, strict=True)):
        for expected, found in zip(values, table[result.columns[column]], strict=True):
            if isinstance(found, str):
                assert found.replace("\r\n", "\n").replace("\r", "\n") == expected
            else:
                assert (found is None and not expected.strip()) or float(expected) == found

    whole_lines = content.decode().replace("\r", "\n").split("\n")
    for line in LINES[3:]:  # nothing swallows a line that was not damaged
        assert line not in whole_lines or line.split(",")[2] in table[result.columns[2]]


def records_by_hand(text: str) -> list[list[str]]:
    """The records by RFC 4180, character by character; blank lines are passed over, and a Ctrl-Z that ends the text."""
    records: list[list[str]] = []
    record, cell, quoted, at_start = [], "", False, True
    body = text.rstrip("\x1a\r\n")
    text = body + text[len(body) :].partition("\x1a")[0]
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    text = text if text.endswith("\n") else text + "\n"
    position = 0
    while position < len(text):
        char = text[position]
        if quoted:
            if char == '"' and text[position + 1] == '"':
                cell, position = cell + char, position + 1
            elif char == '"':
                quoted = False
            else:
                cell += char
        elif char == '"' and at_start:
            quoted = True
        elif char in ",\n":
            record.append(cell)
            cell = ""
            if char == "\n":
                if record != [""]:
                    records.append(record)
                record = []
        else:
            cell += char
        at_start = not quoted and char in ",\n"
        position += 1
    return records


def test_a_reader_can_be_asked_for_places_before_anything_is_read(tmp_path) -> None:
    from irp_pipeline.exposure.readers.csv_header import CsvOptions

    (tmp_path / "location.csv").write_text("\n" + HEADER + ROW)
    with open_file(tmp_path / "location.csv", CsvOptions(), OedTable.LOCATION) as reader:
        assert reader.locate(0) == "location.csv, line 3"
