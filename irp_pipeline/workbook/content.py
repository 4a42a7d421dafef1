"""The content of a workbook: all its sheets, as a cycle uses them.

Here: the workbook as a value, with its queries. Not here: the columns of its sheets
(:mod:`irp_pipeline.workbook.sheets`), the rules between them (:mod:`irp_pipeline.workbook.rules`), and the file.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from irp_pipeline.columns import WorkbookError, quoted
from irp_pipeline.columns.rows import refuse
from irp_pipeline.workbook.analyses import ENGINE_NAMES, Analysis
from irp_pipeline.workbook.bases import with_bases
from irp_pipeline.workbook.rules import Table, analyses_below, findings_between_rows, members_first
from irp_pipeline.workbook.sheets import (
    HEADER_ROW,
    NOTEBOOKS,
    SHEETS,
    TABLES,
    Grouping,
    Metadata,
    Notebook,
    Portfolio,
    SheetSpec,
)


class Workbook(BaseModel):
    """What a cycle analyses: the content of a valid configuration workbook.

    ``Workbook.model_validate(workbook.to_json())`` gives an equal one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    metadata: Metadata
    portfolios: tuple[Portfolio, ...]
    analyses: tuple[Analysis, ...]
    groupings: tuple[Grouping, ...] = ()
    notebooks: tuple[Notebook, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _complete_what_ifs(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and isinstance(rows := data.get("analyses"), list | tuple):
            return {**data, "analyses": with_bases(rows)}
        return data

    @model_validator(mode="after")
    def _obey_rules(self) -> Self:
        tables = {spec.field: self._table(spec) for spec in TABLES}
        refuse(f"{item.sheet}, row {item.row}: {item.message}" for item in findings_between_rows(tables))
        return self

    def _table(self, spec: SheetSpec) -> Table:
        """The rows by the numbers that they have in the written file."""
        return {row: dict(item) for row, item in enumerate(getattr(self, spec.field), start=HEADER_ROW + 1)}

    def to_json(self) -> dict[str, Any]:
        """The workbook as plain JSON values, for ``irp_configuration``.

        Without notebooks it has no key for them: a workbook that was recorded before there were any stays the same.
        """
        return self.model_dump(mode="json", exclude=None if self.notebooks else {NOTEBOOKS.field})

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read the values of :meth:`to_json`.

        Raises:
            WorkbookError: an engine that it names is not installed here, or cannot be used; or it contains something
                that this version does not know.
        """
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            for analysis in data.get("analyses", ()):
                if (engine := analysis.get("engine")) not in ENGINE_NAMES:
                    raise WorkbookError(
                        f"The analysis {quoted(analysis.get('name'))} is for the risk engine {quoted(engine)}, which "
                        "is not installed here, or cannot be used. irp doctor says which engines there are"
                    ) from error
            fault = error.errors(include_url=False)[0]
            place = ".".join(map(str, fault["loc"]))
            raise WorkbookError(f"This workbook cannot be read by this version: {place}: {fault['msg']}") from error

    def portfolio(self, name: str) -> Portfolio:
        """The portfolio called ``name``; KeyError if there is none."""
        return {portfolio.name: portfolio for portfolio in self.portfolios}[name]

    def analysis(self, name: str) -> Analysis:
        """The analysis called ``name``; KeyError if there is none."""
        return {analysis.name: analysis for analysis in self.analyses}[name]

    def groupings_in_order(self) -> tuple[Grouping, ...]:
        """The groups, each after the groups that it contains."""
        groups = {group.name: group for group in self.groupings}
        order, _ = members_first({name: group.members for name, group in groups.items()})
        return tuple(groups[name] for name in order)

    def notebooks_in_order(self) -> tuple[Notebook, ...]:
        """The notebooks, each after those whose output data it gets."""
        notebooks = {notebook.name: notebook for notebook in self.notebooks}
        order, _ = members_first({name: notebook.after for name, notebook in notebooks.items()})
        return tuple(notebooks[name] for name in order)

    def analyses_in(self, group: str) -> tuple[Analysis, ...]:
        """The analyses that ``group`` adds up, with those of the groups in it; KeyError if there is no such group."""
        analyses = {analysis.name: analysis for analysis in self.analyses}
        within: dict[str, tuple[str, ...]] = {}
        for grouping in self.groupings_in_order():
            within[grouping.name], _ = analyses_below(grouping.members, analyses, within)
        return tuple(analyses[name] for name in within[group])


def example_workbook() -> Workbook:
    """A small valid workbook, made from the examples of the columns. The files that it names do not exist."""
    content: dict[str, Sequence[Mapping[str, Any]]] = {}
    for spec in SHEETS:
        columns = spec.row.columns()
        content[spec.field] = [
            {name: column.kind.read(text) for name, column in columns.items() if (text := column.examples[number])}
            for number in range(len(next(iter(columns.values())).examples))
        ]
    return Workbook.model_validate(content | {"metadata": content["metadata"][0]})
