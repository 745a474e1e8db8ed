"""docs/serving-api.md: every example is run as it stands there, and nothing that there is goes unsaid."""

import json
import re
import shlex
from pathlib import Path

import httpx
import openai
import pytest
from PIL import Image
from typer.testing import CliRunner

from bespoke.cli.commands import app as commands
from bespoke.recipe.service import Serve
from bespoke.serving import envelope
from bespoke.serving.jobs import FAILURES
from bespoke.serving.keys import Keys
from bespoke.serving.metrics import Metrics
from bespoke.serving.openai.asks import Edit, Generation
from tests.serving.listening import app_of, served
from tests.serving.painter import Painter

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "serving-api.md").read_text("utf-8")
ADDRESS = "http://127.0.0.1:8188"


def blocks(kind: str) -> list[str]:
    fences = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    return [content for own, content in fences if own == kind]


def typed(line: str) -> str:
    done = CliRunner().invoke(commands, shlex.split(line)[1:])
    assert done.exit_code == 0, done.output
    return done.stdout


def curl(words: list[str]) -> httpx.Response:
    """What `curl` would be answered, for the options that the page has."""
    (address,) = (word for word in words if word.startswith("http"))
    headers = dict(words[n + 1].split(": ", 1) for n, word in enumerate(words) if word == "-H")
    return httpx.post(address, headers=headers, content=words[words.index("-d") + 1])


def test_every_example(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (lines,) = blocks("")
    new, *others = lines.splitlines()
    secret = typed(new).splitlines()[0]
    Image.new("RGB", (64, 64), "red").save("dog.png")
    Image.new("RGBA", (64, 64)).save("mask.png")
    painter = Painter()
    with served(app_of(painter, Serve(), Keys(Path("serve-keys.json")))) as address:
        (shell,) = blocks("sh")
        answer = curl(shlex.split(shell.replace("$BESPOKE_KEY", secret).replace(ADDRESS, address)))
        assert answer.status_code == 200, answer.text
        (shape,) = (json.loads(block) for block in blocks("json"))
        assert shape.keys() == answer.json().keys()
        assert [one.keys() for one in shape["data"]] == [one.keys() for one in answer.json()["data"]]
        assert [one["seed"] for one in shape["data"]] == [one["seed"] for one in answer.json()["data"]]
        monkeypatch.setenv("BESPOKE_KEY", secret)
        known: dict = {}
        examples = blocks("python")
        for example in examples:
            exec(example.replace(ADDRESS, address), known)
        known["client"].close()
        assert len(examples) == 5 and len(painter.wishes) == 5
    said = capsys.readouterr().out
    assert f"{address}/pictures/" in said and "image_generation.progress 4" in said and "my-style@7 64 48" in said
    for line in others:
        assert "studio" in typed(line)


@pytest.mark.parametrize("kind", [Generation, Edit])
def test_every_field_is_told(kind):
    names = set(kind.model_fields) - {"images"}  # the list that OpenAI's client makes of one picture
    assert {name for name in names if f"`{name}`" not in PAGE} == set()


def test_every_figure_is_told():
    samples = re.findall(r"^# TYPE (bespoke_\w+) ", Metrics().text().decode(), re.MULTILINE)
    figures = {name for name in samples if not name.endswith("_created")}
    assert len(figures) > 12
    assert {name for name in figures if f"`{name}" not in PAGE} == set()


def test_every_code_is_told():
    others = ("a1111", "underway")  # the other protocol has a page of its own
    files = [file for file in (ROOT / "src/bespoke/serving").glob("*.py") if not file.stem.startswith(others)]
    sources = "\n".join(file.read_text("utf-8") for file in files)
    codes = set(re.findall(r'Refusal\(\s*(?:\d+|GONE|status), "(\w+)"', sources))
    assert {"limit_exceeded", "queue_full", "client_closed_request", "rate_limit_exceeded"} <= codes
    codes |= {*FAILURES, *envelope.CODES.values(), envelope.MISSING, envelope.UNKNOWN, envelope.INVALID}
    codes |= {"model_not_found", "adapter_not_found"}
    assert {code for code in codes if f"`{code}`" not in PAGE} == set()
    told = {code for row in re.findall(r"^\| (?:\d{3}.*?)\|.*?\| (.*) \|$", PAGE, re.MULTILINE)
            for code in re.findall(r"`(\w+)`", row)}  # fmt: skip
    assert {code for code in told if f'"{code}"' not in sources} == set()


def test_every_setting_that_is_named_is_one():
    assert set(re.findall(r"`serve\.(\w+)", PAGE)) <= set(Serve.model_fields)


def test_the_client_knows_our_errors():
    """Each status of the page is an exception of its own in OpenAI's client, or one of its families."""
    own = {400: openai.BadRequestError, 401: openai.AuthenticationError, 403: openai.PermissionDeniedError,
           404: openai.NotFoundError, 429: openai.RateLimitError}  # fmt: skip
    client = openai.OpenAI(api_key="k", base_url="http://127.0.0.1:9")
    for status in map(int, re.findall(r"^\| (\d{3}) \|", PAGE, re.MULTILINE)):
        answer = openai.APIStatusError("", response=_answered(status), body=None).response
        made = client._make_status_error_from_response(answer)
        assert isinstance(made, own.get(status, openai.InternalServerError)), status
    client.close()


def _answered(status: int):
    from openai._client import httpx2

    return httpx2.Response(status, request=httpx2.Request("POST", ADDRESS), json={"error": {"message": "m"}})
