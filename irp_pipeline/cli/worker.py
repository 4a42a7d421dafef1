"""``irp worker``: running jobs on this machine, and seeing which machines do."""

import signal
from dataclasses import asdict
from datetime import timedelta
from typing import Annotated

import typer

from irp_pipeline.cli import output
from irp_pipeline.cli.options import AsJson

app = typer.Typer(
    invoke_without_command=True,
    help="Run jobs on this machine, until it is asked to end.",
    epilog="Example: irp worker --slots 4 --queue default --queue heavy",
)


@app.callback()
def worker(
    ctx: typer.Context,
    slots: Annotated[
        int | None,
        typer.Option("--slots", min=1, metavar="N", help="How many jobs at once; default: IRP_JOB_SLOTS."),
    ] = None,
    queues: Annotated[
        list[str] | None,
        typer.Option("--queue", metavar="NAME", help="Take jobs of this queue only; can be repeated. Default: all."),
    ] = None,
    grace: Annotated[
        float, typer.Option("--grace", min=0, metavar="SECONDS", help="How long jobs may go on after SIGTERM.")
    ] = 60,
) -> None:
    """Run jobs on this machine, until it is asked to end.

    It needs the database itself, not a connection pooler, and the files of the cycles. SIGTERM and Ctrl-C let the jobs
    at work end; after the grace time, or at the second signal, they are ended as FAILED.
    """
    if ctx.invoked_subcommand is not None:
        return
    import logging

    from irp_pipeline import settings
    from irp_pipeline.workers.secrecy import hide_environment
    from irp_pipeline.workers.worker import Worker

    hide_environment()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    wanted = slots or settings.job_slots() or 1
    working = Worker(wanted, queues or (), grace_seconds=grace)
    signals = 0

    def end(*_: object) -> None:
        nonlocal signals
        signals += 1
        working.stop(grace_seconds=0 if signals > 1 else None)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    output.say(f"Taking jobs of {', '.join(queues or ()) or 'all queues'}, {wanted} at once, until SIGTERM or Ctrl-C.")
    working.run()
    output.say("Ended.")


@app.command("list", epilog="Example: irp worker list --json")
def list_(as_json: AsJson = False) -> None:
    """Show the workers of this installation: where they are, and what each does since when."""
    from irp_pipeline.workers.presence import list_workers

    workers = list_workers()
    if as_json:
        output.print_json({"workers": [asdict(worker) for worker in workers]})
        return
    if not workers:
        output.say("There is no worker. One starts by itself with the first job, unless IRP_JOB_SLOTS is 0.")
        return
    output.print_table(
        (
            "HOST",
            "PROCESS",
            "QUEUES",
            "JOBS",
            "SLOTS",
            output.with_zone("SINCE", [w.started_ts for w in workers]),
            "STATE",
        ),
        [
            (
                w.host,
                w.pid,
                ", ".join(w.queues) or "all",
                len(w.jobs),
                w.slots,
                output.local_time(w.started_ts),
                f"lost, last heard of {output.duration(timedelta(seconds=w.heartbeat_seconds))} ago"
                if w.is_lost
                else ("ending" if w.is_ending else "there"),
            )
            for w in workers
        ],
    )
    jobs = [(w, job) for w in workers for job in w.jobs]
    if jobs:
        output.say()
        output.print_table(
            (
                "HOST",
                "JOB",
                "ANALYSIS",
                "CYCLE",
                "SCHEMA",
                output.with_zone("SINCE", [j.begun_ts for _, j in jobs]),
                "DOING",
            ),
            [
                (w.host, j.job_id, j.analysis or "", j.cycle, j.schema, output.local_time(j.begun_ts), j.doing or "")
                for w, j in jobs
            ],
        )
