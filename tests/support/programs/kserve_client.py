"""KServe's own client against a service, with both protocols. It prints what it got as one line of JSON.

The SDK asks for packages in versions that a server does not need, so it has an environment of its own:

    python -m venv /tmp/kserve && /tmp/kserve/bin/pip install kserve
    /tmp/kserve/bin/python tests/support/programs/kserve_client.py http://127.0.0.1:5000 MODEL IMAGE
"""

import asyncio
import base64
import json
import sys
from pathlib import Path

from kserve import InferenceRESTClient, RESTConfig  # type: ignore[import-not-found,unused-ignore]


async def main(url: str, model: str, image: bytes) -> None:
    """Ask whether all is ready, and classify the image as base64."""
    encoded = base64.b64encode(image).decode()
    async with InferenceRESTClient(RESTConfig(protocol="v1")) as client:
        v1 = [await client.is_server_live(url), await client.is_model_ready(url, model)]
        answer = await client.infer(url, {"instances": [{"b64": encoded}]}, model_name=model)
    async with InferenceRESTClient(RESTConfig(protocol="v2")) as client:
        v2 = [
            await client.is_server_live(url),
            await client.is_server_ready(url),
            await client.is_model_ready(url, model),
        ]
    sys.stdout.write(json.dumps({"v1": v1, "v2": v2, "predictions": answer["predictions"]}) + "\n")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], Path(sys.argv[3]).read_bytes()))
