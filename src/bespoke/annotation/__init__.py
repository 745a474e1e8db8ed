"""Pictures and models turned into captions and tags."""

from bespoke.annotation.captions import Said, described, said_before
from bespoke.annotation.tags import Categories, Category, Tagger, Things, categories
from bespoke.annotation.telling import (
    Captioner,
    Tell,
    Teller,
    captioner,
    captions_by,
    categories_by,
    is_service,
    opened,
    place,
    things_by,
)

__all__ = [
    "Captioner", "Categories", "Category", "Said", "Tagger", "Tell", "Teller", "Things", "captioner", "captions_by",
    "categories", "categories_by", "described", "is_service", "opened", "place", "said_before", "things_by",
]  # fmt: skip
