"""Turns one item into one row of the output: reads it, sends it, and draws its labels onto a copy."""

from ingest.client.annotation import Annotator
from ingest.client.client import Client, PredictionError
from ingest.client.item import Item, UnreadableError
from ingest.client.retry import ServiceError
from ingest.client.row import Row


class Sender:
    """Shared by all threads of a run. `top`: how many labels to ask for; None leaves that to the service.

    `values`: the output can hold the values of a model without labels.
    """

    def __init__(
        self, client: Client, *, top: int | None = None, annotator: Annotator | None = None, values: bool = True
    ) -> None:
        self._client = client
        self._top = top
        self._annotator = annotator
        self._values = values

    def send(self, item: Item) -> Row:
        """The item's row, with its labels or its error. Raises ServiceError and StoppedError."""
        try:
            data = item.read()
            result = self._client.predict(data, top=self._top)
            if result.values and not self._values:
                raise ServiceError("the model returns values instead of labels, which need --output FILE.jsonl")
            if self._annotator:
                self._annotator.annotate(item, data, result)
        except (UnreadableError, PredictionError) as error:
            return Row.failed(item, str(error))
        return Row.classified(item, result)

    def abort(self) -> None:
        self._client.abort()

    def close(self) -> None:
        self._client.close()
        if self._annotator:
            self._annotator.close()
