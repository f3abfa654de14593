"""What arrived at a collector, whichever one it was: segments with their spans, and how they hang together.

Each collector of the suite (the stand-in, OAP, handfast) answers in these types, so that the same expectations are put to all.
"""

from dataclasses import dataclass, field


class Failed(Exception):
    """Something is not as it has to be; the text says what."""


@dataclass(frozen=True)
class Span:
    """One step in a segment. `parents` are the ids of the segments, of other programs, that it continues."""

    operation: str
    kind: str
    parents: tuple = ()


@dataclass
class Segment:
    """What one program did in one trace."""

    id: str
    service: str
    instance: str
    spans: list = field(default_factory=list)


def describe(segments):
    """A trace in one line, for people."""
    return "; ".join(f"{s.service}/{s.instance} [{', '.join(f'{p.kind} {p.operation}' for p in s.spans)}]" for s in segments)


def hops(segments):
    """The hops between programs, as `(service that called, service that was called, operation)`. A segment that continues one that
    is not there makes the trace incomplete."""
    by_id = {segment.id: segment for segment in segments}
    found = []
    for segment in segments:
        for span in segment.spans:
            for parent in span.parents:
                if parent not in by_id:
                    raise Failed(f"{segment.service} continues segment {parent}, which is not in the trace: {describe(segments)}")
                found.append((by_id[parent].service, segment.service, span.operation))
    return sorted(found)


def expect_chain(segments, wanted):
    """The trace consists of these hops, each once, and of one beginning."""
    if hops(segments) != sorted(wanted):
        raise Failed(f"hops are {hops(segments)} instead of {sorted(wanted)}: {describe(segments)}")
    beginnings = [s for s in segments if not any(span.parents for span in s.spans)]
    if len(beginnings) != 1:
        raise Failed(f"{len(beginnings)} segments begin the trace: {describe(segments)}")
    exits = [span for segment in segments for span in segment.spans if span.kind == "Exit"]
    if len(exits) < len([hop for hop in wanted if hop[0] != "stock"]):
        raise Failed(f"only {len(exits)} exit spans for {len(wanted)} hops: {describe(segments)}")
