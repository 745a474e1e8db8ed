"""OpenAI's own client against a real server."""

import base64
import io
from collections.abc import Generator
from pathlib import Path

import httpx
import openai
import pytest

from bespoke.recipe.service import Serve
from bespoke.serving.keys import Keys, make
from tests.serving.listening import app_of, served
from tests.serving.painter import MODEL, Painter, painted
from tests.serving.test_openai import png


@pytest.fixture
def painter() -> Painter:
    return Painter()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


@pytest.fixture
def address(painter: Painter, file: Path) -> Generator[str, None, None]:
    make(file, "spare")
    with served(app_of(painter, Serve(rate_per_minute=30), Keys(file))) as found:
        yield found


@pytest.fixture
def client(address: str, file: Path) -> Generator[openai.OpenAI, None, None]:
    secret = make(file, "alice")
    with openai.OpenAI(base_url=f"{address}/v1", api_key=secret, max_retries=0) as made:
        yield made


def test_generate(client, painter):
    answer = client.images.generate(
        model=MODEL, prompt="a cat", n=2, size="32x16", extra_body={"seed": 5, "lora": [{"id": "ink", "scale": 0.5}]}
    )
    ((wish, owner),) = painter.wishes
    assert [base64.b64decode(one.b64_json) for one in answer.data] == [painted(wish, seed).data for seed in (5, 6)]
    assert (answer.size, answer.output_format, answer.background, owner) == ("32x16", "png", "opaque", "alice")
    assert answer.data[1].seed == 6 and answer.model == "my-style@7"  # fields of ours
    assert wish.adapters == {"ink": 0.5}


def test_addresses(client):
    answer = client.images.generate(prompt="a cat", response_format="url", output_format="jpeg")
    assert httpx.get(answer.data[0].url).headers["content-type"] == "image/jpeg"


def test_stream(client, painter):
    with client.images.generate(prompt="a cat", stream=True, partial_images=2, extra_body={"seed": 5}) as stream:
        events = list(stream)
    kinds = [event.type for event in events]
    assert kinds == ["image_generation.partial_image"] * 2 + ["image_generation.completed"]
    assert [event.partial_image_index for event in events[:2]] == [0, 1]
    assert base64.b64decode(events[-1].b64_json) == painted(painter.wishes[0][0], 5).data
    assert (events[-1].size, events[-1].output_format, events[-1].usage) == ("64x48", "png", None)


def test_progress(client):
    asked = {"prompt": "a cat", "stream": True, "extra_body": {"progress": True}}
    events = list(client.images.generate(**asked))
    assert [event.step for event in events if event.type == "image_generation.progress"] == [1, 2, 3, 4]
    assert events[-1].type == "image_generation.completed"


def test_a_stream_that_breaks(client, painter):
    def fault(_):
        raise RuntimeError("inside")

    painter.fault = fault
    with pytest.raises(openai.APIError, match="Something went wrong here"):
        list(client.images.generate(prompt="a cat", stream=True, extra_body={"progress": True}))


@pytest.mark.parametrize("listed", [False, True])
def test_edit(client, painter, listed):
    picture, mask = (io.BytesIO(png(mode=mode, colour=colour)) for mode, colour in (("RGB", "red"), ("RGBA", (0,) * 4)))
    picture.name, mask.name = "picture.png", "mask.png"
    answer = client.images.edit(
        model=MODEL, image=[picture] if listed else picture, mask=mask, prompt="a hat", n=2,
        extra_body={"strength": 0.5, "lora": '[{"id": "ink"}]'},
    )  # fmt: skip
    ((wish, _),) = painter.wishes
    assert len(answer.data) == wish.count == 2
    assert wish.image == png() and wish.mask and wish.settings == {"strength": 0.5} and wish.adapters == {"ink": 1.0}


def test_edit_as_a_stream(client):
    events = list(client.images.edit(image=("a.png", png()), prompt="a hat", stream=True, partial_images=1))
    assert [event.type for event in events] == ["image_edit.partial_image", "image_edit.completed"]


def test_models(client):
    assert [model.id for model in client.models.list()] == [MODEL]
    model = client.models.retrieve(MODEL)
    assert (model.owned_by, model.object, model.width, model.title) == ("bespoke", "model", 64, "my-style@7")


def test_errors_are_its_own(client, painter, address):
    with pytest.raises(openai.NotFoundError) as lost:
        client.images.generate(model="my-stile", prompt="a cat")
    assert (lost.value.code, lost.value.param, lost.value.type) == ("model_not_found", "model", "invalid_request_error")
    with pytest.raises(openai.BadRequestError) as wrong:
        client.images.generate(prompt="a cat", extra_body={"num_steps": 3})
    assert (wrong.value.code, wrong.value.param) == ("unknown_parameter", "num_steps")
    for theirs, ours in {"steps": "num_inference_steps", "width": "size", "sampler_name": "scheduler"}.items():
        with pytest.raises(openai.BadRequestError, match=f"Is '{ours}' meant"):
            client.images.generate(prompt="a cat", extra_body={theirs: 3})
    assert wrong.value.request_id
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=f"{address}/v1", api_key="no", max_retries=0).models.list()
    with pytest.raises(openai.RateLimitError) as full:
        client.images.generate(prompt="too full")
    assert full.value.code == "queue_full" and full.value.response.headers["retry-after"] == "3"
    with pytest.raises(openai.BadRequestError) as large:
        client.images.generate(prompt="a cat", size="4096x4096")
    assert large.value.code == "limit_exceeded" and "serve.most_pixels" in large.value.message

    def fault(_):
        raise RuntimeError("inside")

    painter.fault = fault
    with pytest.raises(openai.InternalServerError) as broken:
        client.images.generate(prompt="a cat")
    assert broken.value.code == "internal_error" and "inside" not in str(broken.value)


def test_a_key_of_another_scope(address, file):
    watcher = make(file, "watcher", ("metrics",))
    with pytest.raises(openai.PermissionDeniedError):
        openai.OpenAI(base_url=f"{address}/v1", api_key=watcher, max_retries=0).images.generate(prompt="a cat")


def test_it_comes_back_when_it_is_told_to(client, painter):
    """The client waits as long as the header says, and asks again."""
    refusals = [1]

    def fault(_):
        from bespoke.serving.wishes import Refusal

        if refusals and refusals.pop():
            raise Refusal(503, "worker_lost", "Lost.", retry_after=0.01)

    painter.fault = fault
    assert client.with_options(max_retries=1).images.generate(prompt="a cat").data
    assert len(painter.wishes) == 2


def test_what_it_asks_again_is_drawn_once(client, painter):
    once = {"Idempotency-Key": "order-7"}
    first, second = (client.images.generate(prompt="a cat", extra_headers=once) for _ in range(2))
    assert first.data[0].b64_json == second.data[0].b64_json and len(painter.wishes) == 1
