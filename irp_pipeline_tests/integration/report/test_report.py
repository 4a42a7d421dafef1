"""The report of a cycle: what it says of a finished, an unfinished and a failed one, and what it never does."""

import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from irp_pipeline import settings
from irp_pipeline.cli import app
from irp_pipeline.helpers.cycle import create_cycle
from irp_pipeline.helpers.database import execute_command
from irp_pipeline.helpers.result import get_results, save_results
from irp_pipeline.helpers.sanity import Check, LossFinding, RecordedCheck, Severity
from irp_pipeline.helpers.stage import get_or_create_stage
from irp_pipeline.helpers.step import create_step_run, get_or_create_step, update_step_run
from irp_pipeline.report import ReportError, State, collect, write_report
from irp_pipeline.report.curves import points_of_each
from irp_pipeline.report.losses import errors_in_words
from irp_pipeline.report.page import render_page
from irp_pipeline.report.summary import escaped, render_summary
from irp_pipeline.vocabulary import Perspective
from irp_pipeline_tests.support.made_up_cycle import (
    RETURN_PERIODS,
    YEARS,
    finish_jobs,
    make_batch,
    record_exposure,
    record_results,
    workbook,
)

HOSTILE = '</script><script>alert(1)</script><img src=x onerror=alert(2)> {{ 1337 * 1337 }} & "quotes" \''


@pytest.fixture(scope="module")
def finished(own_home: Path) -> int:
    """The batch of the finished cycle Q1-2024, after a cycle whose losses were less."""
    before = make_batch("Q4-2023", workbook())
    finish_jobs(before, scale=0.8)
    save_results(before)
    batch_id = make_batch("Q1-2024", workbook())
    record_exposure("Q1-2024")
    finish_jobs(batch_id)
    save_results(batch_id)
    return batch_id


@pytest.fixture(scope="module")
def written(finished: int, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report("Q1-2024", tmp_path_factory.mktemp("report"))


class Page(HTMLParser):
    """What a page shows and what it would load."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.text = ""
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._inside = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside not in {"script", "style"}:
            self.text += data + " "


def shown(text: str) -> str:
    return " ".join(text.split())


class TestFinished:
    def test_it_says_that_it_is_complete(self, finished):
        report = collect("Q1-2024")
        assert (report.state, report.missing, report.notes) == (State.COMPLETED, (), ())

    def test_the_page_has_the_figures_of_every_analysis_and_group(self, finished, written):
        text = Page(written).text
        assert "COMPLETED" in text
        for loss in get_results(finished)["loss"]:
            assert f"{loss:,.0f}" in text

    def test_and_what_they_come_from(self, written):
        text = shown(Page(written).text)
        for told in ("Example Insurance", "12,598", "8,123,456,789 EUR DE", "998,000,000 EUR FR", "Oasis LMF 2.5.8",
                     "storm 1.2", "configuration.xlsx", "property_wind, commercial_wind", "17 s", "9f1c0a52",
                     "0a0a0a0a0a0a…"):  # fmt: skip
            assert told in text, told
        assert re.search(r"Workbook SHA-256 [0-9a-f]{64}", text)

    def test_and_how_they_changed(self, written):
        section = collect("Q1-2024").comparison
        assert section is not None
        assert (section.before, section.chosen) == ("Q4-2023", "by age, since Q1-2024 states no exposure date")
        assert "+25.0%" in Page(written).text
        assert collect("Q4-2023").comparison is None

    def test_the_chart_holds_the_curves(self, written):
        [spec] = re.findall(r'vegaEmbed\("#curves", (\{.*\}), \{actions', written.read_text(encoding="utf-8"))
        chart = json.loads(spec)
        points = chart["data"]["values"] if "values" in chart["data"] else next(iter(chart["datasets"].values()))
        assert {point["subject"] for point in points} == {"property_wind", "commercial_wind", "wind", "everything"}
        assert '"log"' in spec
        assert '"title": "RI AEP"' in spec  # what is shown when a return period is pointed at

    def test_its_list_of_subjects_has_a_label_and_is_no_part_of_the_picture(self, written):
        page = written.read_text(encoding="utf-8")
        [label, options] = re.findall(r"<label[^>]*>(.*?)<select id=\"subject\">(.*?)</select></label>", page)[0]
        assert label == "Curves of "
        assert re.findall(r"<option( selected)?>(\w+)<", options) == [
            *(("", name) for name in ("property_wind", "commercial_wind", "wind")),
            (" selected", "everything"),
        ]
        picture = page[page.index('<div id="curves" role="img"') :]
        assert picture[: picture.index("</div>")].endswith('below">')

    def test_it_loads_nothing(self, written):
        for tag, attributes in Page(written).tags:
            assert tag not in {"link", "iframe", "img", "object", "embed", "base"}
            assert not {"src", "srcset", "data", "action"} & set(attributes)
            assert (attributes.get("href") or "#").startswith("#")
        [policy] = [attributes["content"] for tag, attributes in Page(written).tags if "http-equiv" in attributes]
        assert policy is not None
        assert policy.startswith("default-src 'none'")
        assert "http" not in policy

    def test_picture_and_summary_are_beside_it(self, finished, written):
        image = (written.parent / "ep_curves.png").read_bytes()
        assert image.startswith(b"\x89PNG\r\n\x1a\n")
        assert image.endswith(b"IEND\xaeB`\x82")
        summary = (written.parent / "report.md").read_text(encoding="utf-8")
        assert summary.startswith("## Q1-2024: COMPLETED\n")
        [loss] = get_results(finished).query("analysis_name == 'wind' and perspective == 'IL' and metric == 'AAL'")[
            "loss"
        ]
        assert f"{loss:,.0f}" in summary
        rows = [line for line in summary.splitlines() if line.startswith("|")]
        assert all(line.endswith("|") for line in rows)
        assert {path.name for path in written.parent.iterdir()} == {"report.html", "report.md", "ep_curves.png"}


class TestComparison:
    @pytest.fixture(scope="class")
    @staticmethod
    def compared(finished: int, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """The report of a cycle whose model is another version, with other samples, than in the cycle before."""
        batch_id = make_batch("compared", workbook())
        record_exposure("compared")
        finish_jobs(batch_id, only=["property_wind"], scale=1.5, model_version="1.3")
        finish_jobs(batch_id, only=["commercial_wind", "property_stress"])
        save_results(batch_id)
        return write_report("compared", tmp_path_factory.mktemp("compared"))

    def test_what_else_differs_is_beside_each_figure_and_beside_the_headline(self, compared):
        section = collect("compared").comparison
        assert section is not None
        notes = {part.name: {figure.note for figure in part.figures} for part in section.parts}
        assert notes == {
            "property_wind": {"model version 1.2 → 1.3"}, "commercial_wind": {""}, "property_stress": {""},
            "wind": {"model version 1.2 → 1.3 (property_wind)"},
            "everything": {"model version 1.2 → 1.3 (property_wind)"},
        }  # fmt: skip
        text = shown(Page(compared).text)
        figures = [figure for part in section.parts for figure in part.figures if figure.note]
        assert text.count("model version 1.2 → 1.3") >= len([one for one in figures if one.metric != "STD_DEV"])
        headline = section.part("everything")
        assert headline is not None
        average = headline.figure(Perspective.RI, "AAL", None)
        assert average is not None
        assert f"{average.share:+.1%} 1-in-250 OEP, RI" in text
        summary = (compared.parent / "report.md").read_text(encoding="utf-8")
        assert f"| {average.share:+.1%} ({escaped(average.note)}) |" in summary

    def test_both_curves_are_in_one_chart_that_loads_nothing(self, compared):
        [spec] = re.findall(r'vegaEmbed\("#compared-curves", (\{.*\}), \{actions', compared.read_text(encoding="utf-8"))
        points = next(iter(json.loads(spec)["datasets"].values()))
        assert {point["side"] for point in points} == {"compared", collect("compared").comparison.before}  # type: ignore[union-attr]
        assert {point["curve"] for point in points} == {"OEP", "AEP"}
        assert len([tag for tag, _ in Page(compared).tags if tag == "script"]) == 4

    def test_exposure_is_side_by_side(self, compared):
        text = shown(Page(compared).text)
        assert "All portfolios insured value EUR" in text
        assert "account records 120" in text

    def test_content_changes_with_the_figures_compared_with(self, compared):
        before = collect("compared").content()
        execute_command(
            """
            UPDATE irp_analysis_result SET loss = loss * 2
             WHERE metric = 'AAL' AND batch_id <> (SELECT max(batch_id) FROM irp_analysis_result)
            """
        )
        try:
            assert collect("compared").content()["comparison"] != before["comparison"]
        finally:
            execute_command(
                """
                UPDATE irp_analysis_result SET loss = loss / 2
                 WHERE metric = 'AAL' AND batch_id <> (SELECT max(batch_id) FROM irp_analysis_result)
                """
            )
        assert collect("compared").content() == before


class TestSegments:
    def test_they_have_tables_and_bars_and_the_rest_of_the_report_is_of_whole_portfolios(self, finished, tmp_path):
        asked = {"property_wind": ["OccupancyCode", "CountryCode+OccupancyCode"], "commercial_wind": ["OccupancyCode"]}
        batch_id = make_batch("by-occupancy", workbook(segments=asked))
        finish_jobs(batch_id, allocation_rules={"IL": 2, "RI": 3})
        save_results(batch_id)
        report = collect("by-occupancy")
        assert report.state is not State.FAILED
        tables = {(table.subject, table.by): table for table in report.segments.tables}
        assert next(iter(tables)) == ("everything", "OccupancyCode")
        assert set(tables) == {
            ("everything", "OccupancyCode"), ("wind", "OccupancyCode"), ("property_wind", "OccupancyCode"),
            ("commercial_wind", "OccupancyCode"), ("property_wind", "CountryCode+OccupancyCode"),
        }  # fmt: skip
        rows = tables["property_wind", "OccupancyCode"].rows
        assert {row.name: (row.tiv, row.locations) for row in rows} == {
            "1100": (2e6, 2),
            "1050": (1e6, 1),
            "9999": (1e6, 1),
        }
        assert rows[-1].name == "9999"
        assert not rows[-1].losses
        for perspective in Perspective:
            shares = [row.losses[perspective].share or 0.0 for row in rows[:2]]
            assert sum(shares) == pytest.approx(1, rel=1e-9)
        assert [row.tiv_share for row in rows if row.name == "1100"] == [0.5]
        # Both members have the same exposure: a group counts it once.
        assert {row.tiv for row in tables["wind", "OccupancyCode"].rows} == {2e6, 1e6}
        assert all(figure.is_whole for subject in report.subjects for figure in subject.figures)
        page = Page(write_report("by-occupancy", tmp_path))
        text = shown(page.text)
        for told in ("by rule 2 for IL, 3 for RI", "not covered by the model", "wind group by OccupancyCode", "50.0 %"):
            assert told in text, told
        assert ("div", "bars") in {(tag, dict(attrs).get("class")) for tag, attrs in page.tags}
        assert report.content()["segments"]
        assert "segments" not in collect("Q1-2024").content()


@pytest.fixture(scope="module")
def whole(finished: int, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a cycle whose step recorded whole curves, and that asks for more years than there are."""
    batch_id = make_batch("whole", workbook())
    finish_jobs(batch_id)
    execute_command(
        """
        UPDATE irp_job_configuration
           SET job_configuration_data = jsonb_set(job_configuration_data, '{return_periods,99}', '5000')
         WHERE batch_id = %s AND job_configuration_data ->> 'engine' = 'oasis_stochastic'
        """,
        (batch_id,),
    )
    record_results("whole", batch_id)
    return write_report("whole", tmp_path_factory.mktemp("whole"))


def chart_of(page: Path) -> list[dict[str, Any]]:
    """The curves of a page's chart."""
    [spec] = re.findall(r'vegaEmbed\("#curves", (\{.*\}), \{actions', page.read_text(encoding="utf-8"))
    [curves] = json.loads(spec)["datasets"].values()
    return list(curves)


class TestWholeCurves:
    def test_they_are_drawn_with_a_band_and_the_figures_marked_on_them(self, whole):
        curves = chart_of(whole)
        assert len(curves) == 4 * 3 * 2
        for curve in curves:
            assert curve["return_period"] == list(RETURN_PERIODS)
            assert 60 < len(curve["years"]) <= 120
            assert curve["years"][-1] == YEARS
            assert len(curve["years"]) == len(curve["losses"]) == len(curve["low"]) == len(curve["high"])
            marked = np.interp(curve["return_period"], curve["years"], curve["losses"], left=0)
            assert marked == pytest.approx(np.array(curve["loss"]), rel=0.08)

    def test_without_them_lines_are_between_the_figures(self, written):
        for curve in chart_of(written):
            assert (curve["years"], curve["losses"]) == (curve["return_period"], curve["loss"])
            assert (curve["low"], curve["high"]) == ([], [])
        assert "How sure these figures are" not in written.read_text(encoding="utf-8")

    def test_the_page_says_how_sure_the_average_is_in_two_parts(self, whole):
        text = shown(Page(whole).text)
        sure = collect("whole").curves
        average = sure.of("wind", "GUL", "AAL")
        assert average is not None
        assert f"{average.years_error_low:,.0f} \u2013 {average.years_error_high:,.0f}" in text
        assert f"{average.sampling_error:,.0f}" in text
        rare = sure.of("wind", "IL", "OEP", 250)
        assert rare is not None
        assert f"{rare.years_error_low:,.0f} \u2013 {rare.years_error_high:,.0f}" in text
        assert text.count("not known without repeated runs") > 8

    def test_return_periods_beyond_the_years_stay_visible(self, whole):
        text = shown(Page(whole).text)
        assert text.count("5,000 beyond 1,000 years") == 4
        reason = "no figure at 5,000 years: beyond the 1,000 simulated years, and samples add no years"
        assert f"property_wind, commercial_wind, wind, everything: {reason}" in collect("whole").notes

    def test_another_curve_is_another_report(self, whole):
        content = collect("whole").content()
        assert len(content["whole curves"]["curves"]) == 12
        assert content == collect("whole").content()

    def test_curves_that_are_not_on_this_machine_are_noted_and_not_missed(self, whole, test_schema):
        file = settings.cycle_dir(test_schema, "whole") / "curves" / "wind" / "gul.parquet"
        away = file.rename(file.with_suffix(".away"))
        try:
            report = collect("whole")
        finally:
            away.rename(file)
        assert report.curves.drawn == ()
        assert any("The whole curves are not drawn: The file" in note for note in report.notes)
        assert {subject.name for subject in report.subjects} >= {"wind", "everything"}

    def test_many_analyses_stay_a_small_page(self, whole):
        report = collect("whole")
        [wind] = [subject for subject in report.subjects if subject.name == "wind"]
        names = [f"analysis_{number:03}" for number in range(200)]
        sure = {
            key._replace(analysis_name=name): of
            for name in names
            for key, of in report.curves.sure.items()
            if key.analysis_name == "wind"
        }
        points = points_of_each(6 * len(names))
        drawn = tuple(
            replace(
                curve, name=name,
                **{part: getattr(curve, part)[:points] for part in ("return_periods", "losses", "low", "high")},
            )
            for name in names
            for curve in report.curves.drawn
            if curve.name == "wind"
        )  # fmt: skip
        many = replace(
            report,
            subjects=tuple(replace(wind, name=name) for name in names),
            curves=replace(report.curves, sure=sure, drawn=drawn),
        )
        assert len(render_page(many).encode()) < 3_000_000


class TestUnfinished:
    def test_it_says_what_is_missing_and_shows_what_there_is(self, finished, tmp_path):
        finish_jobs(make_batch("Q2-2024", workbook()), only=["property_wind"])
        report = collect("Q2-2024")
        assert report.state is State.UNFINISHED
        assert report.missing == (
            "1 of 3 jobs are finished (2 INITIATED); their batch is ACTIVE",
            "There are no figures of commercial_wind, property_stress",
            "The results have not been saved: what follows is from finished jobs",
        )
        assert [subject.name for subject in report.subjects] == ["property_wind"]
        text = shown(Page(write_report("Q2-2024", tmp_path)).text)
        assert "UNFINISHED: these figures are not complete" in text
        assert "not extracted yet" in text

    def test_a_skipped_analysis_is_noted_and_not_missed(self, own_home):
        batch_id = make_batch("Q3-2024", workbook())
        finish_jobs(batch_id)
        execute_command(
            """
            WITH c AS (UPDATE irp_job_configuration SET skipped = true
                        WHERE batch_id = %s AND job_configuration_data ->> 'name' = 'commercial_wind' RETURNING id)
            UPDATE irp_job SET skipped = true FROM c WHERE job_configuration_id = c.id
            """,
            (batch_id,),
        )
        save_results(batch_id)
        report = collect("Q3-2024")
        assert (report.state, report.missing) == (State.COMPLETED, ())
        assert report.notes == (
            "Skipped on purpose: commercial_wind",
            "The group wind has no figures, since it needs commercial_wind",
            "The group everything has no figures, since it needs commercial_wind",
        )

    def test_figures_of_jobs_that_were_replaced_are_pointed_out(self, finished):
        execute_command(
            "UPDATE irp_job SET skipped = true WHERE batch_id = %s AND result_data #>> '{files,losses}' IS NOT NULL",
            (finished,),
        )
        try:
            assert "replaced or skipped since: property_stress" in " ".join(collect("Q1-2024").missing)
        finally:
            execute_command("UPDATE irp_job SET skipped = false WHERE batch_id = %s", (finished,))

    def test_a_cycle_with_nothing(self, own_home, tmp_path):
        create_cycle("empty")
        (tmp_path / "ep_curves.png").touch()  # of an earlier report
        page = write_report("empty", tmp_path)
        text = shown(Page(page).text)
        assert "UNFINISHED" in text
        assert "No workbook has been validated for this cycle" in text
        assert "No step of this cycle has been started yet" in text
        assert not (tmp_path / "ep_curves.png").exists()

    def test_the_step_that_writes_the_report_is_not_missing(self, own_home):
        step_id = get_or_create_step(get_or_create_stage(create_cycle("writing"), 6, "Report"), 2, "Write report")
        create_step_run(step_id, "analyst")
        assert not any("Write report" in item for item in collect("writing").missing)

    def test_a_step_at_work_is(self, own_home):
        step_id = get_or_create_step(get_or_create_stage(create_cycle("busy"), 2, "Extract"), 1, "Extract exposure")
        create_step_run(step_id, "analyst")
        assert "Step 2.1 Extract exposure is at work" in collect("busy").missing


@pytest.fixture(scope="module")
def hostile(finished: int, tmp_path_factory: pytest.TempPathFactory) -> Path:
    batch_id = make_batch("hostile", workbook(description=HOSTILE))
    finish_jobs(batch_id, only=["property_wind"], model=HOSTILE, settings={"note": HOSTILE})
    execute_command(
        """
        UPDATE irp_job SET status = 'FAILED', error_message = %s || E'\\nTraceback' || id
         WHERE batch_id = %s AND status <> 'FINISHED'
        """,
        (HOSTILE, batch_id),
    )
    execute_command("UPDATE irp_batch SET status = 'FAILED' WHERE id = %s", (batch_id,))
    cycle = "SELECT cycle_id FROM irp_configuration JOIN irp_batch b ON b.configuration_id = irp_configuration.id"
    execute_command(
        f"UPDATE irp_stage SET stage_name = %s WHERE cycle_id = ({cycle} WHERE b.id = %s)", (HOSTILE, batch_id)
    )
    return write_report("hostile", tmp_path_factory.mktemp("failed"))


class TestFailed:
    def test_it_says_so_with_the_errors_of_the_jobs(self, hostile):
        report = collect("hostile")
        assert report.state is State.FAILED
        assert [failure.analysis for failure in report.failures] == ["commercial_wind", "property_stress"]
        text = shown(Page(hostile).text)
        assert "FAILED: these figures are not complete" in text
        assert f"Traceback{report.failures[0].job_id}" in text

    def test_a_failed_step_is_told_with_its_message(self, own_home):
        step_id = get_or_create_step(get_or_create_stage(create_cycle("broken"), 2, "Extract"), 1, "Extract exposure")
        run_id, _ = create_step_run(step_id, "analyst")
        update_step_run(run_id, "FAILED", "SourceError: no file location.csv\nTraceback")
        report = collect("broken")
        assert report.state is State.FAILED
        assert "Step 2.1 Extract exposure failed: SourceError: no file location.csv" in report.missing

    def test_names_of_anybody_are_shown_and_do_nothing(self, hostile):
        parsed = Page(hostile)
        scripts = [attributes for tag, attributes in parsed.tags if tag == "script"]
        [nonce] = {attributes["nonce"] for attributes in scripts}
        assert nonce
        assert len(scripts) == 3
        assert all(tag != "img" for tag, _ in parsed.tags)
        assert shown(parsed.text).count(HOSTILE) >= 4  # description, model, stage, errors
        assert str(1337 * 1337) not in parsed.text

    def test_findings_about_losses_are_told_and_do_nothing(self, finished):
        found = tuple(
            LossFinding(severity=severity, check=Check.ORDER, subject=HOSTILE, what=f"it is {HOSTILE}", remedy="Look")
            for severity in Severity
        )
        losses = RecordedCheck(errors=1, warnings=1, notes=99, findings=found, compared_with=HOSTILE, content="")
        report = replace(collect("Q1-2024"), losses=losses, state=State.FAILED)
        page = render_page(report)
        assert "<script>alert" not in page
        assert page.count("&lt;script&gt;alert(1)") == 2 * 3 + 1
        assert "FAILED: these figures have errors" in page
        assert "1 error, 1 warning, 99 notes." in page
        assert "Not shown: 98 more." in page
        assert "<details open><summary>Warnings and notes</summary>" in page
        summary = render_summary(report)
        assert summary.count("\n| ERROR | ") == 1
        assert "<script>" not in summary
        assert [*errors_in_words(replace(losses, errors=12))] == [str(found[0]), "11 more errors in the losses"]

    def test_in_the_summary_too(self, hostile):
        summary = (hostile.parent / "report.md").read_text(encoding="utf-8")
        assert "<script>" not in summary
        assert "<img" not in summary
        assert escaped("a|b\n# c <d> [e](f) `g`") == r"a\|b \# c &lt;d\> \[e\]\(f\) \`g\`"


def test_an_unknown_cycle_is_an_error(own_home, tmp_path):
    with pytest.raises(ReportError, match="no cycle 'Q9-2024' in schema"):
        write_report("Q9-2024", tmp_path)
    assert not list(tmp_path.iterdir())


class TestCommand:
    def run(self, *arguments: str, status: int = 0) -> str:
        result = CliRunner().invoke(app, ["report", *arguments], prog_name="irp")
        assert result.exit_code == status, result.output
        return result.stdout if status == 0 else result.stderr

    def test_it_writes_into_the_cycles_folder_and_says_where(self, finished, test_schema):
        page = settings.cycle_dir(test_schema, "Q1-2024") / "report" / "report.html"
        assert self.run("Q1-2024") == f"{page}\n"
        assert page.is_file()
        shutil.rmtree(page.parent)
        answer = json.loads(self.run("Q1-2024", "--json", "--db-schema", test_schema))
        assert answer == {
            "schema": test_schema, "cycle_name": "Q1-2024", "state": "COMPLETED", "report": str(page),
        }  # fmt: skip
        assert page.is_file()

    def test_it_says_that_a_cycle_is_not_finished(self, own_home):
        create_cycle("open-one")
        result = CliRunner().invoke(app, ["report", "open-one"], prog_name="irp")
        assert result.exit_code == 0
        assert "UNFINISHED" in result.stderr

    def test_it_opens_the_page(self, finished, monkeypatch):
        opened: list[str] = []

        def launch(url: str) -> int:
            opened.append(url)
            return 0

        monkeypatch.setattr("typer.launch", launch)
        self.run("Q1-2024", "--open")
        assert [url.rpartition("/")[2] for url in opened] == ["report.html"]

    def test_an_unknown_cycle(self, own_home):
        assert "There is no cycle 'Q1-2023'" in self.run("Q1-2023", status=1)
