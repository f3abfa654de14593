"""A SkyWalking OAP server on loopback, from the parts on Maven Central: receives over mutual TLS, is asked by GraphQL."""

import json

from arrived import Failed, Segment, Span
from programs import HERE, Program, eventually, fetch, free_port

SPANS = """query($id: ID!) { trace: queryTrace(traceId: $id) { spans {
    segmentId spanId serviceCode serviceInstanceName endpointName type refs { parentSegmentId } } } }"""
SERVICES = 'query { services: listServices(layer: "GENERAL") { id name } }'
PROFILE = "mutation($wanted: ProfileTaskCreationRequest) { task: createProfileTask(creationRequest: $wanted) { id errorReason } }"
NOTIFIED = "query($id: String) { logs: getProfileTaskLogs(taskID: $id) { instanceName operationType } }"


class Oap:
    """Runs while it is entered. `settings` are variables of its own file, such as those of its TLS; it stays on loopback."""

    def __init__(self, target, out, settings):
        self.libraries, self.out, self.settings = target / "agents-oap/libraries", out, settings
        self.rest, self.port = free_port(), int(settings["SW_RECEIVER_GRPC_PORT"])

    def __enter__(self):
        settings = self.settings | {"SW_RECEIVER_GRPC_HOST": "127.0.0.1"}
        settings.update(SW_CORE_REST_PORT=str(self.rest), SW_CORE_GRPC_PORT=str(free_port()))
        flags = ["-Xmx400m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", f"{HERE}/oap/config:{self.libraries}/*"]
        self.out.mkdir(parents=True, exist_ok=True)
        self.program = Program(
            "oap", ["java", *flags, "org.apache.skywalking.oap.server.starter.OAPServerStartUp"], self.out, settings
        )
        return self

    def wait(self):
        """Returns once it answers; it starts while other things are done."""
        eventually("OAP answers", 60, lambda: self.program.running() and self.ask("query { version }")["version"])

    def __exit__(self, *_):
        self.program.stop()

    @property
    def backend(self):
        return f"localhost:{self.port}"

    def ask(self, query, **variables):
        answer = fetch(self.rest, "/graphql", json.dumps({"query": query, "variables": variables}))
        if answer.get("errors"):
            raise Failed(f"OAP answers {answer['errors']}")
        return answer["data"]

    def trace(self, trace_id):
        """The segments of a trace that can be asked for now."""
        segments = {}
        for span in self.ask(SPANS, id=trace_id)["trace"]["spans"]:
            segment = segments.setdefault(
                span["segmentId"], Segment(span["segmentId"], span["serviceCode"], span["serviceInstanceName"])
            )
            parents = tuple(reference["parentSegmentId"] for reference in span["refs"])
            segment.spans.append(Span(span["endpointName"], span["type"], parents))
        return list(segments.values())

    def services(self):
        """The names of the services that it knows."""
        return {service["name"] for service in self.ask(SERVICES)["services"]}

    def profile(self, service, endpoint):
        """Wants a service profiled; the id of the task."""
        known = {one["name"]: one["id"] for one in self.ask(SERVICES)["services"]}
        wanted = {"serviceId": known[service], "endpointName": endpoint, "duration": 5, "minDurationThreshold": 0}
        wanted |= {"dumpPeriod": 10, "maxSamplingCount": 1}
        made = self.ask(PROFILE, wanted=wanted)["task"]
        if made["errorReason"]:
            raise Failed(f"OAP makes no task: {made['errorReason']}")
        return made["id"]

    def notified(self, task):
        """The instances that were given a task."""
        logs = self.ask(NOTIFIED, id=task)["logs"]
        return {log["instanceName"] for log in logs if log["operationType"] == "NOTIFIED"}
