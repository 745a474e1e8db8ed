"""API keys: kept as hashes in a file that only its owner reads, and looked up as the file is now."""

import hashlib
import hmac
import json
import logging
import os
import secrets
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import filelock
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from bespoke.errors import BespokeError
from bespoke.workspace import atomic_file

FILE = "serve-keys.json"
"""Where a project keeps the keys of its service."""
MARK = "bespoke_"
"""What keys begin with, so that programs that look for lost secrets know them."""
Scope = Literal["draw", "metrics", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
LOG = logging.getLogger("bespoke.serving")
Clock = Callable[[], datetime]


class Key(BaseModel):
    """What is kept of a key."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    """Whose it is: what logs say, and what shares are counted by."""
    hash: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """SHA-256 of the key. It has 256 random bits: there is nothing to guess that a slow hash would protect."""
    scopes: tuple[Scope, ...] = ("draw",)
    created: AwareDatetime
    revoked: AwareDatetime | None = None
    """From when it is refused; that may be yet to come."""
    rate_per_minute: Annotated[float, Field(ge=0)] | None = None
    """In place of `serve.rate_per_minute`."""
    most_per_key: Annotated[int, Field(gt=0)] | None = None
    """In place of `serve.most_per_key`."""

    def may(self, scope: Scope) -> bool:
        """Whether it opens what needs that scope; `admin` opens everything."""
        return scope in self.scopes or "admin" in self.scopes

    def holds(self, now: datetime) -> bool:
        """Whether it is not revoked by then."""
        return self.revoked is None or now < self.revoked


_FILE = TypeAdapter(dict[Literal["keys"], list[Key]])


def now() -> datetime:
    """The time, in UTC."""
    return datetime.now(UTC)


class Keys:
    """The keys of a file as it is now: what is changed there counts from the next request on."""

    def __init__(self, path: Path, clock: Clock = now) -> None:
        """Raises: BespokeError when the file cannot be read."""
        self._path, self._clock = path, clock
        self._state = _state(path)
        self._keys, self._passing = listed(path), list[Key]()

    def __len__(self) -> int:
        """How many hold."""
        return sum(key.holds(self._clock()) for key in self._current())

    def passing(self, name: str) -> str:
        """A new key that draws, and is known to this object alone: it is gone when the process ends."""
        secret, key = _made(name, ("draw",))
        self._passing.append(key)
        return secret

    def find(self, secret: str) -> Key | None:
        """What is kept of a key; None when there is none such, or it is revoked.

        Every key is compared, each in the same time, so that how long it takes tells nothing.
        """
        digest, time = hashed(secret), self._clock()
        found = [key for key in self._current() if hmac.compare_digest(key.hash, digest)]
        return next((key for key in found if key.holds(time)), None)

    def named(self, name: str) -> Key | None:
        """The newest key of that name that is not revoked."""
        time = self._clock()
        return next((key for key in reversed(self._current()) if key.name == name and key.holds(time)), None)

    def _current(self) -> Sequence[Key]:
        state = _state(self._path)
        if state != self._state:
            try:
                self._keys = listed(self._path)
            except BespokeError as error:  # what held before holds until it can be read again
                LOG.error("keys not read", extra={"why": str(error)})
            self._state = state
        return [*self._keys, *self._passing]


def hashed(secret: str) -> str:
    """SHA-256 of a key, in hexadecimal digits."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def listed(path: Path) -> list[Key]:
    """The keys of a file, oldest first; none where there is no file.

    Raises: BespokeError when it is not one of keys, or others may write to it.
    """
    try:
        if os.name == "posix" and path.stat().st_mode & 0o022:
            raise BespokeError(f"Others may write to {path}.", f"Whoever can, can draw: chmod 600 {path}")
        return _FILE.validate_json(path.read_bytes())["keys"]
    except FileNotFoundError:
        return []
    except (ValidationError, KeyError):
        raise BespokeError(
            f"{path} holds no keys.", "Move it away, and make keys with: bespoke keys new NAME"
        ) from None
    except OSError as error:
        raise BespokeError(f"{path} cannot be read: {error.strerror}.", "Keys belong to whoever runs it.") from None


def make(
    path: Path, name: str, scopes: Sequence[str] = ("draw",), *, rate_per_minute: float | None = None,
    most_per_key: int | None = None,
) -> str:  # fmt: skip
    """A new key, which is nowhere else: the file has its hash.

    Raises: BespokeError when the name is taken or cannot be one.
    """
    secret, key = _made(name, scopes, rate_per_minute=rate_per_minute, most_per_key=most_per_key)
    with _changing(path) as keys:
        if any(other.name == name and other.holds(key.created) for other in keys):
            raise BespokeError(
                f"There is a key {name!r} already.", f"A new one in its place: bespoke keys rotate {name}"
            )
        keys.append(key)
    return secret


def _made(
    name: str, scopes: Sequence[str], *, rate_per_minute: float | None = None, most_per_key: int | None = None
) -> tuple[str, Key]:
    """A new key, and what is kept of it. Raises: BespokeError when the name cannot be one."""
    secret = MARK + secrets.token_urlsafe(32)
    try:
        said: dict[str, Any] = {"scopes": scopes, "rate_per_minute": rate_per_minute, "most_per_key": most_per_key}
        return secret, Key(name=name, hash=hashed(secret), created=now(), **said)
    except ValidationError as error:
        first = error.errors()[0]
        hint = "Names are letters, digits, dots, dashes and underscores; scopes: draw, metrics, admin."
        raise BespokeError(f"{first['loc'][0]}: {first['msg']}.", hint) from None


def revoke(path: Path, name: str) -> int:
    """How many keys of that name are refused from now on. Raises: BespokeError when there is none."""
    with _changing(path) as keys:
        return len(_ended(path, keys, name, now()))


def rotate(path: Path, name: str, overlap: timedelta = timedelta()) -> str:
    """A new key in place of one of that name, which holds for `overlap` longer.

    Raises: BespokeError when there is none.
    """
    secret, time = MARK + secrets.token_urlsafe(32), now()
    with _changing(path) as keys:
        last = _ended(path, keys, name, time + overlap)[-1]
        keys.append(last.model_copy(update={"hash": hashed(secret), "created": time, "revoked": None}))
    return secret


def _ended(path: Path, keys: list[Key], name: str, end: datetime) -> list[Key]:
    """The keys of that name that hold, which end by then from now on. Raises: BespokeError when there is none."""
    time = now()
    found = [n for n, key in enumerate(keys) if key.name == name and key.holds(time)]
    if not found:
        raise _missing(path, keys, name, time)
    for n in found:
        keys[n] = keys[n].model_copy(update={"revoked": min(keys[n].revoked or end, end)})
    return [keys[n] for n in found]


def _missing(path: Path, keys: Sequence[Key], name: str, time: datetime) -> BespokeError:
    """Why no key of that name can be changed, and what to do."""
    if any(key.name == name for key in keys):
        return BespokeError(f"The key {name!r} opens nothing any more already.", f"A new one: bespoke keys new {name}")
    if known := ", ".join(sorted({key.name for key in keys if key.holds(time)})):
        return BespokeError(f"There is no key {name!r}.", f"There are: {known}.")
    why = "holds no key that opens anything" if keys else "has no keys" if path.exists() else "is not there"
    hint = "Keys lie in their project's folder: go there, or name the file (--file). A new one: bespoke keys new NAME"
    return BespokeError(f"There is no key {name!r}: {path} {why}.", hint)


@contextmanager
def _changing(path: Path) -> Generator[list[Key], None, None]:
    """The keys of a file, to be changed; written when the block ends well. One process changes them at a time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(path.with_name(f".{path.name}.lock"), timeout=60):
        keys = listed(path)
        yield keys
        content = {"keys": [key.model_dump(mode="json", exclude_none=True) for key in keys]}
        with atomic_file(path) as temporary:
            temporary.touch(0o600, exist_ok=False)
            temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _state(path: Path) -> tuple[int, int, int] | None:
    """What changes whenever a file is written."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
