"""What Prometheus and Grafana are given: rules that promtool accepts, and a real Prometheus that looks at a service."""

import json
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
import yaml
from proofs.service import MODEL, ROOT

from bespoke.recipe.service import Serve
from bespoke.serving.metrics import Metrics

FOLDER = ROOT / "deploy" / "monitoring"
needs_prometheus = pytest.mark.skipif(
    not (shutil.which("promtool") and shutil.which("prometheus")), reason="needs Prometheus: apt-get install prometheus"
)


def known():
    """The names of all figures, as Prometheus has them."""
    text = Metrics().text().decode()
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
    ends = {"counter": ("",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}
    return {name + end for name, kind in kinds.items() for end in ends.get(kind, ("",))} | {"up"}


def expressions():
    rules = yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"][0]["rules"]
    panels = json.loads((FOLDER / "dashboard.json").read_text())["panels"]
    return [rule["expr"] for rule in rules], [each["expr"] for panel in panels for each in panel["targets"]]


def test_rules_and_dashboard_ask_for_figures_that_there_are():
    alerts, panels = expressions()
    asked = {name for one in (*alerts, *panels) for name in re.findall(r"\b(?:bespoke|process)_\w+", one)}
    assert asked <= known(), asked - known()
    ours = {name for name in known() if name.startswith("bespoke_") and not name.endswith("_created")}
    shown = {name for one in panels for name in re.findall(r"\bbespoke_\w+", one)}
    whole = {re.sub(r"_(bucket|sum|count)$", "", name) for name in ours} - {
        re.sub(r"_(bucket|sum|count)$", "", name) for name in shown
    }
    assert not whole, f"no panel shows {whole}"


def test_the_dashboards_panels_do_not_lie_upon_one_another():
    places = [panel["gridPos"] for panel in json.loads((FOLDER / "dashboard.json").read_text())["panels"]]
    taken = {(x, y) for p in places for x in range(p["x"], p["x"] + p["w"]) for y in range(p["y"], p["y"] + p["h"])}
    assert len(taken) == sum(p["w"] * p["h"] for p in places) and max(x for x, _ in taken) < 24


@needs_prometheus
def test_promtool_accepts_the_rules_and_they_ring_when_they_should(tmp_path):
    place = Path(shutil.copytree(FOLDER, tmp_path / "monitoring"))
    (place / "bespoke-key").write_text("x")
    for words in (
        ["check", "rules", "alerts.yml"],
        ["test", "rules", "alerts.test.yml"],
        ["check", "config", "prometheus.yml"],
    ):
        done = subprocess.run(["promtool", *words], cwd=place, capture_output=True, text=True)
        assert done.returncode == 0 and "SUCCESS" in done.stdout, done.stdout + done.stderr
    tested = {
        rule["alertname"]
        for test in yaml.safe_load((FOLDER / "alerts.test.yml").read_text())["tests"][1:]
        for rule in test["alert_rule_test"]
    }
    assert tested == {
        rule["alert"] for rule in yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"][0]["rules"]
    }


def test_prometheus_looks_where_the_service_is():
    [job] = yaml.safe_load((FOLDER / "prometheus.yml").read_text())["scrape_configs"]
    assert job["static_configs"][0]["targets"] == [f"{Serve().host}:{Serve().port}"]


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def wait_for(ask, seconds=30):
    ends = time.monotonic() + seconds
    while not (found := ask()):
        assert time.monotonic() < ends, "it never came"
        time.sleep(0.1)
    return found


@needs_prometheus
def test_a_real_prometheus_has_the_figures_of_a_service(tmp_path):
    program = [sys.executable, "-m", "proofs.service", "--serve"]
    with subprocess.Popen(program, text=True, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as service:
        address, port = service.stdout.readline().strip(), free_port()
        content = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
        content["global"]["scrape_interval"] = "200ms"
        content["rule_files"] = [str(FOLDER / "alerts.yml")]
        [job] = content["scrape_configs"]
        job["static_configs"] = [{"targets": [address.removeprefix("http://").rstrip("/")]}]
        (tmp_path / "bespoke-key").write_text("none is needed")
        (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(content))
        watching = [
            "prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=data",
            f"--web.listen-address=127.0.0.1:{port}",
        ]  # fmt: skip
        quiet = subprocess.DEVNULL
        try:
            with subprocess.Popen(watching, cwd=tmp_path, stdout=quiet, stderr=quiet) as prometheus:
                try:
                    look(address, f"http://127.0.0.1:{port}")
                finally:
                    prometheus.kill()
        finally:
            service.kill()


def look(address, prometheus):
    def query(expression):
        try:
            answer = httpx.get(f"{prometheus}/api/v1/query", params={"query": expression})
        except httpx.TransportError:  # it is not up yet
            return []
        assert answer.status_code in (200, 503), answer.text
        return answer.json()["data"]["result"] if answer.status_code == 200 else []

    for number in range(5):
        body = {"model": MODEL, "prompt": "square" if number else "nan", "seed": number}
        httpx.post(f"{address}v1/images/generations", json=body, timeout=30)
    [drawn] = wait_for(lambda: query(f'bespoke_pictures_total{{job="bespoke", model="{MODEL}"}} == 4'))
    assert drawn["value"][1] == "4"
    assert query("bespoke_workers")[0]["value"][1] == "2"
    assert query('bespoke_failed_pictures_total{code="not_a_picture"}')[0]["value"][1] == "1"
    alerts, panels = expressions()
    for one in (*alerts, *panels):  # a wrong expression is a status of 400
        query(one.replace("$instance", ".*").replace("$__rate_interval", "1m"))
    assert query("up{job='bespoke'}")[0]["value"][1] == "1"
