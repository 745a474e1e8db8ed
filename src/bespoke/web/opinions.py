"""Pictures that a service kept turned into a page on which people say what they think of them."""

from typing import Annotated, Any

from fastapi import FastAPI, Header, HTTPException, Response
from fastapi.responses import HTMLResponse
from pydantic import BaseModel, ConfigDict, Field

from bespoke.feedback import VALUES, Kind, Opinion, Sample, Store, rater_name
from bespoke.feedback.asking import ask
from bespoke.feedback.reviewed import ending
from bespoke.web.guarding import TOKEN, Secret, guarded, page
from bespoke.web.pages import Pages

LICENCES = ("CC0-1.0", "CC-BY-4.0", "CC-BY-SA-4.0")
"""What is proposed; any other can be written."""
KINDS_OF_FILES = {".png": "image/png", ".jpg": "image/jpeg", ".webp": "image/webp"}
Ids = Annotated[tuple[str, ...], Field(strict=False, max_length=500)]
Token = Annotated[str, Header(alias=TOKEN)]


class Asking(BaseModel):
    """Who asks for a picture, and which are not to be shown."""

    model_config = ConfigDict(extra="forbid")
    rater: str
    skipped: Ids = ()


class Said(Asking):
    """What a rater says."""

    kind: Kind
    sample: str
    value: str = ""
    other: str = ""
    words: str = ""
    consent: bool = False
    licence: str = ""


class TakenBack(Asking):
    """What a rater takes back."""

    opinion: str


def application(store: Store, *, loopback: bool = True) -> FastAPI:
    """The page and what it talks to; with `loopback` it answers only to a browser on this machine."""
    desk = _Desk(store)
    app = FastAPI(title="bespoke", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_api_route("/", desk.page, response_class=HTMLResponse)
    app.add_api_route("/next", desk.next, methods=["POST"])
    app.add_api_route("/said", desk.say, methods=["POST"])
    app.add_api_route("/taken-back", desk.take_back, methods=["POST"])
    app.add_api_route("/picture/{name}", desk.picture)
    return guarded(app, loopback=loopback)


class _Desk:
    """What the addresses answer."""

    def __init__(self, store: Store) -> None:
        self._store, self._pages, self._secret = store, Pages(), Secret()
        self._shown: dict[str, str] = {}
        """The file of each picture whose address was given away."""

    def page(self, rater: str = "") -> HTMLResponse:
        """The picture to judge, or the question who is there."""
        name = rater_name(rater) if rater.strip() else ""
        token, kinds = self._secret.token(name), {"flags": VALUES["flag"], "licences": LICENCES}
        return page(lambda nonce: self._pages.opinions(rater=name, token=token, nonce=nonce, **kinds))

    def next(self, asking: Asking, token: Token = "") -> dict[str, Any]:
        """What a rater is asked next."""
        return self._question(self._admitted(asking, token), asking.skipped)

    def say(self, said: Said, token: Token = "") -> dict[str, Any]:
        """What a rater said is kept; what is asked next."""
        name = self._admitted(said, token)
        if not all(map(self._store.has, filter(None, (said.sample, said.other)))):
            raise HTTPException(404, "This picture is not kept any more.")
        opinion = Opinion(said.kind, said.sample, name, said.value, said.other, said.words, said.consent, said.licence)
        kept = self._store.say(opinion)
        return {"said": kept.id, **self._question(name, said.skipped)}

    def take_back(self, taken: TakenBack, token: Token = "") -> dict[str, Any]:
        """What a rater said counts no more; what is asked next."""
        name = self._admitted(taken, token)
        if not self._store.withdraw(taken.opinion, name):
            raise HTTPException(409, "It was taken back already.")
        return self._question(name, taken.skipped)

    def picture(self, name: str) -> Response:
        """The file of a picture."""
        if name not in self._shown:
            raise HTTPException(404, "There is no such picture.")
        file = self._store.shelf.checked(self._shown[name])
        headers = {"Cache-Control": "private, max-age=3600"}
        return Response(file.read_bytes(), media_type=KINDS_OF_FILES[ending(file)], headers=headers)

    def _question(self, rater: str, skipped: tuple[str, ...]) -> dict[str, Any]:
        found = ask(self._store, rater, skipped)
        if found is None:
            return {"left": 0, "prompt": "", "pictures": []}
        pictures = [found.first] if found.second is None else [found.first, found.second]
        shown = [{"id": one.id, "address": self._address(one)} for one in pictures]
        return {"left": found.left, "prompt": found.first.prompt, "pictures": shown}

    def _address(self, sample: Sample) -> str:
        name = self._secret.keyed("picture", sample.sha256)
        self._shown[name] = sample.sha256
        return f"picture/{name}"

    def _admitted(self, asking: Asking, token: str) -> str:
        name = rater_name(asking.rater)
        self._secret.admit(name, token)
        return name
