"""``irp model``: what a catastrophe model has and needs, before a cycle runs it."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from irp_pipeline.cli import output
from irp_pipeline.cli.failures import FAILED
from irp_pipeline.cli.options import AsJson
from irp_pipeline.vocabulary import Metric

if TYPE_CHECKING:
    from irp_pipeline.engines.model_check import Examination, ModelCheck

app = typer.Typer(help="Catastrophe models.", no_args_is_help=True)


@app.callback()
def model() -> None:
    """Examine catastrophe models."""


@app.command(epilog="Example: irp model check models/windstorm")
def check(
    folder: Annotated[Path, typer.Argument(help="Folder of a model, or its configuration file.")],
    location: Annotated[
        Path | None,
        typer.Option("--location", help="An OED location table (CSV) to try it on; default: the model's own."),
    ] = None,
    engine: Annotated[
        str | None, typer.Option("--engine", help="The risk engine; default: the only one that has models.")
    ] = None,
    no_run: Annotated[bool, typer.Option("--no-run", help="Only examine the model; do not run it.")] = False,
    as_json: AsJson = False,
) -> None:
    """Say what a model has and needs, and run it on ten locations.

    All its files are read again, even if their size and time have not changed. The exit status is 1 if it does not run.
    """
    from irp_pipeline.errors import IrpError

    models = _models_of(engine)
    found = models.examine(folder)
    if not as_json:
        _say(found)
    outcome: dict[str, Any] | None = None
    problems = list(found.problems)
    if not problems and not no_run:
        try:
            outcome = models.trial(folder, location, output.print_note)
        except IrpError as error:
            problems.append(str(error))
    if as_json:
        output.print_json({"ok": not problems, **asdict(found), "problems": problems, "trial": outcome})
    else:
        if outcome is not None:
            _say_outcome(outcome)
        for problem in problems:
            output.say(output.styled(("wrong  ", "bold red"), problem))
    if problems:
        raise typer.Exit(FAILED)


def _models_of(engine: str | None) -> "ModelCheck":
    """Return an engine's check of models; without a name, that of the only engine which has one."""
    from irp_pipeline.engines import ENGINES, EngineError

    able = {name: declared.models for name, declared in ENGINES.declared().items() if declared.models is not None}
    if engine is None and len(able) == 1:
        return next(iter(able.values()))
    if engine is not None and ENGINES.get(engine) is not None and engine in able:
        return able[engine]
    names = ", ".join(able) or "none"
    if engine is None:
        raise EngineError(f"Name the risk engine of the model with --engine. Those with models are: {names}")
    raise EngineError(f"There is no risk engine {engine!r} that has models. Those with models are: {names}")


def _say(found: "Examination") -> None:
    count, size = found.files
    rows: list[tuple[str, str]] = [
        ("name", found.name),
        ("version", found.version or "it says none"),
        ("folder", str(found.folder)),
        ("files", f"{count:,}, {size / 1e6:,.1f} MB; hash {found.hash[:12]}"),
        ("perils", ", ".join(found.perils) or "it does not say"),
    ]
    for name, of in found.choices.items():
        rows.append((name, f"{', '.join(of['options'])}; default {of['default'] or 'none'}"))
    if found.columns:
        rows.append(("lookup reads", ", ".join(found.columns)))
    for need in found.needs:
        state = "installed" if need.is_there else f"not installed: {need.remedy}"
        rows.append(("needs", f"{need.package}, for {need.why}: {state}"))
    rows += [("not used", entry) for entry in found.unused]
    for name, text in rows:
        output.say(f"{name:<20}{text}")


def _say_outcome(outcome: dict[str, Any]) -> None:
    averages = [figure for figure in outcome["figures"] if figure["metric"] == Metric.AAL]
    provenance = outcome["provenance"]
    for figure in averages:
        output.say(f"{'average loss':<20}{figure['loss']:,.2f} {outcome['currency']} a year ({figure['perspective']})")
    output.say(f"{'simulated years':<20}{provenance['periods']:,}")
    totals = provenance.get("not_modelled_totals")
    if totals and totals["locations"]:
        output.say(f"{'not modelled':<20}{totals['locations']} of the ten locations: {_reasons(provenance)}")
    output.say(f"{'checked':<20}{'; '.join(provenance['checked'])}")
    output.say("It runs.")


def _reasons(provenance: dict[str, Any]) -> str:
    return "; ".join(f"{reason} ({count})" for reason, count in provenance["not_modelled"].items())
