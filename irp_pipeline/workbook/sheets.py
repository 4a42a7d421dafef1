"""The sheets and columns of a workbook, and the values that each field may have.

This is the one table of columns. The annotation of a field says which values it takes; its :class:`Column`, what the
sheet and the documentation say about it; its default, whether the cell may stay empty.

Not here: the sheet Analyses, part of which the engines declare (:mod:`irp_pipeline.workbook.analyses`), the checks that
annotations name (:mod:`irp_pipeline.workbook.values`), and the content of all sheets together
(:mod:`irp_pipeline.workbook.content`).
"""

import datetime as dt
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, Field, SerializerFunctionWrapHandler, model_serializer

from irp_pipeline.columns import (
    DATE,
    JSON,
    NAMES,
    NUMBER,
    TEXT,
    YES_NO,
    Column,
    Name,
    Row,
    Text,
    no_repeats,
    not_empty,
    one_of,
)
from irp_pipeline.vocabulary import OedTable
from irp_pipeline.workbook.analyses import NAME_RULE, Analysis
from irp_pipeline.workbook.choices import (
    DELIMITER,
    DecimalSign,
    Delimiter,
    NotebookStage,
    PeriodPairing,
    PortfolioSource,
)
from irp_pipeline.workbook.parameters import checked_query_parameters, parameter_problem, queries_of
from irp_pipeline.workbook.sources import table_problem
from irp_pipeline.workbook.values import (
    checked_currency,
    checked_encoding,
    checked_exposure_date,
    checked_largest_change,
    checked_minutes,
    checked_notebook,
    checked_notebook_parameters,
    checked_share,
    part_of_variable,
)

MAX_CELL_TEXT = 32_767
"""The largest number of characters in a cell of Excel."""
HEADER_ROW = 1
"""The row with the column names, in every sheet."""


class Metadata(Row):
    """Settings of the whole cycle."""

    currency: Annotated[
        Text,
        AfterValidator(checked_currency),
        Column(
            "Currency in which losses are reported, as its ISO 4217 code. The amounts of every portfolio must be in "
            "it, unless the model converts them.",
            TEXT,
            ("EUR",),
        ),
    ]
    cycle_name: Annotated[
        Text | None,
        Column(
            "Name of the cycle that this workbook is for: it is refused for any other. Leave it empty to use the "
            "workbook for every cycle.",
            TEXT,
            ("Q1-2024",),
        ),
    ] = None
    description: Annotated[
        Text | None,
        Column("What the cycle is about; shown in the report.", TEXT, ("First quarter, property and commercial",)),
    ] = None
    insurer: Annotated[
        Text | None,
        Column("Whose exposure it is; shown in the report.", TEXT, ("Example Insurance",)),
    ] = None
    prepared_by: Annotated[
        Text | None,
        Column("The person responsible for this workbook; shown in the report.", TEXT, ("A. Analyst",)),
    ] = None
    exposure_date: Annotated[
        Annotated[dt.date, AfterValidator(checked_exposure_date)] | None,
        Column("The day whose exposure is analysed; shown in the report.", DATE, ("2024-01-01",)),
    ] = None
    strict_validation: Annotated[
        bool,
        Column(
            "Whether one portfolio with errors in its exposure stops the whole cycle. Empty means no: it stops its own "
            "analyses, and the others go on.",
            YES_NO,
            ("no",),
            options=("yes", "no"),
        ),
    ] = False
    largest_change: Annotated[
        Annotated[float, AfterValidator(checked_largest_change)],
        Column(
            "The largest change of a figure since the cycle before that needs no warning, as a share of what it was: "
            "`0.25` is 25 %. Empty means 0.25.",
            NUMBER,
            ("0.25",),
        ),
    ] = 0.25
    least_covered: Annotated[
        Annotated[float, AfterValidator(checked_share)],
        Column(
            "The least share of the insured value of an analysis that its model must cover without a warning: `0.9` is "
            "90 %. Empty means 0.9.",
            NUMBER,
            ("0.9",),
        ),
    ] = 0.9
    export_after_approval: Annotated[
        bool,
        Column(
            "Whether the results are written into files only when a second person has approved them. Empty means no.",
            YES_NO,
            ("no",),
            options=("yes", "no"),
        ),
    ] = False


class Portfolio(Row):
    """An exposure in OED: the places of its tables."""

    name: Annotated[Name, Column(f"Name of the portfolio. {NAME_RULE}", TEXT, ("property", "commercial"))]
    source: Annotated[
        PortfolioSource,
        Column(
            "Where the tables come from: files, or a database.",
            one_of(PortfolioSource),
            ("csv", "sql"),
            options=tuple(PortfolioSource),
            width=12,
        ),
    ]
    location: Annotated[
        Text | None,
        Column(
            "The OED location table. For files a path in the data folder; for `sql` a table (`schema.table`), a query "
            "that begins with SELECT or WITH, or a file with one (`sql/location.sql`) in the data folder. Only models "
            "that use just accounts (such as cyber) do not need it.",
            TEXT,
            ("property/location.csv", "exposure.location"),
            width=34,
        ),
    ] = None
    account: Annotated[
        Text | None,
        Column(
            "The OED account table, likewise. Only stochastic analyses of ground-up losses (GUL) do not need it.",
            TEXT,
            ("property/account.csv", "SELECT * FROM exposure.account WHERE line = :line"),
            width=34,
        ),
    ] = None
    ri_info: Annotated[
        Text | None,
        Column(
            "The OED reinsurance info table, likewise. Fill both reinsurance columns or neither.",
            TEXT,
            ("property/ri_info.csv", ""),
            width=34,
        ),
    ] = None
    ri_scope: Annotated[
        Text | None,
        Column(
            "The OED reinsurance scope table, likewise. Fill both reinsurance columns or neither.",
            TEXT,
            ("property/ri_scope.csv", ""),
            width=34,
        ),
    ] = None
    database: Annotated[
        Annotated[Text, AfterValidator(part_of_variable)] | None,
        Column(
            "Short name of the database, whose address is in the environment variable `IRP_SOURCE_<NAME>_URL`: "
            "`warehouse` stands for `IRP_SOURCE_WAREHOUSE_URL`. Never write an address or a password here.",
            TEXT,
            ("", "warehouse"),
            selector="source",
            only_for=(PortfolioSource.SQL,),
            needed=True,
        ),
    ] = None
    encoding: Annotated[
        Annotated[Text, AfterValidator(checked_encoding)] | None,
        Column(
            "The encoding of the CSV files, such as `cp1252`, the default of Excel in Western Europe, or `utf-16`. "
            "Empty: `utf-8`, or the encoding that a byte order mark names.",
            TEXT,
            ("utf-8", ""),
            selector="source",
            only_for=(PortfolioSource.CSV,),
            width=12,
        ),
    ] = None
    delimiter: Annotated[
        Delimiter | None,
        Column(
            "The character between the cells of the CSV files: its name or the character itself. Empty: the one that "
            "splits the first line into OED names.",
            DELIMITER,
            ("comma", ""),
            selector="source",
            only_for=(PortfolioSource.CSV,),
            options=tuple(Delimiter),
            options_only=False,
            width=12,
        ),
    ] = None
    decimal: Annotated[
        DecimalSign | None,
        Column(
            "The decimal sign in the CSV files; the other one separates thousands. Empty: it is detected, and a number "
            "that can be read in two ways, such as `850.000`, is an error.",
            one_of(DecimalSign),
            (".", ""),
            selector="source",
            only_for=(PortfolioSource.CSV,),
            width=12,
        ),
    ] = None

    parameters: Annotated[
        Annotated[dict[str, Any], AfterValidator(checked_query_parameters)] | None,
        Column(
            "Values that the portfolio's queries use, beside those of every query: `:line` in the SQL stands for the "
            "value of `line`. A text, a number, true, false, or a list of them for `IN :lines`; a text such as "
            "`2024-01-31` is a date.",
            JSON,
            ("", '{"line": "COM"}'),
            selector="source",
            only_for=(PortfolioSource.SQL,),
            width=34,
            only_if_filled=True,
        ),
    ] = None

    @model_serializer(mode="wrap")
    def _without_empty_columns(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out empty columns that came later, so that nothing changes for portfolios without them."""
        fields: dict[str, Any] = serialize(self)
        columns = self.columns()
        return {name: value for name, value in fields.items() if value or not columns[name].only_if_filled}

    @classmethod
    def broken_rules(cls, fields: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        yield from super().broken_rules(fields)
        if "source" in fields:
            for column in OedTable:
                if (text := fields.get(column)) and (message := table_problem(fields["source"], text)):
                    yield column.value, message
        if "parameters" in fields:
            for name, _, query in queries_of(fields, None):
                if not table_problem(PortfolioSource.SQL, query) and (message := parameter_problem(query, fields)):
                    yield name, message
        if "location" in fields and "account" in fields and not (fields["location"] or fields["account"]):
            yield "location", "is empty, and so is account; a portfolio needs one of these tables"
        for filled, other in (("ri_info", "ri_scope"), ("ri_scope", "ri_info")):
            if fields.get(filled) and other in fields and not fields[other]:
                yield other, f"is empty, but {filled} is filled; fill both or neither"
        if (fields.get("ri_info") or fields.get("ri_scope")) and "account" in fields and not fields["account"]:
            yield "account", "is empty, but reinsurance is given, which applies to the losses of accounts"


class Grouping(Row):
    """Analyses whose losses are added up year by year."""

    name: Annotated[
        Name,
        Column(f"Name of the group, which no analysis may have. {NAME_RULE}", TEXT, ("wind", "everything"), width=24),
    ]
    members: Annotated[
        tuple[Name, ...],
        AfterValidator(not_empty),
        AfterValidator(no_repeats),
        Column(
            "The stochastic analyses, and other groups, whose losses are added up.",
            NAMES,
            ("property_wind; commercial_wind", "wind"),
            width=44,
        ),
    ]
    period_pairing: Annotated[
        PeriodPairing | None,
        Column(
            "How simulated years go together when the members' models have different occurrence sets: `by_number` adds "
            "year 1 to year 1, year 2 to year 2 and so on, which takes the models to be independent. Empty means that "
            "the occurrence sets are the same; the group is refused if they are not.",
            one_of(PeriodPairing),
            ("", "by_number"),
            options=tuple(PeriodPairing),
        ),
    ] = None


class Notebook(Row):
    """A notebook that runs as a step of the cycle."""

    name: Annotated[
        Name,
        Column(f"Name of the notebook's step. {NAME_RULE}", TEXT, ("capital", "comparison"), width=24),
    ]
    notebook: Annotated[
        Annotated[Text, AfterValidator(checked_notebook)],
        Column(
            "The notebook: a path in the data folder or else in the folder `notebooks` of `IRP_HOME`, such as "
            "`capital.ipynb`.",
            TEXT,
            ("capital.ipynb", "reviews/comparison.ipynb"),
            width=34,
        ),
    ]
    stage: Annotated[
        NotebookStage,
        Column(
            "When it runs: `process`, on the checked portfolios and before jobs are submitted, so that a notebook that "
            "fails stops the cycle; or `report`, at the end, when the losses are there. Empty means `report`.",
            one_of(NotebookStage),
            ("report", "report"),
            options=tuple(NotebookStage),
            width=12,
        ),
    ] = NotebookStage.REPORT
    parameters: Annotated[
        Annotated[dict[str, Any], AfterValidator(checked_notebook_parameters)],
        Column(
            "Variables that it gets besides `cycle_name`, `schema` and `configuration`, by name, such as "
            '`{"return_period": 200}`.',
            JSON,
            ('{"return_period": 200}', ""),
            width=34,
        ),
    ] = Field(default_factory=dict)
    after: Annotated[
        tuple[Name, ...],
        AfterValidator(no_repeats),
        Column(
            "Other notebooks of this sheet whose output data it gets, as `outputs_of`. It runs after them, and "
            "again when their output data changed.",
            NAMES,
            ("", "capital"),
            width=24,
        ),
    ] = ()
    timeout_minutes: Annotated[
        Annotated[float, AfterValidator(checked_minutes)],
        Column("How many minutes it may take. Empty means 60.", NUMBER, ("30", ""), width=18),
    ] = 60.0


@dataclass(frozen=True)
class SheetSpec:
    """A sheet of the workbook.

    Attributes:
        name: the sheet's name.
        field: the field of :class:`Workbook` that it fills.
        row: the type of a row; for the Metadata sheet, of all rows together.
        help: its purpose.
        optional: whether a workbook may lack it, as those do that were made before it came.
    """

    name: str
    field: str
    row: type[Row]
    help: str
    optional: bool = False

    def requirement(self, name: str) -> str:
        """When the column ``name`` must be filled, in the words of the documentation."""
        column = self.row.columns()[name]
        if column.only_for:
            users = " or ".join(f"`{user}`" for user in column.only_for)
            return f"with {users}" if column.needed else f"no; only with {users}"
        return "yes" if self.row.model_fields[name].is_required() else "no"


METADATA = SheetSpec("Metadata", "metadata", Metadata, "One row per setting: its name, and beside it its value.")
PORTFOLIOS = SheetSpec("Portfolios", "portfolios", Portfolio, "One row per portfolio: where its exposure is.")
ANALYSES = SheetSpec("Analyses", "analyses", Analysis, "One row per analysis: what to compute on which portfolio.")
GROUPINGS = SheetSpec(
    "Groupings",
    "groupings",
    Grouping,
    "One row per group of analyses whose losses are added up year by year. The sheet may stay empty.",
)
NOTEBOOKS = SheetSpec(
    "Notebooks",
    "notebooks",
    Notebook,
    "One row per notebook that runs as a step of the cycle. The sheet may stay empty or be left out.",
    optional=True,
)
SHEETS = (METADATA, PORTFOLIOS, ANALYSES, GROUPINGS, NOTEBOOKS)
"""The sheets of a workbook, in order."""
TABLES = (PORTFOLIOS, ANALYSES, GROUPINGS, NOTEBOOKS)
"""The sheets with a header row of columns: all but Metadata."""
SETTING_HEADERS = ("setting", "value")
"""The header row of the Metadata sheet."""
