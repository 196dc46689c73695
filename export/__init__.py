import os

# Unless this is set before the import, ONNX Runtime collects usage data and resolves a host of its vendor.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
