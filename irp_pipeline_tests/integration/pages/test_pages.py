"""The pages: what they show, what they refuse, and that nothing in them is taken for HTML."""

import html
import json
import re
from collections.abc import Iterator
from contextlib import closing
from datetime import date
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from psycopg2.sql import SQL, Identifier

from irp_pipeline import settings
from irp_pipeline.cycle_files import REPORT_PAGE, report_of
from irp_pipeline.helpers.cycle import archive_cycle, create_cycle, find_cycle
from irp_pipeline.helpers.database import dispose_engine, drop_schema, execute_command, fetch_all, init_database
from irp_pipeline.helpers.db_context import get_current_schema, schema_context
from irp_pipeline.helpers.sign_off import approve, reject
from irp_pipeline.helpers.stage import get_or_create_stage
from irp_pipeline.helpers.step import get_or_create_step, track_step
from irp_pipeline.pages.addresses import Addresses
from irp_pipeline.pages.answers import ROWS, SUBJECTS
from irp_pipeline.pages.sign_off import sign_off_in_words
from irp_pipeline.report import write_report
from irp_pipeline_tests.support.browser import Browser, browser, needs_browser
from irp_pipeline_tests.support.made_up_cycle import (
    finish_jobs,
    make_batch,
    record_exposure,
    record_results,
    workbook,
)
from irp_pipeline_tests.support.page_server import PageServer, page_server
from irp_pipeline_tests.support.waiting import wait_until

HTML = "<script>alert('a')</script><b title=\"q\">&amp;"
EARLIER, LATER = "Q1-2024", "Q2-2024"
AT = Addresses()


@pytest.fixture(scope="module")
def batches(own_home: Path) -> dict[str, int]:
    """Two finished quarters; the later one with segments. By cycle, the batch."""
    found = {}
    for cycle, exposure_date, scale in ((EARLIER, date(2024, 3, 31), 0.8), (LATER, date(2024, 6, 30), 1.0)):
        segments = {"property_wind": ["OccupancyCode"]} if cycle == LATER else {}
        found[cycle] = make_batch(cycle, workbook(exposure_date=str(exposure_date), segments=segments))
        record_exposure(cycle)
        finish_jobs(found[cycle], scale=scale)
        record_results(cycle, found[cycle])
    return found


@pytest.fixture(scope="module")
def client(batches: dict[str, int]) -> Iterator[PageServer]:
    with page_server() as served:
        yield served


def text_of(client: PageServer, address: str, status: int = 200) -> str:
    """What a reader sees of a page."""
    answer = client.get(address)
    assert answer.status == status, answer.text
    assert status == 200 or "Traceback" not in answer.text
    body = answer.text[answer.text.index("<body>") :]
    return html.unescape(" ".join(re.sub(r"<[^>]+>", " ", body).split()))


def links_of(client: PageServer, address: str) -> list[str]:
    return [html.unescape(found) for found in re.findall(r'href="([^"]*)"', client.get(address).text)]


def job_of(batch_id: int) -> int:
    return int(fetch_all("SELECT id FROM irp_job WHERE batch_id = %s ORDER BY id", (batch_id,))[0]["id"])


class TestWhatIsShown:
    def test_the_cycles_with_how_far_each_is(self, client) -> None:
        shown = text_of(client, AT.cycles())
        assert shown.index(LATER) < shown.index(EARLIER)
        assert re.search(rf"{LATER} ACTIVE \d+ of \d+", shown)

    def test_the_address_of_the_pages_leads_to_the_cycles(self, client) -> None:
        for address in ("/irp", "/irp/"):
            assert client.get(address).headers["location"] == "/irp/cycles"

    def test_a_cycle_with_its_steps_its_batch_and_what_to_do_next(self, client, batches) -> None:
        shown = text_of(client, AT.cycle(LATER))
        assert f"irp cycle archive {LATER} --db-schema {get_current_schema()}" in shown
        assert "1.3 Create batches COMPLETED" in shown
        assert re.search(rf"{batches[LATER]} analysis \w+ 3 3", shown)
        links = links_of(client, AT.cycle(LATER))
        assert {AT.results(LATER), AT.comparison(LATER), AT.batch(batches[LATER])} < set(links)
        assert "/runs/9f1c0a52-run" in links

    def test_every_link_of_every_page_leads_to_a_page(self, client, batches) -> None:
        write_report(LATER, report_of(settings.cycle_dir(get_current_schema(), LATER)).parent)
        seen: set[str] = set()
        waiting = [AT.cycles()]
        while waiting:
            address = waiting.pop().partition("#")[0]
            if address in seen or not address.startswith("/irp"):
                continue
            if "schema=" in address:  # of other tests, which are removed meanwhile
                continue
            seen.add(address)
            answer = client.get(address)
            assert answer.status == 200, address
            if "style.css" not in address and not address.endswith("/report"):
                waiting += links_of(client, address)
        assert {AT.job(job_of(batches[EARLIER])), AT.log(job_of(batches[LATER])), AT.report(LATER)} < seen

    def test_a_batch_with_its_jobs_by_status_and_analysis(self, client, batches) -> None:
        batch_id = batches[LATER]
        shown = text_of(client, AT.batch(batch_id))
        assert "3: 3 FINISHED" in shown
        assert all(name in shown for name in ("property_wind", "commercial_wind", "property_stress"))
        filtered = text_of(client, AT.batch(batch_id, analysis="WIND", status="FINISHED"))
        assert "commercial_wind" in filtered
        assert "property_stress" not in filtered
        assert "There is no such job" in text_of(client, AT.batch(batch_id, status="FAILED"))

    def test_a_job_with_its_parameters_and_its_tracking(self, client, batches) -> None:
        shown = text_of(client, AT.job(job_of(batches[LATER])))
        assert "property_wind FINISHED" in shown
        assert "samples 5" in shown
        assert "Its log" in shown

    def test_whether_the_figures_are_signed_off_and_that_a_change_voids_it(self, client, batches) -> None:
        assert "Sign-off: nobody has decided on these figures." in text_of(client, AT.cycle(EARLIER))
        approve(EARLIER, reason=HTML)
        pages = (AT.cycle(EARLIER), AT.results(EARLIER), AT.results(EARLIER, analysis="wind"))
        try:
            for page in pages:
                assert "Sign-off: Approved by" in text_of(client, page)
                assert HTML not in client.get(page).text
            execute_command("UPDATE irp_analysis_result SET loss = loss + 1 WHERE batch_id = %s", (batches[EARLIER],))
            for page in pages:
                assert "Sign-off: Void, since figures changed. It was: approved by" in text_of(client, page)
        finally:
            execute_command("UPDATE irp_analysis_result SET loss = loss - 1 WHERE batch_id = %s", (batches[EARLIER],))

    def test_a_page_does_not_wait_long_to_learn_whether_an_approval_stands(self, client) -> None:
        reject(LATER, "the model has no flood")
        found = find_cycle(LATER)
        assert found is not None
        url = settings.database_url().set(drivername="postgresql").render_as_string(hide_password=False)
        with closing(psycopg2.connect(url)) as other, other.cursor() as cursor:
            cursor.execute(SQL("LOCK {}.irp_analysis_result").format(Identifier(get_current_schema())))
            said = sign_off_in_words(found)
        assert said is not None
        assert said.startswith("Rejected by ")
        assert said.endswith("takes longer to find out than a page may take: irp approvals Q2-2024")

    def test_the_figures_of_each_analysis_as_they_are_saved(self, client, batches) -> None:
        saved = fetch_all(
            "SELECT perspective, loss FROM irp_analysis_result WHERE batch_id = %s AND analysis_name = 'wind'"
            " AND metric = 'OEP' AND return_period = 100 AND segment_by = '{}'",
            (batches[LATER],),
        )
        shown = text_of(client, AT.results(LATER))
        assert "wind group" in shown
        assert len(saved) == 3
        assert all(f"{row['loss']:,.0f}" in shown for row in saved)

    def test_an_analysis_with_all_its_figures_and_its_curves(self, client) -> None:
        answer = client.get(AT.results(LATER, analysis="property_wind"))
        assert answer.text.count('<path class="ri oep"') == 1
        shown = text_of(client, AT.results(LATER, analysis="property_wind"))
        for figure in ("Average annual loss", "Standard deviation", "OEP 1,000 years", "AEP 2 years"):
            assert figure in shown
        assert "Loss at factor 0.5" in text_of(client, AT.results(LATER, analysis="property_stress"))

    def test_the_losses_of_segments(self, client, batches) -> None:
        execute_command(
            """
            INSERT INTO irp_analysis_result (batch_id, analysis_name, is_group, perspective, metric, loss, currency,
                                             job_ids, segment_by, segment)
            SELECT %s, 'property_wind', false, 'GUL', 'AAL', 1000 + n, 'EUR', '{}',
                   '{CountryCode,OccupancyCode}', ARRAY[CASE n WHEN 1 THEN '"a,b}' ELSE 'S' || n END, '']
              FROM generate_series(1, 60) n
            """,
            (batches[LATER],),
        )
        by = AT.results(LATER, analysis="property_wind", by="CountryCode+OccupancyCode")
        assert by + "#segments" in links_of(client, AT.results(LATER, analysis="property_wind"))
        first = client.get(by)
        (more,) = [html.unescape(link) for link in re.findall(r'href="([^"]*)" rel="next"', first.text)]
        shown = html.unescape(first.text + client.get(more).text)
        assert shown.count('<th scope="row" rowspan="1">') == 60
        assert '"a,b} + (empty)' in shown
        assert all(f"1,0{n:02}" in shown for n in range(1, 61))

    def test_two_cycles_side_by_side(self, client, batches) -> None:
        rows = fetch_all(
            "SELECT batch_id, loss FROM irp_analysis_result WHERE analysis_name = 'property_wind' AND metric = 'AAL'"
            " AND perspective = 'RI' AND segment_by = '{}'"
        )
        loss = {row["batch_id"]: row["loss"] for row in rows}
        before, after = loss[batches[EARLIER]], loss[batches[LATER]]
        for address in (AT.comparison(LATER), AT.comparison(LATER, **{"with": EARLIER})):
            shown = text_of(client, address)
            assert f"{LATER} beside {EARLIER}" in shown
            assert f"{before:,.0f} {after:,.0f} +{after - before:,.0f} ({after / before - 1:+.1%})" in shown
        assert "There is no cycle with figures before" in text_of(client, AT.comparison(EARLIER))
        assert "cannot be compared with itself" in text_of(client, AT.comparison(LATER, **{"with": LATER}))
        assert "There is no cycle 'Q9'" in text_of(client, AT.comparison(LATER, **{"with": "Q9"}))

    def test_another_schema(self, client) -> None:
        other = f"{get_current_schema()} other & more"
        init_database(other)
        try:
            with schema_context(other):
                create_cycle("only-there")
            there = Addresses(other)
            assert "only-there" in text_of(client, there.cycles())
            assert there.cycle("only-there") in links_of(client, there.cycles())
            assert f'value="{html.escape(other)}"' in client.get(there.cycles()).text
            assert there.cycles() in links_of(client, AT.schemas())
            assert "only-there" not in text_of(client, AT.cycles())
            text_of(client, AT.cycle("only-there"), 404)
        finally:
            drop_schema(other)
        for name in ("pg_catalog", "information_schema", "no such", 'a"b', "x" * 200):
            text_of(client, Addresses(name).cycles(), 404)


class TestTheReport:
    def test_is_the_whole_one_with_a_policy_of_its_own(self, client) -> None:
        page = write_report(EARLIER, report_of(settings.cycle_dir(get_current_schema(), EARLIER)).parent)
        assert AT.report(EARLIER) in links_of(client, AT.cycle(EARLIER))
        answer = client.get(AT.report(EARLIER))
        assert answer.text == page.read_text()
        policy = answer.headers["content-security-policy"]
        assert "sandbox allow-scripts" in policy
        assert "allow-same-origin" not in policy
        assert "default-src 'none'" in policy

    def test_is_never_a_file_from_elsewhere(self, client, tmp_path: Path) -> None:
        create_cycle("linked")
        secret = tmp_path / "secret"
        secret.write_text("password")
        page = report_of(settings.cycle_dir(get_current_schema(), "linked"))
        page.parent.mkdir(parents=True)
        page.symlink_to(secret)
        assert "password" not in text_of(client, AT.report("linked"), 404)
        page.unlink()
        page.parent.rmdir()
        (tmp_path / "folder").mkdir()
        (tmp_path / "folder" / REPORT_PAGE).write_text("password")
        page.parent.symlink_to(tmp_path / "folder")
        assert "password" not in text_of(client, AT.report("linked"), 404)
        for path in ("/irp/cycles/../report", "/irp/cycles/%2e%2e/report", "/irp/cycles/a%2f..%2fb/report"):
            assert client.get(path).status == 404

    def test_that_is_not_there_is_said_to_be_not_there(self, client) -> None:
        create_cycle("unwritten")
        assert "irp report unwritten" in text_of(client, AT.report("unwritten"), 404)


class TestWhatToDoNext:
    def test_after_a_failed_step_is_to_correct_it(self, client) -> None:
        cycle_id = create_cycle("broken")
        step_id = get_or_create_step(get_or_create_stage(cycle_id, 2, "Extract"), 1, "Extract exposure")
        with pytest.raises(ValueError, match="no such"), track_step(step_id, started_by="analyst"):
            raise ValueError("no such table\nand more of it")
        shown = text_of(client, AT.cycle("broken"))
        assert "Step 2.1 Extract exposure has failed" in shown
        assert "irp run broken" in shown
        assert "no such table" in shown
        assert "and more of it" in shown

    def test_after_failed_jobs_is_to_look_at_them(self, client) -> None:
        batch_id = make_batch("failing", workbook())
        execute_command("UPDATE irp_job SET status = 'FAILED', error_message = 'no licence' WHERE batch_id = %s",
                        (batch_id,))  # fmt: skip
        shown = text_of(client, AT.cycle("failing"))
        assert "3 jobs of the newest batch have failed" in shown
        assert AT.batch(batch_id, status="FAILED") in links_of(client, AT.cycle("failing"))
        assert "no licence" in text_of(client, AT.batch(batch_id, status="FAILED"))

    def test_of_a_new_and_of_an_archived_cycle(self, client) -> None:
        cycle_id = create_cycle("new")
        assert "irp run new" in text_of(client, AT.cycle("new"))
        archive_cycle(cycle_id)
        assert "irp cycle reopen new" in text_of(client, AT.cycle("new"))


class TestPaging:
    def test_lists_go_on_where_the_page_before_ended(self, client) -> None:
        execute_command("INSERT INTO irp_cycle (cycle_name, created_ts) SELECT 'page-' || n, now() + n * interval '1 s'"
                        " FROM generate_series(1, %s) n", (2 * ROWS + 3,))  # fmt: skip
        try:
            address, found = AT.cycles(name="PAGE-"), []
            while address:
                page = client.get(address).text
                found += re.findall(r">(page-\d+)</a>", page)
                address = next(map(html.unescape, re.findall(r'href="([^"]*)" rel="next"', page)), "")
            assert found == [f"page-{n}" for n in range(2 * ROWS + 3, 0, -1)]
            assert "There is no such cycle" in text_of(client, AT.cycles(name="page-", status="ARCHIVED"))
            assert "There is no such cycle" in text_of(client, AT.cycles(name="page-%"))
        finally:
            execute_command("DELETE FROM irp_cycle WHERE starts_with(cycle_name, 'page-')")

    def test_results_go_on_likewise_on_both_sides_of_a_comparison(self, client) -> None:
        pairs = {"many-1": range(1, 41), "many-2": range(20, 71)}
        for cycle, numbers in pairs.items():
            batch_id = make_batch(cycle, workbook(exposure_date="2030-01-01" if cycle == "many-1" else "2030-04-01"))
            execute_command(
                "INSERT INTO irp_analysis_result (batch_id, analysis_name, is_group, perspective, metric, loss,"
                " currency, job_ids) SELECT %s, CASE WHEN n % 2 = 0 THEN 'Of ' ELSE 'of-' END || n, false, 'GUL',"
                " 'AAL', n, 'EUR', '{}' FROM unnest(%s) n",
                (batch_id, list(numbers)),
            )
        for start, wanted in ((AT.results("many-2"), pairs["many-2"]), (AT.comparison("many-2"), range(1, 71))):
            address, found = start, []
            while address:
                page = client.get(address).text
                on_page = re.findall(r'<th scope="row"[^>]*>(?:<a [^>]*>)?[oO]f[ -](\d+)', page)
                assert len(on_page) <= SUBJECTS
                found += on_page
                address = next(map(html.unescape, re.findall(r'href="([^"]*)" rel="next"', page)), "")
            assert sorted(map(int, found)) == list(wanted)


@pytest.fixture(scope="module")
def hostile(client) -> dict[str, Any]:
    """A cycle with HTML wherever people or programs write text."""
    batch_id = make_batch("hostile", workbook())
    for statement in (
        "UPDATE irp_job SET error_message = %(x)s || E'\\nsecond line' WHERE batch_id = %(b)s",
        (
            "UPDATE irp_job SET status = 'FAILED', request_data = jsonb_build_object('x', %(x)s::text),"
            " result_data = jsonb_build_object('x', %(x)s::text) WHERE batch_id = %(b)s"
        ),
        (
            "UPDATE irp_job_configuration SET overridden = true, override_reason = %(x)s, workbook_data = '{}',"
            " job_configuration_data = job_configuration_data || jsonb_build_object('name', %(x)s::text, %(x)s::text,"
            " %(x)s::text) WHERE batch_id = %(b)s"
        ),
        (
            "INSERT INTO irp_job_tracking_log (job_id, status, message)"
            " SELECT id, 'FAILED', %(x)s FROM irp_job WHERE batch_id = %(b)s"
        ),
        (
            "UPDATE irp_step_run SET status = 'FAILED', error_message = %(x)s || E'\\nmore', started_by = %(x)s,"
            " reason = %(x)s, dagster_run_id = %(x)s WHERE step_id = (SELECT step_id FROM irp_batch WHERE id = %(b)s)"
        ),
        (
            "UPDATE irp_stage SET stage_name = %(x)s WHERE cycle_id = (SELECT id FROM irp_cycle WHERE cycle_name ="
            " 'hostile')"
        ),
        "UPDATE irp_step SET step_name = %(x)s WHERE id = (SELECT step_id FROM irp_batch WHERE id = %(b)s)",
        (
            "INSERT INTO irp_analysis_result (batch_id, analysis_name, is_group, perspective, metric, loss, currency,"
            " job_ids, segment_by, segment) VALUES (%(b)s, %(x)s, false, 'GUL', 'AAL', 1, 'EUR', '{}', '{}', '{}'),"
            " (%(b)s, %(x)s, false, 'GUL', 'AAL', 1, 'EUR', '{}', ARRAY[%(x)s], ARRAY[%(x)s])"
        ),
    ):
        text = statement.replace("%(b)s", str(batch_id)).replace("%(x)s", "$x$" + HTML + "$x$")
        execute_command(text)
    job_id = job_of(batch_id)
    (key,) = [row["job_key"] for row in fetch_all("SELECT job_key FROM irp_job WHERE id = %s", (job_id,))]
    folder = settings.cycle_dir(get_current_schema(), "hostile") / "jobs" / key
    folder.mkdir(parents=True)
    (folder / "log.txt").write_text(HTML)
    return {"batch": batch_id, "job": job_id}


def test_nothing_is_taken_for_html_wherever_it_is_written(client, hostile) -> None:
    batch_id, job_id = hostile["batch"], hostile["job"]
    pages = {
        AT.cycle("hostile"): 4,
        AT.batch(batch_id): 2,
        AT.job(job_id): 6,
        AT.log(job_id): 1,
        AT.results("hostile"): 1,
        AT.results("hostile", analysis=HTML): 2,
        AT.results("hostile", analysis=HTML, by=HTML): 3,
        AT.comparison("hostile", **{"with": HTML}): 1,
        AT.cycles(name=HTML): 1,
        AT.batch(batch_id, analysis=HTML): 2,
    }
    for address, at_least in pages.items():
        answer = client.get(address)
        assert answer.status == 200, address
        assert "<script" not in answer.text, address
        assert "<b title" not in answer.text, address
        assert answer.text.count(html.escape("<script>alert(")) >= at_least, address
    for address in ("/irp/cycles/%3Cscript%3E", "/irp/%3Cscript%3E", "/irp/cycles?schema=%3Cscript%3E",
                    "/irp/cycles?status=%3Cscript%3E"):  # fmt: skip
        assert "<script" not in client.get(address).text


class TestWhatIsRefused:
    @pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"])
    def test_whatever_does_not_only_read(self, client, method: str) -> None:
        for address in (AT.cycles(), AT.cycle(LATER), AT.style(), "/irp/no/such", "/irp/"):
            answer = client.ask(method, address)
            assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")

    def test_a_head_has_the_headers_of_the_page(self, client) -> None:
        answer = client.ask("HEAD", AT.cycle(LATER))
        assert answer.status == 200
        assert answer.headers["content-type"] == "text/html; charset=utf-8"

    def test_every_answer_has_a_strict_policy(self, client, batches) -> None:
        for address in (AT.cycles(), AT.cycle(LATER), AT.job(job_of(batches[LATER])), AT.style(), "/irp/no", "/irp/",
                        AT.cycle("none")):  # fmt: skip
            headers = client.get(address).headers
            policy = headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert "script-src" not in policy
            assert headers["x-content-type-options"] == "nosniff"

    def test_pages_load_nothing_from_elsewhere(self, client, batches) -> None:
        for address in (AT.cycle(LATER), AT.results(LATER, analysis="wind"), AT.job(job_of(batches[LATER]))):
            page = client.get(address).text
            assert re.findall(r'(?:src|href|action)="(?!/|#)[^"]*"', page) == []
            assert not re.search(r"<script|<style| style=| on\w+=", page)
        style = client.get(AT.style()).text
        assert "url(" not in style
        assert "@import" not in style

    @pytest.mark.parametrize(
        ("address", "status", "said"),
        [
            ("/irp/cycles/none", 404, "There is no cycle 'none'"),
            ("/irp/cycles/..a", 404, "Not a cycle name"),
            ("/irp/cycles/none/report", 404, "There is no cycle 'none'"),
            ("/irp/batches/999999999", 404, "There is no batch with the id 999999999"),
            ("/irp/jobs/999999999", 404, "There is no job with the id 999999999"),
            (f"/irp/jobs/{2**63}", 404, "Nothing has the number"),
            ("/irp/jobs/0/log", 404, "Nothing has the number"),
            ("/irp/jobs/x", 404, "There is no such page"),
            ("/irp/no/such/page", 404, "There is no such page"),
            ("/irp/cycles?after=x", 400, "is not a number"),
            (f"/irp/cycles?after={2**64}", 400, "is not a number"),
            ("/irp/cycles?status=LOST", 400, "is none of ACTIVE, ARCHIVED"),
            ("/irp/cycles?name=%00", 400, "no name has"),
            (f"/irp/cycles/{LATER}/results?analysis=none", 404, "no figures of 'none'"),
            (f"/irp/cycles/{LATER}/results?batch=999999999", 404, "no batch 999999999"),
            (f"/irp/cycles/{LATER}/results?analysis=wind&by=None", 404, "no figures by None"),
        ],
    )
    def test_with_one_sentence_and_the_right_status(self, client, address: str, status: int, said: str) -> None:
        assert said in text_of(client, address, status)

    def test_a_page_changes_nothing(self, client, monkeypatch: pytest.MonkeyPatch) -> None:
        from irp_pipeline.pages import answers

        monkeypatch.setattr(answers, "newest_cycles", lambda *_, **__: execute_command("DELETE FROM irp_cycle"))
        assert "read-only transaction" in text_of(client, AT.cycles(), 500)
        assert find_cycle(LATER) is not None

    def test_a_fault_of_the_program_is_a_plain_page(self, client, monkeypatch: pytest.MonkeyPatch) -> None:
        from irp_pipeline.pages import answers

        monkeypatch.setattr(answers, "newest_cycles", lambda *_, **__: 1 / 0)
        shown = text_of(client, AT.cycles(), 500)
        assert "The page has a fault" in shown
        assert "division" not in shown
        assert "default-src 'none'" in client.get(AT.cycles()).headers["content-security-policy"]


def test_a_database_that_is_away_is_said_to_be_away(client, monkeypatch: pytest.MonkeyPatch) -> None:
    dispose_engine()
    monkeypatch.setenv("IRP_DATABASE_URL", "postgresql://irp:secret-word@127.0.0.1:1/irp")
    try:
        for address in (AT.cycles(), AT.cycle(LATER), Addresses("other").cycles()):
            shown = text_of(client, address, 503)
            assert "No connection to" in shown
            assert "secret-word" not in shown
            assert "SELECT" not in shown
    finally:
        dispose_engine()


def test_what_is_shown_as_json_is_json(client, batches) -> None:
    page = client.get(AT.job(job_of(batches[LATER]))).text
    found = re.search(r"What came back</summary><pre[^>]*>(.*?)</pre>", page, re.DOTALL)
    assert found is not None
    assert "figures" in json.loads(html.unescape(found[1]))


@needs_browser
class TestInABrowser:
    @pytest.fixture(scope="module")
    @staticmethod
    def chromium() -> Iterator[Browser]:
        with browser() as opened:
            yield opened

    @pytest.fixture
    def addresses(self, client, batches, hostile) -> list[str]:
        pages = [AT.cycles(), AT.cycle(LATER), AT.cycle("hostile"), AT.batch(batches[LATER]), AT.job(hostile["job"]),
                 AT.results(LATER), AT.results(LATER, analysis="property_wind", by="OccupancyCode"),
                 AT.comparison(LATER), AT.cycle("none"), AT.schemas()]  # fmt: skip
        return [client.address(page) for page in pages]

    @pytest.mark.parametrize("width", [400, 1400])
    @pytest.mark.parametrize("dark", [False, True])
    def test_every_page_fits_and_can_be_read(self, chromium, addresses, width: int, dark: bool) -> None:
        for address in addresses:
            chromium.open(address, width, 900, dark=dark)
            assert chromium.value_of("document.documentElement.scrollWidth") <= width, address
            assert chromium.faint_words() == [], address
            paper = chromium.value_of("getComputedStyle(document.body).backgroundColor")
            assert paper == ("rgb(15, 18, 22)" if dark else "rgb(245, 246, 248)"), address

    def test_everything_can_be_reached_by_tab_and_the_first_link_skips_to_the_content(self, chromium, client) -> None:
        chromium.open(client.address(AT.cycle(LATER)), 1400, 900)
        wanted = chromium.value_of(
            "(window.wanted = [...document.querySelectorAll('a, input, select, button, summary, [tabindex=\"0\"]')]"
            ".filter(each => each.checkVisibility())).length"
        )
        assert wanted > 15
        reached = []
        for _ in range(wanted):
            chromium.press_tab()
            reached.append(
                chromium.value_of(
                    "[window.wanted.indexOf(document.activeElement),"
                    " getComputedStyle(document.activeElement).outlineStyle]"
                )
            )
        assert reached == [[number, "solid"] for number in range(wanted)]
        assert chromium.value_of("window.wanted[0].getAttribute('href')") == "#main"

    def test_it_is_printed_without_what_is_for_the_screen_and_within_the_paper(self, chromium, addresses) -> None:
        """The width of A4 without its margins, in CSS pixels; tables with many columns are printed across."""
        for address in addresses:
            width = 1040 if address.endswith(("/comparison", "/results")) else 715
            chromium.open(address, width, 900, dark=True)
            chromium.command("Emulation.setEmulatedMedia", media="print", features=[])
            try:
                shown = "[...document.querySelectorAll('.bar, form')].filter(each => each.checkVisibility()).length"
                assert chromium.value_of(shown) == 0, address
                assert chromium.value_of("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
                assert chromium.value_of("document.documentElement.scrollWidth") <= width, address
            finally:
                chromium.command("Emulation.setEmulatedMedia", media="")
        assert chromium.printed().startswith(b"%PDF-")

    def test_the_report_draws_its_chart_in_an_origin_of_its_own(self, chromium, client) -> None:
        write_report(LATER, report_of(settings.cycle_dir(get_current_schema(), LATER)).parent)
        chromium.open(client.address(AT.report(LATER)), 1400, 900)
        wait_until(lambda: chromium.value_of("document.querySelector('#curves svg') !== null"), "the chart is drawn")
        assert chromium.value_of("self.origin") == "null"
        asked = f"fetch({json.dumps(client.address(AT.cycles()))}).then(() => 'answered', () => 'refused')"
        assert chromium.value_of(asked) == "refused"
