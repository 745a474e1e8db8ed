"""The files of `deploy/`: what linters say of them, and whether what they say of the service is so."""

import json
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import typer
import yaml

from bespoke.cli.commands import app
from bespoke.pipeline.serve import settings_of
from bespoke.recipe.service import Serve
from bespoke.serving import keys
from tests.serving.listening import app_of
from tests.serving.painter import Painter

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
CONTAINERFILE = (DEPLOY / "Containerfile").read_text()
PINS = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def documents() -> Iterator[tuple[str, dict[str, Any]]]:
    for path in sorted(DEPLOY.rglob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text()):
            yield path.relative_to(DEPLOY).as_posix(), document


DOCUMENTS = list(documents())
DEPLOYMENTS = {file: document for file, document in DOCUMENTS if document["kind"] == "Deployment"}
each_deployment = pytest.mark.parametrize("document", DEPLOYMENTS.values(), ids=DEPLOYMENTS)


def only(file: str) -> dict[str, Any]:
    (document,) = (document for name, document in DOCUMENTS if name == file)
    return document


CLUSTER = only("kuberay/cluster.yaml")


def pod(document: Mapping[str, Any]) -> dict[str, Any]:
    return document["spec"]["template"]["spec"]


def pods() -> list[dict[str, Any]]:
    groups = [CLUSTER["spec"]["headGroupSpec"], *CLUSTER["spec"]["workerGroupSpecs"]]
    return [*map(pod, DEPLOYMENTS.values()), *(group["template"]["spec"] for group in groups)]


def last(instruction: str) -> str:
    """What the last instruction of that name in the container file says, its lines joined."""
    return re.findall(rf"^{instruction} +((?:.*\\\n)*.*)", CONTAINERFILE, re.MULTILINE)[-1].replace("\\\n", " ")


def command(container: Mapping[str, Any]) -> Sequence[str]:
    """What follows `bespoke` where a container starts: by the image's entry point, or at the end of a shell's line."""
    if "command" in container:
        assert container["command"] == ["/bin/sh", "-c"]
        (line,) = container["args"]
        words = shlex.split(line.partition("exec bespoke ")[2])
    else:
        words = [*json.loads(last("ENTRYPOINT"))[1:], *container.get("args", [])]
    assert words
    return words


def asked(words: Sequence[str]) -> dict[str, Any]:
    """The arguments and options that the command line understands."""
    group: Any = typer.main.get_command(app)
    assert words[0] == "serve"
    return group.commands["serve"].make_context("serve", list(words[1:])).params


def settings(container: Mapping[str, Any], folder: Path) -> Serve:
    return settings_of(folder, asked(command(container))["settings"])


@pytest.mark.parametrize(
    "program",
    [
        ("hadolint", str(DEPLOY / "Containerfile")),
        ("yamllint", "--strict", str(DEPLOY / "kubernetes"), str(DEPLOY / "kuberay")),
    ],
    ids=lambda program: program[0],
)
def test_linters_find_nothing(program: Sequence[str]):
    path = Path(sys.executable).with_name(program[0])
    done = subprocess.run([path, *program[1:]], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_kubernetes_knows_every_field():
    others = ("kustomize.config.k8s.io/", "ray.io/")
    own = [document for _, document in DOCUMENTS if not document["apiVersion"].startswith(others)]
    assert len(own) == 9
    for document in own:
        kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)
    misspelt = {**only("kubernetes/service.yaml"), "specs": {}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(misspelt, kubernetes_validate.latest_version(), strict=True)


@each_deployment
def test_the_command_line_understands_what_containers_start(document: dict[str, Any], tmp_path: Path):
    (container,) = pod(document)["containers"]
    words = asked(command(container))
    assert words["models"] == ["my-style@champion"] and not words["no_keys"]
    assert settings(container, tmp_path).host == "0.0.0.0"
    assert words["ray"] == (document is DEPLOYMENTS["kuberay/front.yaml"])
    if words["ray"]:
        (group,) = CLUSTER["spec"]["workerGroupSpecs"]
        assert words["replicas"] == f"{group['minReplicas']}..{group['maxReplicas']}"
        assert f"{CLUSTER['metadata']['name']}-head-svc:6379" in container["args"][0]
        token = next(each for each in container["env"] if each["name"] == "RAY_AUTH_TOKEN")
        assert token["valueFrom"]["secretKeyRef"]["name"] == CLUSTER["metadata"]["name"]


@each_deployment
def test_ports_and_probes_are_the_services(document: dict[str, Any], tmp_path: Path):
    (container,) = pod(document)["containers"]
    serve = settings(container, tmp_path)
    assert container["ports"] == [{"name": "http", "containerPort": serve.port}]
    assert last("EXPOSE") == str(serve.port) and f":{serve.port}/livez" in last("HEALTHCHECK")
    paths = app_of(Painter()).openapi()["paths"]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["path"] in paths
        assert container[probe]["httpGet"]["port"] == "http"
    starting = container["startupProbe"]
    assert starting["periodSeconds"] * starting["failureThreshold"] > serve.load_timeout_s


@each_deployment
def test_there_is_time_to_answer_what_was_accepted(document: dict[str, Any], tmp_path: Path):
    (container,) = pod(document)["containers"]
    before = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod(document)["terminationGracePeriodSeconds"] > before + settings(container, tmp_path).drain_s
    for group in CLUSTER["spec"]["workerGroupSpecs"]:
        grace = group["template"]["spec"]["terminationGracePeriodSeconds"]
        assert grace > settings(container, tmp_path).drain_s


def test_nothing_runs_as_root_or_may_become_it():
    user = int(last("USER").partition(":")[0])
    assert user and f"--uid {user} " in CONTAINERFILE
    for each in pods():
        assert each["securityContext"]["runAsNonRoot"] and each["securityContext"]["runAsUser"] == user
        assert each["automountServiceAccountToken"] is False
        for container in each["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    for document in DEPLOYMENTS.values():
        (container,) = pod(document)["containers"]
        assert container["securityContext"]["readOnlyRootFilesystem"]
        written = {mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
        assert {last("WORKDIR"), *re.findall(r"TMPDIR=(\S+)", CONTAINERFILE)} <= written


def test_versions_are_those_that_are_tested():
    assert re.findall(r"^ARG TORCH=(.*)", CONTAINERFILE, re.MULTILINE) == [PINS["torch"]]
    assert CLUSTER["spec"]["rayVersion"] == PINS["ray"]
    (extra,) = re.findall(r"^ARG EXTRAS=(.*)", CONTAINERFILE, re.MULTILINE)
    assert extra == "serve" and {"serve", "ray"} <= set(PROJECT["optional-dependencies"])
    images = {container["image"] for each in pods() for container in each["containers"]}
    assert images == {f"bespoke:{PROJECT['version']}", f"bespoke:{PROJECT['version']}-ray"}


def test_the_secret_holds_keys_that_the_service_reads(tmp_path: Path):
    (name, content), *others = only("kubernetes/keys.yaml")["stringData"].items()
    file = tmp_path / name
    file.write_text(content)
    for document in DEPLOYMENTS.values():
        volume = next(each for each in pod(document)["volumes"] if each["name"] == "keys")["secret"]
        assert volume["secretName"] == only("kubernetes/keys.yaml")["metadata"]["name"]
        file.chmod(volume["defaultMode"])
        assert [key.name for key in keys.listed(file)] == ["studio"] and not others
        (container,) = pod(document)["containers"]
        mount = next(each for each in container["volumeMounts"] if each["name"] == "keys")
        assert (mount["mountPath"], mount["subPath"]) == (f"{last('WORKDIR')}/{keys.FILE}", keys.FILE)


def test_what_one_file_names_another_has():
    claims = {each["metadata"]["name"] for _, each in DOCUMENTS if each["kind"] == "PersistentVolumeClaim"}
    for each in pods():
        volumes = {volume["name"]: volume for volume in each["volumes"]}
        assert {mount["name"] for container in each["containers"] for mount in container["volumeMounts"]} == set(
            volumes
        )
        assert {
            claim["persistentVolumeClaim"]["claimName"]
            for claim in volumes.values()
            if "persistentVolumeClaim" in claim
        } <= claims
    labels = only("kubernetes/deployment.yaml")["spec"]["template"]["metadata"]["labels"]
    assert only("kubernetes/service.yaml")["spec"]["selector"] == labels
    assert only("kubernetes/network.yaml")["spec"]["podSelector"]["matchLabels"] == labels
    assert only("kubernetes/disruption.yaml")["spec"]["selector"]["matchLabels"] == labels
    scaled = only("kubernetes/autoscaler.yaml")["spec"]["scaleTargetRef"]
    assert scaled["name"] == only("kubernetes/deployment.yaml")["metadata"]["name"]
    listed = only("kubernetes/kustomization.yaml")["resources"]
    assert all((DEPLOY / "kubernetes" / file).is_file() for file in listed)


def test_an_image_is_built_from_what_it_names_and_from_nothing_else():
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    let_in = {rule.removeprefix("!") for rule in rules if rule.startswith("!")}
    assert rules[0] == "*" and all((ROOT / name).exists() for name in let_in)
    assert let_in >= {"pyproject.toml", "setup.py", "src", PROJECT["readme"], *PROJECT["license-files"]}
