"""Pictures put into words: by the captioner that ships, by a service, kept side by side, and never twice."""

import base64
import io
import json
import threading
from collections.abc import Generator, Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from PIL import Image

from bespoke.annotation import Said, Tell, Teller, described, said_before
from bespoke.annotation.captions import TABLE
from bespoke.annotation.endpoint import Endpoint
from bespoke.errors import BespokeError
from bespoke.models import Blip, Wording, shortened
from bespoke.records import Picture

EXAMPLES = Path(__file__).parent / "pictures"


@pytest.fixture(scope="module")
def captioner() -> Blip:
    return Blip()


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    return [Image.open(path).convert("RGB") for path in sorted(EXAMPLES.glob("*.png"))]


KEYS = ["one", "two", "three"]


def test_the_captioner_that_ships_says_what_it_sees(captioner: Blip, pictures: list[Image.Image]) -> None:
    said = captioner.captions(pictures, KEYS, Wording())
    assert said == [path.stem for path in sorted(EXAMPLES.glob("*.png"))]


def test_a_caption_does_not_depend_on_its_neighbours(captioner: Blip, pictures: list[Image.Image]) -> None:
    for wording in (Wording(), Wording(top_p=0.95, seed=3)):
        together = captioner.captions(pictures, KEYS, wording)
        alone = [captioner.captions([p], [k], wording)[0] for p, k in zip(pictures, KEYS, strict=True)]
        assert together == alone


def test_drawn_words_change_with_the_seed_and_with_the_picture(captioner: Blip, pictures: list[Image.Image]) -> None:
    drawn = {captioner.captions([pictures[0]], ["one"], Wording(top_p=1.0, seed=seed))[0] for seed in range(12)}
    by_key = {captioner.captions([pictures[0]], [str(key)], Wording(top_p=1.0))[0] for key in range(12)}
    assert len(drawn) > 1
    assert len(by_key) > 1


def test_captions_have_at_least_and_at_most_so_many_words(captioner: Blip, pictures: list[Image.Image]) -> None:
    assert all(len(c.split()) >= 14 for c in captioner.captions(pictures, KEYS, Wording(min_words=14)))
    assert all(len(c.split()) <= 4 for c in captioner.captions(pictures, KEYS, Wording(min_words=1, max_words=4)))


def test_a_caption_goes_on_from_the_prompt(captioner: Blip, pictures: list[Image.Image]) -> None:
    assert all(c.startswith("illustration of ") for c in captioner.captions(pictures, KEYS, Wording("illustration of")))


@pytest.mark.parametrize(
    ("text", "words", "short"),
    [("a cat on a blue sofa", 9, "a cat on a blue sofa"), ("a cat on a blue sofa", 4, "a cat"), ("cat, dog", 1, "cat")],
)
def test_what_is_too_long_ends_with_a_word_that_may_end_it(text: str, words: int, short: str) -> None:
    assert shortened(text, words) == short


def test_what_is_no_captioner_is_refused_with_advice(tmp_path: Path) -> None:
    with pytest.raises(BespokeError, match="gives no captioner") as raised:
        Blip(tmp_path)
    assert "Salesforce/blip-image-captioning-base" in raised.value.hint


def picture(number: int) -> Picture:
    return Picture(f"{number}.png", "", f"{number:064}", f"pixels-{number}", 8, 8, f"{number}.png")


class Parrot:
    """Says each picture's key, and notes what it was asked."""

    def __init__(self, kind: str, told: list[Sequence[str]]) -> None:
        self.kind, self.told = kind, told

    def made(self) -> Tell:
        return self.tell

    def tell(self, pictures: Sequence[Image.Image], keys: Sequence[str]) -> list[str]:
        self.told.append(keys)
        return [f'{self.kind} of {key}, "so"\nto speak' for key in keys]


def counting(kind: str, told: list[Sequence[str]], settings: dict[str, object] | None = None) -> Teller:
    """A teller that says each picture's key, and notes what it was asked."""
    return Teller(kind, "nobody", settings or {}, Parrot(kind, told).made)


def blank(_: Picture) -> Image.Image:
    return Image.new("RGB", (8, 8))


def run(folder: Path, numbers: Sequence[int], teller: Teller) -> dict[str, str]:
    return described(folder, [picture(n) for n in numbers], teller, 2, blank, lambda done, total: None)


def test_nothing_is_said_twice_and_kinds_stand_side_by_side(tmp_path: Path) -> None:
    told: list[Sequence[str]] = []
    first = run(tmp_path, [1, 2, 3], counting("long", told))
    assert run(tmp_path, [1, 2, 3], counting("long", told)) == first
    assert told == [["pixels-1", "pixels-2"], ["pixels-3"]]
    run(tmp_path, [1, 4], counting("long", told))
    run(tmp_path, [1], counting("short", told))
    run(tmp_path, [1], counting("long", told, {"seed": 1}))
    assert told[2:] == [["pixels-4"], ["pixels-1"], ["pixels-1"]]
    assert [(s.file, s.kind) for s in said_before(tmp_path) if s.file == "1.png"] == [
        ("1.png", "long"), ("1.png", "short"), ("1.png", "long"),
    ]  # fmt: skip
    assert first[picture(3).sha256] == 'long of pixels-3, "so"\nto speak'


def test_a_line_cut_short_by_a_kill_is_said_again(tmp_path: Path) -> None:
    told: list[Sequence[str]] = []
    run(tmp_path, [1, 2], counting("long", told))
    whole = (tmp_path / TABLE).read_bytes()
    for cut in range(whole.index(b"\n") + 1, len(whole)):
        (tmp_path / TABLE).write_bytes(whole[:cut])
        assert run(tmp_path, [1, 2], counting("long", told)) == run(tmp_path, [1, 2], counting("long", []))
        assert {s.file for s in said_before(tmp_path)} == {"1.png", "2.png"}


def until_interrupted(pictures: Sequence[Image.Image], keys: Sequence[str]) -> list[str]:
    if "pixels-3" in keys:
        raise KeyboardInterrupt
    return ["said"] * len(keys)


def interrupted() -> Tell:
    return until_interrupted


def test_what_was_said_is_on_disk_before_the_next_batch(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, [1, 2, 3, 4], Teller("long", "nobody", {}, interrupted))
    assert [s.text for s in said_before(tmp_path)] == ["said", "said"]
    assert isinstance(said_before(tmp_path)[0], Said)


class Service(BaseHTTPRequestHandler):
    """A vision service with OpenAI's interface: tells the size of the picture it was shown."""

    failures: list[int] = []  # noqa: RUF012
    asked: list[dict[str, object]] = []  # noqa: RUF012

    def do_POST(self) -> None:
        """Answers a request, or fails as it was told to."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append({"path": self.path, "key": self.headers.get("Authorization"), **body})
        if self.failures:
            self.send_response(self.failures.pop(0))
            self.end_headers()
            return
        url = body["messages"][0]["content"][1]["image_url"]["url"]
        size = Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).size
        text = f"a picture of\n{size[0]} by {size[1]} pixels"
        answer = json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]}).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Keeps quiet."""


@pytest.fixture
def service() -> Generator[str]:
    """The address of a running service."""
    server = HTTPServer(("127.0.0.1", 0), Service)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    Service.failures, Service.asked = [], []
    yield f"http://127.0.0.1:{server.server_port}/v1#tiny"
    server.shutdown()
    server.server_close()


def test_a_vision_service_puts_pictures_into_words(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    shown = [Image.new("RGB", (40, 30)), Image.new("RGB", (3000, 1500))]
    said = Endpoint(service).captions(shown, ["a", "b"], Wording(max_words=20, seed=7))
    assert said == ["a picture of 40 by 30 pixels", "a picture of 1024 by 512 pixels"]
    first = Service.asked[0]
    assert (first["path"], first["key"]) == ("/v1/chat/completions", "Bearer secret")
    assert (first["model"], first["seed"], first["temperature"]) == ("tiny", 7, 0)


def test_a_service_that_is_busy_is_asked_again(service: str) -> None:
    Service.failures = [429, 503]
    said = Endpoint(service, pause=0.01).captions([Image.new("RGB", (8, 8))], ["a"], Wording())
    assert said == ["a picture of 8 by 8 pixels"]
    assert len(Service.asked) == 3


@pytest.mark.parametrize("failure", [401, 400, 404])
def test_a_service_that_refuses_is_not_asked_again(service: str, failure: int) -> None:
    Service.failures = [failure]
    with pytest.raises(BespokeError, match=str(failure)):
        Endpoint(service, pause=0.01).captions([Image.new("RGB", (8, 8))], ["a"], Wording())
    assert len(Service.asked) == 1


def test_a_service_that_is_not_there_is_told(service: str) -> None:
    with pytest.raises(BespokeError, match="cannot be reached"):
        Endpoint("http://127.0.0.1:9/v1#x", pause=0.01).captions([Image.new("RGB", (8, 8))], ["a"], Wording())
