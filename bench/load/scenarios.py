"""The scenarios: who runs, what is sent to them, and how a window becomes figures.

A scenario puts proxies on a stage and yields cases; `__main__` runs each case in rounds, all its
subjects in turn (A B C A B C …), so that what else the machine does hits all of them alike. S8 is in
`footprint`, S6 in `growth`.
"""

import json
import secrets
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from load import Burst, oha, payment, wrk, wrk_result
from measure import Window
from proxies import Stage, Subject

# So many connections keep a proxy busy all the time; fewer where each request is large or slow.
CONNECTIONS = 64
KNOWN_KEYS = 10_000
STORM = 500
# A storm's slow request takes 2 s upstream; before and after it there must be some window.
STORM_SECONDS = 4
RATE = 1000


@dataclass
class Case:
    """One kind of load, and those who stand it in turn."""

    name: str
    subjects: list
    # One window on a subject → its figures; it is told the round, and whether this is the warm-up.
    run: Callable
    tool: str = "wrk"
    warms_up: bool = True
    # Where as many as everywhere else would be too many, or too few.
    rounds: int = None


@dataclass
class Scenario:
    """What `--only` names, and how long it takes."""

    id: str
    title: str
    cases: Callable[[Stage, "Sender"], Iterator[Case]]
    windows: int
    # Starting, preparing keys, and what else rounds do not count.
    fixed_seconds: float
    # Programs that must be installed.
    needs: str
    seconds_min: float = 0


def fresh() -> str:
    """A prefix that no key had before."""
    return secrets.token_hex(6)


@dataclass
class Sender:
    """Sends windows of load; knows how long they are."""

    seconds: float

    def closed(self, subject: Subject, path: str, way: list, connections: int = CONNECTIONS) -> dict:
        """A closed loop on one subject."""
        window = Window(subject.pids, subject.redis)
        counted = wrk_result(wrk(subject.port, subject.path(path), way, self.seconds, connections), self.seconds)
        return merged(counted, window)

    def unique(self, path: str = "/pay", connections: int = CONNECTIONS) -> Callable:
        """Each request with a key of its own."""
        return lambda subject, _: self.closed(subject, path, ["unique", fresh()], connections)

    def same(self, method: str, size: int, path: str, connections: int = CONNECTIONS) -> Callable:
        """One request again and again."""
        return lambda subject, _: self.closed(subject, path, ["same", method, size], connections)

    def known(self, prefix: str, count: int) -> Callable:
        """Keys that are settled already."""
        return lambda subject, _: self.closed(subject, "/pay", ["known", prefix, count])

    def at_rate(self, subject: Subject, _round) -> dict:
        """A fixed rate, each request with a key of its own in its query."""
        window = Window(subject.pids, subject.redis)
        start = "/off" if subject.name == "semel" else ""
        # oha takes dots and backslashes for something else.
        url = f"http://127[.]0[.]0[.]1:{subject.port}{start}/query/pay[?]key=[a-z0-9]{{24}}"
        return merged(oha(url, RATE, self.seconds, 16), window)


def merged(counted: dict, window: Window) -> dict:
    """What the load generator counted and what the system knows, as one."""
    figures = window.figures(counted.pop("requests"))
    figures["extra"]["max_ms"] = counted.pop("max_ms")
    return counted | figures


def settle(subject: Subject, path: str, prefix: str, count: int) -> None:
    """Lets a proxy settle these keys, each once."""
    asked = [payment(subject.path(path), f"{prefix}-{number}") for number in range(1, count + 1)]
    burst = Burst(subject.port, asked, CONNECTIONS).run()
    if burst.errors:
        raise RuntimeError(f"{subject.name}: {burst.errors} of {count} keys were not settled")


def upstream_counted(stage: Stage, forget: bool = False) -> dict:
    """How many requests the upstream counted, under how many keys, and the most under one."""
    url = f"http://127.0.0.1:{stage.upstream}/counted"
    request = urllib.request.Request(url, method="DELETE" if forget else "GET")
    with urllib.request.urlopen(request, timeout=5) as answer:
        return json.load(answer)


def s1(stage: Stage, send: Sender) -> Iterator[Case]:
    """Passing through, small and large."""
    proxies = [stage.nginx(), stage.haproxy(), stage.envoy(), stage.semel("pass-through")]
    yield Case("GET 300 B", proxies, send.same("GET", 0, "/off/pay"))
    yield Case("POST 300 B, not guarded", proxies, send.same("POST", 300, "/off/pay"))
    for size, name in ((64 << 10, "64 KiB"), (1 << 20, "1 MiB")):
        # nginx has its settings for streaming under /stream/; semel passes /off/ through.
        for proxy in proxies:
            start = "/off" if proxy.name == "semel" else "/stream"
            proxy.paths[f"/{size}"] = f"{start}/pay?size={size}"
        yield Case(f"POST {name} each way, streamed", proxies, send.same("POST", size, f"/{size}", 16))


def s2(stage: Stage, send: Sender) -> Iterator[Case]:
    """Guarded, every key new."""
    always, everysec, peers = (stage.redis(fsync) for fsync in ("always", "everysec", "everysec"))
    yield Case(
        "POST 300 B, each with a new key",
        [
            stage.nginx(),
            stage.semel("memory"),
            stage.semel("embedded"),
            stage.semel("redis always", always),
            stage.semel("redis everysec", everysec),
            stage.idempotent_proxy(peers),
        ],
        send.unique(),
    )


def s3(stage: Stage, send: Sender) -> Iterator[Case]:
    """Replays of what is settled."""
    shared = stage.redis("everysec")
    guards = [
        stage.semel("memory"),
        stage.semel("embedded"),
        stage.semel("redis everysec", shared),
        stage.idempotent_proxy(stage.redis("everysec")),
    ]
    for guard in guards:
        settle(guard, "/pay", "known", KNOWN_KEYS)
    subjects = [stage.nginx(), *guards]
    yield Case("one hot settled key", subjects, send.known("known", 1))
    yield Case(f"{KNOWN_KEYS:,} settled keys at random", subjects, send.known("known", KNOWN_KEYS))

    # A process that settled none of them, asked for each key once.
    other, share = stage.semel("redis everysec", shared), 500
    keys = iter(range(1, KNOWN_KEYS + 1))

    def first_sight(subject: Subject, _round) -> dict:
        asked = [payment("/pay", f"known-{next(keys)}") for _ in range(share)]
        window, start = Window(subject.pids, subject.redis), time.monotonic()
        burst = Burst(subject.port, asked, 16).run()
        counted = burst_figures(burst, share / (time.monotonic() - start))
        return merged(counted | {"requests": share}, window)

    yield Case("settled by another process, each key for the first time", [other], first_sight, "burst")


def burst_figures(burst: Burst, rate: float) -> dict:
    """A burst's figures under the names that load generators use."""
    p50, p99, p999, most = (burst.percentile_ms(share) for share in (0.5, 0.99, 0.999, 1))
    figures = {"rps": round(rate, 1), "p50_ms": p50, "p99_ms": p99, "p999_ms": p999, "max_ms": most}
    return figures | {"errors": burst.errors}


def s4(stage: Stage, send: Sender) -> Iterator[Case]:
    """A storm of duplicates, and who else suffers from it."""
    # Unhurried: what is measured is how long others wait, and not how much fits in.
    background, busy = "/pay?delay_ms=5", 8
    slow = Sender(max(send.seconds, STORM_SECONDS))
    subjects = [
        stage.semel("embedded"),
        stage.semel("redis everysec", stage.redis("everysec")),
        stage.idempotent_proxy(stage.redis("everysec")),
    ]

    def storm(subject: Subject, _round) -> dict:
        upstream_counted(stage, forget=True)
        window = Window(subject.pids, subject.redis)
        others = wrk(subject.port, subject.path(background), ["unique", fresh()], slow.seconds, busy)
        time.sleep(0.5)
        path, way = subject.path("/pay?delay_ms=2000&count"), ["once", fresh(), STORM]
        duplicates = wrk(subject.port, path, way, slow.seconds - 1, STORM)
        stormed = wrk_result(duplicates, slow.seconds)
        figures = merged(wrk_result(others, slow.seconds), window)
        figures["extra"] |= {
            "storm_answered": stormed["requests"],
            "storm_errors": stormed["errors"] + max(0, STORM - stormed["requests"]),
            "storm_p50_ms": stormed["p50_ms"],
            "executions_of_the_slow_key": upstream_counted(stage)["executions"],
        }
        return figures

    yield Case("background alone", subjects, slow.unique(background, busy))
    yield Case(f"background beside {STORM} duplicates of a slow key", subjects, storm, warms_up=False)


def s5(stage: Stage, send: Sender) -> Iterator[Case]:
    """What a day looks like: most is new, some comes again, a little of it too soon."""
    path, known = "/pay?delay_ms=50", 1000
    guards = [
        stage.semel("embedded"),
        stage.semel("redis everysec", stage.redis("everysec")),
        stage.idempotent_proxy(stage.redis("everysec")),
    ]
    for guard in guards:
        settle(guard, path, "known", known)

    def mix(subject: Subject, _round) -> dict:
        return send.closed(subject, path, ["mix", fresh(), "known", known])

    yield Case("80 % new, 15 % settled, 5 % in flight; upstream 50 ms", [stage.envoy(), *guards], mix)


def s7(stage: Stage, send: Sender) -> Iterator[Case]:
    """What a proxy adds to the latency when there is little to do."""
    subjects = [
        stage.direct(),
        stage.nginx(),
        stage.envoy(),
        stage.semel("pass-through"),
        stage.semel("memory"),
        stage.semel("redis everysec", stage.redis("everysec")),
        stage.semel("redis always", stage.redis("always")),
    ]
    yield Case(f"{RATE:,} requests/s", subjects, send.at_rate, "oha")


def s9(stage: Stage, send: Sender) -> Iterator[Case]:
    """Two processes, one Redis, the same keys."""
    redis = stage.redis("everysec")
    pair = [stage.semel("redis everysec", redis) for _ in range(2)]
    path, half = "/pay?count", CONNECTIONS // 2

    def both(_subject: Subject, _round) -> dict:
        upstream_counted(stage, forget=True)
        window, prefix = Window([one.process.pid for one in pair], redis), fresh()
        running = [wrk(one.port, path, ["unique", prefix], send.seconds, half) for one in pair]
        first, second = (wrk_result(one, send.seconds) for one in running)
        # Latencies do not add up: the slower of the two is told.
        counted = {name: max(first[name], second[name]) for name in first}
        counted |= {name: first[name] + second[name] for name in ("requests", "rps", "errors")}
        figures = merged(counted, window)
        # What was under way when wrk left still ends.
        time.sleep(0.2)
        figures["extra"] |= upstream_counted(stage)
        return figures

    yield Case("one process", pair[:1], send.unique(path, half))
    yield Case("two processes, each key sent to both", pair[:1], both)


def s10(stage: Stage, send: Sender) -> Iterator[Case]:
    """An upstream with TLS."""
    stage.start_tls_upstream()
    pooled = [stage.nginx(tls=True), stage.semel("memory", tls=True)]
    yield Case("pooled: connections are kept", pooled, send.unique())
    single_use = [
        stage.nginx(tls=True, single_use=True),
        stage.semel("memory", tls=True, connections="single_use"),
    ]
    yield Case("single_use: a connection for each request", single_use, send.unique(connections=16))
