"""The files in ``deploy/``, as far as they can be checked without an engine for containers and without a cluster.

Compose's file against the Compose Specification, each command by the command line that it is for, each variable by the
settings, the Dagster instance by Dagster's own schemas, the units by systemd.
"""

import argparse
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Sequence
from configparser import RawConfigParser
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from compose_spec import PyCompose
from dagster import DagsterInvalidConfigError, DagsterRun

from irp_pipeline_docs.reference import variables as settings_in_docs
from irp_pipeline_tests.support.processes import REPOSITORY

DEPLOY = REPOSITORY / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
OF_OTHERS = {"DAGSTER_HOME", "HOME", "PYTHONSAFEPATH", "PYTHONUNBUFFERED"}
"""Variables that Dagster, Python and the system know."""
PROGRAMS_OF_OTHERS = {"pg_isready", "redis-server"}
BIN = "/opt/irp/bin/"
WORKSPACE = DEPLOY / "compose" / "workspace.yaml"


def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "compose" / "compose.yaml").read_text())
    return found


def unit(path: Path) -> RawConfigParser:
    found = RawConfigParser(strict=False)
    found.optionxform = str  # type: ignore[assignment,method-assign]
    found.read_string(path.read_text())
    return found


def containerfile() -> list[tuple[str, str]]:
    """Instructions and their arguments."""
    text = re.sub(r"\\\n", " ", (DEPLOY / "Containerfile").read_text())
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1].strip()) for line in lines]


def commands() -> Iterator[Any]:
    """All commands that the files start, with their places."""
    for name, service in compose()["services"].items():
        if "command" in service:
            yield pytest.param(service["command"], id=f"compose {name}")
        if "healthcheck" in service:
            yield pytest.param(service["healthcheck"]["test"][1:], id=f"compose health of {name}")
    for path in UNITS:
        yield pytest.param(shlex.split(unit(path)["Service"]["ExecStart"].removeprefix(BIN)), id=path.name)
    yield pytest.param(yaml.safe_load(dict(containerfile())["CMD"]), id="Containerfile")
    (deployment,) = values()["dagster-user-deployments"]["deployments"]
    yield pytest.param(["dagster", "api", "grpc", *deployment["dagsterApiGrpcArgs"]], id="values")


def values() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "kubernetes" / "values.yaml").read_text())
    return found


# --- commands and variables ---------------------------------------------------------------------------------------


def group_of(program: str) -> Any:
    if program == "irp":
        from irp_pipeline.cli import app

        return typer.main.get_command(app)
    if program == "dagster":
        from dagster._cli import create_dagster_cli

        return create_dagster_cli()
    if program == "dagster-daemon":
        from dagster._daemon.cli import cli

        return cli
    from celery.bin.celery import celery

    assert program == "celery", f"no command line is known for {program}"
    return celery


def parse(command: Any, arguments: Sequence[str], parent: Any = None) -> None:
    """Parse arguments as the command would, and run nothing but what loads Celery's application."""
    with command.make_context(command.name, list(arguments), parent) as context:
        rest = [*getattr(context, "_protected_args", []), *context.args]
        if command.name == "celery":
            context.invoked_subcommand = rest[0]
            context.invoke(command.callback, **context.params)
        if rest and hasattr(command, "resolve_command"):
            name, found, rest = command.resolve_command(context, rest)
            if found is None:
                raise ValueError(f"There is no command {name}")
            parse(found, rest, context)
        else:
            assert not rest


@pytest.mark.parametrize("command", list(commands()))
def test_each_command_is_one_that_its_program_has(command: list[str], monkeypatch: pytest.MonkeyPatch):
    program, *arguments = (str(WORKSPACE) if word == "/opt/irp/dagster/workspace.yaml" else word for word in command)
    monkeypatch.setenv("IRP_CELERY_BROKER", "redis://127.0.0.1:1/0")  # the application connects to nothing
    if program in PROGRAMS_OF_OTHERS:
        return
    if program == "python":
        from irp_pipeline.orchestration.webserver import parser

        assert arguments[:2] == ["-m", "irp_pipeline.orchestration.webserver"]
        refuse: Callable[[str], None] = lambda said: pytest.fail(said)  # noqa: E731
        monkeypatch.setattr(argparse.ArgumentParser, "error", lambda _, said: refuse(said))
        parser().parse_args(arguments[2:])
        return
    group = group_of(program)
    if arguments[:1] == ["--help"]:
        return
    if arguments[:1] == ["worker"] and program == "irp" and not has_command(group, "worker"):
        pytest.skip("This version of irp has no command worker yet")
    parse(group, arguments)


def has_command(group: Any, name: str) -> bool:
    with group.make_context(group.name, [name]) as context:
        return group.get_command(context, name) is not None


def test_a_wrong_option_would_be_found():
    with pytest.raises(Exception, match="No such option"):
        parse(group_of("dagster"), ["api", "grpc", "--pord", "4000"])
    with pytest.raises(Exception, match="No such command"):
        parse(group_of("irp"), ["db", "initialise"])


def variables() -> set[str]:
    """The variables that the files give to our processes."""
    found = set(compose()["x-irp"]["environment"])
    for service in compose()["services"].values():
        if service.get("image") == "irp-pipeline":
            found |= set(service["environment"])
    for path in UNITS:
        found |= {item.partition("=")[0] for item in unit(path)["Service"]["Environment"].split()}
    for instruction, text in containerfile():
        if instruction == "ENV":
            found |= {item.partition("=")[0] for item in text.split()}
    (deployment,) = values()["dagster-user-deployments"]["deployments"]
    return found | {item["name"] for item in deployment["env"]}


def test_each_variable_is_one_of_the_settings():
    known = set(settings_in_docs()) | OF_OTHERS
    assert variables() <= known
    assert {"IRP_DATABASE_URL", "IRP_EXECUTOR", "IRP_CELERY_BROKER", "IRP_HOME"} <= variables()
    named_in_comments = set(re.findall(r"\bIRP_[A-Z_]+[A-Z]\b", (DEPLOY / "kubernetes" / "values.yaml").read_text()))
    assert named_in_comments <= known


def test_no_password_is_in_the_files():
    for path in DEPLOY.rglob("*.*"):
        for secret in re.findall(r"://[^/\s@]*?:([^/\s@]+)@", path.read_text()):
            assert re.fullmatch(r"\$\{IRP_[A-Z]+_PASSWORD:\?\}", secret), f"{path.name}: {secret}"


# --- containers ---------------------------------------------------------------------------------------------------


def test_the_compose_file_is_one_by_the_specification():
    def whole(text: str) -> str:
        """With the parts that it refers to, as Compose reads it."""
        return str(yaml.safe_dump(yaml.safe_load(text)))

    text = (DEPLOY / "compose" / "compose.yaml").read_text()
    PyCompose.from_yaml(whole(text)).validate()
    services = compose()["services"]
    assert set(services) == {
        "postgres", "redis", "schema", "user-code", "daemon", "webserver", "celery-worker", "worker"
    }  # fmt: skip
    with pytest.raises(Exception, match="comand"):
        PyCompose.from_yaml(whole(text.replace("command:", "comand:")))


def test_services_of_the_compose_file_wait_for_others_that_say_how_they_are():
    services = compose()["services"]
    for service in services.values():
        for name, condition in service.get("depends_on", {}).items():
            if condition["condition"] == "service_healthy":
                assert "healthcheck" in services[name]


def test_ports_are_open_on_the_host_itself_alone():
    ports = [port for service in compose()["services"].values() for port in service.get("ports", ())]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_the_image_copies_what_there_is_and_installs_extras_that_there_are():
    extras = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    copied = [text.split()[:-1] for instruction, text in containerfile() if instruction == "COPY"]
    for source in (source for sources in copied for source in sources):
        assert (REPOSITORY / source).exists(), source
    (installed,) = re.findall(r"'\.\[(.*)\]'", (DEPLOY / "Containerfile").read_text())
    assert set(installed.split(",")) <= set(extras)
    assert {"celery", "k8s", "oasis", "ui"} <= set(installed.split(","))


@pytest.mark.parametrize("folder", ["compose", "systemd"])
def test_the_workspaces_name_the_code_server_and_the_location_that_runs_of_the_command_line_name(folder: str):
    from dagster._core.workspace.load_target import WorkspaceFileTarget

    from irp_pipeline.orchestration.instance import CODE_LOCATION

    (origin,) = WorkspaceFileTarget([str(DEPLOY / folder / "workspace.yaml")]).create_origins()
    assert origin.location_name == CODE_LOCATION
    if folder == "compose":
        command = compose()["services"]["user-code"]["command"]
        assert ("user-code", str(origin.port)) == (origin.host, command[command.index("--port") + 1])  # type: ignore[attr-defined]
    else:
        start = unit(DEPLOY / "systemd" / "irp-code.service")["Service"]["ExecStart"]
        assert f"--socket {origin.socket} " in start  # type: ignore[attr-defined]


# --- Kubernetes ---------------------------------------------------------------------------------------------------


def instance_on_kubernetes() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "kubernetes" / "dagster.yaml").read_text())
    return found


def launcher_of_values() -> dict[str, Any]:
    """The config that the chart makes of the values for the launcher of runs: names in snake case, secrets by name."""
    given = dict(values()["runLauncher"]["config"]["k8sRunLauncher"])
    kubernetes_own = {"volumes", "volumeMounts", "resources", "securityContext"}
    config: dict[str, Any] = {}
    for name, value in given.items():
        key = snake(name)
        if name == "envSecrets":
            config[key] = [item["name"] for item in value]
        elif name == "runK8sConfig":
            config[key] = {snake(part): content for part, content in value.items()}
        else:
            assert name in kubernetes_own or not isinstance(value, dict)
            config[key] = value
    return config


def snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def check_config(schema: Any, config: Any) -> None:
    from dagster._config import process_config, resolve_to_config_type

    result = process_config(resolve_to_config_type(schema), config)
    if not result.success:
        raise DagsterInvalidConfigError("the file is wrong", result.errors, config)


def test_the_dagster_instance_is_one_by_the_schemas_of_dagster_and_dagster_k8s(tmp_path: Path):
    from dagster._core.instance.ref import InstanceRef
    from dagster_k8s import K8sRunLauncher

    shutil.copy(DEPLOY / "kubernetes" / "dagster.yaml", tmp_path)
    reference = InstanceRef.from_dir(str(tmp_path))  # refuses unknown keys
    launcher = reference.run_launcher_data
    assert launcher is not None
    assert (launcher.module_name, launcher.class_name) == ("dagster_k8s", "K8sRunLauncher")
    check_config(K8sRunLauncher.config_type(), launcher.config_dict)
    for config in (launcher_of_values(), instance_on_kubernetes()["run_launcher"]["config"]):
        with pytest.raises(DagsterInvalidConfigError):
            check_config(K8sRunLauncher.config_type(), config | {"no_such_entry": 1})
    coordinator = reference.run_coordinator_data
    assert coordinator is not None
    coordinator.rehydrate(_class_of(coordinator.module_name, coordinator.class_name))


def _class_of(module: str, name: str) -> Any:
    import importlib

    return getattr(importlib.import_module(module), name)


def test_the_values_of_the_chart_say_the_same_as_the_dagster_instance():
    from dagster_k8s import K8sRunLauncher

    instance = instance_on_kubernetes()
    launcher = instance["run_launcher"]["config"]
    rendered = launcher_of_values()
    # What the chart adds by itself, from names of its own.
    by_chart = {"service_account_name", "instance_config_map", "dagster_home"}
    assert rendered == {name: value for name, value in launcher.items() if name not in by_chart}
    check_config(K8sRunLauncher.config_type(), rendered | {name: launcher[name] for name in by_chart})
    daemon = values()["dagsterDaemon"]
    assert daemon["runCoordinator"]["config"]["customRunCoordinator"] == instance["run_coordinator"]
    assert values()["computeLogManager"]["config"]["customComputeLogManager"] == instance["compute_logs"]
    monitoring = {snake(name): value for name, value in daemon["runMonitoring"].items()}
    assert monitoring == instance["run_monitoring"]
    kept = values()["retention"]
    assert {name: {"purge_after_days": kept[name]["purgeAfterDays"]} for name in ("schedule", "sensor")} == (
        instance["retention"]
    )


def test_the_dagster_instance_on_kubernetes_is_that_of_one_machine_but_for_the_launcher():
    def rest(path: Path) -> dict[str, Any]:
        return {
            name: value
            for name, value in yaml.safe_load(path.read_text()).items()
            if name not in {"run_launcher", "run_monitoring"}
        }

    assert rest(DEPLOY / "kubernetes" / "dagster.yaml") == rest(REPOSITORY / "dagster.yaml")


@pytest.fixture
def launcher(tmp_path: Path) -> Any:
    """The launcher of runs as the file says, but for a cluster that nobody is asked about."""
    from dagster_k8s import K8sRunLauncher

    cluster = {"name": "none", "cluster": {"server": "http://127.0.0.1:1"}}
    context = {"name": "none", "context": {"cluster": "none", "user": "none"}}
    users = [{"name": "none", "user": {}}]
    file = tmp_path / "kubeconfig"
    file.write_text(
        yaml.safe_dump({"clusters": [cluster], "contexts": [context], "users": users, "current-context": "none"})
    )
    config = instance_on_kubernetes()["run_launcher"]["config"]
    return K8sRunLauncher(**config | {"load_incluster_config": False, "kubeconfig_file": str(file)})


def test_the_pods_of_runs_and_steps_get_the_files_and_the_secret(launcher: Any):
    from dagster_k8s import construct_dagster_k8s_job
    from dagster_k8s.container_context import K8sContainerContext

    run = DagsterRun(job_name="run_cycle")
    context = K8sContainerContext.create_for_run(run, launcher, include_run_tags=True)
    config = context.get_k8s_job_config("irp-pipeline:latest", launcher)
    job = construct_dagster_k8s_job(config, ["dagster", "api"], "a-run", user_defined_k8s_config=context.run_k8s_config)
    pod = job.spec.template.spec
    (container,) = pod.containers
    assert [source.secret_ref.name for source in container.env_from if source.secret_ref] == ["irp"]
    assert "/var/lib/irp" in [mount.mount_path for mount in container.volume_mounts]
    assert [volume.persistent_volume_claim.claim_name for volume in pod.volumes if volume.persistent_volume_claim] == [
        "irp-home"
    ]
    assert pod.termination_grace_period_seconds == 120
    assert container.security_context.run_as_non_root


# --- systemd ------------------------------------------------------------------------------------------------------


def test_there_is_a_unit_for_each_process():
    assert [path.name for path in UNITS] == [
        "irp-celery-worker.service",
        "irp-code.service",
        "irp-daemon.service",
        "irp-webserver.service",
        "irp-worker.service",
    ]


def test_systemd_accepts_the_units(tmp_path: Path):
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("There is no systemd-analyze here: install systemd to check the units")
    for path in UNITS:
        # The programs are elsewhere here; systemd asks whether each can be executed.
        (tmp_path / path.name).write_text(re.sub(rf"{BIN}\S+", sys.executable, path.read_text()))
    checked = subprocess.run(
        [program, "verify", "--man=no", *(str(tmp_path / path.name) for path in UNITS)],
        capture_output=True,
        text=True,
        check=False,
    )
    ours = [line for line in checked.stderr.splitlines() if "irp" in line]
    assert ours == []


@pytest.mark.parametrize("name", ["irp-worker", "irp-celery-worker"])
def test_systemd_ends_no_work_of_a_worker(name: str):
    service = unit(DEPLOY / "systemd" / f"{name}.service")["Service"]
    assert (service["KillMode"], service["TimeoutStopSec"]) == ("process", "infinity")
