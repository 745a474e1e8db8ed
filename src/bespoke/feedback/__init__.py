"""What people say of pictures: in blind studies, and of those that a service draws; and what it says together.

What needs numbers is in `results` and `rated`, which take a moment to load: a service only writes things down.
"""

from bespoke.feedback.places import Place, place
from bespoke.feedback.ratings import CHOICES, FILE, Choice, Rating, Ratings
from bespoke.feedback.records import KINDS, VALUES, Kind, Opinion, Sample
from bespoke.feedback.store import Counts, Store
from bespoke.feedback.trials import Comparison, Item, Trial, rater_name

__all__ = [
    "CHOICES", "FILE", "KINDS", "VALUES",
    "Choice", "Comparison", "Counts", "Item", "Kind", "Opinion", "Place", "Rating", "Ratings", "Sample", "Store",
    "Trial",
    "place", "rater_name",
]  # fmt: skip
