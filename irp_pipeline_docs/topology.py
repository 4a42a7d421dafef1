"""The picture of an installation: its processes, and where they keep what."""

from irp_pipeline_docs.drawing import Box, Path, svg


def topology() -> str:
    """Return the picture."""
    boxes = [
        Box("machine", 2, 10, 640, 330, "group", ("",)),
        Box("a machine, an account, an IRP_HOME", 170, 8, 300, 32, "label"),
        Box("ui", 20, 50, 300, 62, "state", ("irp ui", "webserver, daemon, code server")),
        Box("commands", 340, 50, 282, 62, "state", ("irp run, notebooks", "commands, schedulers such as cron")),
        Box("steps", 20, 152, 300, 62, "state", ("runs and their steps", "processes of Dagster")),
        Box("jobs", 340, 152, 282, 62, "state", ("a worker", "a process for each job")),
        Box("files", 20, 258, 602, 66, "store",
            ("IRP_HOME", "cycles, jobs, models; the embedded PostgreSQL if there is no other")),
        Box("records", 720, 152, 230, 62, "store", ("PostgreSQL, database irp", "records, and the queue of jobs")),
        Box("history", 720, 258, 230, 66, "store", ("database irp_dagster", "runs and events of Dagster")),
        Box("others", 20, 352, 602, 62, "state",
            ("irp worker on other machines", "with the files in a shared folder or object store")),
        Box("readers", 720, 50, 230, 62, "end", ("BI, monitoring", "irp_read")),
    ]  # fmt: skip
    paths = [
        Path(((170, 112), (170, 152)), ("starts",), (200, 137)),
        Path(((400, 112), (290, 152)), ("start",), (375, 142)),
        Path(((320, 183), (340, 183))),
        Path(((170, 214), (170, 258)), ("publish",), (205, 241)),
        Path(((480, 214), (480, 258)), ("results",), (513, 241)),
        Path(((622, 383), (690, 383), (690, 201), (720, 201)), ("irp_app",), (725, 387)),
        # Whatever runs on the machine may write records.
        Path(((642, 183), (720, 183)), ("irp_app",), (664, 175)),
        Path(((642, 291), (720, 291)), ("irp_app",), (664, 283)),
        Path(((835, 112), (835, 152)), ("read",), (860, 137)),
    ]
    return svg("An installation: the processes of a machine, PostgreSQL, and who reads", (960, 426), boxes, paths)
