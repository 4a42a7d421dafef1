"""Process: check the extracted exposure against the OED standard, write it as a model reads it, and summarise it."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dagster import MetadataValue, OpExecutionContext, graph

from irp_pipeline import engines, store
from irp_pipeline.columns import Folders
from irp_pipeline.cycle_files import EXPOSURE, findings_key, portfolio_key
from irp_pipeline.exposure import ExposureError
from irp_pipeline.exposure.oed import OedTable
from irp_pipeline.exposure.portfolio import exposure_hash, portfolio_file, write_portfolio_file
from irp_pipeline.exposure.validate import PortfolioFindings, refused_portfolios
from irp_pipeline.exposure.validation.needs import Needs
from irp_pipeline.files import write_atomically
from irp_pipeline.helpers.configuration import active_workbook, find_active_configuration
from irp_pipeline.helpers.job_request import REFUSED_PORTFOLIOS, refused_portfolios_of
from irp_pipeline.helpers.portfolio_facts import Fact, count_in_all, fact_key, records_key
from irp_pipeline.helpers.step import TrackedRun
from irp_pipeline.orchestration.asset_events import Outcome
from irp_pipeline.orchestration.assets import OED_FINDINGS, PORTFOLIO
from irp_pipeline.orchestration.notebooks import ops_of_stage
from irp_pipeline.orchestration.stages.extract import extracted_tables
from irp_pipeline.orchestration.tracking import AssetOfStep, CheckOfStep, CycleOfRun, StageSpec, step
from irp_pipeline.settings import models_folder

if TYPE_CHECKING:
    from irp_pipeline.workbook import Analysis, Workbook

STAGE = StageSpec(3, "Process")

share_out_notebooks, run_notebooks = ops_of_stage(STAGE)


def _lookups(cycle: CycleOfRun, _: Any) -> dict[str, Any]:
    """What the engines need of each portfolio: models with other lookups of locations need other columns."""
    if find_active_configuration(cycle.id) is None:
        return {}
    workbook, folder = active_workbook(cycle.id)
    return {
        f"needs of {portfolio.name}": needs_of_portfolio(workbook, portfolio.name, folder).content()
        for portfolio in workbook.portfolios
    }


def _oed_outcome(output: Mapping[str, Any]) -> Outcome:
    """What the check of the exposure found, in the numbers that the step records."""
    counts = {name: value for name, value in output.items() if name != REFUSED_PORTFOLIOS}
    refused = output.get(REFUSED_PORTFOLIOS) or {}
    return Outcome.of_counts(
        count_in_all(Fact.ERRORS, output),
        count_in_all(Fact.WARNINGS, output),
        counts | ({REFUSED_PORTFOLIOS: MetadataValue.json(refused)} if refused else {}),
    )


@step(
    stage=STAGE,
    number=1,
    version=2,
    workbook=("metadata.currency", "metadata.strict_validation", "portfolios", "analyses"),
    after=("extract.extract_exposure",),
    inputs=_lookups,
    check=CheckOfStep(check=OED_FINDINGS, outcome=_oed_outcome, fails_with=ExposureError),
)
def validate_exposure(cycle: CycleOfRun, run: TrackedRun, context: OpExecutionContext) -> dict[str, Any]:
    """Check each portfolio against OED. A portfolio with errors stops its own analyses. The file `findings.txt` has
    all findings.

    If the workbook asks for strict validation, or no portfolio is left, the step fails.
    """
    from irp_pipeline.exposure.validation.findings import Severity

    workbook, folder = active_workbook(cycle.id)
    figures: dict[str, Any] = {}
    found: dict[str, PortfolioFindings] = {}
    for portfolio in workbook.portfolios:
        found[portfolio.name] = result = _validated(cycle, workbook, portfolio.name, folder)
        key = findings_key(portfolio.name)
        text = "".join(f"{finding}\n" for finding in result.findings)
        write_atomically(run.scratch / key, text)
        run.add_file(run.scratch / key)
        if result.errors:  # a failed run publishes no file, and people need all findings
            write_atomically(cycle.folder / key, text)
            if store.is_elsewhere():
                store.put(run.scratch / key, store.key_of(cycle.folder / key))
        figures[fact_key(portfolio.name, Fact.ERRORS)] = len(result.errors)
        warnings = sum(item.severity is Severity.WARNING for item in result.findings)
        figures[fact_key(portfolio.name, Fact.WARNINGS)] = warnings
        if result.findings:
            place = store.name_of_path(cycle.folder / key) or cycle.folder / key
            context.log.warning(f"{portfolio.name}: {len(result.findings)} findings, see {place}")
    refused = refused_portfolios(found, strict=workbook.metadata.strict_validation)
    for name, reason in refused.items():
        context.log.error(f"The portfolio {name} has errors, and its analyses are not run: {reason}")
    run.add_records("refused portfolios", refused)
    return figures | {REFUSED_PORTFOLIOS: refused}


@step(
    stage=STAGE,
    number=2,
    workbook=("portfolios",),
    after=("extract.extract_exposure", "process.validate_exposure"),
    asset=AssetOfStep(asset=PORTFOLIO, metadata=lambda _, output: output),
)
def build_portfolios(cycle: CycleOfRun, run: TrackedRun) -> dict[str, Any]:
    """Write the OED files of each portfolio as a model reads them, and record their content.

    A portfolio with errors is left out, and so are its analyses.
    """
    workbook, _ = active_workbook(cycle.id)
    refused = refused_portfolios_of(cycle.id)
    figures: dict[str, Any] = {}
    for portfolio in workbook.portfolios:
        folder = cycle.folder / portfolio_key(portfolio.name)
        extracts = {} if portfolio.name in refused else extracted_tables(cycle, portfolio.name)
        built: list[Path] = []
        for table in OedTable:
            target = portfolio_file(folder, table)
            if table not in extracts:
                run.remove_file(target.relative_to(cycle.folder).as_posix())
                continue
            built.append(run.scratch / target.relative_to(cycle.folder))
            figures[records_key(portfolio.name, table)] = write_portfolio_file(extracts[table], built[-1])
        if not built:
            continue
        files = [run.add_file(path) for path in built]
        figures[fact_key(portfolio.name, Fact.EXPOSURE_HASH)] = exposure_hash(
            {path.stem: file.sha256 for path, file in zip(built, files, strict=True)}
        )
        figures[fact_key(portfolio.name, Fact.FOLDER)] = str(folder)
    return figures


@step(stage=STAGE, number=3, workbook=("portfolios",), after=("extract.extract_exposure",))
def profile_exposure(cycle: CycleOfRun, run: TrackedRun) -> dict[str, Any]:
    """Compute the exposure at a glance: how much of what, where, how concentrated, and how well known.

    Portfolios with errors are in it, too: it shows what was extracted.
    """
    from irp_pipeline.exposure.profile.computing import profile_of
    from irp_pipeline.exposure.profile.tables import write_profile

    workbook, _ = active_workbook(cycle.id)
    profile = profile_of({portfolio.name: extracted_tables(cycle, portfolio.name) for portfolio in workbook.portfolios})
    for path in write_profile(profile, run.scratch / EXPOSURE):
        run.add_file(path)
    return {
        "locations": profile.whole.locations,
        "locations with coordinates": profile.whole.placed,
        "accounts": profile.whole.accounts,
    }


@graph
def process(start: Any) -> Any:
    """The extracted exposure, checked against the OED standard, written as a model reads it, and summarised.

    The notebooks that the workbook names for this stage come before the summary, which waits for them, so that no stage
    begins before they have ended.
    """
    shared_out = share_out_notebooks(build_portfolios(validate_exposure(start)))
    return profile_exposure(shared_out.map(run_notebooks).collect())


def _validated(cycle: CycleOfRun, workbook: "Workbook", portfolio: str, data_folder: Path) -> "PortfolioFindings":
    from irp_pipeline.exposure.validate import validate

    try:
        findings = validate(
            extracted_tables(cycle, portfolio),
            needs=needs_of_portfolio(workbook, portfolio, data_folder),
            currency=currency_of_portfolio(workbook, portfolio),
        )
    except ExposureError as error:
        return PortfolioFindings(unreadable=str(error))
    return PortfolioFindings(tuple(findings))


def _analyses_of(workbook: "Workbook", portfolio: str) -> "list[Analysis]":
    """The analyses of a portfolio, and those to which only its reinsurance applies."""
    return [
        analysis
        for analysis in workbook.analyses
        if portfolio.casefold() in {analysis.portfolio.casefold(), (analysis.reinsurance or "").casefold()}
    ]


def needs_of_portfolio(workbook: "Workbook", portfolio: str, data_folder: Path) -> Needs:
    """Ask the engines of a portfolio's analyses what they need of it."""
    folders = Folders(data_folder, models_folder())
    needed = Needs()
    for analysis in _analyses_of(workbook, portfolio):
        needed |= engines.needs(analysis.model_dump(mode="json"), folders)
    return needed


def currency_of_portfolio(workbook: "Workbook", portfolio: str) -> str | None:
    """The currency that all amounts of a portfolio must be in; None if each of its analyses converts them."""
    currency = workbook.metadata.currency
    fields = [
        {"currency": currency, **analysis.model_dump(mode="json")} for analysis in _analyses_of(workbook, portfolio)
    ]
    converts = [
        (declaration := engines.declared(item)) is not None and declaration.converts_to(item) == currency
        for item in fields
    ]
    return None if converts and all(converts) else currency
