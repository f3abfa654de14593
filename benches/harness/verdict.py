"""From rows to tables, ratios inside rounds, and the requirements with pass or fail."""
import statistics

MEASURE = "haproxy"
PRODUCT = "handfast"
BUSY = 0.3

TITLES = {
    "new": "a connection for every request, 16 at a time, 1 KiB answers",
    "kept": "64 kept connections, 1 KiB answers",
    "bulk1": "bulk, 1 connection",
    "bulk8": "bulk, 8 connections",
    "idle": "idle connections",
}
LEVEL = {
    "new": "conn/s",
    "kept": "req/s",
    "bulk1": "Gbit/s",
    "bulk8": "Gbit/s",
    "idle": "KiB/flow a+b",
}
PER = {"new": 1e4, "kept": 1e5, "bulk1": 1e9, "bulk8": 1e9}
PER_TEXT = {"new": "10k", "kept": "100k", "bulk1": "GB", "bulk8": "GB"}

# What must hold against HAProxy inside the same rounds: test, figure, what it is, bound.
REQUIREMENTS = [
    ("new", "level", "new connections per second", ">=", 5.0),
    ("new", "cost", "CPU per 10,000 new connections", "<=", 0.2),
    ("bulk1", "cost", "CPU per GB, 1 connection", "<=", 0.85),
    ("bulk8", "cost", "CPU per GB, 8 connections", "<=", 0.75),
    ("kept", "level", "requests per second, 64 kept", ">=", 0.9),
    ("kept", "cost", "CPU per 100,000 requests, 64 kept", "<=", 1.1),
    ("kept", "p99_ms", "p99 latency, 64 kept", "<=", 1.0),
]


def figure(row, name):
    if name == "cost":
        return row["cpu"] / (row["units"] / PER[row["test"]])
    return row[name]


def progress(row):
    head = f"round {row['round'] + 1}  {row['test']:6} {row['pair']:13} {row['took']:5.1f} s "
    if "failed" in row:
        return f"{head} FAILED: {row['failed']}"
    text = f"{head} {row['level']:10.2f} {LEVEL[row['test']]}"
    if row["test"] in PER:
        text += f"  CPU {figure(row, 'cost'):6.2f} s/{PER_TEXT[row['test']]}"
    if "p99_ms" in row:
        text += f"  p99 {row['p99_ms']:.1f} ms"
    if row["errors"]:
        text += f"  {row['errors']} errors"
    if row["foreign"] > BUSY:
        text += f"  (others used {row['foreign']:.1f} cores)"
    return text


def good(rows, test, pair):
    return [r for r in rows if r["test"] == test and r["pair"] == pair and "failed" not in r]


def ratios(rows, test, pair, name):
    """The pair's figure over HAProxy's, for every round that has both."""
    measure = {row["round"]: row for row in good(rows, test, MEASURE)}
    return [
        figure(row, name) / figure(measure[row["round"]], name)
        for row in good(rows, test, pair)
        if row["round"] in measure and figure(measure[row["round"]], name) > 0
    ]


def tables(rows, tests, pairs):
    for test in tests:
        columns = [("level", LEVEL[test])]
        if test in PER:
            columns.append(("cost", f"CPU s/{PER_TEXT[test]}"))
        if test in ("new", "kept"):
            columns.append(("p99_ms", "p99 ms"))
        print(f"{test}: {TITLES[test]}")
        head = "".join(f"{title:>14}{'x haproxy':>21}" for _, title in columns)
        print(f"  {'':13}{head}")
        for pair in pairs:
            some = good(rows, test, pair)
            line = f"  {pair:13}"
            for name, _ in columns if some else ():
                line += f"{statistics.median(figure(row, name) for row in some):14.2f}"
                line += f"{spread(ratios(rows, test, pair, name)):>21}"
            print(line if some else f"{line}  no good run")
        print()


def spread(values):
    if not values:
        return "-"
    middle = statistics.median(values)
    return f"{middle:.2f} ({min(values):.2f}-{max(values):.2f})"


def requirements(rows):
    """Prints a line for each; a requirement holds when the median of the in-round ratios does."""
    print(f"required of {PRODUCT}, as a ratio to {MEASURE} inside the rounds: median (range)")
    complete = not any("failed" in row for row in rows if row["pair"] in (MEASURE, PRODUCT))
    tests = {row["test"] for row in rows}
    for test, name, title, sign, bound in REQUIREMENTS:
        if test not in tests:
            continue
        values = ratios(rows, test, PRODUCT, name)
        middle = statistics.median(values) if values else None
        holds = middle is not None and (middle >= bound if sign == ">=" else middle <= bound)
        complete &= holds
        verdict = "pass" if holds else "FAIL" if values else "FAIL: nothing measured"
        print(f"  {title:36} {sign} {bound:<5} {spread(values):>20}  {verdict}")
    errors = sum(row.get("errors", 0) for row in rows if row["pair"] == PRODUCT)
    print(f"  {'failed requests':36} == 0     {errors:>20}  {'FAIL' if errors else 'pass'}")
    busy = sum(1 for row in rows if row.get("foreign", 0) > BUSY)
    if busy:
        print(f"  {busy} of {len(rows)} runs had other processes on the cores: trust CPU and ratios only")
    return complete and errors == 0


def smoke(rows):
    """Whether every run carried its load without an error; one second is no measurement."""
    failed = [row for row in rows if "failed" in row or row["errors"] or not row["units"]]
    for row in failed:
        print(f"smoke: {row['pair']} {row['test']}: {row.get('failed', 'errors')}")
    print(f"smoke: {len(rows) - len(failed)} of {len(rows)} runs are good; no requirement was judged")
    return bool(rows) and not failed
