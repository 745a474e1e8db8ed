"""The service as a process of its own: signals, faults, kills and logs."""

import asyncio
import base64
import json
import signal
import subprocess
import sys

import httpx
import psutil
import pytest
from proofs.faults import colour, colour_of
from proofs.service import MODEL, MOST_WAITING, ROOT, run

PATH = "/v1/images/generations"


@pytest.fixture
def server():
    program = [sys.executable, "-m", "proofs.service", "--serve"]
    pipe = subprocess.PIPE
    with subprocess.Popen(program, text=True, cwd=ROOT, stdout=pipe, stderr=pipe) as process:
        process.address = process.stdout.readline().strip()
        yield process
        process.kill()


def body(prompt, seed=0):
    return {"model": MODEL, "prompt": prompt, "seed": seed}


def is_right(answer, prompt, seed=0):
    [picture] = answer.json()["data"]
    return colour_of(base64.b64decode(picture["b64_json"])) == colour(MODEL, prompt, seed)


def test_of_many_requests_to_what_breaks_in_every_way_each_is_answered_once():
    figures, seen = run(150)
    assert seen.wrong == [] and figures["requests"] == 150
    assert {answer.split()[0] for answer in figures["answers"]} >= {"square", "raise", "oom", "nan", "slow", "die"}
    assert 0 < figures["longest queue"] <= MOST_WAITING
    assert figures["exit code after SIGTERM"] == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_end_it_answers_what_it_accepted_and_leaves_with_0(server, number):
    async def story():
        async with httpx.AsyncClient(base_url=server.address, timeout=60) as client:
            accepted = [asyncio.create_task(client.post(PATH, json=body(f"slow 0.5 {n}", n))) for n in range(4)]
            await asyncio.sleep(0.3)
            server.send_signal(number)
            await asyncio.sleep(0.1)
            late, ready = await client.post(PATH, json=body("late")), await client.get("/readyz")
            assert late.status_code == 503 and late.json()["error"]["code"] == "shutting_down"
            assert int(late.headers["retry-after"]) >= 1
            assert ready.status_code == 503 and ready.json() == {"state": "draining"}
            assert (await client.get("/livez")).status_code == 200
            for n, task in enumerate(accepted):
                assert is_right(await task, f"slow 0.5 {n}", n)

    workers = psutil.Process(server.pid).children()
    asyncio.run(story())
    assert server.wait(15) == 0
    assert not any(worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE for worker in workers)


def test_a_second_signal_ends_it_at_once(server):
    async def story():
        async with httpx.AsyncClient(base_url=server.address, timeout=60) as client:
            hanging = asyncio.create_task(client.post(PATH, json=body("slow 30 x")))
            await asyncio.sleep(0.3)
            server.send_signal(signal.SIGTERM)
            await asyncio.sleep(0.3)
            server.send_signal(signal.SIGTERM)
            with pytest.raises(httpx.HTTPError):
                (await hanging).raise_for_status()

    asyncio.run(story())
    assert server.wait(15) == 0
    assert "Traceback" not in server.stderr.read()


def test_workers_end_with_the_service_even_where_that_is_killed(server):
    workers = psutil.Process(server.pid).children()
    assert len(workers) == 2
    server.kill()
    gone, alive = psutil.wait_procs(workers, timeout=10)
    assert len(gone) == 2 and alive == []


def test_its_log_has_a_line_for_each_request_and_for_lost_workers_but_no_prompts(server):
    with httpx.Client(base_url=server.address, timeout=60) as client:
        drawn = client.post(PATH, json=body("a prompt to be kept private"), headers={"x-request-id": "mine-1"})
        assert drawn.status_code == 200 and drawn.headers["x-request-id"] == "mine-1"
        assert client.post(PATH, json=body("raise 1")).status_code == 500
        assert client.post(PATH, json=body("die 1")).status_code == 503
    server.send_signal(signal.SIGTERM)
    lines = [json.loads(line) for line in server.stderr.read().splitlines() if line.startswith("{")]
    requests = [line for line in lines if line["event"] == "request"]
    assert [(line["status"], line.get("code")) for line in requests] == [
        (200, None), (500, "drawing_failed"), (503, "worker_lost"),
    ]  # fmt: skip
    assert requests[0]["request_id"] == "mine-1" and requests[0]["model"] == MODEL
    assert sum(line["event"] == "worker lost" for line in lines) == 2
    assert any(line["event"] == "batch failed" and "secret" in line["why"] for line in lines), (
        "whoever runs it may know"
    )
    assert not any("private" in json.dumps(line) for line in lines)
