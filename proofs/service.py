"""Thousands of requests to a service whose engine breaks in every way, `python -m proofs.service`.

A real server, with two workers, draws squares; some prompts make it slow, raise, hang, run out of memory, make a
picture that is none, or kill the worker; besides, workers are killed from outside, and some callers hang up. Each
request must be answered exactly once and with its own picture or its own failure, the queue must never be longer than
it may be, and the memory of the process that answers must not grow. Nothing of this machine may be in an answer.
"""

import argparse
import asyncio
import base64
import contextlib
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil

from proofs.faults import colour, colour_of, faulty

MODEL = "squares"
MOST_WAITING, CALLERS = 24, 40
SETTINGS = {
    "port": 0, "workers": 2, "most_waiting": MOST_WAITING, "most_per_key": MOST_WAITING, "step_timeout_s": 1.0,
    "batch_wait_ms": 1.0, "deadline_s": 60.0, "keep_pictures_s": 5.0,
}  # fmt: skip
RATES = {"slow 0.1": 0.01, "raise": 0.02, "oom": 0.01, "nan": 0.02, "die": 0.004, "hang": 0.002, "hung up": 0.02}
"""How often a request is a fault; all others are plain."""
EXPECTED = {
    "slow": {200}, "raise": {500}, "oom": {503}, "nan": {500}, "die": {503}, "hang": {503}, "square": {200},
}  # fmt: skip
KILLS_EVERY = 500
"""Requests between two kills of a worker from outside."""
ROOT = Path(__file__).parents[1]


@dataclass
class Seen:
    """What came of all requests."""

    answers: Counter[str] = field(default_factory=Counter[str])
    """By fault and status."""
    wrong: list[str] = field(default_factory=list[str])
    asked_again: int = 0
    seconds: list[float] = field(default_factory=list[float])
    queue: list[float] = field(default_factory=list[float])
    memory: list[tuple[int, float]] = field(default_factory=list[tuple[int, float]])
    """Requests that were answered, and MB that the process then had."""
    kills: int = 0

    @property
    def done(self) -> int:
        """Requests that were answered, and those whose callers hung up."""
        return self.answers.total()


class Caller:
    """One of many who ask at once."""

    def __init__(self, client: httpx.AsyncClient, seen: Seen) -> None:
        self._client, self._seen = client, seen

    async def ask(self, number: int, fault: str) -> None:
        """Asks for one picture, again as long as the service has no room, and looks at the answer."""
        prompt = f"{fault} {number}" if fault not in ("plain", "hung up") else f"square {number}"
        body = {"model": MODEL, "prompt": prompt, "seed": number}
        if fault == "hung up":
            with contextlib.suppress(httpx.HTTPError):
                await self._client.post("/v1/images/generations", json=body, timeout=0.003)
            self._seen.answers["hung up"] += 1
            return
        began = time.perf_counter()
        while (answer := await self._client.post("/v1/images/generations", json=body)).status_code == 429:
            self._seen.asked_again += 1
            await asyncio.sleep(min(0.05, float(answer.headers["retry-after"])))
        self._seen.seconds.append(time.perf_counter() - began)
        self._look(prompt, number, answer)

    def _look(self, prompt: str, number: int, answer: httpx.Response) -> None:
        kind = prompt.split(maxsplit=1)[0]
        self._seen.answers[f"{kind} {answer.status_code}"] += 1
        if "secret" in answer.text or str(Path.cwd()) in answer.text or "Traceback" in answer.text:
            self._seen.wrong.append(f"{prompt}: an answer that tells of this machine: {answer.text}")
        lost = answer.status_code == 503 and answer.json()["error"]["code"] == "worker_lost"
        if answer.status_code not in EXPECTED[kind] and not lost:
            self._seen.wrong.append(f"{prompt}: {answer.status_code} {answer.text[:200]}")
        elif answer.status_code == 200:
            [picture] = answer.json()["data"]
            if colour_of(base64.b64decode(picture["b64_json"])) != colour(MODEL, prompt, number):
                self._seen.wrong.append(f"{prompt}: somebody else's picture")


async def watch(client: httpx.AsyncClient, process: psutil.Process, seen: Seen) -> None:
    """Looks at queue and memory until it is cancelled."""
    while True:
        text = (await client.get("/metrics")).text
        counts = re.findall(r"^bespoke_(?:queued|drawing)_pictures ([\d.e+]+)$", text, re.MULTILINE)
        assert counts, "the metrics do not tell how long the queue is"
        seen.queue.append(sum(map(float, counts)))
        seen.memory.append((seen.done, process.memory_info().rss / 2**20))
        await asyncio.sleep(0.1)


async def kill(process: psutil.Process, seen: Seen) -> None:
    """Kills one of the workers each time that so many more requests were answered, until it is cancelled."""
    rng = random.Random(1)
    while True:
        await asyncio.sleep(0.01)
        if seen.done >= (seen.kills + 1) * KILLS_EVERY and (workers := process.children()):
            with contextlib.suppress(psutil.NoSuchProcess):
                rng.choice(workers).kill()
            seen.kills += 1


def drawn_lots(count: int) -> list[str]:
    """The faults of so many requests, some of each, in an order that is always the same."""
    faults = [fault for fault, rate in RATES.items() for _ in range(round(rate * count))]
    faults += ["plain"] * (count - len(faults))
    random.Random(0).shuffle(faults)
    return faults


async def load(address: str, process: psutil.Process, count: int) -> Seen:
    """What comes of so many requests."""
    seen, todo = Seen(), iter(list(enumerate(drawn_lots(count))))
    limits = httpx.Limits(max_connections=CALLERS + 8)
    async with httpx.AsyncClient(base_url=address, timeout=120, limits=limits) as client:

        async def call() -> None:
            caller = Caller(client, seen)
            for number, fault in todo:
                await caller.ask(number, fault)

        beside = [asyncio.create_task(work) for work in (watch(client, process, seen), kill(process, seen))]
        await asyncio.gather(*(call() for _ in range(CALLERS)))
        for task in beside:
            task.cancel()
        for ended in await asyncio.gather(*beside, return_exceptions=True):
            if isinstance(ended, Exception) and not isinstance(ended, asyncio.CancelledError):
                raise ended
    return seen


def growth(memory: Sequence[tuple[int, float]]) -> float:
    """MB that the process grows by in 1,000 requests, once it has answered a third of them: the slope of a line."""
    later = [each for each in memory if each[0] > memory[-1][0] / 3]
    done, size = np.array(later).T
    return float(1000 * np.polyfit(done, size, 1)[0])


def figures_of(seen: Seen, code: int) -> dict[str, Any]:
    """What there is to tell."""
    lost = sum(count for answer, count in seen.answers.items() if answer == "square 503")
    return {
        "requests": seen.done, "answers": dict(sorted(seen.answers.items())),
        "asked again after 429": seen.asked_again,
        "wrong answers": len(seen.wrong), "plain pictures told as lost": lost,
        "workers killed from outside": seen.kills,
        "longest queue": max(seen.queue), "queue may be": MOST_WAITING,
        "median seconds": round(float(np.median(seen.seconds)), 4),
        "99 % within seconds": round(float(np.percentile(seen.seconds, 99)), 3),
        "MB at the beginning": round(seen.memory[0][1], 1),
        "MB at the end": round(seen.memory[-1][1], 1), "MB more in 1,000 requests": round(growth(seen.memory), 3),
        "exit code after SIGTERM": code,
    }  # fmt: skip


def run(count: int) -> tuple[dict[str, Any], Seen]:
    """The figures of so many requests to a server of this machine, which is then told to end."""
    program = [sys.executable, "-m", "proofs.service", "--serve"]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True, cwd=ROOT) as server:
        assert server.stdout
        try:
            address = server.stdout.readline().strip()
            seen = asyncio.run(load(address, psutil.Process(server.pid), count))
            server.send_signal(signal.SIGTERM)
            code = server.wait(30)
        finally:
            server.kill()
    return figures_of(seen, code), seen


def holds(figures: dict[str, Any], count: int) -> bool:
    """Whether all that is promised is so."""
    return (
        figures["requests"] == count
        and not figures["wrong answers"]
        and figures["longest queue"] <= figures["queue may be"]
        and figures["MB more in 1,000 requests"] < 1
        and figures["exit code after SIGTERM"] == 0
    )


def _tell(address: str, _: str) -> None:
    sys.stdout.write(f"{address}\n")
    sys.stdout.flush()


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--serve", action="store_true", help="be the server")
    asked = parser.parse_args()
    if asked.serve:
        from bespoke.pipeline.serve import serve

        settings = [f"serve.{key}={value}" for key, value in SETTINGS.items()]
        serve([MODEL], overrides=settings, keys=False, made=faulty, ready=_tell)
        return
    from proofs import results  # it loads torch, which the server does without

    figures, seen = run(asked.requests)
    for line in seen.wrong[:10]:
        sys.stderr.write(f"{line}\n")
    sys.stdout.write(results.write("service", figures).read_text("utf-8"))
    sys.exit(0 if holds(figures, asked.requests) else "a promise was not kept")


if __name__ == "__main__":
    main()
