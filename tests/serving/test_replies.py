"""`Idempotency-Key`: one drawing however often it is asked for, and who may hang up meanwhile."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bespoke.recipe.service import Serve
from bespoke.serving.keys import Keys, make
from bespoke.serving.replies import LEAST, Replies
from bespoke.serving.wishes import Refusal
from tests.serving.listening import EDITS, GENERATIONS, app_of, asking, awaited, until
from tests.serving.painter import Painter
from tests.serving.test_openai import png

ONCE = {"idempotency-key": "k1"}
CAT = {"prompt": "a cat", "response_format": "b64_json"}


@awaited
async def test_the_same_answer_for_the_same_request():
    painter = Painter()
    async with asking(app_of(painter)) as client:
        first, second = [await client.post(GENERATIONS, json=CAT, headers=ONCE) for _ in range(2)]
        other = await client.post(GENERATIONS, json=CAT, headers={"idempotency-key": "k2"})
        without = await client.post(GENERATIONS, json=CAT)
    assert first.content == second.content and first.json()["data"] != other.json()["data"] != without.json()["data"]
    assert "idempotency-replayed" not in first.headers and second.headers["idempotency-replayed"] == "true"
    assert len(painter.wishes) == 3


@awaited
async def test_how_it_is_written_does_not_matter_but_what_it_says():
    painter = Painter()
    async with asking(app_of(painter)) as client:
        for order in (dict(CAT, n=2), dict(n=2, **CAT)):
            assert (await client.post(GENERATIONS, json=order, headers=ONCE)).status_code == 200
        other = await client.post(GENERATIONS, json=CAT, headers=ONCE)
        assert (other.status_code, other.json()["error"]["code"]) == (400, "idempotency_key_reused")
        assert other.json()["error"]["param"] == "Idempotency-Key"
    assert len(painter.wishes) == 1


@awaited
async def test_forms_are_the_same_whatever_divides_their_parts():
    painter = Painter()
    async with asking(app_of(painter)) as client:

        async def ask(colour: str, prompt: str = "a cat"):
            files = {"image": png(colour=colour)}
            return await client.post(EDITS, data={"prompt": prompt}, files=files, headers=ONCE)

        assert [(await ask("red")).status_code for _ in range(2)] == [200, 200]
        assert (await ask("blue")).status_code == 400
        assert (await ask("red", "a dog")).status_code == 400
        assert (await client.post(GENERATIONS, json=CAT, headers=ONCE)).status_code == 400  # another route
    assert len(painter.wishes) == 1


@awaited
async def test_keys_of_two_callers_are_two(tmp_path):
    file = tmp_path / "keys.json"
    alice, bob = make(file, "alice"), make(file, "bob")
    painter = Painter()
    async with asking(app_of(painter, Serve(), Keys(file))) as client:
        for secret in (alice, bob):
            answer = await client.post(GENERATIONS, json=CAT, headers={**ONCE, "x-api-key": secret})
            assert "idempotency-replayed" not in answer.headers
    assert [owner for _, owner in painter.wishes] == ["alice", "bob"]


@awaited
async def test_who_asks_meanwhile_waits_for_the_same():
    painter = Painter(shut=True)
    async with asking(app_of(painter)) as client:
        both = [asyncio.ensure_future(client.post(GENERATIONS, json=CAT, headers=ONCE)) for _ in range(2)]
        await until(lambda: len(painter.wishes) == 1)
        painter.gate.set()
        first, second = await asyncio.gather(*both)
    assert first.content == second.content and len(painter.wishes) == 1


@awaited
async def test_failures_are_tried_again():
    faults = [Refusal(503, "worker_lost", "Lost."), RuntimeError("broken"), None]

    def fault(_):
        if error := faults.pop(0):
            raise error

    painter = Painter(fault=fault)
    async with asking(app_of(painter)) as client:
        statuses = [(await client.post(GENERATIONS, json=CAT, headers=ONCE)).status_code for _ in range(4)]
    assert statuses == [503, 500, 200, 200] and len(painter.wishes) == 3


@pytest.mark.parametrize("key", ["", "a" * 256, "a b", "é"])
@awaited
async def test_keys_that_are_none(key):
    async with asking(app_of(Painter())) as client:
        answer = await client.post(GENERATIONS, json=CAT, headers={"idempotency-key": key.encode("latin-1")})
    assert answer.status_code == 400 and answer.json()["error"]["param"] == "Idempotency-Key"


@awaited
async def test_a_stream_has_none():
    async with asking(app_of(Painter())) as client:
        answer = await client.post(GENERATIONS, json={**CAT, "stream": True}, headers=ONCE)
    assert answer.status_code == 400 and answer.json()["error"]["param"] == "Idempotency-Key"


class Work:
    """Work that ends when it is let, and counts how often it was begun and left off."""

    def __init__(self) -> None:
        self.gate, self.begun, self.left = asyncio.Event(), 0, 0

    async def __call__(self) -> bytes:
        self.begun += 1
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.left += 1
            raise
        return f"answer {self.begun}".encode()


@given(st.lists(st.booleans(), min_size=1, max_size=6), st.randoms())
def test_the_work_goes_on_as_long_as_one_waits(stays, random):
    """Of those who wait some leave, in any order: the others get the answer of one piece of work."""

    async def run() -> None:
        work, replies = Work(), Replies(60.0, 10**6)
        waiting = [asyncio.ensure_future(replies.once("a", "k", "d", work)) for _ in stays]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        leaving = [task for task, stay in zip(waiting, stays, strict=True) if not stay]
        random.shuffle(leaving)
        for task in leaving:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await asyncio.sleep(0)
        assert (work.begun, work.left) == (1, 0 if any(stays) else 1)
        work.gate.set()
        answers = await asyncio.gather(*(task for task, stay in zip(waiting, stays, strict=True) if stay))
        assert [answer for answer, _ in answers] == [b"answer 1"] * sum(stays)
        again = await replies.once("a", "k", "d", work)
        assert again == ((b"answer 1", True) if any(stays) else (b"answer 2", False))

    asyncio.run(run())


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 1), st.floats(0, 40)), max_size=30))
def test_every_key_has_one_answer_for_its_time(asked):
    """Against the plainest account: a table of what was answered when."""

    async def run() -> None:
        now, count = [0.0], [0]
        replies = Replies(60.0, 10**9, lambda: now[0])
        table: dict[tuple[int, int], tuple[float, int, bytes]] = {}
        rightly: list[bool] = []

        async def work() -> bytes:
            count[0] += 1
            return str(count[0]).encode()

        for owner, key, body, pause in asked:
            now[0] += pause
            known = table.get((owner, key))
            if known and now[0] >= known[0] + 60.0:
                known = None
            try:
                answer, again = await replies.once(str(owner), str(key), str(body), work)
            except Refusal as refusal:
                rightly.append(refusal.code == "idempotency_key_reused" and known is not None and known[1] != body)
                continue
            assert again == (known is not None)
            if known:
                assert (known[1], known[2]) == (body, answer)
            else:
                table[owner, key] = now[0], body, answer
        assert all(rightly)

    asyncio.run(run())


@awaited
async def test_answers_take_so_much_memory_and_no_more():
    replies = Replies(60.0, 4 * LEAST)

    async def work() -> bytes:
        return bytes(LEAST)

    for number in range(20):
        await replies.once("a", str(number), "d", work)
        assert len(replies) <= 6
    _, again = await replies.once("a", "19", "d", work)
    assert again
    _, again = await replies.once("a", "0", "d", work)
    assert not again
