"""Pictures put into words by a vision service that speaks OpenAI's chat interface, here or far away."""

import base64
import io
import os
import time
from collections.abc import Sequence
from urllib.parse import urldefrag

import httpx
from PIL import Image

from bespoke.errors import BespokeError
from bespoke.models import Wording, shortened

KEY = "OPENAI_API_KEY"
TRIES = 4
PATIENCE = 120.0
"""Seconds for one answer."""
SIDE = 1024
"""Larger pictures are shown smaller: services do the same, and charge for it."""
INSTRUCTION = "Describe this picture in one sentence of at most {words} words. Answer with the sentence only."
PASSING = {408, 409, 429, 500, 502, 503, 504}


class Endpoint:
    """A vision service by its address: `https://host/v1#model`. Its key is read from `OPENAI_API_KEY`.

    Source: OpenAI's chat completions, as vLLM, Ollama, LM Studio and others speak it.
    """

    def __init__(self, address: str, pause: float = 1.0) -> None:
        base, model = urldefrag(address)
        self.name, self._model, self._pause = address, model or "default", pause
        key = os.environ.get(KEY, "")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._client = httpx.Client(base_url=base.rstrip("/"), headers=headers, timeout=PATIENCE)

    def captions(self, pictures: Sequence[Image.Image], keys: Sequence[str], wording: Wording) -> list[str]:
        """A caption for each RGB picture, asked for one after the other.

        Raises: BespokeError when the service cannot be reached, refuses, or answers with something else.
        """
        del keys  # the service draws its words itself, from the seed
        return [self._caption(picture, wording) for picture in pictures]

    def _caption(self, picture: Image.Image, wording: Wording) -> str:
        asked = wording.prompt or INSTRUCTION.format(words=wording.max_words)
        content = [{"type": "text", "text": asked}, {"type": "image_url", "image_url": {"url": _address(picture)}}]
        drawn = {"top_p": wording.top_p} if wording.top_p else {"temperature": 0}
        body = {"model": self._model, "messages": [{"role": "user", "content": content}], "seed": wording.seed, **drawn}
        answer = self._ask({**body, "max_tokens": 4 * wording.max_words})
        try:
            text = answer.json()["choices"][0]["message"]["content"]
            return shortened(" ".join(text.split()), wording.max_words)
        except (ValueError, LookupError, TypeError, AttributeError):
            hint = "Is it the address up to /v1 of a service with OpenAI's interface?"
            raise BespokeError(f"{self.name} answers with no caption: {answer.text[:200]!r}", hint) from None

    def _ask(self, body: dict[str, object]) -> httpx.Response:
        """The answer, asked for again after a while where the fault may pass."""
        trouble = ""
        for attempt in range(TRIES):
            if attempt:
                time.sleep(self._pause * 2 ** (attempt - 1))
            try:
                answer = self._client.post("/chat/completions", json=body)
            except httpx.HTTPError as error:
                trouble = f"cannot be reached: {error or type(error).__name__}"
                continue
            if answer.status_code < 300:
                return answer
            trouble = f"answers {answer.status_code}: {answer.text[:200]!r}"
            if answer.status_code not in PASSING:
                break
        hint = f"Is the address right, and {KEY} set where a key is wanted? What was done so far is kept."
        raise BespokeError(f"{self.name} {trouble}", hint)


def _address(picture: Image.Image) -> str:
    """The picture as a data URL."""
    small, buffer = picture.copy(), io.BytesIO()
    small.thumbnail((SIDE, SIDE))
    small.save(buffer, "JPEG", quality=90)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
