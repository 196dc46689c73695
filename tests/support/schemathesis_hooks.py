"""What schemathesis needs besides the document: what an image looks like. Loaded by it, by SCHEMATHESIS_HOOKS."""

import uuid
from typing import Any

import schemathesis
from hypothesis import strategies as st

from ingest.images.formats import MEDIA_TYPES
from tests.support.images import encoded, scene

for name, kind in MEDIA_TYPES.items():
    images = [encoded(scene(width, height), name) for width, height in ((16, 16), (7, 31))]
    schemathesis.openapi.media_type(kind, st.sampled_from(images))


@schemathesis.hook
def before_call(_context: schemathesis.HookContext, case: schemathesis.Case[Any], _arguments: dict[str, Any]) -> None:
    """A key that is used again with another image is a 422, as it should be: valid requests have one of their own."""
    if case.meta and case.meta.generation.mode.is_positive and case.headers and "Idempotency-Key" in case.headers:
        case.headers["Idempotency-Key"] = uuid.uuid4().hex
