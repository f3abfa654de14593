"""`shelf`: a program under the OpenTelemetry SDK. It sends one trace of two spans, one metric and one log record, prints the trace's
id, and ends with 1 when anything of it was not accepted.

Its argument is `grpc` or `http`; where and how come from the OTEL_EXPORTER_OTLP_* variables that the SDK reads itself.
"""

import json
import logging
import os
import sys

from opentelemetry._logs import SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

if sys.argv[1] == "grpc":
    from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
else:
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter


class Refusals(logging.Handler):
    """Remembers what the exporters complain about: they hand no error to the program."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.said = []

    def emit(self, record):
        self.said.append(record.getMessage())


refusals = Refusals()
logging.getLogger("opentelemetry").addHandler(refusals)
resource = Resource.create({"service.instance.id": "shelf-1"})

traces = TracerProvider(resource=resource)
traces.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
tracer = traces.get_tracer("shelf")
with tracer.start_as_current_span("GET /shelf") as outer:
    with tracer.start_as_current_span("SELECT shelf"):
        trace = f"{outer.get_span_context().trace_id:032x}"

meters = MeterProvider(resource=resource, metric_readers=[PeriodicExportingMetricReader(OTLPMetricExporter(), 600_000)])
meters.get_meter("shelf").create_counter("shelf.visits").add(1)

records = LoggerProvider(resource=resource)
records.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter()))
records.get_logger("shelf").emit(severity_number=SeverityNumber.WARN, body="shelf says hello")

flushed = [provider.force_flush(8_000) for provider in (traces, meters, records)]
# Not an orderly end: what was refused would be tried again on the way out.
print(json.dumps({"trace": trace, "flushed": flushed, "refusals": refusals.said}), flush=True)
os._exit(0 if all(flushed) and not refusals.said else 1)
