"""The Open Inference Protocol, version 2, over REST: what tritonclient and KServe's clients speak."""
