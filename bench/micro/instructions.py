#!/usr/bin/env python3
"""Instructions, system calls and allocations per request of a semel binary.

    bench/micro/instructions.py BINARY                   all cases; writes target/bench/instructions.json
    bench/micro/instructions.py BINARY --only SUBSTRING  some of them; writes nothing
    bench/micro/instructions.py BINARY --profile CASE    where the instructions of one case go

One process per store runs under callgrind, is warmed up, and is then asked N times per case over one
kept connection, one request after the other. Counters are zeroed before and read after those N.
The same once more under strace. Wants valgrind, strace and redis-server on the PATH.
"""

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

# How long a process may take to serve its first request; callgrind makes it fifty times slower.
READY_MAX = 60
# How long work may go on behind the answers before it no longer counts.
BEHIND = 0.5
# What takes memory: libc's, and those of allocators that one might link instead.
ALLOCATE = re.compile(r"^(_?_?libc_)?(malloc|calloc|realloc|posix_memalign|aligned_alloc|memalign)$"
                      r"|^(_rjem_|mi_)(malloc|mallocx|calloc|rallocx|realloc|malloc_aligned|zalloc)\w*$")
# What weighs more than in truth, because callgrind hides the processor's own instructions for it.
DIGEST = re.compile(r"sha2::")
MOVE = re.compile(r"__mem(cpy|move)_")
BODY = json.dumps({"amount": 4200, "currency": "eur", "reference": "r" * 24, "note": "n" * 220}).encode()
ANSWER = json.dumps({"id": "payment_1", "status": "succeeded", "note": "a" * 247}).encode()


@dataclass(frozen=True)
class Case:
    """What is asked, of a semel on which store."""

    name: str
    store: str
    request: str  # get, off, fresh, replay, foreign


CASES = [
    Case("GET passed through", "memory", "get"),
    Case("POST, mode: off", "memory", "off"),
    Case("guarded POST, memory store", "memory", "fresh"),
    Case("replay, memory store", "memory", "replay"),
    Case("guarded POST, embedded store", "embedded", "fresh"),
    Case("replay, embedded store", "embedded", "replay"),
    Case("guarded POST, Redis", "redis", "fresh"),
    Case("replay, Redis", "redis", "replay"),
    Case("replay of another process's answer, Redis", "redis", "foreign"),
]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Upstream(threading.Thread):
    """Answers everything at once, with the same answer."""

    def __init__(self):
        super().__init__(daemon=True)
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.listener.getsockname()[1]
        self.start()

    def run(self):
        while True:
            taken, _ = self.listener.accept()
            taken.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self.serve, args=(taken,), daemon=True).start()

    @staticmethod
    def serve(taken):
        head = (b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\n"
                b"Request-Id: req_0123456789\r\nContent-Length: %d\r\n\r\n" % len(ANSWER))
        messages = Messages(taken)
        while messages.next() is not None:
            taken.sendall(head + ANSWER)


class Messages:
    """HTTP messages with a Content-Length or nothing, from a socket."""

    def __init__(self, taken):
        self.taken, self.buffer = taken, b""

    def fill(self):
        with contextlib.suppress(OSError):
            more = self.taken.recv(65536)
            self.buffer += more
            return bool(more)
        return False

    def next(self):
        """The first line of the next message; None at the end."""
        while (end := self.buffer.find(b"\r\n\r\n")) < 0:
            if not self.fill():
                return None
        head = self.buffer[:end]
        length = re.search(rb"(?i)\ncontent-length: *(\d+)", head)
        end += 4 + (int(length[1]) if length else 0)
        while len(self.buffer) < end:
            if not self.fill():
                return None
        self.buffer = self.buffer[end:]
        return head


class Client:
    """A backend with one connection."""

    def __init__(self, port):
        self.taken = socket.create_connection(("127.0.0.1", port), timeout=READY_MAX)
        self.taken.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.messages = Messages(self.taken)

    def ask(self, request, key):
        common = ("Host: payments.internal\r\nUser-Agent: bench/1\r\nAccept: application/json\r\n"
                  "Authorization: Bearer 0123456789abcdef\r\n")
        if request == "get":
            whole = f"GET /v1/payments/payment_1 HTTP/1.1\r\n{common}\r\n".encode()
        else:
            path = "/off/payments" if request == "off" else "/v1/payments"
            whole = (f"POST {path} HTTP/1.1\r\n{common}Idempotency-Key: {key}\r\n"
                     f"Content-Type: application/json\r\nContent-Length: {len(BODY)}\r\n\r\n").encode() + BODY
        self.taken.sendall(whole)
        head = self.messages.next()
        if head is None or not head.startswith(b"HTTP/1.1 200"):
            sys.exit(f"{request} was answered with {head!r}")
        if (b"semel-answer: replay" in head.lower()) != (request in ("replay", "foreign")):
            sys.exit(f"{request} was answered with {head!r}")


class Semel:
    """A process on a store, perhaps under an instrument."""

    def __init__(self, binary, folder, store, upstream, instrument=()):
        self.port, admin = free_port(), free_port()
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.yaml").write_text(
            f"listen: 127.0.0.1:{self.port}\nadmin: {{ listen: 127.0.0.1:{admin} }}\n"
            f"store: {json.dumps(store)}\nsecret: {{ file: {folder.parent}/secret }}\n"
            f"upstreams: {{ payments: {{ url: http://127.0.0.1:{upstream.port} }} }}\n"
            "routes: [{ match: { path: /off/payments }, mode: off }, { match: { path: /v1/payments } }]\n")
        self.log = folder / "log"
        command = [*instrument, binary, "run", "--config", "config.yaml", "--log-filter", "warn"]
        with self.log.open("wb") as log:
            # libc moves large blocks by one instruction that callgrind counts once per byte: by loops here.
            environment = {**os.environ, "GLIBC_TUNABLES": "glibc.cpu.x86_rep_movsb_threshold=1073741824"}
            # On one core: as many worker threads as the bench has, and the same number on every machine.
            self.process = subprocess.Popen(
                command, cwd=folder, stdout=log, stderr=log, env=environment,
                preexec_fn=lambda: os.sched_setaffinity(0, {max(os.sched_getaffinity(0))}))
        self.client = self.await_ready()

    def await_ready(self):
        until = time.monotonic() + READY_MAX
        while time.monotonic() < until and self.process.poll() is None:
            with contextlib.suppress(OSError):
                return Client(self.port)
            time.sleep(0.05)
        sys.exit(f"semel did not start:\n{self.log.read_text()}")

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Bench:
    """Everything that the cases need, in a folder that goes when they are done."""

    def __init__(self, binary, count, cleanup):
        self.binary, self.count, self.cleanup = binary, count, cleanup
        self.folder = Path(cleanup.enter_context(tempfile.TemporaryDirectory()))
        self.upstream = Upstream()
        self.serial = 0

    def start(self, name, store, instrument=()):
        semel = Semel(self.binary, self.folder / name, store, self.upstream, instrument)
        self.cleanup.callback(semel.stop)
        return semel

    def store(self, name, kind):
        if kind == "memory":
            return {"kind": "memory"}
        if kind == "embedded":
            return {"kind": "embedded", "path": str(self.folder / name / "store")}
        return {"kind": "redis", "url": f"redis://127.0.0.1:{self.redis(self.folder / f'{name}-redis')}"}

    def redis(self, folder):
        folder.mkdir()
        port = free_port()
        server = subprocess.Popen(
            ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", folder, "--save", "",
             "--appendonly", "yes", "--appendfsync", "always"], stdout=subprocess.DEVNULL)
        self.cleanup.callback(server.wait)
        self.cleanup.callback(server.terminate)
        until = time.monotonic() + READY_MAX
        while time.monotonic() < until:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port)).close()
                return port
            time.sleep(0.05)
        sys.exit("redis-server did not start")

    def ask(self, semel, request, keys):
        for key in keys:
            semel.client.ask(request, key)
        time.sleep(BEHIND)

    def keys(self, semel, case, count, other):
        """Keys for so many requests of a case, settled before if they are to be replayed."""
        self.serial += 1
        keys = [f"order-{self.serial:04}-{n:08}" for n in range(count)]
        if case.request == "replay":
            keys = keys[:1] * count
            semel.client.ask("fresh", keys[0])
        if case.request == "foreign":
            self.ask(other, "fresh", keys)
        return keys

    def measure(self, name, cases, instrument, counted):
        """Starts one semel for cases of one store; yields what `counted(semel)` counts around each."""
        store = self.store(name, cases[0].store)
        semel = self.start(name, store, instrument)
        other = None
        if any(case.request == "foreign" for case in cases):
            other = self.start(f"{name}-other", store)
        for case in cases:
            warm = self.keys(semel, case, max(50, self.count // 10), other)
            keys = self.keys(semel, case, self.count, other)
            self.ask(semel, case.request, warm)
            with counted(semel) as result:
                self.ask(semel, case.request, keys)
            yield case, result


class Calls(dict):
    """What callgrind counted: per function its own and its inclusive instructions, and its calls."""

    @contextlib.contextmanager
    def around(self, semel, folder):
        pid = str(semel.process.pid)
        control = ["callgrind_control", f"--vgdb-prefix={folder}/vgdb"]
        subprocess.run([*control, "-z", pid], check=True, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)
        yield self
        before = set(folder.glob("callgrind.*"))
        subprocess.run([*control, "-d", pid], check=True, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)
        for dump in sorted(set(folder.glob("callgrind.*")) - before):
            self.read(dump)

    def read(self, dump):
        names, own, inclusive, calls = {}, defaultdict(int), defaultdict(int), defaultdict(int)
        here = callee = None
        with dump.open(errors="replace") as lines:
            for line in lines:
                if line.startswith(("fn=", "cfn=")):
                    kind, _, rest = line.rstrip("\n").partition("=")
                    number, _, name = rest.partition(" ")
                    name = names.setdefault(number, name)
                    here, callee = (name, None) if kind == "fn" else (here, name)
                elif line.startswith("calls="):
                    count = int(line[6:].split(" ", 1)[0])
                    calls[callee] += count
                    cost = int(next(lines).split(" ", 1)[1])
                    if callee != here:
                        inclusive[here] += cost
                elif line[0] in "0123456789+-*":
                    own[here] += int(line.split(" ", 1)[1])
        for name in set(own) | set(inclusive) | set(calls):
            mine = self.get(name, (0, 0, 0))
            new = (own[name], own[name] + inclusive[name], calls[name])
            self[name] = tuple(a + b for a, b in zip(mine, new))

    def total(self):
        return sum(own for own, _, _ in self.values())

    def of(self, names):
        """The own instructions of functions with such names."""
        return sum(own for name, (own, _, _) in self.items() if names.match(name))

    def allocations(self):
        return sum(calls for name, (_, _, calls) in self.items() if ALLOCATE.match(name))


def callgrind(bench, store, cases):
    folder = bench.folder / f"callgrind-{store}"
    folder.mkdir()
    instrument = ["valgrind", "-q", "--tool=callgrind", "--compress-pos=yes", "--dump-line=no",
                  f"--vgdb-prefix={folder}/vgdb", f"--callgrind-out-file={folder}/callgrind"]
    return bench.measure(f"counted-{store}", cases, instrument,
                         lambda semel: Calls().around(semel, folder))


class Syscalls(dict):
    """How often which system call was made."""

    @contextlib.contextmanager
    def around(self, trace):
        with trace.open(errors="replace") as lines:
            lines.seek(0, os.SEEK_END)
            yield self
            for line in lines:
                if called := re.match(r"\d+ +(\w+)\(", line):
                    self[called[1]] = self.get(called[1], 0) + 1


def strace(bench, store, cases):
    trace = bench.folder / f"trace-{store}"
    trace.touch()
    # -D: strace is the child and semel the one that is told to stop.
    return bench.measure(f"traced-{store}", cases, ["strace", "-D", "-f", "-qq", "-s", "0", "-o", str(trace)],
                         lambda semel: Syscalls().around(trace))


def by_store(cases):
    stores = defaultdict(list)
    for case in cases:
        stores[case.store].append(case)
    return stores.items()


def table(bench, cases):
    rows = {case: {"what": case.name} for case in cases}
    for store, those in by_store(cases):
        for case, calls in callgrind(bench, store, those):
            rows[case]["instructions"] = round(calls.total() / bench.count)
            rows[case]["digests"] = round(calls.of(DIGEST) / bench.count)
            rows[case]["moves"] = round(calls.of(MOVE) / bench.count)
            rows[case]["allocations"] = round(calls.allocations() / bench.count, 1)
        for case, syscalls in strace(bench, store, those):
            rows[case]["syscalls"] = round(sum(syscalls.values()) / bench.count, 2)
            rows[case]["by_name"] = {
                name: round(count / bench.count, 2)
                for name, count in sorted(syscalls.items(), key=lambda one: -one[1])
                if count * 20 >= bench.count}
    print("| per request | instructions | of them SHA-256 | memcpy | allocations | system calls | which |\n"
          "|---|---:|---:|---:|---:|---:|---|")
    for row in rows.values():
        which = ", ".join(f"{name} {count:g}" for name, count in row["by_name"].items())
        print(f"| {row['what']} | {row['instructions']:,} | {row['digests']:,} | {row['moves']:,} "
              f"| {row['allocations']} | {row['syscalls']} | {which} |")
    return list(rows.values())


def profile(bench, case, top):
    (_, calls), = callgrind(bench, case.store, [case])
    total = calls.total()
    print(f"{case.name}: {total / bench.count:,.0f} instructions and "
          f"{calls.allocations() / bench.count:.1f} allocations per request\n")
    for title, column in (("inclusive", 1), ("own", 0)):
        print(f"by {title} instructions, per request:\n{'incl.':>9} {'%':>5} {'own':>9} {'calls':>7}  function")
        worst = sorted(calls.items(), key=lambda one: -one[1][column])[:top]
        for name, (own, inclusive, count) in worst:
            own, inclusive, count = (n / bench.count for n in (own, inclusive, count))
            share = 100 * (inclusive if column else own) * bench.count / total
            print(f"{inclusive:9,.0f} {share:5.1f} {own:9,.0f} {count:7.2f}  {name}")
        print()


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("binary", type=Path)
    options.add_argument("--requests", type=int, default=500, metavar="N", help="per case [default: 500]")
    options.add_argument("--only", default="", metavar="SUBSTRING", help="cases whose name has this in it")
    options.add_argument("--profile", metavar="CASE", help="like --only, for the functions of one case")
    options.add_argument("--top", type=int, default=60, metavar="N", help="how many functions [default: 60]")
    options.add_argument("--out", type=Path, default=Path("target/bench/instructions.json"), metavar="FILE",
                         help="where the figures of all cases go [default: target/bench/instructions.json]")
    asked = options.parse_args()
    for tool in ("valgrind", "strace", "redis-server"):
        if not shutil.which(tool):
            sys.exit(f"{tool} is missing; scripts/setup-tests.sh {tool} installs it")
    cases = [case for case in CASES if (asked.profile or asked.only) in case.name]
    if not cases:
        sys.exit("no such case; there are: " + "; ".join(case.name for case in CASES))
    with contextlib.ExitStack() as cleanup:
        bench = Bench(asked.binary.resolve(), asked.requests, cleanup)
        if asked.profile:
            profile(bench, cases[0], asked.top)
            return
        rows = table(bench, cases)
    if not asked.only:
        asked.out.parent.mkdir(parents=True, exist_ok=True)
        asked.out.write_text(json.dumps({"requests": asked.requests, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
