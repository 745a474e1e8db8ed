"""The files of `deploy/update/`: what systemd and Kubernetes say of them, and whether they start what there is."""

import configparser
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from bespoke.cli.commands import app

ROOT = Path(__file__).parents[2]
PLACE = ROOT / "deploy" / "update"
SERVICE, TIMER = (PLACE / f"bespoke-update@.{kind}" for kind in ("service", "timer"))
JOB: dict[str, Any] = yaml.safe_load((PLACE / "cronjob.yml").read_text())
WORK: dict[str, Any] = JOB["spec"]["jobTemplate"]["spec"]
POD: dict[str, Any] = WORK["template"]["spec"]
needs_systemd = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed here")


def unit(path: Path) -> dict[str, dict[str, str]]:
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(path)
    return {section: dict(parser[section]) for section in parser.sections()}


def asked(words: list[str]) -> dict[str, Any]:
    """The options that the command line understands."""
    command: Any = typer.main.get_command(app)
    for name in words[:2]:
        command = command.commands[name]
    return command.make_context(words[1], words[2:]).params


def laid_out(folder: Path, text: str | None = None) -> Path:
    """The two units for a project, on a machine where the command is `/bin/true`."""
    command = unit(SERVICE)["Service"]["ExecStart"].split()[0]
    service = folder / "bespoke-update@my-style.service"
    service.write_text((text or SERVICE.read_text()).replace(command, "/bin/true"))
    shutil.copyfile(TIMER, folder / "bespoke-update@my-style.timer")
    return service


def analysed(*words: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "SYSTEMD_LOG_LEVEL": "warning"}
    return subprocess.run(["systemd-analyze", *words], capture_output=True, text=True, env=environment)


@needs_systemd
def test_systemd_finds_nothing_wrong(tmp_path):
    service = laid_out(tmp_path)
    done = analysed("verify", "--man=no", service, service.with_suffix(".timer"))
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    wrong = analysed("verify", "--man=no", laid_out(tmp_path, SERVICE.read_text().replace("oneshot", "twice")))
    assert "twice" in wrong.stderr


@needs_systemd
def test_systemd_takes_it_for_hardened(tmp_path):
    done = analysed("security", "--offline=true", "--threshold=25", laid_out(tmp_path))
    assert done.returncode == 0, done.stdout


def test_the_units_say_what_the_command_line_understands():
    service, timer = unit(SERVICE)["Service"], unit(TIMER)
    before, command = service["ExecStartPre"].split(), service["ExecStart"].split()
    assert before[0] == f"-{command[0]}", "where no pictures are kept yet, it goes on without"
    assert asked(before[1:])["canaries"] and asked(before[1:])["against"] == "reference"
    assert Path(command[0]).name == "bespoke" and asked(command[1:])["run"] and not asked(command[1:])["approve"]
    assert service["WorkingDirectory"] == service["ReadWritePaths"]
    assert unit(SERVICE)["Unit"]["ConditionPathExists"] == f"{service['WorkingDirectory']}/recipe.toml"
    for key, value in {"ProtectSystem": "strict", "NoNewPrivileges": "yes", "CapabilityBoundingSet": ""}.items():
        assert service[key] == value
    assert service["User"] != "root" and service["Type"] == "oneshot"
    assert timer["Timer"]["OnCalendar"] and timer["Install"]["WantedBy"] == "timers.target"
    assert TIMER.stem == SERVICE.stem, "a timer starts the service of its name"


def test_the_job_says_what_the_command_line_understands():
    (container,) = POD["containers"]
    assert container["command"] == ["bespoke"]
    assert asked(container["args"])["run"] and not asked(container["args"])["approve"]


def test_no_two_jobs_run_at_once_and_a_failed_one_waits_for_the_next_night():
    assert JOB["kind"] == "CronJob" and JOB["spec"]["concurrencyPolicy"] == "Forbid"
    assert WORK["backoffLimit"] == 0 and POD["restartPolicy"] == "Never"
    assert len(JOB["spec"]["schedule"].split()) == 5


def test_the_job_is_no_root_and_writes_to_its_project_only():
    (container,) = POD["containers"]
    assert POD["securityContext"]["runAsNonRoot"] and POD["securityContext"]["runAsUser"] != 0
    assert POD["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    written = {mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
    assert written == {container["workingDir"], "/scratch"}
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in POD["volumes"]}
    assert {one["value"] for one in container["env"] if one["name"] in ("HOME", "TMPDIR", "MPLCONFIGDIR")} <= written


def test_kubernetes_knows_every_field():
    kubernetes = pytest.importorskip("kubernetes_validate", reason="what validates manifests is not installed here")
    kubernetes.validate(JOB, kubernetes.latest_version(), strict=True)
    misspelt = {**JOB, "spec": {**JOB["spec"], "concurencyPolicy": "Forbid"}}
    with pytest.raises(kubernetes.ValidationError):
        kubernetes.validate(misspelt, kubernetes.latest_version(), strict=True)
