"""What a rater's browser is told, what it is not told, and what it may do."""

import csv
import io
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from tests.web.conftest import Rater, folders, paint

from bespoke.errors import BespokeError
from bespoke.pipeline.blind import Blind, blind
from bespoke.web import application
from bespoke.web.rating import TOKEN


def pixels(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as picture:
        return np.asarray(picture.convert("RGB"))


def test_each_pair_is_shown_with_its_prompt_and_the_pictures_of_the_trial(client: TestClient, two: Blind) -> None:
    ann = Rater(client, "Ann")
    for trial in two.comparison.trials("Ann"):
        state = ann.pair()
        assert (state["done"], state["total"]) == (trial.position, 7)
        assert state["pair"]["prompt"] == two.comparison.items[trial.item].prompt == f"thing {trial.item}"
        for side, model in (("left", trial.left), ("right", trial.right)):
            with Image.open(two.files[model][trial.item]) as drawn:
                assert (pixels(client.get(state["pair"][side]).content) == np.asarray(drawn)).all()
        following = ann.rate("tie")
        assert following["pair"] == state["next"] or state["next"] is None
    assert ann.pair()["pair"] is None


def test_nothing_that_reaches_the_browser_tells_whose_a_picture_is(client: TestClient, two: Blind) -> None:
    """Every answer on the way, its address, headers and body, and every text in a picture."""
    ann, lengths, addresses = Rater(client, "Ann"), set(), Counter()
    said = [client.get("/?rater=Ann").text, client.get("/").text]
    for _ in two.comparison.trials("Ann"):
        state = ann.pair()
        said += [json.dumps({**state, "pair": {**state["pair"], "prompt": ""}, "next": None})]
        said += [client.get("/results?rater=Ann").text, client.get("/results").text]
        for side in ("left", "right"):
            answer = client.get(state["pair"][side])
            addresses[state["pair"][side]] += 1
            lengths.add((tuple(sorted((k, v) for k, v in answer.headers.items() if k != "date")), len(answer.content)))
            said += [str(answer.headers), answer.content.decode("latin-1")]
            with Image.open(io.BytesIO(answer.content)) as picture:
                picture.load()
                assert picture.info == {} and picture.format == "PNG"
        ann.rate("left")
    for word in ("secret", "quixote", "sancho", "Steps", "parameters", ".png"):
        assert not [text for text in said if word in text], word
    assert len(lengths) == 1, "size and headers are those of every other picture"
    assert set(addresses.values()) == {1}, "no address comes twice, not even of a picture that is shown again"


def test_addresses_differ_between_raters_and_servers(client: TestClient, two: Blind) -> None:
    with TestClient(application(two), base_url="http://localhost") as restarted:
        seen = [Rater(c, name).pair()["pair"][side] for c in (client, restarted) for name in ("Ann", "Ben")
                for side in ("left", "right")]  # fmt: skip
        assert len(set(seen)) == 8
        assert restarted.get(seen[0]).status_code == 404
    assert client.get("/picture/000.png").status_code == client.get("/picture/../out/ratings.db").status_code == 404


def test_sizes_tell_nothing_either(tmp_path: Path) -> None:
    small, large = (str(tmp_path / name) for name in ("small", "large"))
    for item in range(2):
        paint(tmp_path / "small" / f"{item}.png", item, side=16)
        paint(tmp_path / "large" / f"{item}.png", item + 9, side=48)
    Image.new("RGB", (24, 48), "red").save(tmp_path / "large" / "1.png")
    made = blind([small, large], out=tmp_path / "out", repeated=0.0)
    assert made.sizes == ((48, 48), (24, 48))
    assert made.notes and "16 × 16" in made.notes[0] and "48 × 48" in made.notes[0]
    for item, size in enumerate(made.sizes):
        contents = [made.picture(item, model) for model in (small, large)]
        assert len({len(content) for content in contents}) == 1
        assert {pixels(content).shape for content in contents} == {(size[1], size[0], 3)}
    tall = pixels(made.picture(1, small))
    assert (tall[0] == 128).all() and (tall[-1] == 128).all() and not (tall[24] == 128).all()
    made.ratings.close()


def test_a_rating_holds_what_was_shown_and_chosen(client: TestClient, two: Blind) -> None:
    ann = Rater(client, "Ann")
    for choice in ("left", "right", "tie"):
        ann.rate(choice)
    given = two.ratings.all()
    assert [rating.choice for rating in given] == ["left", "right", "tie"]
    assert tuple(rating.trial for rating in given) == two.comparison.trials("Ann")[:3]


def test_undo_brings_the_last_pair_back_and_no_other(client: TestClient, two: Blind) -> None:
    ann, ben = Rater(client, "Ann"), Rater(client, "Ben")
    ann.rate("left")
    second = ann.pair()["pair"]
    ann.rate("right")
    ben.rate("tie")
    assert ann.post("/undo").json()["pair"] == second
    assert [(r.rater, r.choice) for r in two.ratings.all()] == [("Ann", "left"), ("Ben", "tie")]
    assert ann.post("/undo").json()["done"] == 0 == ann.post("/undo").json()["done"]
    assert ben.pair()["done"] == 1


def test_two_raters_at_once_have_their_own_order_and_place(client: TestClient, two: Blind) -> None:
    ann, ben = Rater(client, "Ann"), Rater(client, "Ben")
    for _ in range(3):
        ann.rate("left")
        ben.rate("right")
    ann.rate("left")
    assert (ann.pair()["done"], ben.pair()["done"]) == (4, 3)
    shown = {name: two.comparison.trials(name) for name in ("Ann", "Ben")}
    assert shown["Ann"] != shown["Ben"]
    for rating in two.ratings.all():
        assert rating.trial == shown[rating.rater][rating.position]


def test_after_a_restart_each_goes_on_where_they_stopped(client: TestClient, two: Blind, tmp_path: Path) -> None:
    ann = Rater(client, "Ann")
    ann.rate("left")
    waiting = ann.pair()["pair"]
    again = blind(two.comparison.models, out=tmp_path / "out")
    with TestClient(application(again), base_url="http://127.0.0.1") as restarted:
        state = Rater(restarted, "Ann").pair()
        assert state["done"] == 1
        assert (state["pair"]["position"], state["pair"]["prompt"]) == (waiting["position"], waiting["prompt"])
        late = restarted.post(
            "/rating", json={"rater": "Ann", "position": 1, "choice": "left"}, headers={TOKEN: ann.token}
        )
        assert late.status_code == 403, "a page of the server before has no say"
    again.ratings.close()


@pytest.mark.parametrize("token", ["", "x" * 32, "ä"])
def test_nothing_is_written_without_the_pages_token(client: TestClient, two: Blind, token: str) -> None:
    ann = Rater(client, "Ann")
    ann.rate("left")
    headers = {TOKEN.encode(): token.encode()}
    for address, content in (("/rating", {"position": 1, "choice": "left"}), ("/undo", {})):
        answer = client.post(address, json={"rater": "Ann", **content}, headers=headers)
        assert answer.status_code == 403
        assert client.post(address, json={"rater": "Ann", **content}).status_code == 403
    assert ann.post("/rating", token=Rater(client, "Ben").token, position=1, choice="left").status_code == 403
    assert len(two.ratings.all()) == 1


def test_what_a_form_of_another_site_can_send_is_refused(client: TestClient, two: Blind) -> None:
    token = Rater(client, "Ann").token
    body = json.dumps({"rater": "Ann", "position": 0, "choice": "left"})
    form = {"rater": "Ann", "position": "0", "choice": "left", TOKEN: token}
    for kind, content in (("text/plain", body), ("application/x-www-form-urlencoded", "&".join(form))):
        assert client.post("/rating", content=content, headers={"Content-Type": kind}).status_code in (403, 422)
    answer = client.options(
        "/rating", headers={"Origin": "http://elsewhere.example", "Access-Control-Request-Method": "POST"}
    )
    assert "access-control-allow-origin" not in answer.headers and answer.status_code == 405
    assert client.get("/rating").status_code == 405
    assert two.ratings.all() == ()


def test_only_names_of_this_machine_are_answered_unless_it_is_to_be_reached(client: TestClient, two: Blind) -> None:
    for host, status in (("evil.example", 421), ("evil.example:80", 421), ("localhost:8000", 200), ("[::1]:80", 200)):
        assert client.get("/", headers={"Host": host}).status_code == status
    with TestClient(application(two, loopback=False), base_url="http://studio.local") as reachable:
        assert reachable.get("/").status_code == 200


def test_the_page_loads_nothing_from_elsewhere_and_is_framed_by_nobody(client: TestClient) -> None:
    answer = client.get("/?rater=Ann")
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'") and "frame-ancestors 'none'" in policy
    nonce = policy.split("script-src 'nonce-")[1].split("'")[0]
    assert answer.text.count(f'nonce="{nonce}"') == 2 == answer.text.count("<script") + answer.text.count("<style")
    assert nonce not in client.get("/?rater=Ann").text
    assert "http" not in answer.text.replace("http-equiv", "")
    assert client.get("/docs").status_code == client.get("/openapi.json").status_code == 404


def test_a_second_window_cannot_rate_a_pair_twice_or_one_that_does_not_wait(client: TestClient, two: Blind) -> None:
    ann = Rater(client, "Ann")
    for position, status in ((1, 409), (-1, 409), (0, 200), (0, 409), (99, 409)):
        assert ann.post("/rating", position=position, choice="left").status_code == status
    for wrong in ({"position": 1, "choice": "both"}, {"position": "x", "choice": "left"}, {"choice": "left"}):
        assert ann.post("/rating", **wrong).status_code == 422
    assert len(two.ratings.all()) == 1


def test_names_stay_words(client: TestClient) -> None:
    name = """<script>alert("1")</script>&'"""
    page = client.get("/", params={"rater": name}).text
    assert "<script>alert" not in page and "&lt;script&gt;alert" in page
    rater = Rater(client, name)
    rater.rate("left")
    assert "<script>alert" not in client.get("/results", params={"rater": name}).text
    for bad in ("x" * 61, "a\0b"):
        answer = client.get("/", params={"rater": bad})
        assert answer.status_code == 400 and "name" in answer.json()["detail"]
    assert 'name="rater"' in client.get("/", params={"rater": "  "}).text


def test_who_is_which_is_told_after_the_last_pair_and_then_nothing_is_taken_back(
    client: TestClient, two: Blind
) -> None:
    ann = Rater(client, "Ann")
    for address in ("/results.json", "/ratings.csv"):
        assert client.get(address).status_code == client.get(address, params={"rater": "Ann"}).status_code == 403
    ann.rate_all(lambda number: ("left", "right", "tie")[number % 3])
    assert "model 1" in client.get("/results").text and "secret" not in client.get("/results?rater=Ben").text
    assert ann.post("/undo").json()["done"] == 6
    ann.rate("left")
    page = client.get("/results", params={"rater": "Ann"}).text
    assert all(model in page for model in two.comparison.models) and "model 1" not in page
    answer = ann.post("/undo")
    assert answer.status_code == 400 and "has seen which model is which" in answer.json()["detail"]
    assert json.loads(client.get("/results.json?rater=Ann").text) == two.results().to_json()
    rows = list(csv.DictReader(io.StringIO(client.get("/ratings.csv?rater=Ann").text)))
    assert [row["choice"] for row in rows] == [rating.choice for rating in two.ratings.all()]


def test_a_picture_that_is_gone_is_told(client: TestClient, two: Blind) -> None:
    state = Rater(client, "Ann").pair()
    for files in two.files.values():
        for file in files:
            file.unlink()
    answer = client.get(state["pair"]["left"])
    assert answer.status_code == 400 and "cannot be shown" in answer.json()["detail"]
    with pytest.raises(BespokeError):
        blind(folders(two.folder / "other", ("a", "b"), 2), out=two.folder)
