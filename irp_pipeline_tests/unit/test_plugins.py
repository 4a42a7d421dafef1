"""What distributions declare: found, checked, and refused with the name of the distribution."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import pytest
from typer.testing import CliRunner

from irp_pipeline.cli import app
from irp_pipeline.columns import TEXT, Column, Row, Text
from irp_pipeline.engines import EngineDeclaration, EngineError, engine, register_engine
from irp_pipeline.engines.declaration import ENGINES, _problem
from irp_pipeline.losses import DECLARED_METRICS, LossError, MetricDeclaration, SampledYears, declared_figures
from irp_pipeline.plugins import PluginError, Registry
from irp_pipeline.vocabulary import Perspective
from irp_pipeline_tests.support.distributions import write_distribution

GROUP = "irp_tests.animals"


class Animal:
    def __init__(self, name: str) -> None:
        self.name = name


def registry(
    monkeypatch: pytest.MonkeyPatch, folder: Path, *distributions: tuple[str, dict[str, str], str]
) -> Registry[Animal]:
    """A registry of what distributions declare: the name, entry points and text of the module ``of_<name>`` of each."""
    for name, entries, module in distributions:
        module = f"from {__name__} import Animal\n{module}"
        path = write_distribution(folder / name, name, {GROUP: entries}, **{f"of_{name}": module})
        monkeypatch.syspath_prepend(str(path))
        monkeypatch.delitem(sys.modules, f"of_{name}", raising=False)
    return Registry(GROUP, Animal, "animal")


def test_declarations_are_found_in_the_order_of_distributions_and_names(monkeypatch, tmp_path) -> None:
    found = registry(
        monkeypatch,
        tmp_path,
        ("zoo", {"bear": "of_zoo:BEAR", "ape": "of_zoo:APE"}, "BEAR, APE = Animal('bear'), Animal('ape')"),
        ("farm", {"cow": "of_farm:COW"}, "COW = Animal('cow')"),
    )
    assert [*found.declared()] == ["cow", "ape", "bear"]
    assert (found.distribution_of("ape"), found.version_of("cow"), found.faults()) == ("zoo", "1.0", ())
    assert found.get("dog") is None


@pytest.mark.parametrize(
    ("entry", "module", "reason"),
    [
        ("of_zoo:BEAR", "import no_such_module", "of the distribution zoo cannot be loaded: ModuleNotFoundError: "),
        ("of_zoo:BEAR", "", "of the distribution zoo cannot be loaded: AttributeError: "),
        ("of_zoo:BEAR", "raise RuntimeError('asleep')", "cannot be loaded: RuntimeError: asleep. Correct or uninstall"),
        ("of_zoo:BEAR", "BEAR = 'bear'", "cannot be used: its entry point names a str, not a Animal"),
        ("of_zoo:BEAR", "BEAR = Animal('lion')", "has another name than its declaration, which says 'lion'"),
    ],
)
def test_one_that_cannot_be_used_is_told_when_it_is_needed_and_breaks_no_other(
    monkeypatch, tmp_path, entry, module, reason
) -> None:
    found = registry(
        monkeypatch,
        tmp_path,
        ("zoo", {"bear": entry}, module),
        ("farm", {"cow": "of_farm:COW"}, "COW = Animal('cow')"),
    )
    assert [*found.declared()] == ["cow"]
    with pytest.raises(PluginError, match="The animal 'bear' ") as raised:
        found.get("bear")
    assert reason in str(raised.value)
    assert [fault.name for fault in found.faults()] == ["bear"]


def test_two_of_one_name_are_an_error_that_names_both_distributions(monkeypatch, tmp_path) -> None:
    bear = {"bear": "of_zoo:BEAR"}
    found = registry(monkeypatch, tmp_path, ("zoo", bear, "BEAR = Animal('bear')"), ("circus", bear, ""))
    assert found.declared() == {}
    with pytest.raises(PluginError, match=r"'bear' is declared by two distributions: circus and zoo. Uninstall one"):
        found.get("bear")


def test_one_that_is_registered_here_replaces_what_was_found(monkeypatch, tmp_path) -> None:
    found = registry(monkeypatch, tmp_path, ("zoo", {"bear": "of_zoo:BEAR"}, "raise RuntimeError"))
    found.register(bear := Animal("bear"))
    assert (found.get("bear"), found.faults(), found.distribution_of("bear")) == (bear, (), None)


def test_a_checkout_declares_what_its_source_says_whatever_was_installed_of_it(monkeypatch) -> None:
    assert {"oasis_deterministic", "oasis_stochastic"} <= ENGINES.declared().keys()
    assert ENGINES.distribution_of("oasis_stochastic") == "irp-pipeline"
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: ())
    assert [*Registry(ENGINES.group, EngineDeclaration, "risk engine").declared()][:2] == [
        "oasis_deterministic",
        "oasis_stochastic",
    ]


class Usual(Row):
    rate: Annotated[Text | None, Column("A rate.", TEXT)] = None


class Otherwise(Row):
    rate: Annotated[Text | None, Column("Another rate.", TEXT)] = None


class Required(Row):
    rate: Annotated[Text, Column("A rate.", TEXT)]


class OfAll(Row):
    portfolio: Annotated[Text | None, Column("A portfolio.", TEXT)] = None


class Bare(Row):
    rate: Text | None = None


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        (Usual, None),
        (Otherwise, "the engine 'first' declares the column 'rate' in another way"),
        (Required, "its column 'rate' has no default"),
        (OfAll, "its column 'portfolio' is one that every analysis has"),
        (Bare, "the annotation of its column 'rate' has no Column"),
    ],
)
def test_the_columns_of_engines_go_together(columns, problem) -> None:
    first = EngineDeclaration("first", "", RuntimeError, columns=Usual)  # type: ignore[arg-type]
    second = EngineDeclaration("second", "", RuntimeError, columns=columns)  # type: ignore[arg-type]
    found = _problem(second, {"first": first})
    assert found is None if problem is None else problem in str(found)


def test_an_engine_that_nobody_declares_is_an_error_that_names_those_there_are(tmp_path) -> None:
    with pytest.raises(EngineError, match=r"no risk engine 'none'. The engines are: oasis_deterministic, "):
        engine("none", tmp_path)


@pytest.mark.parametrize(
    ("compute", "reason"),
    [
        (lambda years, period: 1 / 0, "The metric BAD cannot be computed: ZeroDivisionError"),
        (lambda years, period: float("nan"), "The metric BAD gives nan, which is no amount"),
        (lambda years, period: -1.0, "The metric BAD gives -1.0, which is no amount"),
    ],
)
def test_what_a_metric_gives_is_looked_at(monkeypatch, compute, reason) -> None:
    bad = MetricDeclaration("BAD", "Bad", "", compute)
    monkeypatch.setitem(DECLARED_METRICS._loaded(), "BAD", bad)
    with pytest.raises(LossError, match=reason):
        declared_figures(Perspective.GUL, SampledYears(None, 10, 1), [5])


def test_a_metric_at_return_periods_is_asked_for_those_that_the_years_support(monkeypatch) -> None:
    asked: list[float | None] = []

    def compute(years: SampledYears, period: float | None) -> float | None:
        asked.append(period)
        return None if period == 2 else period

    monkeypatch.setitem(DECLARED_METRICS._loaded(), "BY", MetricDeclaration("BY", "By", "", compute, True))
    figures = declared_figures(Perspective.GUL, SampledYears(None, 10, 2), [10, 5, 2, 11])
    assert asked == [2, 5, 10]
    assert [(figure.metric, figure.return_period, figure.loss) for figure in figures] == [("BY", 5, 5), ("BY", 10, 10)]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("oasis_deterministic", "Those with models are: oasis_stochastic"),
        ("none", "There is no risk engine 'none' that"),
    ],
)
def test_irp_model_check_asks_an_engine_that_has_models(tmp_path, name, reason) -> None:
    result = CliRunner().invoke(app, ["model", "check", str(tmp_path), "--engine", name])
    assert result.exit_code == 1
    assert reason in result.output


def test_irp_model_check_wants_a_name_where_several_engines_have_models(monkeypatch, tmp_path) -> None:
    other = replace(ENGINES.declared()["oasis_stochastic"], name="other")
    monkeypatch.setitem(ENGINES._loaded(), "other", other)
    result = CliRunner().invoke(app, ["model", "check", str(tmp_path)])
    assert (
        "Name the risk engine of the model with --engine. Those with models are: oasis_stochastic, other"
        in " ".join(result.output.split())
    )


def test_registering_an_engine_leaves_what_else_one_of_that_name_declares(monkeypatch) -> None:
    monkeypatch.setattr(ENGINES, "_declared", ENGINES.declared())
    monkeypatch.setattr(ENGINES, "_distributions", {})
    before = ENGINES.declared()["oasis_stochastic"]
    register_engine("oasis_stochastic", factory := lambda folder: before.make(folder))
    assert ENGINES.get("oasis_stochastic") == replace(before, make=factory)


def test_what_a_declaration_is_of_the_wrong_kind_is_told_and_not_believed() -> None:
    no_row = EngineDeclaration("wrong", "", RuntimeError, columns=dict)  # type: ignore[arg-type]
    assert "its columns are no Row but <class 'dict'>" in str(_problem(no_row, {}))
    no_help = EngineDeclaration("wrong", None, RuntimeError)  # type: ignore[arg-type]
    assert "its help must be text, not None" in str(_problem(no_help, {}))
