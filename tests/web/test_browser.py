"""The page in a real browser: keys, touch, undo, two raters, a server that is started again, and how it looks."""

import shutil
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright
from tests.web.conftest import served

from bespoke.pipeline.blind import Blind, blind

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")]
KEYS = {"ArrowLeft": "left", "ArrowRight": "right", "ArrowDown": "tie", "=": "tie"}


@pytest.fixture(scope="module")
def browser() -> Generator[Browser, None, None]:
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def address(two: Blind) -> Generator[str, None, None]:
    with served(two) as found:
        yield found


def opened(browser: Browser, address: str, **options: Any) -> Page:
    """A page in a browser profile of its own; what goes wrong in its script fails the test."""
    page = browser.new_context(**options).new_page()
    page.on("pageerror", lambda error: pytest.fail(str(error)))
    page.goto(address)
    return page


def press(page: Page, key: str, done: int) -> None:
    """A key, once the pair is there; then so many are rated."""
    expect(page.locator("#left img")).to_be_visible()
    page.keyboard.press(key)
    expect(page.locator("#done")).to_have_text(str(done))


def test_a_rater_comes_rates_with_keys_takes_back_finishes_and_sees_results(
    browser: Browser, address: str, two: Blind
) -> None:
    page = opened(browser, address)
    page.fill("input", "Ann")
    page.keyboard.press("Enter")
    trials = two.comparison.trials("Ann")
    for number, (key, choice) in enumerate([*KEYS.items(), ("ArrowLeft", "left"), ("ArrowRight", "right")]):
        expect(page.locator("#prompt")).to_have_text(two.comparison.items[trials[number].item].prompt)
        press(page, key, number + 1)
        assert two.ratings.all()[-1].choice == choice
    press(page, "z", 5)
    press(page, "Backspace", 4)
    expect(page.locator("#prompt")).to_have_text(two.comparison.items[trials[4].item].prompt)
    assert [rating.choice for rating in two.ratings.all()] == list(KEYS.values())
    for number in (5, 6):
        press(page, "ArrowRight", number)
    page.goto(f"{address}/results?rater=Ann")
    expect(page.locator("table").first).to_contain_text("model 1")
    page.goto(f"{address}/?rater=Ann")
    press(page, "ArrowLeft", 7)
    expect(page.get_by_role("heading")).to_have_text("All rated. Thank you.")
    expect(page.locator("#question")).to_be_hidden()
    page.get_by_role("link").click()
    for model in two.comparison.models:
        expect(page.locator("table").first).to_contain_text(model)
    rate = two.results().win_rates[0]
    expect(page.locator("table").first).to_contain_text(f"{rate.wins}, {rate.ties}, {rate.losses}")


def test_both_pictures_are_those_of_the_pair_and_the_next_are_there_before(browser: Browser, address: str) -> None:
    page = opened(browser, f"{address}/?rater=Ann")
    expect(page.locator("#right img")).to_be_visible()
    state = page.request.get(f"{address}/pair?rater=Ann").json()
    for side in ("left", "right"):
        image = page.locator(f"#{side} img")
        assert (image.get_attribute("src"), image.get_attribute("alt")) == (state["pair"][side], f"{side} picture")
        assert image.evaluate("image => getComputedStyle(image).imageRendering") == "pixelated"
    loaded = "() => performance.getEntriesByType('resource').map(entry => entry.name)"
    page.wait_for_load_state("networkidle")
    assert {f"{address}/{state['next'][side]}" for side in ("left", "right")} <= set(page.evaluate(loaded))
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    press(page, "ArrowLeft", 1)
    expect(page.locator("#left img")).to_have_attribute("src", state["next"]["left"])
    assert not {f"{address}/{state['next'][side]}" for side in ("left", "right")} & set(asked)


def test_keys_that_mean_something_else_and_held_ones_do_nothing(browser: Browser, address: str, two: Blind) -> None:
    page = opened(browser, f"{address}/?rater=Ann")
    expect(page.locator("#left img")).to_be_visible()
    for key in ("Control+ArrowLeft", "Alt+=", "a", "ArrowUp"):
        page.keyboard.press(key)
    page.keyboard.down("ArrowLeft")
    expect(page.locator("#done")).to_have_text("1")
    for _ in range(5):
        page.keyboard.down("ArrowLeft")
    page.keyboard.up("ArrowLeft")
    press(page, "ArrowRight", 2)
    assert [rating.choice for rating in two.ratings.all()] == ["left", "right"]


def test_touch_on_a_narrow_screen_in_the_dark(browser: Browser, address: str, two: Blind) -> None:
    phone = {"viewport": {"width": 400, "height": 700}, "has_touch": True, "is_mobile": True}
    page = opened(browser, f"{address}/?rater=Ann", color_scheme="dark", **phone)
    expect(page.locator("#left img")).to_be_visible()
    for number, (choice, where) in enumerate({"left": "#left", "right": "#right", "tie": "#tie"}.items(), 1):
        page.tap(where)
        expect(page.locator("#done")).to_have_text(str(number))
        assert two.ratings.all()[-1].choice == choice
    page.tap("#undo")
    expect(page.locator("#done")).to_have_text("2")
    left, right = (page.locator(f"#{side} img").bounding_box() for side in ("left", "right"))
    assert left and right and left["y"] == right["y"] and left["width"] == right["width"] > 150
    assert left["x"] + left["width"] < right["x"]
    luminance = "() => getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"
    for where in ("", "results"):
        page.goto(f"{address}/{where}?rater=Ann")
        assert page.evaluate("document.documentElement.scrollWidth") <= 400
        assert max(page.evaluate(luminance)) < 60
        page.emulate_media(color_scheme="light")
        assert min(page.evaluate(luminance)) > 200
        page.emulate_media(color_scheme="dark")


def test_two_raters_at_once(browser: Browser, address: str, two: Blind) -> None:
    ann, ben = (opened(browser, f"{address}/?rater={name}") for name in ("Ann", "Ben"))
    for number in range(1, 8):
        press(ann, "ArrowLeft", number)
        press(ben, "ArrowRight", number)
    given = two.ratings.all()
    assert [(r.rater, r.choice) for r in given] == [("Ann", "left"), ("Ben", "right")] * 7
    between = two.results().between
    assert between is not None and between.units == 6


def test_when_the_server_is_started_again_the_open_page_goes_on_with_the_next_pair(
    browser: Browser, two: Blind, tmp_path: Path
) -> None:
    with served(two) as address:
        page = opened(browser, f"{address}/?rater=Ann")
        press(page, "ArrowLeft", 1)
        press(page, "ArrowRight", 2)
    page.keyboard.press("ArrowLeft")
    expect(page.get_by_role("alert")).to_contain_text("nothing was saved")
    again = blind(two.comparison.models, out=tmp_path / "out")
    with served(again, int(address.split(":")[2])):
        with page.expect_navigation():  # the page belongs to the server before: it is loaded again
            page.keyboard.press("ArrowLeft")
        expect(page.locator("#done")).to_have_text("2")
        press(page, "ArrowDown", 3)
    assert [rating.choice for rating in again.ratings.all()] == ["left", "right", "tie"]
    again.ratings.close()
