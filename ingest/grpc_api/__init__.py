"""The Open Inference Protocol, version 2, over gRPC: the requests and answers of REST, on a port of its own."""
