"""Pairs of pictures turned into a page on which people choose, and their choices into ratings.

Nothing that reaches a browser tells whose a picture is before its rater has rated all.
"""

from functools import lru_cache
from itertools import islice
from typing import Annotated, Any

from fastapi import FastAPI, Header, HTTPException, Response
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse
from pydantic import BaseModel, ConfigDict

from bespoke.feedback import Choice, Trial, rater_name
from bespoke.feedback.results import to_csv
from bespoke.pipeline.blind import Blind
from bespoke.web.guarding import TOKEN, Secret, guarded, page
from bespoke.web.pages import Pages


class Answer(BaseModel):
    """Who answers."""

    model_config = ConfigDict(extra="forbid")
    rater: str


class Chosen(Answer):
    """What a rater chose of a pair."""

    position: int
    choice: Choice


def application(blind: Blind, *, loopback: bool = True) -> FastAPI:
    """The pages and what they talk to; with `loopback` it answers only to a browser on this machine.

    The addresses of pictures, and the tokens without which nothing is written, hold for this application alone.
    """
    booth = _Booth(blind)
    app = FastAPI(title="bespoke", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_api_route("/", booth.page, response_class=HTMLResponse)
    app.add_api_route("/pair", booth.pair)
    app.add_api_route("/rating", booth.rate, methods=["POST"])
    app.add_api_route("/undo", booth.undo, methods=["POST"])
    app.add_api_route("/picture/{name}", booth.picture)
    app.add_api_route("/results", booth.results, response_class=HTMLResponse)
    app.add_api_route("/results.json", booth.results_json)
    app.add_api_route("/ratings.csv", booth.ratings_csv)
    return guarded(app, loopback=loopback)


class _Booth:
    """What the addresses answer."""

    def __init__(self, blind: Blind) -> None:
        self._blind, self._pages = blind, Pages()
        self._secret = Secret()
        self._shown: dict[str, tuple[int, str]] = {}
        """The item and the model of each picture whose address was given away."""
        self._trials = lru_cache(maxsize=100)(blind.comparison.trials)

    def page(self, rater: str = "") -> HTMLResponse:
        """The pair to choose from, or the question who is there."""
        name = rater_name(rater) if rater.strip() else ""
        return page(lambda nonce: self._pages.rating(rater=name, token=self._secret.token(name), nonce=nonce))

    def pair(self, rater: str) -> dict[str, Any]:
        """The pair that a rater is to rate, the one after it, and how far the rater is."""
        name = rater_name(rater)
        trials, rated = self._trials(name), {rating.position for rating in self._blind.ratings.all(name)}
        waiting = [self._seen(name, trial) for trial in islice((t for t in trials if t.position not in rated), 2)]
        return {
            "done": len(rated),
            "total": len(trials),
            "pair": waiting[0] if waiting else None,
            "next": waiting[1] if len(waiting) > 1 else None,
        }

    def rate(self, chosen: Chosen, token: Annotated[str, Header(alias=TOKEN)] = "") -> dict[str, Any]:
        """One rating written; the pair after it."""
        name = self._admitted(chosen, token)
        trials, rated = self._trials(name), {rating.position for rating in self._blind.ratings.all(name)}
        waiting = next((trial for trial in trials if trial.position not in rated), None)
        if waiting is None or waiting.position != chosen.position:
            raise HTTPException(409, "Another pair is to be rated.")
        if not self._blind.ratings.add(name, waiting, chosen.choice):
            raise HTTPException(409, "This pair was rated a moment ago.")
        return self.pair(name)

    def undo(self, answer: Answer, token: Annotated[str, Header(alias=TOKEN)] = "") -> dict[str, Any]:
        """The rater's last rating taken away; its pair again."""
        name = self._admitted(answer, token)
        self._blind.ratings.undo(name)
        return self.pair(name)

    def picture(self, name: str) -> Response:
        """The pixels of a picture."""
        if name not in self._shown:
            raise HTTPException(404, "There is no such picture.")
        content = self._blind.picture(*self._shown[name])
        return Response(content, media_type="image/png", headers={"Cache-Control": "private, max-age=3600"})

    def results(self, rater: str = "") -> HTMLResponse:
        """What the ratings say; which model is which only to a rater who has rated all."""
        name = rater_name(rater) if rater.strip() else ""
        finished = self._finished(name)
        if finished:
            self._blind.ratings.tell(name)
        found = self._blind.results(masked=not finished)
        return HTMLResponse(self._pages.results(found, name, finished=finished))

    def results_json(self, rater: str = "") -> JSONResponse:
        """The results, for a rater who has rated all."""
        self._opened(rater)
        return JSONResponse(self._blind.results().to_json())

    def ratings_csv(self, rater: str = "") -> PlainTextResponse:
        """All ratings, for a rater who has rated all."""
        self._opened(rater)
        table = to_csv(self._blind.comparison, self._blind.ratings.all())
        return PlainTextResponse(table, media_type="text/csv")

    def _seen(self, rater: str, trial: Trial) -> dict[str, Any]:
        """A pair as the page shows it."""
        item, size = self._blind.comparison.items[trial.item], self._blind.sizes[trial.item]
        sides = {side: self._address(rater, trial, side) for side in ("left", "right")}
        return {"position": trial.position, "prompt": item.prompt, "width": size[0], "height": size[1], **sides}

    def _address(self, rater: str, trial: Trial, side: str) -> str:
        """The address of a picture: another one each time it is shown, so that it cannot be known again."""
        name = self._secret.keyed("picture", rater, str(trial.position), side)
        self._shown[name] = (trial.item, trial.left if side == "left" else trial.right)
        return f"picture/{name}"

    def _admitted(self, answer: Answer, token: str) -> str:
        name = rater_name(answer.rater)
        self._secret.admit(name, token)
        return name

    def _finished(self, rater: str) -> bool:
        return bool(rater) and len(self._blind.ratings.all(rater)) >= len(self._trials(rater))

    def _opened(self, rater: str) -> None:
        name = rater_name(rater) if rater.strip() else ""
        if not self._finished(name):
            raise HTTPException(403, "Rate all pairs first: this tells which model is which.")
        self._blind.ratings.tell(name)
