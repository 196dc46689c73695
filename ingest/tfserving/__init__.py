"""The REST API of TensorFlow Serving, which KServe's v1 protocol shares."""
