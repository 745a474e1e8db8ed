"""Folders of pictures by several models, and a server of them."""

from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from tests.serving import listening

from bespoke.pipeline.blind import Blind, blind
from bespoke.web import application
from bespoke.web.rating import TOKEN

SIDE = 16
Browse = Callable[..., "Rater"]


def paint(file: Path, seed: int, *, side: int = SIDE, prompt: str = "", model: str = "") -> Path:
    """A picture of one colour in noise, stamped as `bespoke sample` stamps its own."""
    draw = np.random.default_rng(seed)
    noise = draw.integers(0, 40, (side, side, 3)) + draw.integers(0, 210, 3)
    info = PngInfo()
    if prompt:
        info.add_itxt("parameters", f"{prompt}\nSteps: 20, Model: {model}, Version: bespoke")
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise.astype(np.uint8)).save(file, pnginfo=info)
    return file


def folders(root: Path, models: Sequence[str], count: int) -> list[str]:
    """A folder of pictures for each model."""
    for number, model in enumerate(models):
        for item in range(count):
            paint(root / model / f"{item:03d}.png", 100 * number + item, prompt=f"thing {item}", model=model)
    return [str(root / model) for model in models]


class Rater:
    """Somebody who rates over HTTP as the page does."""

    def __init__(self, client: TestClient, name: str) -> None:
        self.client, self.name = client, name
        page = client.get("/", params={"rater": name}).text
        self.token = page.split('data-token="')[1].split('"')[0]

    def pair(self) -> dict[str, Any]:
        return self.client.get("/pair", params={"rater": self.name}).json()

    def post(self, address: str, token: str | None = None, **content: Any) -> Any:
        headers = {TOKEN: self.token if token is None else token}
        return self.client.post(address, json={"rater": self.name, **content}, headers=headers)

    def rate(self, choice: str) -> dict[str, Any]:
        answer = self.post("/rating", position=self.pair()["pair"]["position"], choice=choice)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def rate_all(self, choose: Callable[[int], str] = lambda _: "left") -> None:
        state, number = self.pair(), 0
        while state["pair"]:
            state, number = self.rate(choose(number)), number + 1


@pytest.fixture
def two(tmp_path: Path) -> Generator[Blind, None, None]:
    """Two models, six pictures each."""
    made = blind(folders(tmp_path, ("secret-quixote", "secret-sancho"), 6), out=tmp_path / "out")
    yield made
    made.ratings.close()


@pytest.fixture
def client(two: Blind) -> Generator[TestClient, None, None]:
    with TestClient(application(two), base_url="http://127.0.0.1") as made:
        yield made


def served(blind: Blind, port: int = 0) -> AbstractContextManager[str]:
    """The address of a server of the pages, in another thread."""
    return listening.served(application(blind), port)
