"""Requests that a machine thinks of, from the OpenAPI document: every answer is one that the document knows."""

from pathlib import Path

import hypothesis
import pytest
import schemathesis
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from bespoke.recipe.service import Serve
from bespoke.serving.keys import Keys, make
from tests.serving.listening import app_of
from tests.serving.painter import Painter

EXAMPLES = 25
SCHEMA = schemathesis.openapi.from_asgi("/openapi.json", app_of(Painter(), Serve(host="0.0.0.0")))
OPERATIONS = sorted(found.ok().label for found in SCHEMA.get_all_operations() if "/sdapi/" not in found.ok().label)
FIXED = {"GET /", "GET /livez", "GET /readyz", "GET /pictures/{name}"}
"""Operations that nothing wrong can be said to."""
UNSAID = {"limit_exceeded", "model_not_found", "adapter_not_found"}
"""Why a request is refused although it is as the document says: the document knows neither limits nor names."""

UNTOLD = {"image", "mask", "prompt", "negative_prompt", "scheduler", "Idempotency-Key", "partial_images", "progress"}
"""What may be wrong although each field is as the document says: files, brackets, names, what needs a stream."""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory):
    """The service's document as one reads it who has a key, and the header that brings the key."""
    file: Path = tmp_path_factory.mktemp("keys") / "keys.json"
    secret = make(file, "fuzz", ("admin",))
    return schemathesis.openapi.from_asgi("/openapi.json", app_of(Painter(steps=2), Serve(), Keys(file))), secret


def leaves_nothing(value: object) -> bool:
    """Whether a field of a form is empty, which is to be left out, to FastAPI as to browsers."""
    if type(value) in (list, dict):
        return all(map(leaves_nothing, value))
    return type(value) is str and not value


def cases():
    for label in OPERATIONS:
        yield label, GenerationMode.POSITIVE
        if label not in FIXED:
            yield label, GenerationMode.NEGATIVE


@pytest.mark.parametrize(("label", "mode"), list(cases()), ids=lambda value: getattr(value, "name", value))
def test_every_answer_is_one_that_the_document_knows(told, label, mode):
    schema, secret = told
    (operation,) = (found.ok() for found in schema.get_all_operations() if found.ok().label == label)
    statuses = set()

    @hypothesis.settings(max_examples=EXAMPLES, derandomize=True, suppress_health_check=list(hypothesis.HealthCheck))
    @hypothesis.given(operation.as_strategy(generation_mode=mode))
    def ask(case):
        if "edits" in label and isinstance(case.body, dict):
            hypothesis.assume(not any(map(leaves_nothing, case.body.values())))
        headers = {"Authorization": f"Bearer {secret}"}
        answer = case.call_and_validate(headers=headers, excluded_checks=[positive_data_acceptance])
        statuses.add(answer.status_code)
        if mode is GenerationMode.POSITIVE and answer.status_code not in (200, 404):
            error = answer.json()["error"]
            assert error["code"] in UNSAID or error["param"] in UNTOLD, error

    ask()
    assert statuses <= {200, 400, 404}
    assert 200 in statuses or mode is GenerationMode.NEGATIVE or "{name}" in label


def test_all_is_asked():
    assert {"POST /v1/images/generations", "POST /v1/images/edits", "GET /v1/models", *FIXED} <= set(OPERATIONS)


def test_a_stream_is_as_the_document_says(told):
    schema, secret = told
    asked = {"prompt": "a cat", "stream": True, "partial_images": 1, "progress": True}
    case = schema["/v1/images/generations"]["POST"].Case(body=asked, media_type="application/json")
    answer = case.call_and_validate(headers={"Authorization": f"Bearer {secret}"})
    assert answer.headers["content-type"][0].startswith("text/event-stream")
