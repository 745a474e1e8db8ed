"""Pages that a person answers on: blind rating, and what is thought of served pictures."""

from bespoke.web.rating import application
from bespoke.web.serving import serve

__all__ = ["application", "serve"]
