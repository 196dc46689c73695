"""What an ingest writes into an entry."""

from ingest.dispatch.partition_client import PreparedImage
from results.webhook import Webhook
from stream.entry import FIELDS
from stream.model import ModelDescription, Resize
from tests.support.redis.inline import inline

#: Admission adds them, if traces are wanted.
_OF_TRACES = {"traceparent", "sent"}


def test_an_image_fills_every_field_of_its_entry() -> None:
    """One that no ingest fills would travel for nothing."""
    model = ModelDescription("m", "1", "", 1, 1, Resize(interpolation="bilinear", rounded=False), ("a",), channels=1)
    hook = Webhook("", "https://example.org/")
    image = PreparedImage(model, bytes(2), 1, decoding_s=1.0, webhook=hook)
    assert set(inline(image.entry("one", reply="here"))) == FIELDS - _OF_TRACES
