"""Latency and throughput of the service against one-by-one and against plain diffusers behind FastAPI.

`python -m benchmarks.serving` starts the three servers as processes, asks them in turn, round after round, and writes
how long callers waited and how many pictures came in a second. All draw the same pictures with the same model.
"""

import argparse
import asyncio
import base64
import io
import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from proofs import results

ARMS = {
    "bespoke": ["serve.batch_size=8"],
    "bespoke, one by one": ["serve.batch_size=1"],
    "diffusers behind FastAPI": [],
}
PROMPTS = ("a red apple", "8bit illustration of a dog", "two trees", "a blue house on a hill", "a cat", "a yellow car")


def plain(model: str, listening: socket.socket) -> None:
    """A server as the tutorials have it: a pipeline behind a lock, asked for one picture at a time."""
    import torch
    import uvicorn
    from diffusers import DiffusionPipeline
    from fastapi import FastAPI
    from pydantic import BaseModel

    from bespoke.models import find

    pipeline: Any = DiffusionPipeline.from_pretrained(
        str(find(model).folder), safety_checker=None, torch_dtype=torch.float32
    )
    pipeline.set_progress_bar_config(disable=True)
    pipeline.to("cuda" if torch.cuda.is_available() else "cpu")
    app, lock = FastAPI(), asyncio.Lock()

    class Wish(BaseModel):
        prompt: str
        seed: int
        num_inference_steps: int
        guidance_scale: float

    def drawn(wish: Wish) -> dict[str, Any]:
        generator = torch.Generator("cpu").manual_seed(wish.seed)
        how = {"num_inference_steps": wish.num_inference_steps, "guidance_scale": wish.guidance_scale}
        [picture] = pipeline(wish.prompt, generator=generator, **how).images
        file = io.BytesIO()
        picture.save(file, "PNG")
        return {"data": [{"b64_json": base64.b64encode(file.getvalue()).decode()}]}

    @app.post("/v1/images/generations")
    async def generations(wish: Wish) -> dict[str, Any]:
        async with lock:
            return await asyncio.to_thread(drawn, wish)

    drawn(Wish(prompt="warm up", seed=0, num_inference_steps=2, guidance_scale=2.0))
    _tell(f"http://127.0.0.1:{listening.getsockname()[1]}/")
    uvicorn.Server(uvicorn.Config(app, log_level="error")).run(sockets=[listening])


def serve(arm: str, model: str) -> None:
    """Serves as one of the arms until it is killed."""
    if not ARMS[arm]:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            plain(model, listening)
        return
    from bespoke.pipeline.serve import serve as run

    settings = [*ARMS[arm], "serve.port=0", "serve.safety_checker=false"]
    run([model], overrides=settings, keys=False, ready=lambda address, _: _tell(address))


def _tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def load(address: str, model: str, callers: int, pictures: int, steps: int) -> tuple[list[float], float]:
    """How long each caller waited for each picture, and the seconds that all took together."""
    todo, waited = iter(range(pictures)), list[float]()
    async with httpx.AsyncClient(base_url=address, timeout=600) as client:

        async def call() -> None:
            for number in todo:
                body: dict[str, Any] = {"prompt": PROMPTS[number % len(PROMPTS)], "seed": number}
                body |= {"model": model, "num_inference_steps": steps, "guidance_scale": 2.0}
                began = time.perf_counter()
                answer = await client.post("/v1/images/generations", json=body)
                answer.raise_for_status()
                waited.append(time.perf_counter() - began)

        began = time.perf_counter()
        await asyncio.gather(*(call() for _ in range(callers)))
        return waited, time.perf_counter() - began


def measured(model: str, callers: Sequence[int], pictures: int, steps: int, rounds: int) -> dict[str, Any]:
    """By arm and by number of callers: pictures a second in each round, and what callers waited."""
    found: dict[str, Any] = {}
    with ExitStack() as stack:
        addresses = {arm: stack.enter_context(_Server(arm, model)).address for arm in ARMS}
        for each in callers:
            rates: dict[str, list[float]] = {arm: [] for arm in ARMS}
            waits: dict[str, list[float]] = {arm: [] for arm in ARMS}
            for turn in range(rounds + 1):
                for arm, address in addresses.items():
                    waited, seconds = asyncio.run(load(address, model, each, pictures, steps))
                    if turn:  # the first round warms up
                        rates[arm].append(pictures / seconds)
                        waits[arm] += waited
            found[f"{each} callers"] = {arm: _figures(rates[arm], waits[arm]) for arm in ARMS}
    return found


def _figures(rates: Sequence[float], waits: Sequence[float]) -> dict[str, Any]:
    least, median, most = (float(np.percentile(rates, part)) for part in (0, 50, 100))
    return {
        "pictures a second": [round(each, 3) for each in (median, least, most)],
        "median wait": round(float(np.median(waits)), 3),
        "95 % within": round(float(np.percentile(waits, 95)), 3),
    }


class _Server:
    """One of the arms as a process, for the length of a block."""

    def __init__(self, arm: str, model: str) -> None:
        program = [sys.executable, "-m", "benchmarks.serving", "--serve", arm, "--model", model]
        environment = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
        self._process = subprocess.Popen(program, stdout=subprocess.PIPE, text=True, env=environment, cwd=results.ROOT)

    def __enter__(self) -> "_Server":
        assert self._process.stdout
        self.address = self._process.stdout.readline().strip()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="pico")
    parser.add_argument("--callers", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--pictures", type=int, default=48)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--serve", metavar="ARM", choices=[*ARMS])
    parser.add_argument("--json", type=Path, help="where the figures go; by default docs/results/serving.json")
    asked = parser.parse_args()
    if asked.serve:
        serve(asked.serve, asked.model)
        return
    figures = measured(asked.model, asked.callers, asked.pictures, asked.steps, asked.rounds)
    sys.stdout.write(results.write("serving", figures, room="benchmarks").read_text("utf-8"))


if __name__ == "__main__":
    main()
