"""A stand-in for a collector, in this process: SkyWalking's and OTLP's gRPC services and OTLP over HTTP, each in the clear, with TLS or with mutual TLS.

It refuses nothing and keeps everything in memory. What the agents do against it is what they do against any collector that takes
their calls; so it proves the suite, and it is what the product is compared with.
"""

import gzip
import http.server
import ssl
import threading
from concurrent import futures

import grpc
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2 as otlp_logs
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as otlp_metrics
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as otlp_traces
from skywalking.protocol.common.Command_pb2 import Commands
from skywalking.protocol.event.Event_pb2 import Event
from skywalking.protocol.language_agent.JVMMetric_pb2 import JVMMetricCollection
from skywalking.protocol.language_agent.Meter_pb2 import MeterData
from skywalking.protocol.language_agent.Tracing_pb2 import SegmentObject
from skywalking.protocol.logging.Logging_pb2 import LogData
from skywalking.protocol.management.Management_pb2 import InstancePingPkg, InstanceProperties
from skywalking.protocol.profile.Profile_pb2 import ProfileTaskCommandQuery

from arrived import Segment, Span
from programs import free_port

KINDS = ("Entry", "Exit", "Local")
# Each call with the name under which it is remembered; `+` marks those that are streams.
CALLS = {
    "skywalking.v3.ManagementService/reportInstanceProperties": ("properties", InstanceProperties),
    "skywalking.v3.ManagementService/keepAlive": ("heartbeat", InstancePingPkg),
    "skywalking.v3.TraceSegmentReportService/collect": ("segment+", SegmentObject),
    "skywalking.v3.MeterReportService/collect": ("meter+", MeterData),
    "skywalking.v3.LogReportService/collect": ("log+", LogData),
    "skywalking.v3.EventService/collect": ("event+", Event),
    "skywalking.v3.JVMMetricReportService/collect": ("jvm", JVMMetricCollection),
    "skywalking.v3.ProfileTask/getProfileTaskCommands": ("profile-query", ProfileTaskCommandQuery),
    "opentelemetry.proto.collector.trace.v1.TraceService/Export": ("otlp-traces", otlp_traces.ExportTraceServiceRequest),
    "opentelemetry.proto.collector.metrics.v1.MetricsService/Export": ("otlp-metrics", otlp_metrics.ExportMetricsServiceRequest),
    "opentelemetry.proto.collector.logs.v1.LogsService/Export": ("otlp-logs", otlp_logs.ExportLogsServiceRequest),
}
ANSWERS = {
    "otlp-traces": otlp_traces.ExportTraceServiceResponse,
    "otlp-metrics": otlp_metrics.ExportMetricsServiceResponse,
    "otlp-logs": otlp_logs.ExportLogsServiceResponse,
}
OTLP_PATHS = {"/v1/traces": "otlp-traces", "/v1/metrics": "otlp-metrics", "/v1/logs": "otlp-logs"}


class Sink:
    """Listens while it is entered. `segments`, `kinds` and `peers` tell what came."""

    def __init__(self, how, server_files=None):
        self.how, self.files = how, server_files
        self.segments, self.kinds, self.peers, self.otlp = [], set(), {}, {}
        self.lock = threading.Lock()

    def __enter__(self):
        self.grpc = grpc.server(futures.ThreadPoolExecutor(32), handlers=[Calls(self)])
        if self.how == "plaintext":
            self.port = self.grpc.add_insecure_port("127.0.0.1:0")
        else:
            read = lambda name: (self.files / name).read_bytes()
            mutual = self.how == "mtls"
            pair = [(read("server.pem"), read("server.crt"))]
            self.port = self.grpc.add_secure_port(
                "127.0.0.1:0", grpc.ssl_server_credentials(pair, read("ca.crt") if mutual else None, mutual)
            )
        self.grpc.start()
        self.http_port = free_port()
        self.web = http.server.ThreadingHTTPServer(("127.0.0.1", self.http_port), self.poster())
        if self.how != "plaintext":
            trust = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            trust.load_cert_chain(self.files / "server.crt", self.files / "server.pem")
            if self.how == "mtls":
                trust.load_verify_locations(self.files / "ca.crt")
                trust.verify_mode = ssl.CERT_REQUIRED
            self.web.socket = trust.wrap_socket(self.web.socket, server_side=True)
        threading.Thread(target=self.web.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.grpc.stop(0).wait(5)
        self.web.shutdown()
        self.web.server_close()

    @property
    def backend(self):
        return f"localhost:{self.port}"

    def trace(self, trace_id):
        """The segments of a trace that came so far."""
        with self.lock:
            found = [message for message in self.segments if message.traceId == trace_id]
        return [
            Segment(
                message.traceSegmentId,
                message.service,
                message.serviceInstance,
                [Span(s.operationName, KINDS[s.spanType], tuple(r.parentTraceSegmentId for r in s.refs)) for s in message.spans],
            )
            for message in found
        ]

    def reported(self, service):
        """The kinds of telemetry that came from a service."""
        with self.lock:
            return {kind for who, kind in self.kinds if who == service}

    def keep(self, kind, message, identities):
        with self.lock:
            service = getattr(message, "service", None)
            if service is None and kind == "event":
                service = message.source.service
            if kind == "segment":
                self.segments.append(message)
            if kind.startswith("otlp"):
                self.otlp.setdefault(kind, []).append(message)
            if service:
                self.kinds.add((service, kind))
                self.peers.setdefault(service, set()).update(identities)

    def poster(self):
        """The class that answers OTLP over HTTP for this sink."""
        sink = self
        kinds = {name: message for name, message in CALLS.values()}

        class Poster(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                kind = OTLP_PATHS[self.path]
                sink.keep(kind, kinds[kind].FromString(body), [])
                answer = ANSWERS[kind]().SerializeToString()
                self.send_response(200)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_):
                pass

        return Poster


class Calls(grpc.GenericRpcHandler):
    """Finds for a call what reads it; any other call is UNIMPLEMENTED."""

    def __init__(self, sink):
        self.sink = sink

    def service(self, details):
        found = CALLS.get(details.method[1:])
        if not found:
            return None
        name, message = found
        kind = name.rstrip("+")
        answer = ANSWERS.get(kind, Commands)

        def take(messages, context):
            peer = context.auth_context()
            names = [v.decode() for key in ("x509_subject_alternative_name",) for v in peer.get(key, [])]
            for each in messages:
                self.sink.keep(kind, each, names)
            return answer()

        write = lambda reply: reply.SerializeToString()
        if name.endswith("+"):
            return grpc.stream_unary_rpc_method_handler(take, message.FromString, write)
        return grpc.unary_unary_rpc_method_handler(lambda m, c: take([m], c), message.FromString, write)
