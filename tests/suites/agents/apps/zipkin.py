"""`shelf` again: a program under one of Zipkin's tracers. It sends one trace of two spans, prints the trace's id as OpenTelemetry writes
it, and ends with 1 when that was not accepted.

Its arguments: `v1` (JSON), `v2` (JSON) and `proto` are py_zipkin's encodings, `otel` is the OpenTelemetry SDK's exporter to Zipkin; the
address to post to; the service; and for TLS the CA, and for mutual TLS the chain and the key.
"""

import json
import logging
import sys

import requests

how, address, service, *files = sys.argv[1:]
session = requests.Session()
if files:
    session.verify = files[0]
    session.cert = tuple(files[1:]) or None
failures = []


def by_py_zipkin():
    from py_zipkin import Encoding, Kind
    from py_zipkin.transport import SimpleHTTPTransport
    from py_zipkin.zipkin import zipkin_client_span, zipkin_span

    class Transport(SimpleHTTPTransport):
        """py_zipkin's own, but that it knows certificates."""

        def send(self, payload):
            path, kind = self._get_path_content_type(payload if isinstance(payload, bytes) else payload.encode())
            answer = session.post(address + path, data=payload, headers={"content-type": kind}, timeout=10)
            if answer.status_code != 202:
                failures.append(f"{answer.status_code}: {answer.text}")

    encoding = {"v1": Encoding.V1_JSON, "v2": Encoding.V2_JSON, "proto": Encoding.V2_PROTO3}[how]
    outer = zipkin_span(
        service_name=service,
        span_name="GET /shelf",
        kind=Kind.SERVER,
        transport_handler=Transport("unused", 0),
        sample_rate=100,
        encoding=encoding,
        host="10.0.0.7",
        port=8080,
    )
    with outer, zipkin_client_span(service_name=service, span_name="SELECT shelf", binary_annotations={"sql.query": "SELECT 1"}):
        return outer.zipkin_attrs.trace_id.rjust(32, "0")


def by_opentelemetry():
    from opentelemetry.exporter.zipkin.json import ZipkinExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.trace import SpanKind

    class Refusals(logging.Handler):
        def emit(self, record):
            failures.append(record.getMessage())

    logging.getLogger("opentelemetry").addHandler(Refusals())
    provider = TracerProvider(resource=Resource.create({"service.name": service, "service.instance.id": "shelf-1"}))
    provider.add_span_processor(SimpleSpanProcessor(ZipkinExporter(endpoint=f"{address}/api/v2/spans", session=session)))
    tracer = provider.get_tracer("shelf")
    with tracer.start_as_current_span("GET /shelf", kind=SpanKind.SERVER) as outer:
        with tracer.start_as_current_span("SELECT shelf", kind=SpanKind.CLIENT):
            trace = f"{outer.get_span_context().trace_id:032x}"
    provider.shutdown()
    return trace


trace = by_opentelemetry() if how == "otel" else by_py_zipkin()
print(json.dumps({"trace": trace, "failures": failures}), flush=True)
sys.exit(1 if failures else 0)
