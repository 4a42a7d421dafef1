"""What-ifs in the workbook: a row that names a base says only what differs, and what can be wrong with it."""

import json
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from openpyxl.utils import get_column_letter

from irp_pipeline.workbook import (
    SHEETS,
    Workbook,
    WorkbookError,
    check_override,
    example_workbook,
    read_workbook,
    write_workbook,
)

COLUMNS = list(next(spec for spec in SHEETS if spec.name == "Analyses").row.columns())
BASE = "property_wind"


def content(
    *what_ifs: dict[str, Any], portfolios: tuple[dict[str, Any], ...] = (), **group: list[str]
) -> dict[str, Any]:
    """The example workbook without notebooks as plain data, with more rows; the groups are replaced if one is given."""
    plain = example_workbook().to_json()
    del plain["notebooks"]  # whose files are not there
    plain["analyses"] += what_ifs
    plain["portfolios"] += portfolios
    if group:
        plain["groupings"] = [{"name": name, "members": members} for name, members in group.items()]
    return plain


def with_reinsurance(name: str, **changes: Any) -> dict[str, Any]:
    """The portfolio of the base, with other reinsurance."""
    own = example_workbook().portfolio("property").model_dump(mode="json")
    return own | {"name": name, "ri_info": "other/ri_info.csv", "ri_scope": "other/ri_scope.csv"} | changes


def written(folder: Path, *rows: dict[str, Any], portfolios: tuple[dict[str, Any], ...] = ()) -> Path:
    """Write the example workbook, and below its analyses rows as a person types them."""
    path = write_workbook(folder / "workbook.xlsx", Workbook.model_validate(content(portfolios=portfolios)), True)
    book = openpyxl.load_workbook(path)
    for row in rows:
        book["Analyses"].append([row.get(column) for column in COLUMNS])
    book.save(path)
    return path


def told(row: int, column: str, message: str) -> str:
    """A problem as it is told; where a column is may change."""
    return f"Analyses!{get_column_letter(1 + COLUMNS.index(column))}{row} ({column}): {message}"


def problems(path: Path, **options: Any) -> list[str]:
    with pytest.raises(WorkbookError) as caught:
        read_workbook(path, **{"check_files": False, **options})
    return [str(problem) for problem in caught.value.problems]


def test_empty_cells_take_the_values_of_the_base(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        {"name": "worse", "base": BASE, "loss_multiplier": 1.2},
        {"name": "reinsured", "base": BASE, "reinsurance": "more", "samples": 20},
        portfolios=(with_reinsurance("more"),),
    )
    workbook = read_workbook(path, check_files=False)
    base = workbook.analysis(BASE)
    assert workbook.analysis("worse") == base.model_copy(update={"name": "worse", "base": BASE, "loss_multiplier": 1.2})
    assert workbook.analysis("reinsured") == base.model_copy(
        update={"name": "reinsured", "base": BASE, "reinsurance": "more", "samples": 20}
    )
    assert Workbook.model_validate(json.loads(json.dumps(workbook.to_json()))) == workbook
    again = write_workbook(tmp_path / "again.xlsx", workbook)
    assert read_workbook(again, check_files=False) == workbook


def test_a_base_may_come_after_its_what_ifs(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        {"name": "first", "base": "second", "loss_multiplier": 2},
        {"name": "second", "portfolio": "property", "engine": "oasis_stochastic", "model": "m", "samples": 5,
         "perspectives": "GUL"},
    )  # fmt: skip
    workbook = read_workbook(path, check_files=False)
    assert [analysis.name for analysis in workbook.analyses][-2:] == ["first", "second"]
    assert workbook.analysis("first").samples == 5


def test_an_analysis_that_is_no_what_if_has_the_plain_data_that_it_always_had() -> None:
    new = {"base", "reinsurance", "currency_rates", "loss_multiplier", "segment_multipliers"}
    for analysis in example_workbook().to_json()["analyses"]:
        assert not new & analysis.keys()
    workbook = Workbook.model_validate(content({"name": "worse", "base": BASE, "loss_multiplier": 2}))
    assert new & workbook.to_json()["analyses"][-1].keys() == {"base", "loss_multiplier"}


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (
            [{"name": "a", "base": "property_wnd"}],
            [(5, "base", "there is no analysis 'property_wnd' in this sheet; did you mean 'property_wind'?")],
        ),
        ([{"name": "a", "base": "a"}], [(5, "base", "the bases form a circle: a → a; empty one of them")]),
        (
            [{"name": "a", "base": "b"}, {"name": "b", "base": "a"}],
            [
                (5, "base", "the bases form a circle: a → b → a; empty one of them"),
                (6, "base", "the bases form a circle: b → a → b; empty one of them"),
            ],
        ),
        (
            [{"name": "a", "base": BASE}, {"name": "b", "base": "a"}],
            [(6, "base", "'a' has a base itself; name an analysis without one, such as 'property_wind'")],
        ),
        (
            [{"name": "a", "base": BASE, "portfolio": "commercial", "perspectives": "GUL"}],
            [
                (
                    5,
                    "portfolio",
                    (
                        "must be that of the base 'property_wind', which is 'property'; for other "
                        "reinsurance fill the column reinsurance"
                    ),
                )
            ],
        ),
        (
            [{"name": "a", "base": "property_stress", "loss_multiplier": 2}],
            [
                (
                    5,
                    "loss_multiplier",
                    "must be empty: oasis_deterministic does not use it, only oasis_stochastic and oasis_platform do",
                )
            ],
        ),
        (
            [{"name": "a", "base": BASE, "loss_multiplier": 0}],
            [(5, "loss_multiplier", "0 must be above 0 and at most 100")],
        ),
        (
            [{"name": "a", "base": BASE, "reinsurance": "commercial"}],
            [(5, "reinsurance", "the portfolio 'commercial' has no ri_info and no ri_scope table")],
        ),
        (
            [{"name": "a", "base": BASE, "reinsurance": "mor"}],
            [(5, "reinsurance", "there is no portfolio 'mor' in the sheet Portfolios; did you mean 'more'?")],
        ),
        (
            [{"name": "a", "base": BASE, "reinsurance": "elsewhere"}],
            [
                (
                    5,
                    "reinsurance",
                    (
                        "the portfolio 'elsewhere' differs from 'property' in account; its "
                        "reinsurance applies to the same locations and accounts only"
                    ),
                )
            ],
        ),
        (
            [{"name": "a", "base": BASE, "currency_rates": "r.csv", "model_options": '{"reporting_currency": "EUR"}'}],
            [(5, "currency_rates", "must be empty, since model_options has reporting_currency; say it once")],
        ),
    ],
    ids=lambda value: "",
)
def test_what_is_wrong_is_told_in_one_line_with_its_cell(tmp_path: Path, rows, expected) -> None:
    more = (with_reinsurance("more"), with_reinsurance("elsewhere", account="other/account.csv"))
    assert problems(written(tmp_path, *rows, portfolios=more)) == [told(*of) for of in expected]


def test_a_mistake_of_the_base_is_told_there_alone(tmp_path: Path) -> None:
    base = {"name": "broken", "portfolio": "property", "engine": "oasis_stochastic", "model": "m", "samples": -1,
            "perspectives": "GUL"}  # fmt: skip
    path = written(tmp_path, base, {"name": "a", "base": "broken", "loss_multiplier": 2})
    assert problems(path) == ["Analyses!H5 (samples): -1 must be between 0 and 100,000"]


def test_a_group_holds_no_analysis_beside_its_what_if() -> None:
    what_if = {"name": "worse", "base": BASE, "loss_multiplier": 2}
    assert Workbook.model_validate(content(what_if, stressed=["worse", "commercial_wind"])).analyses_in("stressed")
    with pytest.raises(ValueError, match=r"are 'property_wind' and its what-ifs: they would count the same exposure"):
        Workbook.model_validate(content(what_if, stressed=["worse", BASE]))


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    for name in ("location", "account", "ri_info", "ri_scope"):
        (folder / "property" / f"{name}.csv").parent.mkdir(parents=True, exist_ok=True)
        (folder / "property" / f"{name}.csv").touch()
    model = folder / "models" / "windstorm"
    model.mkdir(parents=True)
    (model / "oasislmf.json").write_text('{"analysis_settings_json": "own_settings.json"}')
    (model / "own_settings.json").write_text('{"pla": true}')
    (model / "analysis_settings.json").write_text("{}")
    return folder


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("", "rates.csv has no column cur_from and no cur_to and no roe; a table of exchange rates is CSV with"),
        ("cur_from,cur_to,roe\nUSD,EUR,0\n", "rates.csv, line 2: the rate 0 must be above 0"),
        ("cur_from,cur_to,roe\nUSD,EUR,nan\n", "rates.csv, line 2: the rate nan must be above 0"),
        ("cur_from,cur_to,roe\nUSD,EUR,one\n", "rates.csv, line 2: the rate 'one' is not a number"),
        ("cur_from,cur_to,roe\nUSD,EUR\n", "rates.csv, line 2: the rate 'None' is not a number"),
        ("cur_from,cur_to,roe\nUSD,EUR,1\nDOL,EUR,1\n", "rates.csv, line 3: 'DOL' is not an ISO 4217 currency code"),
        ("cur_from,cur_to,roe\nUSD,EUR,1\nUSD,EUR,2\n", "rates.csv, line 3: the rate from USD to EUR is there twice"),
        (None, "there is no 'rates.csv' in"),
    ],
)
def test_a_table_of_rates_is_checked_with_the_workbook(
    tmp_path: Path, data_dir: Path, table: str | None, message: str
) -> None:
    if table is not None:
        (data_dir / "rates.csv").write_text(table)
    [problem] = problems(
        written(tmp_path, {"name": "a", "base": BASE, "currency_rates": "rates.csv"}),
        data_dir=data_dir,
        check_files=True,
    )
    assert problem.startswith(told(5, "currency_rates", ""))
    assert message in problem


def test_a_factor_is_refused_where_the_model_applies_its_own(tmp_path: Path, data_dir: Path) -> None:
    """The settings file of the base has none, but that of the model has."""
    fine = written(tmp_path, {"name": "a", "base": BASE, "loss_multiplier": 2})
    assert read_workbook(fine, data_dir, check_files=True).analysis("a").loss_multiplier == 2
    (data_dir / "models" / "windstorm" / "analysis_settings.json").write_text('{"pla": true}')
    [problem] = problems(fine, data_dir=data_dir, check_files=True)
    assert problem == told(
        5,
        "loss_multiplier",
        "loss_multiplier would replace the loss factors of the model, which the settings apply (pla): take one of them "
        "out",
    )
    own = written(tmp_path, {"name": "a", "base": "commercial_wind", "loss_multiplier": 2})
    assert "(loss_multiplier): loss_multiplier would replace" in problems(own, data_dir=data_dir, check_files=True)[0]


def test_the_base_of_a_job_cannot_be_changed_but_its_factor_can() -> None:
    workbook = Workbook.model_validate(content({"name": "worse", "base": BASE, "loss_multiplier": 2}))
    parameters = {"currency": "EUR", **workbook.analysis("worse").model_dump(mode="json")}
    assert check_override(parameters, {"loss_multiplier": 3}) == parameters | {"loss_multiplier": 3}
    with pytest.raises(WorkbookError, match="base: cannot be changed for a job: it is 'property_wind'"):
        check_override(parameters, {"base": "commercial_wind"})
