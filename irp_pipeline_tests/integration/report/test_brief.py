"""The head of the report: how much, of what, how sure, what changed and why; and the page in a real browser."""

import html
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from irp_pipeline.helpers.attribution import Factor, Part, Point
from irp_pipeline.helpers.cycle import create_cycle
from irp_pipeline.helpers.result import get_results
from irp_pipeline.report import Report, collect
from irp_pipeline.report.attribution_section import AttributionSection
from irp_pipeline.report.brief import Brief, brief_of
from irp_pipeline.report.comparison import ComparedSource
from irp_pipeline.report.page import render_page
from irp_pipeline.vocabulary import Metric, Perspective
from irp_pipeline_tests.support.browser import Browser, browser, needs_browser
from irp_pipeline_tests.support.made_up_cycle import (
    YEARS,
    finish_jobs,
    make_batch,
    record_exposure,
    record_results,
    workbook,
)

TIV = 8_123_456_789.0 + 998_000_000.5 + 3_400_000_000.0


@pytest.fixture(scope="module")
def first(own_home: Path) -> Report:
    """The report of the first quarter, with whole curves."""
    batch_id = make_batch("Q1-2024", workbook(exposure_date="2024-03-31"))
    record_exposure("Q1-2024")
    finish_jobs(batch_id, scale=0.8)
    record_results("Q1-2024", batch_id)
    return collect("Q1-2024")


@pytest.fixture(scope="module")
def second(first: Report) -> tuple[int, Report]:
    """Batch and report of the quarter after it: more loss, and one analysis with a newer model."""
    asked = {"property_wind": ["OccupancyCode"], "commercial_wind": ["OccupancyCode"]}
    batch_id = make_batch("Q2-2024", workbook(exposure_date="2024-06-30", segments=asked))
    record_exposure("Q2-2024")
    finish_jobs(batch_id, only=["property_wind"], model_version="1.3")
    finish_jobs(batch_id, only=["commercial_wind", "property_stress"])
    record_results("Q2-2024", batch_id)
    return batch_id, collect("Q2-2024")


@pytest.fixture
def report(second: tuple[int, Report]) -> Report:
    return second[1]


def answers(report: Report) -> Brief:
    found = brief_of(report)
    assert found is not None
    return found


def head_of(report: Report) -> str:
    """The text of the head of a page."""
    page = render_page(report)
    head = page[page.index('<section id="brief">') :]
    head = re.sub(r"<style>.*?</style>", "", head[: head.index("</section>")], flags=re.DOTALL)
    return html.unescape(" ".join(re.sub(r"<[^>]+>", " ", head).split()))


class TestHowMuch:
    def test_the_main_figures_of_the_widest_group_in_every_perspective(self, second) -> None:
        batch_id, report = second
        found = answers(report)
        assert (found.subject.name, found.chosen, found.perspective) == ("everything", "", Perspective.RI)
        assert [row.words for row in found.how_much] == [
            "Average annual loss", "1-in-100 OEP", "1-in-100 AEP", "1-in-250 OEP", "1-in-250 AEP",
        ]  # fmt: skip
        saved = get_results(batch_id).query("analysis_name == 'everything'")
        text = head_of(report)
        for row in found.how_much:
            assert set(row.figures) == set(Perspective)
            for perspective, figure in row.figures.items():
                assert figure.loss in saved[saved["perspective"] == perspective]["loss"].tolist()
                assert f"{figure.loss:,.0f}" in text

    def test_without_a_group_it_is_the_largest_analysis_and_says_so(self, report: Report) -> None:
        found = answers(replace(report, subjects=tuple(item for item in report.subjects if not item.is_group)))
        analyses = [item for item in report.subjects if item.name in {"property_wind", "commercial_wind"}]
        losses = {item.name: item.figure(Perspective.RI, "AAL") for item in analyses}
        largest = max(losses, key=lambda name: losses[name].loss)  # type: ignore[union-attr]
        assert (found.subject.name, found.chosen) == (
            largest, "the largest of 2 analyses, since no group adds them up",
        )  # fmt: skip

    def test_of_a_deterministic_analysis_it_is_the_loss_at_each_factor(self, report: Report) -> None:
        alone = replace(report, subjects=tuple(item for item in report.subjects if item.name == "property_stress"))
        found = answers(alone)
        assert [(row.words, row.figures[Perspective.IL].loss) for row in found.how_much] == [
            ("Loss at 50 % damage", 2e6), ("Loss at 10 % damage", 4e5),
        ]  # fmt: skip
        assert found.how_sure == (("No error", "The damage is given, so nothing is simulated and nothing is drawn."),)
        assert "Loss at 50 % damage 2,000,000" in head_of(alone)

    def test_other_return_periods_are_shown_if_there_are_no_usual_ones(self, report: Report) -> None:
        subjects = tuple(
            replace(item, figures=tuple(one for one in item.figures if one.return_period not in {100, 250}))
            for item in report.subjects
        )
        words = [row.words for row in answers(replace(report, subjects=subjects)).how_much]
        assert words[1:] == ["1-in-500 OEP", "1-in-500 AEP", "1-in-1,000 OEP", "1-in-1,000 AEP"]

    def test_a_cycle_without_figures_has_no_head(self, own_home) -> None:
        create_cycle("empty")
        assert brief_of(collect("empty")) is None
        assert 'id="brief"' not in render_page(collect("empty"))


class TestOfWhat:
    def test_the_insured_value_and_what_each_portfolio_has_of_it_and_of_the_loss(self, report: Report) -> None:
        found = answers(report).of_what
        assert found.values == {"EUR": pytest.approx(TIV)}
        assert (found.locations, found.title) == (12_598 + 830, "Portfolio")
        assert {part.name: part.locations for part in found.parts} == {"property": 12_598, "commercial": 830}
        assert sum(part.share or 0 for part in found.parts) == pytest.approx(1, rel=1e-6)
        shares = [part.share or 0 for part in found.parts]
        assert shares == sorted(shares, reverse=True)
        net = answers(report).how_much[0].figures[Perspective.RI].loss
        assert found.rate == pytest.approx(net / TIV)
        assert "12,521,456,790 EUR in 13,428 locations." in head_of(report)

    def test_of_a_single_portfolio_the_segments_are_shown(self, report: Report) -> None:
        alone = replace(report, subjects=tuple(item for item in report.subjects if item.name == "property_wind"))
        found = answers(alone).of_what
        assert (found.title, {part.name for part in found.parts}) == ("OccupancyCode", {"1050", "1100", "9999"})
        assert sum(part.share or 0 for part in found.parts) == pytest.approx(1, rel=1e-6)
        assert found.locations == 12_598

    def test_amounts_in_different_currencies_are_not_added(self, report: Report) -> None:
        property_, commercial = report.portfolios
        values = tuple(replace(value, currency="USD") for value in commercial.insured_values)
        mixed = replace(report, portfolios=(property_, replace(commercial, insured_values=values)))
        found = answers(mixed).of_what
        assert found.values == {"EUR": pytest.approx(TIV - 3.4e9), "USD": 3.4e9}
        assert found.rate is None
        assert "9,121,456,790 EUR and 3,400,000,000 USD in 13,428 locations." in head_of(mixed)

    def test_of_many_portfolios_the_rest_is_counted(self, report: Report) -> None:
        [source] = [source for source in report.sources if source.analysis == "property_wind"]
        names = [f"analysis {number}" for number in range(9)]
        [wind] = [item for item in report.subjects if item.name == "property_wind"]
        many = replace(
            report,
            subjects=(
                *(replace(wind, name=name) for name in names),
                replace(wind, name="all", is_group=True, members=tuple(names)),
            ),
            sources=tuple(replace(source, analysis=name, portfolio=f"of {name}") for name in names),
        )
        found = answers(many).of_what
        assert (len(found.parts), found.others) == (4, 5)
        assert "And 5 more." in head_of(many)


class TestHowSure:
    def test_the_two_errors_are_apart(self, report: Report) -> None:
        (years, of_years), (sampling, of_sampling), (_, both) = answers(report).how_sure
        assert (years, sampling) == ("Error of the years", "Error of sampling")
        average = report.curves.of("everything", "RI", "AAL")
        rare = report.curves.of("everything", "RI", "OEP", 250)
        ground_up = report.curves.of("everything", "GUL", "AAL")
        assert average is not None
        assert rare is not None
        assert ground_up is not None
        for of in (average, rare):
            assert f"{of.years_error_low:,.0f} to {of.years_error_high:,.0f}" in of_years
        assert f"{YEARS:,} simulated years" in of_years
        assert f"+{ground_up.sampling_error:,.0f} (" in of_sampling
        assert "sampl" not in of_years.replace("resampling", "")
        assert "years" not in of_sampling
        assert both == "The two do not add up, and neither has the error of the model."
        text = head_of(report)
        assert all(words in text for words in (of_years, of_sampling, both))

    def test_what_is_not_known_is_said(self, report: Report) -> None:
        unknown = {
            key: replace(of, years_error_low=None, years_error_high=None, years_error_unknown="there are too few years",
                         sampling_error=None, sampling_error_unknown="there are no samples")
            for key, of in report.curves.sure.items()
        }  # fmt: skip
        found = answers(replace(report, curves=replace(report.curves, sure=unknown))).how_sure
        assert found[:2] == (
            ("Error of the years", "Not known: there are too few years."),
            ("Error of sampling", "Not known: there are no samples."),
        )
        nothing = answers(replace(report, curves=replace(report.curves, sure={}))).how_sure
        assert [name for name, _ in nothing] == ["Not recorded"]


class TestWhatChangedAndWhy:
    def test_the_first_cycle_says_that_there_is_nothing_to_compare_with(self, first: Report) -> None:
        assert (answers(first).changes, answers(first).why) == ((), None)
        assert "What changed There is no earlier cycle with results to compare with." in head_of(first)

    def test_exposure_average_and_a_rare_loss_are_beside_what_they_were(self, report: Report) -> None:
        exposure, figures = answers(report).changes
        assert [(row.words, row.before, row.after, row.change) for row in exposure.rows] == [
            ("Insured value, EUR", "12.5 bn", "12.5 bn", ("0", "0.0%")),
            ("Locations", "13,428", "13,428", ("0", "0.0%")),
        ]
        assert exposure.note == ""
        assert [row.words for row in figures.rows] == ["AAL, RI", "1-in-250 OEP, RI"]
        part = report.comparison.part("everything") if report.comparison else None
        assert part is not None
        average = part.figure(Perspective.RI, "AAL", None)
        assert average is not None
        assert figures.rows[0].change == (f"+{average.change:,.0f}", f"{average.share:+.1%}")
        assert figures.note == "model version 1.2 → 1.3 (property_wind)"
        row = " ".join(("AAL, RI", figures.rows[0].before, figures.rows[0].after, *figures.rows[0].change))
        assert row in head_of(report)

    def test_the_reasons_are_what_differs(self, report: Report) -> None:
        why = answers(report).why
        assert why is not None
        assert why.reasons == (("Exposure", "the totals are the same"), ("Model version", "1.2 → 1.3 (property_wind)"))

    def test_a_model_is_told_by_its_version_and_many_settings_by_their_number(self, report: Report) -> None:
        assert report.comparison is not None

        def differs(what: str, before: str, after: str, *names: str) -> ComparedSource:
            return ComparedSource(what=what, before=before, after=after, names=names)

        group, member = "everything", "everything (property_wind)"
        sources = (
            differs("model version", "1", "2", group, "wind"),
            differs("content of the model", "2996…", "575d…", group),
            differs("content of the model", "aaaa…", "bbbb…", member),
            differs("setting loss_multiplier", "not stated", "1.05", member),
            differs("setting pla", "not stated", "true", member),
            differs("setting pla_uniform_factor", "not stated", "1.05", member),
            differs("samples", "10", "20", "everything else"),
        )
        why = answers(replace(report, comparison=replace(report.comparison, sources=sources))).why
        assert why is not None
        assert why.reasons[1:] == (
            ("Model version", "1 → 2"),
            ("Content of the model", "aaaa… → bbbb… (property_wind)"),
            ("Settings", "loss_multiplier not stated → 1.05, pla not stated → true and 1 more (property_wind)"),
        )

    def test_parts_of_the_change_are_shown_only_if_there_are_any(self, report: Report) -> None:
        section = report.comparison
        subject, point = answers(report).subject, Point(Perspective.RI, Metric.AAL, None, None)
        assert section is not None
        parts = tuple(
            Part(
                analysis_name=subject.name, is_group=subject.is_group, point=point, currency="EUR", position=place,
                factor=factor, before=before, after=after, sampling_error=error, sampling_error_unknown=None,
                remark=remark,
            )
            for place, (factor, before, after, error, remark) in enumerate([
                (Factor.ENGINE, 100_000.0, 100_000.0, 0.0, ""),
                (Factor.EXPOSURE, 100_000.0, 112_000.0, None, "locations: 3 <b>new</b>"),
                (Factor.MODEL, 112_000.0, 109_000.0, 500.0, "model version 1 → 2"),
                (Factor.ENGINE_OF_LATER, 109_000.0, 109_000.0, 0.0, ""),
            ])
        )  # fmt: skip
        attributed = AttributionSection(earlier=section.before, later=report.cycle, batch_id=7, parts=parts)
        with_parts = replace(report, attribution=attributed)
        text = head_of(with_parts)
        assert "Engine 0 \N{EN DASH}" in text
        assert "Exposure +12,000 \N{EN DASH}" in text
        assert "Model \N{MINUS SIGN}3,000 ± 500" in text
        assert "Engine, since the later cycle" not in text
        page = render_page(with_parts)
        assert "locations: 3 &lt;b&gt;new&lt;/b&gt;" in page
        assert '<section id="attribution">' in page
        assert "Part of the change" in text
        assert "Part of the change" not in head_of(report)
        assert with_parts.content() != report.content()
        assert "attribution" not in report.content()


class TestByKeyboard:
    def test_every_table_is_in_a_region_that_can_be_reached_and_has_a_name_of_its_own(self, report: Report) -> None:
        page, _, _ = render_page(report).partition("<script")
        regions = re.findall(r'<div class="scroll" tabindex="0" role="region" aria-label="([^"]+)"><table>', page)
        assert len(regions) == page.count("<table>") > 10
        assert len(set(regions)) == len(regions)

    def test_the_first_thing_reached_leads_to_the_figures(self, report: Report) -> None:
        body = render_page(report).partition("<body>")[2]
        assert body.lstrip().startswith('<a class="skip" href="#main">')
        assert body.count('id="main"') == 1

    def test_the_head_needs_no_script(self, report: Report) -> None:
        page = render_page(report)
        head = page[page.index('<section id="brief">') :]
        assert not re.search(r"<script|<svg|\son\w+=", head[: head.index("</section>")])


@needs_browser
class TestInABrowser:
    @pytest.fixture(scope="class")
    @staticmethod
    def chromium() -> Iterator[Browser]:
        with browser() as started:
            yield started

    @pytest.fixture
    @staticmethod
    def page(report: Report, tmp_path: Path) -> Path:
        path = tmp_path / "report.html"
        path.write_text(render_page(report), encoding="utf-8")
        return path

    @pytest.mark.parametrize("width", [400, 1400])
    def test_nothing_is_wider_than_the_window(self, chromium: Browser, page: Path, width: int) -> None:
        chromium.open(page, width, 900)
        # Not innerWidth: a telephone zooms out until all is inside.
        assert chromium.value_of("document.documentElement.scrollWidth") <= width
        beyond = f"""[...document.querySelectorAll("main *")].filter(element => !element.closest(".scroll, svg")
            && element.getBoundingClientRect().right > {width}).map(element => element.outerHTML.slice(0, 80))"""
        assert chromium.value_of(beyond) == []

    @pytest.mark.parametrize(("width", "height"), [(400, 2 * 800), (1400, 900)])
    def test_the_answers_are_on_the_first_screen_or_two_of_a_telephone(
        self, chromium: Browser, page: Path, width: int, height: int
    ) -> None:
        chromium.open(page, width, height)
        bottom = chromium.value_of("document.getElementById('brief').getBoundingClientRect().bottom")
        assert 300 < bottom <= height
        cut = (
            "[...document.querySelectorAll('#brief .scroll')].filter(region => region.scrollWidth > region.clientWidth)"
        )
        assert chromium.value_of(f"{cut}.map(region => region.getAttribute('aria-label'))") == []

    def test_everything_can_be_reached_by_tab_and_its_outline_is_seen(self, chromium: Browser, page: Path) -> None:
        chromium.open(page, 1400, 900)
        visible = "[...document.querySelectorAll('a, select, summary, .scroll')].filter(each => each.checkVisibility())"
        wanted = chromium.value_of(f"(window.wanted = {visible}).length")
        assert wanted > 15
        reached = []
        for _ in range(wanted):
            chromium.press_tab()
            reached.append(
                chromium.value_of(
                    """(() => {
                        const style = getComputedStyle(document.activeElement);
                        return [window.wanted.indexOf(document.activeElement), style.outlineStyle, style.outlineWidth];
                    })()"""
                )
            )
        assert reached == [[number, "solid", "2px"] for number in range(wanted)]

    @pytest.mark.parametrize("dark", [False, True])
    def test_words_stand_out_from_what_is_behind_them(self, chromium: Browser, page: Path, dark: bool) -> None:
        """WCAG 2.2, success criterion 1.4.3: a contrast of 4.5 or more."""
        chromium.open(page, 1400, 900, dark=dark)
        assert chromium.faint_words() == []
        paper = chromium.value_of("getComputedStyle(document.getElementById('brief')).backgroundColor")
        assert (paper == "rgb(255, 255, 255)") is not dark

    def test_it_is_printed_with_everything_but_what_is_for_programs(self, chromium: Browser, page: Path) -> None:
        chromium.open(page, 1400, 900, dark=True)
        chromium.value_of("dispatchEvent(new Event('beforeprint'))")
        chromium.command("Emulation.setEmulatedMedia", media="print", features=[])
        try:
            hidden: Any = chromium.value_of(
                "[...document.querySelectorAll('details')].filter(each => !each.open).map(each => each.className)"
            )
            assert set(hidden) == {"of-program"}
            paper = chromium.value_of("getComputedStyle(document.getElementById('brief')).backgroundColor")
            assert paper == "rgb(255, 255, 255)"
        finally:
            chromium.command("Emulation.setEmulatedMedia", media="")
        assert chromium.printed().startswith(b"%PDF-")
