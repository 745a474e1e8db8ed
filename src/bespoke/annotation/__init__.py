"""Pictures and models turned into captions and tags."""

from bespoke.annotation.captions import Captioner, Said, Tell, Teller, captioner, described, said_before
from bespoke.annotation.tags import Categories, Category, Tagger, Things, categories

__all__ = [
    "Captioner", "Categories", "Category", "Said", "Tagger", "Tell", "Teller", "Things", "captioner", "categories",
    "described", "said_before",
]  # fmt: skip
