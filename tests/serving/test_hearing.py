"""What people say of served pictures, over HTTP, and what of them is kept."""

import asyncio
import time
from contextlib import asynccontextmanager
from functools import wraps

import httpx
from proofs.faults import colour, colour_of

from bespoke.feedback import Sample, Store
from bespoke.recipe.service import Serve
from bespoke.serving import hearing as hearings
from bespoke.serving.app import application
from bespoke.serving.hearing import Hearing
from bespoke.serving.keys import Keys, make
from tests.serving.test_service import Running

PATH = "/v1/images/generations"


@asynccontextmanager
async def serving(folder, keys=None, store=None, **settings):
    """A client of a service with a worker of its own, which keeps feedback in a folder."""
    settings = Serve(**settings)
    hearing = Hearing(store or (lambda: Store(folder)), settings)
    async with Running() as running, hearing.open():
        app = application(running.service, settings, keys, hearing=hearing)
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", timeout=30) as client:
            client.hearing = hearing
            yield client


def awaited(test):
    @wraps(test)
    def run(*args, **named):
        asyncio.run(asyncio.wait_for(test(*args, **named), 60))

    return run


async def drawn(client, prompt, seed, **more):
    answer = await client.post(PATH, json={"model": "pico", "prompt": prompt, "seed": seed, **more})
    assert answer.status_code == 200, answer.text
    return answer.json()["data"][0]["id"]


async def said(client, picture, status=201, **what):
    answer = await client.post("/v1/feedback", json={"picture": picture, **what})
    assert answer.status_code == status, answer.text
    return answer.json()


@awaited
async def test_an_opinion_is_kept_and_with_consent_the_picture_too(tmp_path):
    async with serving(tmp_path) as client:
        first, second = await drawn(client, "a cat", 1), await drawn(client, "a dog", 2, negative_prompt="grey")
        up = await said(client, first, kind="thumb", value="up", rater="ann")
        assert (up["model"], up["kept"]) == ("pico", False)
        better = await said(
            client, second, kind="caption", words="a brown dog", consent=True, licence="CC0-1.0", rater="ann"
        )
        assert better["kept"] is True
        await said(client, first, kind="choice", other=second, value="second")
    with Store(tmp_path) as store:
        [sample] = store.samples()
        assert (sample.id, sample.prompt, sample.seed, sample.model) == (second, "a dog", 2, "pico")
        assert sample.negative_prompt == "grey" and sample.seconds > 0
        assert colour_of(store.shelf.path(sample.sha256).read_bytes()) == colour("pico", "a dog", 2)
        kinds = {one.kind: one for one in store.opinions()}
        assert set(kinds) == {"thumb", "caption", "choice"} and kinds["thumb"].model == "pico"
        assert (kinds["choice"].rater, kinds["choice"].other_model) == ("anyone", "pico")


@awaited
async def test_what_cannot_be_said_or_is_not_known_is_refused_in_words(tmp_path):
    async with serving(tmp_path, keep_pictures_s=1e-9) as client:
        old = await drawn(client, "a cat", 1)
        await drawn(client, "another", 1)
        assert (await said(client, old, 404, kind="thumb", value="up"))["error"]["param"] == "picture"
    async with serving(tmp_path) as client:
        one = await drawn(client, "a cat", 1)
        assert "up, down" in (await said(client, one, 400, kind="thumb", value="sideways"))["error"]["message"]
        assert (await said(client, one, 400, kind="praise"))["error"]["param"] == "kind"
        await said(client, one, 400, kind="choice", other=one, value="first")


@awaited
async def test_an_opinion_is_taken_back_by_whoever_gave_it(tmp_path):
    async with serving(tmp_path) as client:
        one = await drawn(client, "a cat", 1)
        opinion = (await said(client, one, kind="thumb", value="down", rater="ann"))["id"]
        assert (await client.delete(f"/v1/feedback/{opinion}")).status_code == 404
        assert (await client.delete(f"/v1/feedback/{opinion}", params={"rater": "ann"})).status_code == 204
    with Store(tmp_path) as store:
        assert [bool(one.withdrawn) for one in store.opinions()] == [True]


@awaited
async def test_feedback_needs_a_key_where_drawing_does(tmp_path):
    secret = make(tmp_path / "keys.json", "studio")
    async with serving(tmp_path, Keys(tmp_path / "keys.json")) as client:
        refused = await client.post("/v1/feedback", json={"picture": "x", "kind": "thumb", "value": "up"})
        assert refused.status_code == 401
        client.headers["Authorization"] = f"Bearer {secret}"
        one = await drawn(client, "a cat", 1)
        await said(client, one, kind="thumb", value="up")
    with Store(tmp_path) as store:
        assert [one.rater for one in store.opinions()] == ["studio"]


@awaited
async def test_pictures_are_kept_only_where_that_is_asked_for_and_only_a_share(tmp_path):
    async with serving(tmp_path / "none") as client:
        await drawn(client, "a cat", 1)
    assert not (tmp_path / "none").exists()
    (tmp_path / "half").mkdir()
    async with serving(tmp_path / "half", sample_share=0.5) as client:
        client.hearing._lots.seed(1)
        for seed in range(24):
            await drawn(client, "a cat", seed)
    with Store(tmp_path / "half") as store:
        assert 6 <= store.counts().samples <= 18


@awaited
async def test_what_is_kept_is_deleted_when_it_is_too_old(tmp_path, monkeypatch):
    monkeypatch.setattr(hearings, "TEND_S", 0.05)
    with Store(tmp_path) as store:
        store.add(Sample("old", "pico", "a cat", at="2020-01-01T00:00:00+00:00"), b"picture")
    async with serving(tmp_path, sample_share=1.0, sample_days=1.0) as client:
        await drawn(client, "a dog", 1)
        ends = time.monotonic() + 30
        while "old" in (left := ids(tmp_path)) or not left:
            assert time.monotonic() < ends, left
            await asyncio.sleep(0.5)
    assert len(ids(tmp_path)) == 1


def ids(folder):
    with Store(folder) as store:
        return {sample.id for sample in store.samples()}


@awaited
async def test_a_store_that_cannot_be_reached_keeps_nobody_from_pictures(tmp_path):
    (tmp_path / "feedback.db").mkdir()

    async with serving(tmp_path, store=lambda: Store(tmp_path / "feedback.db" / "x"), sample_share=1.0) as client:
        (tmp_path / "feedback.db").rmdir()
        (tmp_path / "feedback.db").write_text("no folder any more")
        one = await drawn(client, "a cat", 1)
        answer = await client.post("/v1/feedback", json={"picture": one, "kind": "thumb", "value": "up"})
        assert answer.status_code == 503 and str(tmp_path) not in answer.text
