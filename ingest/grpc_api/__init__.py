"""The Open Inference Protocol, version 2, over gRPC: the requests and answers of REST, on a port of its own."""

import os

# gRPC's core would log a line for each malformed call, so that any client could fill the log. It reads this once.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
