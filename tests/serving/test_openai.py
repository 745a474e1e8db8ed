"""OpenAI's protocol, field by field."""

import base64
import io
import json

import pytest
from annotated_types import Ge, Gt, Le
from PIL import Image

from bespoke.recipe.service import Serve
from bespoke.recipe.tree import Sample
from bespoke.serving.openai.asks import SETTINGS, Edit, Generation
from tests.serving.listening import EDITS, GENERATIONS, app_of, asking, awaited
from tests.serving.painter import FACTS, MODEL, Painter, painted, pixel


def events(text: str) -> list[dict]:
    """The events of a stream, whose names must be those that their data say."""
    found = []
    for part in text.strip().split("\n\n"):
        name, data = part.split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
    return found


def png(size: tuple[int, int] = (40, 30), mode: str = "RGB", colour: object = "red") -> bytes:
    file = io.BytesIO()
    Image.new(mode, size, colour).save(file, format="PNG")
    return file.getvalue()


@awaited
async def test_a_picture_for_each_seed():
    painter = Painter()
    async with asking(app_of(painter)) as client:
        answer = (await client.post(GENERATIONS, json={"prompt": "a cat", "n": 3, "seed": 7})).json()
    assert [one["seed"] for one in answer["data"]] == [7, 8, 9]
    ((wish, owner),) = painter.wishes
    for one in answer["data"]:
        file = base64.b64decode(one["b64_json"])
        assert file == painted(wish, one["seed"]).data
        assert one["flagged"] is False
    assert owner == "anyone"
    assert (answer["model"], answer["size"], answer["output_format"]) == ("my-style@7", "64x48", "png")


@awaited
async def test_every_field_becomes_part_of_the_wish():
    painter = Painter()
    asked = {
        "prompt": "a <lora:ink:0.5> cat <lora:style>", "model": MODEL, "n": 2.0, "size": "32x16",
        "output_format": "jpeg", "output_compression": 80, "quality": "auto", "background": "opaque", "user": "u",
        "moderation": "auto", "safety_identifier": "s", "style": None, "negative_prompt": "dogs", "seed": 5,
        "num_inference_steps": 9, "guidance_scale": 3, "scheduler": "euler_a", "guidance_rescale": 0.7,
        "guidance_end": 0.5, "clip_skip": 1, "hires_scale": 2.0, "hires_strength": 0.3, "deep_cache": 2,
        "brackets": "letters", "lora": [{"id": "style", "scale": -0.25}], "deadline_s": 3,
    }  # fmt: skip
    async with asking(app_of(painter)) as client:
        answer = await client.post(GENERATIONS, json=asked)
    assert answer.status_code == 200, answer.text
    ((wish, _),) = painter.wishes
    assert (wish.model, wish.prompt, wish.count, wish.seed, wish.deadline_s) == (MODEL, "a cat", 2, 5, 3)
    assert wish.adapters == {"ink": 0.5, "style": 0.75}
    assert wish.settings == {
        "negative_prompt": "dogs", "num_inference_steps": 9, "guidance_scale": 3.0, "scheduler": "euler_a",
        "guidance_rescale": 0.7, "guidance_end": 0.5, "clip_skip": 1, "hires_scale": 2.0, "hires_strength": 0.3,
        "deep_cache": 2, "brackets": "letters", "width": 32, "height": 16, "format": "jpeg", "quality": 80,
    }  # fmt: skip
    Sample.model_validate(wish.settings)


@awaited
async def test_what_is_not_said_is_left_to_the_model():
    painter = Painter()
    async with asking(app_of(painter)) as client:
        await client.post(GENERATIONS, json={"prompt": "a cat", "size": "auto", "n": None, "model": None})
    ((wish, _),) = painter.wishes
    assert (wish.settings, wish.seed, wish.count, wish.model) == ({}, None, 1, MODEL)


@pytest.mark.parametrize("kind", [Generation, Edit])
def test_settings_have_the_limits_of_the_recipe(kind):
    """What is refused here must be what the recipe refuses, but for guidance, whose pull is bounded here alone."""
    for name in set(SETTINGS) & set(kind.model_fields):
        ours, theirs = ([m for m in model.model_fields[name].metadata if isinstance(m, Gt | Ge | Le)]
                        for model in (kind, Sample))  # fmt: skip
        if not ours:  # of a field that may be null they are within
            ours = [
                m for part in kind.model_fields[name].annotation.__args__ for m in getattr(part, "__metadata__", ())
            ]
            ours = [bound for m in ours for bound in getattr(m, "metadata", [m]) if isinstance(bound, Gt | Ge | Le)]
        assert set(theirs) <= set(ours), name
        assert name == "guidance_scale" or set(ours) == set(theirs), name


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("quality", "hd", "num_inference_steps"),
        ("style", "vivid", "prompt"),
        ("background", "transparent", "transparency"),
        ("moderation", "low", "safety checker"),
        ("output_format", "gif", "png"),
        ("size", "1024", "pattern"),
        ("size", "0x64", "pattern"),
        ("n", 0, "greater"),
        ("n", "2", "integer"),
        ("n", True, "integer"),
        ("guidance_scale", 1e300, "100"),
        ("seed", -1, "greater"),
        ("lora", [{"id": "ink", "weight": 1}], "lora.0.weight"),
        ("partial_images", 2, "stream"),
        ("progress", True, "stream"),
        ("prompt", "", "1 character"),
        ("prompt", "a <lora:ink:much> cat", "number"),
        ("strength", 0.5, "no parameter"),
        ("num_inference_step", 3, "num_inference_steps"),
        ("negativeprompt", "x", "negative_prompt"),
    ],
)
@awaited
async def test_what_cannot_be_had_is_refused_with_its_reason(field, value, said):
    painter = Painter()
    async with asking(app_of(painter)) as client:
        answer = await client.post(GENERATIONS, json={"prompt": "a cat", field: value})
    error = answer.json()["error"]
    assert answer.status_code == 400
    assert error["type"] == "invalid_request_error"
    assert error["param"].split(".")[0] == field
    assert said in error["message"]
    assert set(error) == {"message", "type", "param", "code"}
    assert painter.wishes == []


@pytest.mark.parametrize(
    ("asked", "param", "limit"),
    [
        ({"n": 9}, "n", "most_images"),
        ({"num_inference_steps": 151}, "num_inference_steps", "most_steps"),
        ({"size": "1025x1024"}, "size", "most_pixels"),
        ({"size": "520x512", "hires_scale": 2.0}, "size", "most_pixels"),
    ],
)
@awaited
async def test_limits_are_named(asked, param, limit):
    painter = Painter()
    async with asking(app_of(painter)) as client:
        error = (await client.post(GENERATIONS, json={"prompt": "a cat", **asked})).json()["error"]
        assert (error["code"], error["param"]) == ("limit_exceeded", param)
        assert limit in error["message"] and str(getattr(Serve(), limit)) in error["message"]
        assert painter.wishes == []
        allowed = {"n": 8, "num_inference_steps": 150, "size": "512x512", "hires_scale": 2.0}
        assert (await client.post(GENERATIONS, json={"prompt": "a cat", **allowed})).status_code == 200


@awaited
async def test_models():
    two = {"my-style@champion": FACTS, "my-style@challenger": FACTS, "team/other@champion": FACTS}
    async with asking(app_of(Painter(models=two))) as client:
        listed = (await client.get("/v1/models")).json()
        assert [one["id"] for one in listed["data"]] == sorted(two)
        assert listed["adapters"] == ["ink", "style"]
        one = (await client.get("/v1/models/team/other@champion")).json()
        assert (one["title"], one["width"], one["height"], one["object"]) == ("my-style@7", 64, 48, "model")
        assert one["settings"]["num_inference_steps"] == 4 and one["facts"]["base"] == "pico"
        lost = await client.get("/v1/models/my-stile@champion")
        assert lost.status_code == 404 and lost.json()["error"]["code"] == "model_not_found"
        unsaid = (await client.post(GENERATIONS, json={"prompt": "a cat"})).json()["error"]
        assert unsaid["param"] == "model" and "my-style@challenger" in unsaid["message"]
        titled = await client.post(GENERATIONS, json={"prompt": "a cat", "model": "my-style@7"})
        assert titled.status_code == 200
        wrong = await client.post(GENERATIONS, json={"prompt": "a cat", "model": "my-style"})
        assert wrong.status_code == 404 and "my-style@ch" in wrong.json()["error"]["message"]
        worn = (await client.post(GENERATIONS, json={"prompt": "<lora:inc>", "model": "my-style@champion"})).json()
        assert worn["error"]["code"] == "adapter_not_found" and "Is ink meant?" in worn["error"]["message"]


@awaited
async def test_a_service_that_starts_says_so():
    async with asking(app_of(Painter(models={}, state="starting"))) as client:
        answer = await client.post(GENERATIONS, json={"prompt": "a cat", "model": MODEL})
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "not_ready")
        assert answer.headers["retry-after"]
        assert (await client.get("/readyz")).status_code == 503
        assert (await client.get("/livez")).json() == {"state": "starting"}


@awaited
async def test_what_the_drawing_refuses_is_told_as_it_says():
    async with asking(app_of(Painter())) as client:
        answer = await client.post(GENERATIONS, json={"prompt": "too full"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "queue_full")
    assert (answer.headers["retry-after"], answer.headers["retry-after-ms"]) == ("3", "2500")


@awaited
async def test_a_flagged_picture_is_answered():
    async with asking(app_of(Painter())) as client:
        answer = await client.post(GENERATIONS, json={"prompt": "unsafe"})
    assert answer.status_code == 200 and answer.json()["data"][0]["flagged"] is True


@awaited
async def test_events_on_the_way():
    painter = Painter()
    asked = {"prompt": "a cat", "n": 2, "seed": 1, "stream": True, "partial_images": 2, "progress": True}
    async with asking(app_of(painter)) as client:
        answer = await client.post(GENERATIONS, json=asked)
    assert answer.headers["content-type"].startswith("text/event-stream")
    told = events(answer.text)
    kinds = {kind: [e for e in told if e["type"] == f"image_generation.{kind}"]
             for kind in ("progress", "partial_image", "completed")}  # fmt: skip
    assert sum(map(len, kinds.values())) == len(told)
    assert [(e["index"], e["step"]) for e in kinds["progress"]] == [(n, s) for s in range(1, 5) for n in (0, 1)]
    assert [(e["index"], e["partial_image_index"]) for e in kinds["partial_image"]] == [(0, 0), (1, 0), (0, 1), (1, 1)]
    ((wish, _),) = painter.wishes
    for kind in ("partial_image", "completed"):  # the pictures of one request are not mixed
        for event in kinds[kind]:
            assert base64.b64decode(event["b64_json"]) == painted(wish, 1 + event["index"]).data
    assert [e["seed"] for e in kinds["completed"]] == [1, 2]
    assert told[-2:] == kinds["completed"]
    assert wish.previews == 2


@awaited
async def test_a_stream_that_is_refused_has_a_status():
    async with asking(app_of(Painter())) as client:
        answer = await client.post(GENERATIONS, json={"prompt": "too full", "stream": True})
    assert answer.status_code == 429 and answer.json()["error"]["code"] == "queue_full"


@awaited
async def test_a_stream_that_breaks_says_why_and_nothing_more():
    def fault(_):
        raise RuntimeError("secret at line 3 of secret.py")

    async with asking(app_of(Painter(fault=fault))) as client:
        answer = await client.post(GENERATIONS, json={"prompt": "a cat", "stream": True, "progress": True})
    (*_, last) = events(answer.text)
    assert (last["type"], last["error"]["type"]) == ("error", "server_error")
    assert "secret" not in answer.text


@awaited
async def test_pictures_by_address():
    now = [0.0]
    app = app_of(Painter(), Serve(keep_pictures_s=10), clock=lambda: now[0])
    async with asking(app) as client:
        asked = {"prompt": "a cat", "seed": 3, "response_format": "url", "output_format": "webp"}
        (one,) = (await client.post(GENERATIONS, json=asked)).json()["data"]
        assert "b64_json" not in one and one["url"].startswith("http://127.0.0.1/pictures/")
        found = await client.get(one["url"])
        assert (found.status_code, found.headers["content-type"]) == (200, "image/webp")
        assert Image.open(io.BytesIO(found.content)).format == "WEBP"
        assert found.headers["cache-control"] == "private, max-age=10, immutable"
        now[0] = 10.1
        assert (await client.get(one["url"])).status_code == 404
        assert (await client.get("/pictures/guessed.png")).status_code == 404


@pytest.mark.parametrize("field", ["image", "image[]"])
@awaited
async def test_a_picture_drawn_anew(field):
    painter = Painter()
    form = {"prompt": "a cat <lora:ink:0.5>", "n": "2", "strength": "0.4", "lora": '[{"id": "style"}]', "seed": "3"}
    async with asking(app_of(painter)) as client:
        answer = await client.post(EDITS, data=form, files={field: ("a.png", png(), "image/png")})
    assert answer.status_code == 200, answer.text
    ((wish, _),) = painter.wishes
    assert (wish.image, wish.mask) == (png(), None)
    assert (wish.settings, wish.adapters, wish.count) == ({"strength": 0.4}, {"ink": 0.5, "style": 1.0}, 2)


@pytest.mark.parametrize("own", [False, True], ids=["a mask", "the picture's own transparency"])
@awaited
async def test_transparent_is_drawn_anew(own):
    """OpenAI's masks are transparent where ours are white."""
    painter, hole = Painter(), Image.new("RGBA", (40, 30), (9, 9, 9, 255))
    hole.paste((9, 9, 9, 0), (0, 0, 20, 30))
    file = io.BytesIO()
    hole.save(file, format="PNG")
    files = {"image": file.getvalue()} if own else {"image": png(), "mask": file.getvalue()}
    async with asking(app_of(painter)) as client:
        answer = await client.post(EDITS, data={"prompt": "a cat"}, files=files)
    assert answer.status_code == 200, answer.text
    mask = Image.open(io.BytesIO(painter.wishes[0][0].mask))
    assert (mask.mode, mask.size) == ("L", (40, 30))
    assert [mask.getpixel((x, 15)) for x in (0, 19, 20, 39)] == [255, 255, 0, 0]


@awaited
async def test_a_picture_to_begin_with_counts_by_its_own_size():
    painter = Painter()
    async with asking(app_of(painter, Serve(most_pixels=5000))) as client:

        async def ask(own: tuple[int, int], **form: str):
            return await client.post(EDITS, data={"prompt": "a cat", **form}, files={"image": png(own)})

        assert (await ask((50, 100))).status_code == 200
        refused = await ask((51, 100))
        assert refused.json()["error"]["code"] == "limit_exceeded" and "serve.most_pixels" in refused.text
        assert (await ask((51, 100), size="64x48")).status_code == 200
        assert (await ask((50, 100), hires_scale="1.5")).status_code == 400


LARGE = png((1, 1)).replace((1).to_bytes(4) * 2, (20_000).to_bytes(4) * 2)
"""A file that claims to have more pixels than anyone can hold."""


@pytest.mark.parametrize(
    ("files", "param", "said"),
    [
        ({"image": b"no picture"}, "image", "no PNG"),
        ({"image": png()[:60]}, "image", "damaged"),
        ({"image": LARGE}, "image", "damaged"),
        ({"image": png((4097, 4096))}, "image", "serve.most_pixels"),
        ({"image": png(), "mask": png((4, 4), "RGBA", (0, 0, 0, 0))}, "mask", "4x4"),
        ({"image": png(), "mask": png()}, "mask", "transparent"),
        ({"mask": png()}, "image", "one picture"),
    ],
)
@awaited
async def test_wrong_files(files, param, said):
    painter = Painter()
    async with asking(app_of(painter)) as client:
        answer = await client.post(EDITS, data={"prompt": "a cat"}, files=files)
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == param and said in answer.json()["error"]["message"]
        two = [("image[]", png()), ("image[]", png())]
        assert (await client.post(EDITS, data={"prompt": "a cat"}, files=two)).json()["error"]["param"] == "image"
        form = {"prompt": "a cat", "strenght": "0.4"}
        wrong = (await client.post(EDITS, data=form, files={"image": png()})).json()["error"]
        assert wrong["param"] == "strenght" and "'strength'" in wrong["message"]
    assert painter.wishes == []


def test_a_colour_tells_pictures_apart():
    """The painter's pictures are what other tests rest on."""
    wish = Generation.model_validate({"prompt": "a cat"}).wish(MODEL)
    assert pixel(painted(wish, 1).data) != pixel(painted(wish, 2).data)
