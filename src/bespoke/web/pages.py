"""Records and templates turned into the HTML of the pages."""

from collections.abc import Sequence

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from bespoke.feedback.results import Results
from bespoke.page.wording import MINUS


class Pages:
    """The pages, in the look of the reports."""

    def __init__(self) -> None:
        """Reads the templates: the room's own and, for what is common, those of the reports."""
        self._environment = Environment(
            loader=ChoiceLoader([PackageLoader("bespoke.web"), PackageLoader("bespoke.page")]),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters.update({"percent": percent, "signed": signed})

    def rating(self, *, rater: str, token: str, nonce: str) -> str:
        """The page on which pairs are rated; without a rater it asks for a name."""
        return self._environment.get_template("rating.html").render(rater=rater, token=token, nonce=nonce)

    def opinions(self, *, rater: str, token: str, nonce: str, flags: Sequence[str], licences: Sequence[str]) -> str:
        """The page on which kept pictures are judged; without a rater it asks for a name."""
        page = self._environment.get_template("opinions.html")
        return page.render(rater=rater, token=token, nonce=nonce, flags=flags, licences=licences)

    def results(self, found: Results, rater: str, *, finished: bool) -> str:
        """The page that says what the ratings say."""
        page = self._environment.get_template("results.html")
        return page.render(found=found, rater=rater, finished=finished, report={"title": "Ratings"}, sections={})


def percent(rate: float) -> str:
    """A part of 1 in per cent, or that it is not known."""
    return f"{100 * rate:.0f} %" if abs(rate) < float("inf") else "not known"


def signed(value: float) -> str:
    """A number with its sign and two decimals, or that it is not known."""
    return f"{value:+.2f}".replace("-", MINUS) if abs(value) < float("inf") else "not known"
