"""The page on which kept pictures are judged: over HTTP, and in a real browser."""

import shutil

import pytest
from fastapi.testclient import TestClient
from playwright.sync_api import expect, sync_playwright
from tests.serving.listening import served
from tests.web.conftest import paint

from bespoke.feedback import Sample, Store
from bespoke.web.guarding import TOKEN
from bespoke.web.opinions import application

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path) as opened:
        for number, (prompt, model) in enumerate(
            [("a red house", "style@1"), ("a red house", "style@2"), ("a green tree", "style@2")]
        ):
            picture = paint(tmp_path / f"{number}.png", number, side=64).read_bytes()
            opened.add(Sample(f"p{number}", model, prompt, at=f"2026-01-0{number + 1}T00:00:00+00:00"), picture)
        yield opened


@pytest.fixture
def client(store):
    with TestClient(application(store), base_url="http://127.0.0.1") as opened:
        yield opened


def token(client, rater="ann"):
    return {TOKEN: client.get("/", params={"rater": rater}).text.split('data-token="')[1].split('"')[0]}


def test_what_is_said_is_kept_and_the_page_tells_no_version(client, store):
    headers = token(client)
    page = client.get("/", params={"rater": "ann"}).text
    question = client.post("/next", json={"rater": "ann"}, headers=headers).json()
    assert question["left"] == 4 and question["prompt"] == "a green tree"
    assert "style@" not in page and "style@" not in str(question)
    [picture] = question["pictures"]
    file = client.get(picture["address"])
    assert (
        file.headers["content-type"] == "image/png"
        and file.content == store.shelf.path(next(one for one in store.newest(1)).sha256).read_bytes()
    )
    said = {
        "rater": "ann",
        "kind": "caption",
        "sample": picture["id"],
        "words": "a tree",
        "consent": True,
        "licence": "CC0-1.0",
    }
    after = client.post("/said", json=said, headers=headers).json()
    assert after["left"] == 3
    [opinion] = store.opinions()
    assert (opinion.kind, opinion.words, opinion.consent, opinion.licence, opinion.model) == (
        "caption", "a tree", True, "CC0-1.0", "style@2",
    )  # fmt: skip
    back = client.post("/taken-back", json={"rater": "ann", "opinion": after["said"]}, headers=headers).json()
    assert back["left"] == 4 and next(store.opinions()).withdrawn


def test_nobody_writes_in_anothers_name_and_other_sites_stay_out(client):
    headers = token(client, "ann")
    for address, body in (("/next", {}), ("/said", {"kind": "thumb", "sample": "p0", "value": "up"})):
        assert client.post(address, json={"rater": "ben", **body}, headers=headers).status_code == 403
        assert client.post(address, json={"rater": "ann", **body}).status_code == 403
    assert client.get("/", headers={"Host": "evil.example"}).status_code == 421
    assert client.get("/picture/none").status_code == 404
    assert (
        client.post(
            "/said", json={"rater": "ann", "kind": "thumb", "sample": "gone", "value": "up"}, headers=headers
        ).status_code
        == 404
    )
    wrong = client.post("/said", json={"rater": "ann", "kind": "thumb", "sample": "p0", "value": "so"}, headers=headers)
    assert wrong.status_code == 400 and "cannot be" in wrong.json()["detail"]


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
def test_in_a_browser_pictures_are_judged_with_keys_words_and_choices(store, tmp_path):
    with served(application(store)) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 900, "height": 900})
        page.on("pageerror", lambda error: pytest.fail(str(error)))
        page.goto(address)
        page.get_by_label("Your name").fill("ann")
        page.get_by_role("button", name="Begin").click()
        expect(page.locator("#prompt")).to_have_text("a green tree")
        expect(page.locator("#one img")).to_be_visible()
        page.screenshot(path=tmp_path / "one.png")
        page.keyboard.press("ArrowUp")
        expect(page.locator("#left")).to_have_text("3")
        page.keyboard.press("z")
        expect(page.locator("#left")).to_have_text("4")
        page.get_by_text("Say more").click()
        page.get_by_label("What the picture shows").fill("a green tree, grey sky")
        page.get_by_label("The model may learn").check()
        page.screenshot(path=tmp_path / "more.png")
        page.get_by_role("button", name="Send the words").click()
        expect(page.locator("#left")).to_have_text("3")
        page.keyboard.press("ArrowDown")
        expect(page.locator("#left")).to_have_text("2")
        expect(page.locator("#first img")).to_be_visible()
        page.screenshot(path=tmp_path / "pair.png")
        page.keyboard.press("ArrowLeft")
        expect(page.locator("#left")).to_have_text("1")
        page.keyboard.press("ArrowRight")
        expect(page.locator("#thanks")).to_be_visible()
        browser.close()
    kept = [one for one in store.opinions() if not one.withdrawn]
    assert [(one.kind, one.value) for one in kept] == [("caption", ""), ("thumb", "down"), ("choice", "first")]
    assert kept[0].consent and kept[0].licence == "CC0-1.0" and not kept[1].consent
