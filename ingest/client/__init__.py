"""Clients of a running Sluice: `Client` and `AsyncClient` for programs, `python -m ingest.client` for folders.

from ingest.client import Client

with Client("http://127.0.0.1:5000") as client:
    print(client.predict("cat.jpg").predictions[0].label)
"""

from ingest.client.async_client import AsyncClient
from ingest.client.client import Client, PredictionError
from ingest.client.decision import Prediction, Result
from ingest.client.retry import ServiceError, StoppedError

__all__ = ["AsyncClient", "Client", "Prediction", "PredictionError", "Result", "ServiceError", "StoppedError"]
