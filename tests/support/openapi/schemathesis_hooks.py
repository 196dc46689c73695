"""What schemathesis needs besides the document: what an image looks like. Loaded by it, by SCHEMATHESIS_HOOKS."""

import base64
import os
import uuid
from typing import Any

import schemathesis
from hypothesis import strategies as st

from ingest.images.formats import MEDIA_TYPES
from tests.support.images import encoded, scene

IMAGES = {name: [encoded(scene(*size), name) for size in ((16, 16), (7, 31))] for name in MEDIA_TYPES}

for name, kind in MEDIA_TYPES.items():  # the parts of a form
    schemathesis.openapi.media_type(kind, st.sampled_from(IMAGES[name]))
schemathesis.openapi.media_type("application/octet-stream", st.sampled_from(IMAGES["JPEG"]))
schemathesis.openapi.format("byte", st.sampled_from([base64.b64encode(image).decode() for image in IMAGES["PNG"]]))
schemathesis.openapi.format("uri", st.just(os.environ["SCHEMATHESIS_IMAGE_URL"]))


@schemathesis.hook
def before_call(_context: schemathesis.HookContext, case: schemathesis.Case[Any], _arguments: dict[str, Any]) -> None:
    """Valid requests have a key of their own, and say that their body is not compressed, as it is.

    No schema says how many classes the model has, nor what a structured field (RFC 8941) may be. A webhook needs
    Prefer: respond-async, and is named once. A key that is used again with another image is a 422, and a body that is
    not compressed as it says is a 400.
    """
    if case.meta and case.meta.generation.mode.is_positive and case.headers is not None:
        if "Idempotency-Key" in case.headers:
            case.headers["Idempotency-Key"] = uuid.uuid4().hex
        if "Content-Encoding" in case.headers:
            case.headers["Content-Encoding"] = "identity"
        if isinstance(case.body, dict) and "top" in case.body:
            case.body["top"] = 2
        if "Priority" in case.headers:
            case.headers["Priority"] = "u=5"
        in_json = isinstance(case.body, dict) and "webhook" in case.body
        if in_json:
            case.headers.pop("Webhook-URL", None)
        if in_json or "Webhook-URL" in case.headers:
            case.headers["Prefer"] = "respond-async"
