"""The roles of ``docs/sign_off.md``: who may approve, and what the database itself refuses to everybody else."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg2
import pytest
from sqlalchemy import URL
from typer.testing import CliRunner

from irp_pipeline.cli import app
from irp_pipeline.helpers.audit import begin_entry, end_entry, list_entries
from irp_pipeline.helpers.cycle import require_open_cycle
from irp_pipeline.helpers.database import (
    DatabaseError,
    execute_command,
    execute_scalar,
    fetch_all,
    fetch_one,
    init_database,
    transaction,
)
from irp_pipeline.helpers.db_context import schema_context
from irp_pipeline.helpers.result import save_results
from irp_pipeline.helpers.sign_off import (
    SignOffError,
    SignOffState,
    approve,
    find_sign_off,
    list_decisions,
    reject,
    require_sign_off,
)
from irp_pipeline.operations.backup import back_up
from irp_pipeline.operations.restore import restore
from irp_pipeline_tests.support.made_up_cycle import finish_jobs, make_batch, workbook
from irp_pipeline_tests.support.roles import PASSWORD, As, acting_in, database_with_roles, named, refused, run

CYCLE = "Q1-2024"
FIRST = "WHERE id = (SELECT min(id) FROM irp_analysis_result)"


@pytest.fixture(scope="module")
def server() -> Iterator[URL]:
    with database_with_roles(sign_off=True) as database:
        yield database


@pytest.fixture
def acting(server: URL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[As]:
    """Work as a role of the pages from now on; the application has run a cycle."""
    with acting_in(server, "irp_migrate") as act:
        monkeypatch.setenv("IRP_HOME", str(tmp_path / "home"))
        act("irp_migrate")
        init_database("public")
        act("irp_app")
        batch_id = make_batch(CYCLE, workbook())
        finish_jobs(batch_id)
        save_results(batch_id)
        yield act


def state() -> SignOffState:
    return require_sign_off(CYCLE).state


def test_tables_belong_to_a_role_that_nobody_logs_in_as(acting: As) -> None:
    owners = fetch_all("SELECT DISTINCT tableowner AS owner FROM pg_tables WHERE schemaname IN ('public', 'irp_queue')")
    assert [row["owner"] for row in owners] == [named("irp_owner")]
    assert execute_scalar("SELECT rolcanlogin FROM pg_roles WHERE rolname = %s", (named("irp_owner"),)) is False


def test_a_second_person_approves_and_is_known_by_the_login(acting: As, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USER", "somebody else")
    monkeypatch.setenv("LOGNAME", "somebody else")
    acting("anna")
    before = require_sign_off(CYCLE)
    assert before.state is SignOffState.WAITING
    found = approve(CYCLE, seen=before.short_hash)
    assert found.is_approved
    assert (found.db_login, found.is_verified, found.stated_user) == (named("anna"), True, "somebody else")
    assert "not verified" not in str(found)
    reject(CYCLE, "The model has no flood.")
    assert state() is SignOffState.REJECTED
    decisions = list_decisions(require_open_cycle(CYCLE).id)
    assert [item.decision for item in decisions] == ["REJECTED", "APPROVED"]


def test_the_commands_work_as_an_approver_and_are_in_the_trail(acting: As) -> None:
    def irp(*words: str) -> str:
        ran = CliRunner().invoke(app, words, prog_name="irp")
        assert ran.exit_code == 0, f"{ran.output}\n{ran.exception!r}"
        return ran.output

    acting("anna")
    assert f"Waiting for approval of {require_sign_off(CYCLE).short_hash}" in irp("status", CYCLE)
    assert "not verified" not in irp("approve", CYCLE)
    assert f"Approved by {named('anna')}" in irp("results", CYCLE)
    irp("reject", CYCLE, "--reason", "no flood")
    assert f"Rejected by {named('anna')}" in irp("approvals", CYCLE)
    assert [(entry.command, entry.db_login, entry.outcome) for entry in list_entries(CYCLE)] == [
        ("irp reject", named("anna"), "DONE"),
        ("irp approve", named("anna"), "DONE"),
    ]
    acting("irp_app")
    refused_one = CliRunner().invoke(app, ["approve", CYCLE], prog_name="irp")
    assert refused_one.exit_code == 1
    assert "This login of the database is no approver" in refused_one.output
    assert (list_entries(CYCLE)[0].db_login, list_entries(CYCLE)[0].outcome) == (named("irp_app"), "FAILED")


@pytest.mark.parametrize("login", ["irp_app", "irp_migrate", "irp_read"])
def test_nobody_else_approves(acting: As, login: str) -> None:
    acting(login)
    with pytest.raises(SignOffError, match=r"no approver|can write the records"):
        approve(CYCLE)
    assert state() is SignOffState.WAITING


def test_an_administrator_of_the_server_does_not_approve(acting: As, server: URL) -> None:
    with pytest.raises(psycopg2.Error, match="can write the records"):
        run(server, f"SELECT public.irp_decide('{CYCLE}', 'APPROVED', NULL, NULL, NULL, NULL)")
    assert state() is SignOffState.WAITING


@contextmanager
def as_application_too(server: URL) -> Iterator[None]:
    """Let anna be a member of the application's role for a while."""
    run(server, f"GRANT {named('irp_app')} TO {named('anna')}")
    try:
        yield
    finally:
        run(server, f"REVOKE {named('irp_app')} FROM {named('anna')}")


@pytest.mark.parametrize("inherits", ["INHERIT", "NOINHERIT"])
def test_who_can_write_the_records_does_not_approve(acting: As, server: URL, inherits: str) -> None:
    """Nor who could take the role that can, and who has the right to approve by a grant of its own."""
    anna = named("anna")
    run(server, f"GRANT {named('irp_approvers')}, {named('irp_read')} TO {anna}; ALTER ROLE {anna} {inherits}")
    for right in ("USAGE ON SCHEMA public", "EXECUTE ON FUNCTION public.irp_decide",
                  "SELECT ON ALL TABLES IN SCHEMA public"):  # fmt: skip
        run(server, f"GRANT {right} TO {anna}")
    run(server, f"GRANT CONNECT ON DATABASE {named('irp')} TO {anna}")
    try:
        with as_application_too(server):
            acting("anna")
            with pytest.raises(SignOffError, match=f"The login '{anna}' can write the records"):
                approve(CYCLE)
        acting("anna")
        assert approve(CYCLE).is_approved
    finally:
        run(server, f"ALTER ROLE {anna} INHERIT; REVOKE CONNECT ON DATABASE {named('irp')} FROM {anna}")
        run(server, f"REVOKE ALL ON SCHEMA public FROM {anna}; REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {anna}")


def test_who_has_run_the_cycle_does_not_approve_it(acting: As, server: URL) -> None:
    """Not even when the right to run is gone, and whatever the rows were told to say."""
    anna, app = named("anna"), named("irp_app")
    with as_application_too(server):
        acting("anna")
        execute_command("UPDATE irp_batch SET db_login = 'somebody'")
        assert execute_scalar("SELECT db_login FROM irp_batch") == app
        job = fetch_one("SELECT batch_id, job_configuration_id FROM irp_job LIMIT 1")
        assert job is not None
        execute_command(
            "INSERT INTO irp_job (batch_id, job_configuration_id, skipped, db_login) VALUES (%s, %s, true, 'somebody')",
            (job["batch_id"], job["job_configuration_id"]),
        )
        assert execute_scalar("SELECT db_login FROM irp_job WHERE skipped") == anna
    acting("anna")
    with pytest.raises(SignOffError, match="has run parts of the cycle"):
        approve(CYCLE)


@pytest.mark.parametrize("login", ["irp_app", "anna", "irp_read"])
def test_approvals_are_not_forged_changed_or_removed(acting: As, login: str) -> None:
    acting("anna")
    approve(CYCLE)
    acting(login)
    for statement in (
        """INSERT INTO irp_approval (cycle_id, cycle_name, batch_id, decision, content_hash, figures_hash, jobs_hash,
                                     inputs_hash, db_login, is_verified)
           SELECT cycle_id, cycle_name, batch_id, decision, content_hash, figures_hash, jobs_hash, inputs_hash, 'x',
                  true
             FROM irp_approval""",
        "UPDATE irp_approval SET db_login = 'x'",
        "DELETE FROM irp_approval",
        "TRUNCATE irp_approval",
        "DROP TABLE irp_approval",
        "ALTER TABLE irp_approval DISABLE TRIGGER USER",
        "CREATE OR REPLACE FUNCTION irp_content_of_cycle(of_cycle bigint) RETURNS bigint LANGUAGE sql AS 'SELECT 1'",
        "DROP FUNCTION irp_decide",
        f"SET ROLE {named('irp_owner')}",
    ):
        with refused("permission denied|must be owner|no privileges|not allowed|refused|cannot"):
            execute_command(statement)
    with suppress(DatabaseError):  # to one who may execute it, the server says in a warning that it did not do it
        execute_command(f"GRANT EXECUTE ON FUNCTION irp_decide TO {named('irp_app')}")
    may = "SELECT has_function_privilege(%s, 'irp_decide(text, text, text, text, text, text)', 'EXECUTE')"
    assert [execute_scalar(may, (named(role),)) for role in ("irp_app", "anna")] == [False, True]
    assert len(fetch_all("SELECT FROM irp_approval")) == 1


def test_temporary_tables_do_not_deceive_the_functions(acting: As, server: URL) -> None:
    as_anna = server.set(username=named("anna"), password=PASSWORD)
    run(server, f"GRANT TEMPORARY ON DATABASE {named('irp')} TO {named('anna')}")
    try:
        with pytest.raises(psycopg2.Error, match="there is no cycle 'Q9'"):
            run(
                as_anna,
                "CREATE TEMPORARY TABLE irp_cycle AS SELECT c.id, 'Q9' AS cycle_name FROM public.irp_cycle c;"
                "SELECT public.irp_decide('Q9', 'APPROVED', NULL, NULL, NULL, NULL)",
            )
    finally:
        run(server, f"REVOKE TEMPORARY ON DATABASE {named('irp')} FROM {named('anna')}")


@pytest.mark.parametrize(
    ("statement", "changed"),
    [
        (f"UPDATE irp_analysis_result SET loss = loss * 1.000000000000001 {FIRST}", ("figures",)),
        ("DELETE FROM irp_analysis_result WHERE metric = 'STD_DEV'", ("figures",)),
        ("UPDATE irp_job SET result_data = jsonb_set(result_data, '{provenance,model_version}', '\"2\"')", ("jobs",)),
        ("UPDATE irp_job_configuration SET overridden = true, override_reason = 'late'", ("jobs",)),
        ("UPDATE irp_configuration SET configuration_data = configuration_data || '{\"extra\": 1}'", ("inputs",)),
    ],
)  # fmt: skip
def test_a_late_edit_shows(acting: As, statement: str, changed: tuple[str, ...]) -> None:
    acting("anna")
    approve(CYCLE)
    acting("irp_app")
    execute_command(statement)
    found = require_sign_off(CYCLE)
    assert (found.state, found.changed) == (SignOffState.VOID, changed)
    assert str(found).startswith(f"Void, since {changed[0]} changed. It was: approved by {named('anna')}")
    acting("anna")
    assert approve(CYCLE).is_approved


def test_what_does_not_change_content_leaves_an_approval_standing(acting: As) -> None:
    acting("anna")
    approve(CYCLE)
    acting("irp_app")
    execute_command("UPDATE irp_job SET result_data = jsonb_set(result_data, '{provenance,host}', '\"other\"')")
    save_results(int(execute_scalar("SELECT id FROM irp_batch")))
    assert state() is SignOffState.APPROVED
    loss = execute_scalar("SELECT loss FROM irp_analysis_result ORDER BY id LIMIT 1")
    execute_command(f"UPDATE irp_analysis_result SET loss = 0 {FIRST}")
    assert state() is SignOffState.VOID
    execute_command(f"UPDATE irp_analysis_result SET loss = %s {FIRST}", (loss,))
    assert state() is SignOffState.APPROVED


def test_other_figures_than_those_that_were_seen_are_not_approved(acting: As) -> None:
    acting("anna")
    seen = require_sign_off(CYCLE).short_hash
    acting("irp_app")
    execute_command("UPDATE irp_analysis_result SET loss = loss + 1")
    acting("anna")
    with pytest.raises(SignOffError, match=f"are no longer {seen}"):
        approve(CYCLE, seen=seen)
    assert state() is SignOffState.WAITING


def test_figures_that_are_not_complete_are_not_approved(acting: As) -> None:
    last = "WHERE id = (SELECT max(id) FROM irp_job)"
    execute_command(f"UPDATE irp_job SET skipped = true {last}")
    acting("anna")
    with pytest.raises(SignOffError, match=r"Jobs of .* have changed since its figures were saved"):
        approve(CYCLE)
    acting("irp_app")
    execute_command(f"UPDATE irp_job SET skipped = false {last}")
    execute_command("DELETE FROM irp_analysis_result WHERE (SELECT max(id) FROM irp_job) = ANY (job_ids)")
    acting("anna")
    with pytest.raises(SignOffError, match=r"Jobs of .* have changed since its figures were saved"):
        approve(CYCLE)
    acting("irp_app")
    execute_command("UPDATE irp_batch SET status = 'ACTIVE'")
    acting("anna")
    with pytest.raises(SignOffError, match=r"not complete: the batch .* is ACTIVE"):
        approve(CYCLE)
    assert reject(CYCLE, "not yet").state is SignOffState.REJECTED
    acting("irp_app")
    execute_command("DELETE FROM irp_analysis_result")
    acting("anna")
    with pytest.raises(SignOffError, match="no figures yet"):
        approve(CYCLE)
    with pytest.raises(SignOffError, match="no cycle"):
        approve("Q9")


def test_the_trail_is_written_by_its_functions_alone(acting: As) -> None:
    entry = begin_entry("irp run", {"cycle": CYCLE}, CYCLE)
    assert entry is not None
    for login in ("irp_app", "anna"):
        acting(login)
        for statement in (
            "INSERT INTO irp_audit (command, arguments, db_login) VALUES ('irp run', '{}', 'x')",
            "UPDATE irp_audit SET db_login = 'x'",
            "DELETE FROM irp_audit",
            "TRUNCATE irp_audit",
        ):
            with refused():
                execute_command(statement)
    acting("anna")
    end_entry(entry, None)  # not hers
    assert list_entries()[0].outcome is None
    acting("irp_app")
    end_entry(entry, None)
    end_entry(entry, SignOffError("too late"))
    [found] = list_entries()
    assert (found.command, found.cycle_name, found.db_login, found.outcome, found.error) == (
        "irp run", CYCLE, named("irp_app"), "DONE", None,
    )  # fmt: skip
    acting("irp_read")
    with refused("can change nothing"):
        begin_entry("irp run", {}, CYCLE)


def test_the_owner_itself_changes_no_row_by_mistake(acting: As) -> None:
    acting("anna")
    approve(CYCLE)
    begin_entry("irp approve", {}, CYCLE)
    acting("irp_migrate")
    for statement in ("UPDATE irp_approval SET reason = 'x'", "DELETE FROM irp_approval",
                      "UPDATE irp_audit SET command = 'x'", "DELETE FROM irp_audit"):  # fmt: skip
        with refused("never changed or removed"), transaction():
            execute_command(f"SET LOCAL ROLE {named('irp_owner')}")
            execute_command(statement)


def test_an_approval_survives_backup_and_restore(acting: As, tmp_path: Path) -> None:
    acting("anna")
    before = approve(CYCLE)
    acting("irp_app")
    back_up(tmp_path / "irp.zip")
    execute_command("UPDATE irp_analysis_result SET loss = loss + 1")
    assert state() is SignOffState.VOID
    acting("irp_migrate")
    restore(tmp_path / "irp.zip", "public", replace=True)
    restore(tmp_path / "irp.zip", "copy")
    for schema in ("public", "copy"):
        with schema_context(schema):
            acting("irp_read")
            after = require_sign_off(CYCLE)
            assert after == before
            acting("irp_app")
            with refused():
                execute_command("UPDATE irp_approval SET db_login = 'x'")
            execute_command("UPDATE irp_analysis_result SET loss = loss + 1")
            assert find_sign_off(require_open_cycle(CYCLE).id).state is SignOffState.VOID
