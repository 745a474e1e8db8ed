"""The service with real processes, whose engine draws squares and breaks on demand."""

import asyncio
import os
import signal
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
from proofs.faults import Faulty, colour, colour_of

from bespoke.errors import BespokeError
from bespoke.recipe.service import Serve
from bespoke.serving.process import Process
from bespoke.serving.service import Service
from bespoke.serving.wishes import Refusal, Wish

PLAIN = {"batch_wait_ms": 20.0, "step_timeout_s": 20.0, "watch_s": 0.05, "drain_s": 5.0}


class Counted:
    """A meter that keeps what it hears."""

    def __init__(self):
        self.batches, self.lost, self.up, self.most, self.steps = [], 0, 0, 0, 0
        self.versions, self.failures, self.memory = Counter(), Counter(), {}

    def queued(self, waiting, drawn):
        self.most = max(self.most, waiting + drawn)

    def batch(self, size, seconds):
        self.batches.append(size)

    def restarted(self):
        self.lost += 1

    def workers(self, up):
        self.up = up

    def stepped(self):
        self.steps += 1

    def drawn(self, model):
        self.versions[model] += 1

    def failed(self, code):
        self.failures[code] += 1

    def held(self, worker, held):
        self.memory[worker] = held


class Running:
    """A service that is up for the length of a block."""

    def __init__(self, *, names=("pico",), workers=1, engine=None, means=str, **settings):
        self.settings = Serve(**{**PLAIN, **settings})
        self.meter = Counted()
        self.workers = [Process(engine or Faulty, self.settings) for _ in range(workers)]
        self.service = Service(names, self.workers, self.settings, self.meter, means=means)

    async def __aenter__(self):
        await self.service.start()
        return self

    async def __aexit__(self, *_):
        await self.service.close()

    async def draw(self, prompt, seed=1, count=1, owner="me", model="pico", told=None, **more):
        return await self.service.draw(Wish(model, prompt, count, seed, **more), owner, told)

    def is_right(self, pictures, prompt, seed=1, model="pico"):
        expected = [colour(model, prompt, seed + number) for number in range(len(pictures))]
        return [colour_of(picture.data) for picture in pictures] == expected


async def refusal(awaitable):
    with pytest.raises(Refusal) as caught:
        await awaitable
    return caught.value


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 60))


def test_every_wish_gets_its_own_pictures_and_those_alike_are_drawn_at_once():
    async def story():
        async with Running(engine=partial(Faulty, 0.01)) as running:
            prompts = [f"square {number}" for number in range(12)]
            drawn = await asyncio.gather(*(running.draw(prompt, number) for number, prompt in enumerate(prompts)))
            for number, prompt in enumerate(prompts):
                assert running.is_right(drawn[number], prompt, number)
            three = await running.draw("square", 5, count=3)
            assert running.is_right(three, "square", 5) and [one.seed for one in three] == [5, 6, 7]
            assert max(running.meter.batches) == 8 and sum(running.meter.batches) == 15
            assert running.meter.versions == {"pico": 15} and running.meter.steps == 4 * len(running.meter.batches)

    run(story())


def test_other_settings_are_other_batches():
    async def story():
        async with Running(engine=partial(Faulty, 0.01)) as running:
            settings = [{"num_inference_steps": 3 + number % 2} for number in range(8)]
            drawn = await asyncio.gather(*(running.draw("square", settings=each) for each in settings))
            assert {one.batch for [one] in drawn} <= {1, 2, 3, 4} and sum(running.meter.batches) == 8

    run(story())


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        ("raise", 500, "drawing_failed"), ("oom", 503, "out_of_memory"), ("nan", 500, "not_a_picture"),
        ("die", 503, "worker_lost"), ("hang", 503, "worker_lost"),
    ],
)  # fmt: skip
def test_a_poisoned_wish_fails_alone_and_says_nothing_of_this_machine(fault, status, code):
    async def story():
        async with Running(engine=partial(Faulty, 0.01), step_timeout_s=1.0 if fault == "hang" else 20.0) as running:
            good = [asyncio.create_task(running.draw(f"square {number}", number)) for number in range(5)]
            bad = asyncio.create_task(refusal(running.draw(fault)))
            for number, task in enumerate(good):
                assert running.is_right(await task, f"square {number}", number)
            refused = await bad
            assert (refused.status, refused.code) == (status, code)
            assert str(Path.cwd()) not in refused.message and "secret" not in refused.message
            assert running.meter.lost == (2 if code == "worker_lost" else 0)
            assert running.meter.failures == {code: 1}
            assert running.is_right(await running.draw("after it"), "after it")

    run(story())


def test_a_worker_that_is_killed_is_replaced_and_nothing_accepted_is_lost():
    async def story():
        async with Running(engine=partial(Faulty, 0.05), batch_size=2) as running:
            tasks = [asyncio.create_task(running.draw(f"square {number}", number)) for number in range(6)]
            await asyncio.sleep(0.3)
            os.kill(running.workers[0].pid, signal.SIGKILL)
            for number, task in enumerate(tasks):
                assert running.is_right(await task, f"square {number}", number)
            assert running.meter.lost == 1 and running.meter.up == 1

    run(story())


def test_where_a_batch_does_not_fit_into_memory_fewer_are_drawn_at_once():
    async def story():
        async with Running(engine=partial(Faulty, 0.0, 3)) as running:
            for _ in range(2):
                drawn = await asyncio.gather(*(running.draw(f"square {number}", number) for number in range(8)))
                assert all(running.is_right(one, f"square {n}", n) for n, one in enumerate(drawn))
            assert max(running.meter.batches) <= 3 and sum(running.meter.batches) == 16

    run(story())


def test_more_than_may_wait_are_refused_with_when_to_ask_again():
    async def story():
        async with Running(engine=partial(Faulty, 0.02), most_waiting=10, most_per_key=6, batch_size=2) as running:
            await running.draw("square")  # so that it is known what a picture takes
            tasks = [asyncio.create_task(running.draw("square", owner=f"owner {number % 3}")) for number in range(18)]
            done = await asyncio.gather(*tasks, return_exceptions=True)
            refused = [each for each in done if isinstance(each, Exception)]
            assert Counter(each.code for each in refused) == {"queue_full": 8}
            assert all(each.status == 429 and 1 <= each.retry_after <= 60 for each in refused)
            assert running.meter.most == 10

            tasks = [asyncio.create_task(running.draw("square", owner="greedy")) for _ in range(8)]
            done = await asyncio.gather(*tasks, return_exceptions=True)
            assert Counter(each.code for each in done if isinstance(each, Refusal)) == {"too_many_waiting": 2}
            assert (await refusal(running.draw("square", count=7))).status == 400

    run(story())


def test_what_is_late_is_given_up_and_what_nobody_waits_for_is_left_off():
    async def story():
        async with Running(engine=partial(Faulty, 0.3)) as running:
            refused = await refusal(running.draw("square", deadline_s=0.2))
            assert (refused.status, refused.code) == (504, "deadline_exceeded")
            task = asyncio.create_task(running.draw("square"))
            await asyncio.sleep(0.4)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            began = asyncio.get_running_loop().time()
            assert running.is_right(await running.draw("another"), "another")
            assert running.meter.batches == [1], "the two others were not drawn to their ends"
            assert asyncio.get_running_loop().time() - began < 10

    run(story())


def test_who_waits_hears_of_steps_and_sees_unfinished_pictures():
    async def story():
        heard = []
        async with Running() as running:
            await running.draw(
                "square", count=2, previews=1, told=lambda number, progress: heard.append((number, progress))
            )
        assert [(number, p.number, p.steps) for number, p in heard if number == 1] == [(1, k, 4) for k in (1, 2, 3, 4)]
        shown = {number: p.previews for number, p in heard if p.previews}
        assert {number: colour_of(*files) for number, files in shown.items()} == {
            number: colour("pico", "square", 1 + number) for number in (0, 1)
        }

    run(story())


def test_a_name_that_comes_to_mean_another_version_changes_under_load_without_losing_a_wish():
    means = {"style@champion": "style@1"}

    async def story():
        async with Running(names=tuple(means), means=means.__getitem__, engine=partial(Faulty, 0.005)) as running:
            drawn = []

            async def ask(number):
                for turn in range(30):
                    drawn.extend(await running.draw(f"square {number}", turn, model="style@champion"))

            load = asyncio.gather(*(ask(number) for number in range(4)))
            for title in ("style@2", "style@1"):
                await asyncio.sleep(0.3)
                means["style@champion"] = title
            await load
            titles = [picture.model for picture in drawn]
            assert len(drawn) == 120 and set(titles) == {"style@1", "style@2"}
            for picture in drawn:
                assert colour_of(picture.data) in {
                    colour(picture.model, f"square {who}", picture.seed) for who in range(4)
                }
            while running.service.models["style@champion"].title != "style@1":
                await asyncio.sleep(0.05)
            assert running.is_right(await running.draw("x", model="style@champion"), "x", model="style@1")

    run(story())


@pytest.mark.parametrize("title", ["bad@2", "fatal@2"])
def test_a_version_that_cannot_be_drawn_with_is_not_brought_into_use(title):
    means = {"style@champion": "style@1"}

    async def story():
        async with Running(names=tuple(means), means=means.__getitem__) as running:
            means["style@champion"] = title
            while not running.service.troubles:
                await asyncio.sleep(0.05)
            assert title in running.service.troubles["style@champion"]
            assert running.is_right(await running.draw("x", model="style@champion"), "x", model="style@1")
            assert running.service.models["style@champion"].title == "style@1"
            means["style@champion"] = "style@1"
            while running.service.troubles:
                await asyncio.sleep(0.05)

    run(story())


def test_a_service_that_cannot_begin_says_why():
    async def story(names):
        running = Running(names=names)
        try:
            with pytest.raises(BespokeError) as caught:
                await running.service.start()
            return caught.value.problem
        finally:
            await running.service.close()

    assert "bad@1 is damaged" in run(story(("bad@1",)))
    assert "worker ended with code -9" in run(story(("fatal@1",)))


def test_what_ends_accepts_nothing_more_and_finishes_what_it_accepted():
    async def story():
        async with Running(engine=partial(Faulty, 0.02), batch_size=1, drain_s=2.0) as running:
            accepted = [asyncio.create_task(running.draw(f"square {number}")) for number in range(3)]
            hanging = asyncio.create_task(refusal(running.draw("hang")))
            await asyncio.sleep(0.05)
            draining = asyncio.create_task(running.service.drain())
            await asyncio.sleep(0.05)
            refused = await refusal(running.draw("late"))
            assert (refused.status, refused.code) == (503, "shutting_down") and refused.retry_after
            await draining
            assert (await hanging).code == "shutting_down"
            done = await asyncio.gather(*accepted, return_exceptions=True)
            assert all(
                running.is_right(one, f"square {n}") for n, one in enumerate(done) if not isinstance(one, Refusal)
            )

    run(story())


def test_two_workers_share_the_load_and_one_that_dies_does_not_stop_the_other():
    async def story():
        async with Running(engine=partial(Faulty, 0.05), workers=2, batch_size=1) as running:
            tasks = [asyncio.create_task(running.draw(f"square {number}", number)) for number in range(8)]
            await asyncio.sleep(0.3)
            first = running.workers[0].pid
            os.kill(first, signal.SIGKILL)
            for number, task in enumerate(tasks):
                assert running.is_right(await task, f"square {number}", number)
            while running.meter.up < 2:
                await asyncio.sleep(0.05)
            assert running.workers[0].pid not in (None, first)

    run(story())


def test_unknown_models_and_adapters_are_refused_by_name():
    async def story():
        async with Running() as running:
            assert (await refusal(running.draw("x", model="other"))).status == 404
            assert (await refusal(running.draw("x", adapters={"lost": 1.0}))).code == "adapter_not_found"

    run(story())
