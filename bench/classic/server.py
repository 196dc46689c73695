"""The classic server: Flask, one JSON with base64 float32 per image onto a Redis list, then polling for the answer."""

import base64
import io
import json
import os
import time
import uuid

import flask
import numpy as np
import redis
from PIL import Image

QUEUE = "image_queue"
WIDTH, HEIGHT = 224, 224
POLL_S = 0.25

app = flask.Flask(__name__)
db = redis.Redis(port=int(os.environ["BENCH_REDIS_PORT"]))


def prepare(data: bytes) -> str:
    """float32 [1, 224, 224, 3] as base64: 802,816 characters. Not normalised: that is in the model's graph."""
    image = Image.open(io.BytesIO(data)).convert("RGB").resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
    return base64.b64encode(np.asarray(image, np.float32).tobytes()).decode()


@app.post("/predict")  # type: ignore[untyped-decorator]  # Flask is not checked here
def predict() -> flask.Response:
    key = str(uuid.uuid4())
    db.rpush(QUEUE, json.dumps({"id": key, "image": prepare(flask.request.files["image"].read())}))
    while (output := db.get(key)) is None:
        time.sleep(POLL_S)
    db.delete(key)
    return flask.jsonify({"success": True, "predictions": json.loads(output)})


if __name__ == "__main__":
    app.run(host="127.0.0.1", port=int(os.environ["BENCH_PORT"]), threaded=True)
