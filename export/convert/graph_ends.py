"""The names of the two ends of every artefact's graph.  Knows nothing of what is between them."""

#: uint8 [N,H,W,3], RGB.
INPUT_NAME = "images"

#: float32 [N,classes].
OUTPUT_NAME = "probabilities"
