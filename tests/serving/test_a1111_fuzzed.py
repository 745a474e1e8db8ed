"""A1111's routes asked by a machine, from the OpenAPI document: every answer is one that the document knows."""

import hypothesis
import pytest
import schemathesis
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from bespoke.recipe.service import Serve
from tests.serving.easelstand import Easel
from tests.serving.listening import app_of

EXAMPLES = 15
SCHEMA = schemathesis.openapi.from_asgi("/openapi.json", app_of(Easel(), Serve(host="0.0.0.0")))
OPERATIONS = {found.ok().label: found.ok() for found in SCHEMA.get_all_operations() if "/sdapi/" in found.ok().label}


def cases():
    for label, operation in sorted(OPERATIONS.items()):
        yield label, GenerationMode.POSITIVE
        if operation.body or operation.query:  # else there is nothing that could be said wrongly
            yield label, GenerationMode.NEGATIVE


@pytest.mark.parametrize(("label", "mode"), list(cases()), ids=lambda value: getattr(value, "name", value))
def test_every_answer_is_one_that_the_document_knows(label, mode):
    statuses = set()

    @hypothesis.settings(max_examples=EXAMPLES, derandomize=True, suppress_health_check=list(hypothesis.HealthCheck))
    @hypothesis.given(OPERATIONS[label].as_strategy(generation_mode=mode))
    def ask(case):
        # A1111 reads numbers in words, too; and which fields are refused the document cannot know.
        left_out = [positive_data_acceptance, negative_data_rejection]
        statuses.add(case.call_and_validate(excluded_checks=left_out).status_code)

    ask()
    refused = {403} if label.endswith("/interrupt-all") else {400, 404}  # without keys nobody may stop others
    assert statuses <= {200, *refused}
    assert 200 in statuses or mode is GenerationMode.NEGATIVE or label.startswith("POST")


def test_all_is_asked():
    assert {f"POST /sdapi/v1/{name}" for name in ("txt2img", "img2img", "options", "png-info")} <= set(OPERATIONS)
    assert len(OPERATIONS) > 20
