"""Keys: what is kept of them, what they open, and that a running service heeds what changes."""

import base64
import hashlib
import json
import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bespoke.cli.commands import app as commands
from bespoke.errors import BespokeError
from bespoke.recipe.service import Serve
from bespoke.serving.keys import Keys, listed, make, revoke, rotate
from tests.serving.listening import GENERATIONS, app_of, asking, awaited
from tests.serving.painter import Painter

ASKED = {"prompt": "a cat"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "serve-keys.json"


def typed(*words: str) -> str:
    done = CliRunner().invoke(commands, ["keys", *words])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_only_the_hash_is_kept_where_only_the_owner_reads(file):
    secret = make(file, "alice", ("draw", "metrics"), rate_per_minute=30.0, most_per_key=4)
    assert re.fullmatch(r"bespoke_[A-Za-z0-9_-]{43}", secret)  # 256 bits
    assert secret not in file.read_text() and secret.removeprefix("bespoke_") not in file.read_text()
    (key,) = listed(file)
    assert key.hash == hashlib.sha256(secret.encode()).hexdigest()
    assert (key.scopes, key.rate_per_minute, key.most_per_key) == (("draw", "metrics"), 30, 4)
    assert os.name == "nt" or file.stat().st_mode & 0o777 == 0o600
    assert make(file, "bob") != secret
    assert os.name == "nt" or file.stat().st_mode & 0o777 == 0o600


def test_keys_are_found_by_what_they_are(file):
    alice, bob = make(file, "alice"), make(file, "bob")
    keys = Keys(file)
    assert (keys.find(alice).name, keys.find(bob).name) == ("alice", "bob")
    for wrong in ("", alice[:-1], alice.upper(), listed(file)[0].hash, "bespoke_\ud800"):
        assert keys.find(wrong) is None


def test_what_changes_in_the_file_counts_at_once(file):
    keys = Keys(file)
    alice = make(file, "alice")
    assert keys.find(alice).name == "alice"
    second = rotate(file, "alice")
    assert keys.find(alice) is None and keys.find(second).name == "alice"
    assert revoke(file, "alice") == 1
    assert keys.find(second) is None and keys.named("alice") is None
    third = make(file, "alice", rate_per_minute=5.0)
    assert keys.find(third) == keys.named("alice")
    file.unlink()
    assert keys.find(third) is None


def test_an_old_key_may_hold_a_while_beside_the_new_one(file):
    time = [datetime.now(UTC)]
    old = make(file, "alice", rate_per_minute=7.0)
    new = rotate(file, "alice", timedelta(hours=1))
    keys = Keys(file, clock=lambda: time[0])
    assert keys.find(old).name == keys.find(new).name == "alice"
    assert keys.find(new).rate_per_minute == 7
    time[0] += timedelta(hours=1, seconds=1)
    assert keys.find(old) is None and keys.find(new)
    rotate(file, "alice", timedelta(hours=5))
    ends = listed(file)[0].revoked
    assert ends and ends < datetime.now(UTC) + timedelta(hours=2)  # never put off again


def test_a_file_that_is_spoilt_while_it_is_used_changes_nothing(file):
    alice = make(file, "alice")
    keys = Keys(file)
    whole = file.read_text()
    file.write_text(whole[:40])
    assert keys.find(alice).name == "alice"
    file.write_text(whole.replace("alice", "carol"))
    assert keys.find(alice).name == "carol"


def test_a_key_of_one_process_alone(file):
    keys = Keys(file)
    secret = keys.passing("once")
    make(file, "alice")
    assert keys.find(secret).name == "once" and len(keys) == 2
    assert Keys(file).find(secret) is None and [key.name for key in listed(file)] == ["alice"]


@pytest.mark.parametrize(
    ("content", "problem"), [("{", "holds no keys"), ('{"keys": [{"name": "x"}]}', "no keys"), ("{}", "no keys")]
)
def test_a_wrong_file_is_told(file, content, problem):
    file.write_text(content)
    file.chmod(0o600)
    with pytest.raises(BespokeError, match=problem):
        Keys(file)


@pytest.mark.skipif(os.name == "nt", reason="modes are POSIX's")
def test_a_file_that_others_may_write_is_refused(file):
    make(file, "alice")
    file.chmod(0o666)
    with pytest.raises(BespokeError, match="Others may write"):
        Keys(file)


def test_the_commands(file, monkeypatch):
    monkeypatch.chdir(file.parent)
    secret = typed("new", "alice", "--scope", "draw", "--scope", "metrics", "--rate", "30").splitlines()[0]
    assert Keys(file).find(secret).scopes == ("draw", "metrics")
    new = json.loads(typed("rotate", "alice", "--overlap", "0.5", "--json"))["key"]
    told = json.loads(typed("list", "--json"))
    assert [key["name"] for key in told["keys"]] == ["alice", "alice"] and "hash" not in str(told)
    assert "30 a minute" in typed("list")
    assert "opens nothing" in typed("revoke", "alice")
    assert Keys(file).find(secret) is None and Keys(file).find(new) is None
    for wrong in (("new", "a/b"), ("new", "eve", "--scope", "everything"), ("revoke", "eve"), ("rotate", "alice")):
        done = CliRunner().invoke(commands, ["keys", *wrong])
        assert done.exit_code == 2 and "What to do:" in done.stderr


@pytest.mark.parametrize("change", ["revoke", "rotate"])
def test_a_key_that_is_not_there_is_told_with_what_to_do(file, change, monkeypatch):
    monkeypatch.chdir(file.parent)

    def refused(name: str) -> str:
        done = CliRunner().invoke(commands, ["keys", change, name])
        assert done.exit_code == 2 and "none" not in done.stderr
        return done.stderr

    told = refused("nobody")
    assert f"There is no key 'nobody': {file.name} is not there." in told and "bespoke keys new NAME" in told
    assert not file.exists()
    make(file, "alice")
    assert "There are: alice." in refused("nobody")
    revoke(file, "alice")
    assert "'alice' opens nothing any more already" in refused("alice")
    assert "holds no key that opens anything" in refused("nobody")


def ways(secret: str) -> list[dict[str, str]]:
    basic = base64.b64encode(f"anyone:{secret}".encode()).decode()
    return [{"authorization": f"Bearer {secret}"}, {"x-api-key": secret}, {"authorization": f"Basic {basic}"}]


@awaited
async def test_what_keys_open(file):
    drawer, reader, ruler = (make(file, name, (name,)) for name in ("draw", "metrics", "admin"))
    painter = Painter()
    async with asking(app_of(painter, Serve(), Keys(file))) as client:
        for headers in ways(drawer):
            assert (await client.post(GENERATIONS, json=ASKED, headers=headers)).status_code == 200
            assert (await client.get("/v1/models", headers=headers)).status_code == 200
            refused = await client.get("/metrics", headers=headers)
            assert (refused.status_code, refused.json()["error"]["code"]) == (403, "missing_scope")
            assert refused.json()["error"]["type"] == "permission_error"
        for headers in ways(reader):
            assert (await client.get("/metrics", headers=headers)).status_code == 200
            assert (await client.post(GENERATIONS, json=ASKED, headers=headers)).status_code == 403
        for headers in ways(ruler):
            assert (await client.get("/metrics", headers=headers)).status_code == 200
            assert (await client.post(GENERATIONS, json=ASKED, headers=headers)).status_code == 200
        assert [owner for _, owner in painter.wishes] == ["draw"] * 3 + ["admin"] * 3
        for open_to_all in ("/", "/livez", "/readyz", "/openapi.json"):
            assert (await client.get(open_to_all)).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {}, {"authorization": "Bearer bespoke_no"}, {"x-api-key": "no"}, {"authorization": "Basic !"},
        {"authorization": "Basic bm86bm8="}, {"authorization": "Bearer"}, {"authorization": "Digest x"},
    ],
)  # fmt: skip
@awaited
async def test_without_a_key_that_holds_nothing_opens(file, headers):
    make(file, "alice", ("draw", "metrics", "admin"))
    painter = Painter()
    async with asking(app_of(painter, Serve(), Keys(file)), **headers) as client:
        answers = [await client.post(GENERATIONS, json=ASKED), await client.post("/v1/nothing", json=ASKED)]
        answers += [await client.get(path) for path in ("/v1/models", "/v1/models/x", "/metrics")]
    for answer in answers:
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.json()["error"]["type"] == "authentication_error"
    assert painter.wishes == []


@awaited
async def test_nothing_of_a_stranger_is_read(file):
    """Who has no key cannot fill the memory: the body is not taken from the line."""
    make(file, "alice")
    taken = []

    async def body():
        taken.append(1)
        yield b"{}"

    async with asking(app_of(Painter(), Serve(), Keys(file))) as client:
        answer = await client.post(GENERATIONS, content=body(), headers={"content-type": "application/json"})
    assert answer.status_code == 401 and taken == []


@awaited
async def test_a_key_that_is_revoked_opens_nothing_more(file):
    secret = make(file, "alice")
    async with asking(app_of(Painter(), Serve(), Keys(file)), authorization=f"Bearer {secret}") as client:
        assert (await client.post(GENERATIONS, json=ASKED)).status_code == 200
        revoke(file, "alice")
        assert (await client.post(GENERATIONS, json=ASKED)).status_code == 401


@awaited
async def test_without_keys_figures_are_for_this_machine_alone():
    async with asking(app_of(Painter(), Serve(host="0.0.0.0"))) as client:
        assert (await client.post(GENERATIONS, json=ASKED)).status_code == 200
        assert (await client.get("/metrics")).status_code == 403
    async with asking(app_of(Painter(), Serve())) as client:
        assert (await client.get("/metrics")).status_code == 200


@awaited
async def test_rates_are_of_keys(file):
    now = [0.0]
    alice, bob = make(file, "alice"), make(file, "bob", rate_per_minute=60.0)
    app = app_of(Painter(), Serve(rate_per_minute=3.0, most_images=2), Keys(file), clock=lambda: now[0])
    async with asking(app) as client:

        async def ask(secret: str, count: int = 1):
            headers = {"authorization": f"Bearer {secret}"}
            return await client.post(GENERATIONS, json={**ASKED, "n": count}, headers=headers)

        assert [(await ask(alice)).status_code for _ in range(4)] == [200, 200, 200, 429]
        refused = await ask(alice, 2)
        assert refused.json()["error"]["code"] == "rate_limit_exceeded"
        assert (refused.headers["retry-after"], refused.headers["retry-after-ms"]) == ("40", "40000")
        assert (await ask(bob, 2)).status_code == 200
        now[0] = 19.0
        assert (await ask(alice)).status_code == 429
        now[0] = 20.0
        assert (await ask(alice)).status_code == 200


@awaited
async def test_what_the_queue_refuses_does_not_count():
    app = app_of(Painter(), Serve(rate_per_minute=1.0, most_images=1), clock=lambda: 0.0)
    async with asking(app) as client:
        for _ in range(3):
            assert (await client.post(GENERATIONS, json={"prompt": "full"})).json()["error"]["code"] == "queue_full"
        assert (await client.post(GENERATIONS, json=ASKED)).status_code == 200
        assert (await client.post(GENERATIONS, json=ASKED)).status_code == 429
