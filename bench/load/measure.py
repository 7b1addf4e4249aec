"""What the operating system and Redis know about a running process, before and after a window.

CPU time is user and system time of all its threads and children, to the nanosecond where the kernel's
scheduler tells. Of all figures this one says most on a machine that does other things too.
"""

import os
import socket
from dataclasses import dataclass

from processes import group

TICKS = os.sysconf("SC_CLK_TCK")
NS = 1_000_000_000

# A script is one round trip, and the commands inside of it are counted too.
SCRIPTS = {"eval", "evalsha", "evalsha_ro", "fcall", "fcall_ro"}
# Asked by this program.
OURS = {"info", "dbsize"}


def cpu_of_threads(pid: int) -> dict:
    """Nanoseconds on a core, by thread."""
    spent = {}
    for tid in os.listdir(f"/proc/{pid}/task"):
        try:
            with open(f"/proc/{pid}/task/{tid}/schedstat") as stat:
                spent[tid] = int(stat.read().split()[0])
        except FileNotFoundError:
            continue
    return spent


def cpu_of_process(pid: int) -> int:
    """Nanoseconds of a process in whole ticks, threads that have ended included."""
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * NS // TICKS


class Cpu:
    """CPU time of a process and its children since this was made."""

    def __init__(self, pid: int):
        self.leader = pid
        self.start = {pid: self.read(pid) for pid in group(self.leader)}

    @staticmethod
    def read(pid: int) -> tuple:
        try:
            threads = cpu_of_threads(pid)
        except FileNotFoundError:
            threads = {}
        return threads, cpu_of_process(pid)

    def spent_us(self) -> float:
        """Microseconds so far."""
        total = 0
        for pid in group(self.leader):
            threads, ticks = self.read(pid)
            old_threads, old_ticks = self.start.get(pid, ({}, 0))
            if set(old_threads) <= set(threads):
                total += sum(threads.values()) - sum(old_threads.values())
            else:
                # A thread ended in between and took its figures along; the process has them.
                total += ticks - old_ticks
        return total / 1000


def memory_kib(pid: int, what: str) -> int:
    """`VmRSS` or `VmHWM` (its peak) of a process and its children, in KiB."""
    total = 0
    for one in group(pid):
        with open(f"/proc/{one}/status") as status:
            lines = [line for line in status if line.startswith(what + ":")]
        total += sum(int(line.split()[1]) for line in lines)
    return total


def forget_peak(pid: int) -> None:
    """Lets the peak of its memory begin anew."""
    for one in group(pid):
        with open(f"/proc/{one}/clear_refs", "w") as refs:
            refs.write("5")


@dataclass
class Redis:
    """A Redis server, asked in its own words."""

    port: int
    pid: int

    def ask(self, *words: str) -> bytes:
        """Sends one command and returns what comes first."""
        with socket.create_connection(("127.0.0.1", self.port), 10) as line:
            line.sendall((" ".join(words) + "\r\n").encode())
            file = line.makefile("rb")
            head = file.readline().strip()
            if head.startswith(b"-"):
                raise RuntimeError(head.decode())
            return file.read(int(head[1:])) if head.startswith(b"$") else head[1:]

    def commands(self) -> dict:
        """How often each command was called, those inside of scripts included."""
        calls = {}
        for line in self.ask("INFO", "commandstats").decode().splitlines():
            if line.startswith("cmdstat_"):
                name, figures = line.removeprefix("cmdstat_").split(":", 1)
                calls[name] = int(figures.split(",")[0].removeprefix("calls="))
        return calls

    def used_memory(self) -> int:
        """Bytes that its data and structures take."""
        for line in self.ask("INFO", "memory").decode().splitlines():
            if line.startswith("used_memory:"):
                return int(line.split(":")[1])
        raise RuntimeError("Redis does not say how much memory it uses")

    def keys(self) -> int:
        """How many keys it has."""
        return int(self.ask("DBSIZE"))


class Window:
    """One window of load on one process: made before it, asked after it."""

    def __init__(self, pids: list, redis: Redis = None):
        self.pids, self.redis = pids, redis
        for pid in pids:
            forget_peak(pid)
        self.cpu = [Cpu(pid) for pid in pids]
        self.redis_cpu = Cpu(redis.pid) if redis else None
        self.commands = redis.commands() if redis else None

    def figures(self, requests: int) -> dict:
        """The figures of the process, per request."""
        requests = max(requests, 1)
        figures = {
            "cpu_us": round(sum(cpu.spent_us() for cpu in self.cpu) / requests, 2),
            "rss_peak_kib": sum(memory_kib(pid, "VmHWM") for pid in self.pids),
            "store_commands": None,
            "extra": {},
        }
        if self.redis:
            figures["extra"]["redis_cpu_us"] = round(self.redis_cpu.spent_us() / requests, 2)
            calls = {
                name: calls - self.commands.get(name, 0)
                for name, calls in sorted(self.redis.commands().items())
                if name not in OURS
            }
            trips = SCRIPTS & calls.keys() or calls.keys()
            figures["extra"]["round_trips"] = round(sum(calls[name] for name in trips) / requests, 3)
            each = {name: round(count / requests, 3) for name, count in calls.items()}
            figures["store_commands"] = {name: count for name, count in each.items() if count}
        return figures
