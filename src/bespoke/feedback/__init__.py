"""What people say of pictures: what each of them is shown, what they answered, and what the answers say together."""

from bespoke.feedback.ratings import CHOICES, FILE, Choice, Rating, Ratings
from bespoke.feedback.results import COLUMNS, Rater, Results, results, to_csv
from bespoke.feedback.trials import Comparison, Item, Trial, rater_name

__all__ = [
    "CHOICES", "COLUMNS", "FILE",
    "Choice", "Comparison", "Item", "Rater", "Rating", "Ratings", "Results", "Trial",
    "rater_name", "results", "to_csv",
]  # fmt: skip
