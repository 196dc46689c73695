"""Entries in, outcomes out: the only package that imports ONNX Runtime. Knows nothing of HTTP or Keras."""
