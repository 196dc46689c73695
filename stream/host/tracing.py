"""Sets up traces, if OpenTelemetry's own environment variables ask for them.

Without them nothing of OpenTelemetry is imported.
"""

import logging
from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

logger = logging.getLogger(__name__)

#: Where to send spans; empty counts as unset (OpenTelemetry's specification of its variables).
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


def provider(environment: Mapping[str, str], service: str, *, sample_all: bool = False) -> "TracerProvider | None":
    """A provider of tracers, or None without traces. A thread exports its spans; the end of the process flushes them.

    `service` is the name in the spans, unless the environment has one. `sample_all` is for a process that follows
    another's decision, and begins only spans that are wanted.
    """
    return _exporting(service, sample_all=sample_all) if _wanted(environment) else None


def _wanted(environment: Mapping[str, str]) -> bool:
    if not any(environment.get(name) for name in _ENDPOINTS):
        return False
    exporter = environment.get("OTEL_TRACES_EXPORTER") or "otlp"
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true" or exporter == "none":
        return False
    if exporter != "otlp":
        logger.warning("no traces: OTEL_TRACES_EXPORTER is %s, only otlp is known", exporter)
        return False
    if not (find_spec("opentelemetry") and find_spec("opentelemetry.exporter.otlp.proto.http")):
        logger.warning("no traces: %s is set, but the extra is missing; pip install -e '.[traces]'", _ENDPOINTS[0])
        return False
    return True


def _exporting(service: str, *, sample_all: bool) -> "TracerProvider":
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.sampling import ALWAYS_ON

    resource = Resource.create({"service.name": service}).merge(OTELResourceDetector().detect())
    provider = TracerProvider(sampler=ALWAYS_ON if sample_all else None, resource=resource)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider
