"""Three ways to send requests: wrk, oha, and a burst that is counted to the request.

wrk drives closed loops (a connection sends when it was answered) and can give each request a key in
its header. oha drives fixed rates and corrects latencies for what it could not send in time; it cannot
vary a header, so keys go into the query there. A burst sends what it is given and no more: it prepares
settled keys, fills a proxy with slow requests, and is the storm of duplicates.
"""

import json
import selectors
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from processes import find

SCRIPT = Path(__file__).with_name("requests.lua")
# How much longer than its window a load generator may take.
GRACE_SECONDS = 30
BURST_SECONDS_MAX = 60

# KEY stands for its idempotency key: no two operations have the same content.
PAYMENT = json.dumps(
    {"amount": 4200, "currency": "eur", "reference": "KEY", "note": "n" * 220}, separators=(",", ":")
)


def wrk(port: int, path: str, way: list, seconds: float, connections: int) -> subprocess.Popen:
    """Starts wrk; `wrk_result` takes what it says."""
    command = [find("wrk"), "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", "10s"]
    command += ["-s", str(SCRIPT), f"http://127.0.0.1:{port}{path}", "--", PAYMENT, *map(str, way)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wrk_result(running: subprocess.Popen, seconds: float) -> dict:
    """Requests, rate, latencies and errors that wrk counted."""
    try:
        said, _ = running.communicate(timeout=seconds + GRACE_SECONDS)
    finally:
        running.kill()
    lines = [line for line in said.splitlines() if line.startswith("RESULT ")]
    if not lines:
        raise RuntimeError(f"wrk said: {said}")
    counted = json.loads(lines[0].removeprefix("RESULT "))
    # Something like 401 connections that were never answered is an error that wrk does not count.
    return {
        "requests": counted["requests"],
        "rps": round(counted["requests"] / counted["duration_us"] * 1e6, 1),
        "p50_ms": counted["p50"] / 1000,
        "p99_ms": counted["p99"] / 1000,
        "p999_ms": counted["p999"] / 1000,
        "max_ms": counted["max"] / 1000,
        "errors": counted["statuses"] + counted["sockets"],
    }


def oha(url: str, rate: int, seconds: float, connections: int) -> dict:
    """Sends payments at a fixed rate; the URL is a pattern, and each request gets one that fits it."""
    command = [find("oha"), "--no-tui", "--output-format", "json", "-z", f"{seconds}s"]
    # Nobody is left unanswered at the end: those are recognised by their content for a while.
    command += ["-w", "-q", str(rate), "-c", str(connections), "--latency-correction", "-m", "POST"]
    command += ["-T", "application/json", "-d", PAYMENT, "--rand-regex-url", url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + GRACE_SECONDS)
    if done.returncode != 0:
        raise RuntimeError(f"oha said: {done.stderr}")
    found = json.loads(done.stdout)
    statuses = {int(status): count for status, count in found["statusCodeDistribution"].items()}
    # What was under way when the time was up is cut, and is no error of the proxy.
    broken = sum(
        count for why, count in found["errorDistribution"].items() if "deadline" not in why
    )
    good = sum(count for status, count in statuses.items() if 200 <= status < 300)
    latency = found["latencyPercentiles"]
    return {
        "requests": sum(statuses.values()),
        "rps": round(found["summary"]["requestsPerSec"], 1),
        "p50_ms": round(latency["p50"] * 1000, 3),
        "p99_ms": round(latency["p99"] * 1000, 3),
        "p999_ms": round(latency["p99.9"] * 1000, 3),
        "max_ms": round(found["summary"]["slowest"] * 1000, 3),
        "errors": sum(statuses.values()) - good + broken,
    }


def payment(path: str, key: str) -> bytes:
    """A payment as it goes over the wire, the same for the same key as wrk sends it."""
    body = PAYMENT.replace("KEY", key)
    return (
        f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
        f"Idempotency-Key: {key}\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    ).encode()


@dataclass
class Burst:
    """Requests that are sent and answered, each once, over some connections."""

    port: int
    requests: list
    connections: int
    latencies: list = field(default_factory=list)
    errors: int = 0

    def run(self) -> "Burst":
        """Sends them all; returns when each is answered, its connection broken, or time is up."""
        waiting = list(reversed(self.requests))
        asked_at = {}
        with selectors.DefaultSelector() as ready:
            for _ in range(min(self.connections, len(waiting))):
                line = socket.create_connection(("127.0.0.1", self.port), 10)
                ready.register(line, selectors.EVENT_READ, bytearray())
                asked_at[line] = time.monotonic()
                line.sendall(waiting.pop())
            end = time.monotonic() + BURST_SECONDS_MAX
            while asked_at and time.monotonic() < end:
                for event, _ in ready.select(1):
                    self.hear(event, asked_at, waiting, ready)
            self.errors += len(asked_at) + len(waiting)
            for line in asked_at:
                line.close()
        return self

    def hear(self, event, asked_at: dict, waiting: list, ready) -> None:
        """Takes what came; sends the next once an answer is whole."""
        line, heard = event.fileobj, event.data
        try:
            came = line.recv(65_536)
        except OSError:
            came = b""
        heard += came
        status = whole(heard)
        if came and status is None:
            return
        self.latencies.append(time.monotonic() - asked_at.pop(line))
        self.errors += status is None or not 200 <= status < 300
        heard.clear()
        if came and waiting:
            asked_at[line] = time.monotonic()
            line.sendall(waiting.pop())
        else:
            ready.unregister(line)
            line.close()

    def percentile_ms(self, share: float) -> float:
        """The latency that this share of the requests stayed within."""
        ordered = sorted(self.latencies)
        return round(ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000, 3) if ordered else 0.0


def whole(answer: bytearray):
    """The status of an answer, if all of it has come."""
    head, found, body = answer.partition(b"\r\n\r\n")
    if not found:
        return None
    lines = head.decode("latin-1").lower().split("\r\n")
    status = int(lines[0].split()[1])
    for line in lines[1:]:
        name, _, value = line.partition(":")
        if name == "content-length" and len(body) < int(value):
            return None
        if name == "transfer-encoding" and not body.endswith(b"0\r\n\r\n"):
            return None
    return status
