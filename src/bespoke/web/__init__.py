"""Pages that a person answers on: blind rating."""

from bespoke.web.rating import application
from bespoke.web.serving import serve

__all__ = ["application", "serve"]
