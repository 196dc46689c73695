"""Checks on which provider each operation of a network runs: the expensive ones must not run on the CPU silently."""

import logging
from collections import Counter

import onnxruntime as ort

from consumers.onnx.providers import CPU, TENSORRT, Provider, ProviderError

logger = logging.getLogger(__name__)

#: A session keeps track of it only with this entry.
RECORD = ("session.record_ep_graph_assignment_info", "1")

#: What the type of an expensive operation contains; the fused and quantised kinds have longer names.
_EXPENSIVE = ("Conv", "MatMul", "Gemm")

#: Number of operations by ONNX Runtime's name of the provider and by the operation's type.
Assignment = Counter[tuple[str, str]]


def assignment_of(session: ort.InferenceSession) -> Assignment:
    """The operations of a session that was made with RECORD."""
    return Counter(
        (subgraph.ep_name, node.op_type)
        for subgraph in session.get_provider_graph_assignment_info()
        for node in subgraph.get_nodes()
    )


def check_assignment(assignment: Assignment, provider: Provider) -> None:
    """Raises ProviderError if a provider other than the CPU leaves it expensive operations; logs what else it does."""
    if provider is TENSORRT and not any(name == TENSORRT.ort_name for name, _ in assignment):
        raise ProviderError("TensorRT runs no operation of this network")
    on_cpu = {op: count for (name, op), count in assignment.items() if name == CPU.ort_name}
    if expensive := {op: count for op, count in on_cpu.items() if any(kind in op for kind in _EXPENSIVE)}:
        raise ProviderError(f"it leaves expensive operations to the CPU: {_listed(expensive)}")
    if elsewhere := Counter({op: count for (name, op), count in assignment.items() if name != provider.ort_name}):
        logger.info("operations that do not run on %s: %s", provider.ort_name, _listed(elsewhere))


def _listed(operations: dict[str, int]) -> str:
    return ", ".join(f"{count} {op}" for op, count in sorted(operations.items()))
