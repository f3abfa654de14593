"""`front`: a Flask program under the Python agent. It begins a trace that goes on to the next program, and ends one that came back to it.

The released agent has no setting for a client certificate: where one is given, the call by which it makes its TLS credentials is
given the files. Without SW_TLS_KEY and ANSWERED nothing of the agent is touched.
"""

import logging
import os

if os.environ.get("SW_TLS_KEY"):
    import grpc

    make = grpc.ssl_channel_credentials

    def with_client_certificate(*_, **__):
        read = [open(os.environ[name], "rb").read() for name in ("SW_TLS_CA", "SW_TLS_KEY", "SW_TLS_CERT")]
        return make(*read)

    grpc.ssl_channel_credentials = with_client_certificate

from skywalking import agent

if os.environ.get("ANSWERED"):
    # Writes down which segments the agent was answered for; what it does stays as it is.
    from skywalking.client.grpc import GrpcTraceSegmentReportService as Segments

    report = Segments.report

    def noted(self, segments):
        sent = []

        def passing():
            for segment in segments:
                sent.append(f"{segment.traceId} {segment.traceSegmentId}\n")
                yield segment

        report(self, passing())
        with open(os.environ["ANSWERED"], "a") as file:
            file.writelines(sent)

    Segments.report = noted

agent.start()

import requests
from flask import Flask
from skywalking.trace.context import get_context

app = Flask("front")


def ask(url):
    """What the program at this address says; nothing where there is none."""
    return requests.get(url, timeout=10).json() if url else None


@app.route("/front/hello")
def hello():
    trace = str(get_context().segment.related_traces[0])
    logging.getLogger("front").warning("front says hello")
    return {"trace": trace, "next": ask(os.environ.get("NEXT"))}


@app.route("/front/leaf")
def leaf():
    return {"leaf": "front", "next": ask(os.environ.get("AFTER_LEAF"))}


app.run("127.0.0.1", int(os.environ["PORT"]), use_reloader=False)
