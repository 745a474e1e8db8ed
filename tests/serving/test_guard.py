"""What holds for every request: sizes, hosts, headers, errors that tell nothing of the inside, a line of the log."""

import io
import json

import pytest

from bespoke.recipe.service import Serve
from bespoke.serving.keys import Keys, make
from bespoke.serving.logs import Log
from bespoke.serving.wishes import Refusal
from tests.serving.listening import EDITS, GENERATIONS, app_of, asking, awaited, lines
from tests.serving.painter import Painter

JSON = {"content-type": "application/json"}
SMALL = Serve(most_request_mb=0.01)
MOST = int(0.01 * 2**20)


def padded(size: int) -> bytes:
    """A right request of so many bytes."""
    text = json.dumps({"prompt": "a cat", "user": ""})
    return (text + " " * (size - len(text))).encode()


@pytest.mark.parametrize("streamed", [False, True], ids=["with its length", "in pieces"])
@awaited
async def test_a_request_has_so_many_bytes_and_no_more(streamed):
    async def pieces(content: bytes):
        for start in range(0, len(content), 1000):
            yield content[start : start + 1000]

    painter = Painter()
    async with asking(app_of(painter, SMALL)) as client:
        for size, status in ((MOST, 200), (MOST + 1, 413), (3 * MOST, 413)):
            body = pieces(padded(size)) if streamed else padded(size)
            answer = await client.post(GENERATIONS, content=body, headers=JSON)
            assert answer.status_code == status, answer.text
        assert answer.json()["error"]["code"] == "request_too_large"
        assert "serve.most_request_mb" in answer.json()["error"]["message"]
        parts = {"image": ("a.png", b"x" * MOST, "image/png")}
        assert (await client.post(EDITS, data={"prompt": "a"}, files=parts)).status_code == 413
    assert len(painter.wishes) == 1


@pytest.mark.parametrize("length", ["-1", "1" * 5000, "²", "x"])
@awaited
async def test_lengths_that_are_none(length):
    async with asking(app_of(Painter(), SMALL)) as client:
        headers = {**JSON, "content-length": length.encode("latin-1")}
        answer = await client.post(GENERATIONS, content=padded(100), headers=headers)
        assert answer.status_code in (200, 413)


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b'{"prompt": "a"}', "text/plain", 415),
        (b'{"prompt": "a"}', "application/x-www-form-urlencoded", 415),
        (b'{"prompt": "a"}', "", 415),
        (b'{"prompt": "a"}', "application/json; charset=utf-8", 200),
        (b'{"prompt": "a"', "application/json", 400),
        (b"\xff\xfe", "application/json", 400),
        (b'{"prompt": "a", "seed": ' + b"1" * 5000 + b"}", "application/json", 400),
        (b'{"prompt": "a", "guidance_scale": NaN}', "application/json", 400),
        (b'{"prompt": "\\ud800"}', "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
        (b"", "application/json", 400),
        (b"[]", "application/json", 400),
        (b"null", "application/json", 400),
        (b"--x\r\nbroken", "multipart/form-data; boundary=x", 400),
    ],
)
@awaited
async def test_bodies_that_are_none(content, kind, status):
    async with asking(app_of(Painter())) as client:
        answer = await client.post(GENERATIONS, content=content, headers={"content-type": kind} if kind else {})
    assert answer.status_code == status, answer.text
    assert status == 200 or set(answer.json()["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "[", "192.168.0.2:80"])
@awaited
async def test_a_name_that_points_here_is_not_us(host):
    async with asking(app_of(Painter())) as client:
        assert (await client.get("/v1/models", headers={"host": host})).status_code == 421
        for ours in ("localhost:8188", "127.0.0.1", "[::1]:8188"):
            assert (await client.get("/v1/models", headers={"host": ours})).status_code == 200


@awaited
async def test_a_page_of_another_site_cannot_ask():
    painter = Painter()
    async with asking(app_of(painter)) as client:
        for origin in ("https://evil.example", "null", "http://127.0.0.1.evil.example"):
            form = {"files": {"image": b""}, "data": {"prompt": "a"}}  # browsers send forms without asking first
            answer = await client.post(EDITS, **form, headers={"origin": origin})
            assert (answer.status_code, answer.json()["error"]["code"]) == (403, "wrong_origin")
        answer = await client.post(GENERATIONS, json={"prompt": "a"}, headers={"origin": "http://localhost:3000"})
        assert answer.status_code == 200
        assert not [name for name in answer.headers if name.startswith("access-control")]


@awaited
async def test_where_keys_are_names_do_not_matter(tmp_path):
    secret = make(tmp_path / "keys.json", "alice")
    async with asking(app_of(Painter(), Serve(), Keys(tmp_path / "keys.json"))) as client:
        headers = {"host": "pictures.example", "authorization": f"Bearer {secret}"}
        assert (await client.get("/v1/models", headers=headers)).status_code == 200


@pytest.mark.parametrize("path", ["/", "/v1/models", "/nothing", "/livez", "/metrics"])
@awaited
async def test_every_answer_has_the_headers(path):
    async with asking(app_of(Painter())) as client:
        for method in ("GET", "DELETE"):
            answer = await client.request(method, path)
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["cache-control"] == "no-store"
            assert "default-src 'none'" in answer.headers["content-security-policy"]
            assert answer.headers["x-request-id"]
            assert "server" not in answer.headers
            assert answer.status_code < 400 or answer.json()["error"]["message"]
        assert (await client.delete("/livez")).headers["allow"] == "GET"


@pytest.mark.parametrize(
    ("given", "kept"),
    [("abc-1.2_3", True), ("a" * 128, True), ("a" * 129, False), ("a b", False), ("é", False), ("", False)],
)
@awaited
async def test_request_ids(given, kept):
    async with asking(app_of(Painter())) as client:
        answer = await client.get("/livez", headers={"x-request-id": given.encode("latin-1")})
    assert (answer.headers["x-request-id"] == given) == kept


@awaited
async def test_nothing_of_the_inside_leaves():
    def fault(_):
        raise RuntimeError("a secret in secret.py")

    stream = io.StringIO()
    async with asking(app_of(Painter(fault=fault), log=Log(stream))) as client:
        answer = await client.post(GENERATIONS, json={"prompt": "a cat"}, headers={"x-request-id": "r1"})
    assert answer.status_code == 500
    assert answer.json()["error"] == {
        "message": "Something went wrong here; the service's log says what, by the request id.", "type": "server_error",
        "param": None, "code": "internal_error",
    }  # fmt: skip
    (line,) = lines(stream)
    assert line["request_id"] == "r1" and "a secret in secret.py" in line["error"] and "Traceback" in line["error"]


@pytest.mark.parametrize("prompts", [False, True])
@awaited
async def test_the_log_has_a_line_for_each_request(tmp_path, prompts):
    secret = make(tmp_path / "keys.json", "alice")
    stream, settings = io.StringIO(), Serve(log_prompts=prompts)
    app = app_of(Painter(), settings, Keys(tmp_path / "keys.json"), log=Log(stream))
    async with asking(app, authorization=f"Bearer {secret}") as client:
        await client.post(GENERATIONS, json={"prompt": "a private\ncat", "n": 2})
        await client.post(GENERATIONS, json={"prompt": "a private <lora:cat:x>"})
        await client.post(GENERATIONS, json={"prompt": "private, full"})
        await client.get("/v1/models/private")
    drawn, wrong, full, lost = lines(stream)
    common = {"event": "request", "owner": "alice"}
    post = common | {"method": "POST", "route": GENERATIONS}
    about = {"status": 200, "model": "my-style@7", "pictures": 2, "wanted": 2}
    assert drawn.items() >= (post | about).items()
    assert wrong.items() >= (post | {"status": 400, "code": "invalid_value", "param": "prompt"}).items()
    assert full.items() >= (post | {"status": 429, "code": "queue_full", "wanted": 1}).items()
    assert lost.items() >= (common | {"status": 404, "route": "/v1/models/{name:path}", "method": "GET"}).items()
    assert all(line["seconds"] >= 0 and line["time"].endswith("Z") and line["request_id"] for line in lines(stream))
    assert ("private" in stream.getvalue()) == prompts
    assert drawn.get("prompt") == ("a private\ncat" if prompts else None)
    assert secret not in stream.getvalue()


@pytest.mark.parametrize("status", [400, 404, 429, 500, 503, 504])
@awaited
async def test_refusals_keep_their_status(status):
    def fault(_):
        raise Refusal(status, "some_code", "In words.", param="n", retry_after=0.2)

    async with asking(app_of(Painter(fault=fault))) as client:
        answer = await client.post(GENERATIONS, json={"prompt": "a cat"})
    kind = {429: "rate_limit_error"}.get(status, "server_error" if status >= 500 else "invalid_request_error")
    assert answer.status_code == status
    assert answer.json() == {"error": {"message": "In words.", "type": kind, "param": "n", "code": "some_code"}}
    assert (answer.headers["retry-after"], answer.headers["retry-after-ms"]) == ("1", "200")
