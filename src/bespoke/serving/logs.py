"""What becomes of each request as a line of JSON; what was asked is said only where that is wanted."""

import io
import json
import logging
import sys
import threading
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

_PLAIN = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}
"""What every record has of itself."""
_NOTES: ContextVar[dict[str, Any]] = ContextVar("notes")


def noting() -> dict[str, Any]:
    """New notes for the request that begins in this context: what `note` adds from now on, in its tasks too."""
    notes: dict[str, Any] = {}
    _NOTES.set(notes)
    return notes


def note(**facts: Any) -> None:  # noqa: ANN401 - whatever JSON holds
    """Adds facts to the line of the request that is being answered; where there is none they are forgotten."""
    _NOTES.get({}).update(facts)


class Log:
    """Lines of JSON, one for each event, on standard error unless it is told otherwise."""

    def __init__(self, stream: io.TextIOBase | None = None) -> None:
        self._stream, self._lock = stream, threading.Lock()

    def write(self, event: str, **facts: Any) -> None:  # noqa: ANN401 - whatever JSON holds
        """One line: the time (UTC), the event, and the facts that are not None."""
        time = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        said = {key: value for key, value in facts.items() if value is not None}
        line = json.dumps({"time": time, "event": event, **said}, ensure_ascii=True, default=str)
        stream = self._stream or sys.stderr
        with self._lock:
            stream.write(line + "\n")
            stream.flush()


class Events(logging.Handler):
    """Lets what the service itself has to say, of workers and models, be lines of the same log."""

    def __init__(self, log: Log) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Writes a record with the facts that it was given as `extra`."""
        facts = {key: value for key, value in record.__dict__.items() if key not in _PLAIN}
        self._log.write(record.getMessage(), level=record.levelname.lower(), **facts)
