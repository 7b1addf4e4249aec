"""S8: how fast a proxy is there, and how much memory it takes with nothing and with much to do."""

import threading
import time
from collections.abc import Callable, Iterator

from load import Burst, payment
from measure import Cpu, forget_peak, memory_kib
from proxies import Stage, Subject
from scenarios import Case, Sender, burst_figures, fresh

STARTS = 10
IDLE_SECONDS = 0.2
IN_FLIGHT = 2000
# How late the upstream answers them: time enough to send them all, and look. A connection that finds
# the queue of the listener full comes again after a second, or two more.
SLOW = "/pay?delay_ms=5000"
LOOK_SECONDS = 4.5


def s8(stage: Stage, _send: Sender) -> Iterator[Case]:
    """Start, idle, in flight."""
    makers = {
        "nginx": stage.nginx,
        "envoy": stage.envoy,
        "semel memory": lambda: stage.semel("memory"),
        "semel embedded": lambda: stage.semel("embedded"),
    }
    named = [Subject(name, None, 0) for name in makers]

    def once(measured: Callable) -> Callable:
        return lambda subject, _: measured(stage, makers[subject.name])

    yield Case("start to ready, and idle", named, once(start), "-", warms_up=False, rounds=STARTS)
    yield Case(f"{IN_FLIGHT:,} in flight", named, once(in_flight), "burst", warms_up=False, rounds=2)


def start(stage: Stage, make: Callable) -> dict:
    """Starts it, lets it be idle for a moment, stops it."""
    subject = make()
    # From the birth of the process: making its config is this program's work.
    ready = time.monotonic() - subject.process.born
    cpu = Cpu(subject.process.pid)
    time.sleep(IDLE_SECONDS)
    extra = {
        "ready_ms": round(ready * 1000, 2),
        "rss_idle_kib": memory_kib(subject.process.pid, "VmRSS"),
        "idle_cpu_us": round(cpu.spent_us()),
        "binary_bytes": subject.process.binary_bytes(),
    }
    stage.field.end(subject.process)
    return nothing() | {"extra": extra}


def in_flight(stage: Stage, make: Callable) -> dict:
    """Fills it with requests that wait for the upstream, and looks how much memory that takes."""
    subject = make()
    forget_peak(subject.process.pid)
    prefix = fresh()
    asked = [payment(SLOW, f"{prefix}-{number}") for number in range(IN_FLIGHT)]
    burst = Burst(subject.port, asked, IN_FLIGHT)
    sending = threading.Thread(target=burst.run)
    sending.start()
    time.sleep(LOOK_SECONDS)
    rss = memory_kib(subject.process.pid, "VmRSS")
    sending.join()
    peak = memory_kib(subject.process.pid, "VmHWM")
    stage.field.end(subject.process)
    extra = {"rss_in_flight_kib": rss, "max_ms": burst.percentile_ms(1)}
    return nothing() | burst_figures(burst, 0) | {"rps": None, "rss_peak_kib": peak, "extra": extra}


def nothing() -> dict:
    """Figures of a window in which nothing of the kind was measured."""
    names = ("rps", "cpu_us", "p50_ms", "p99_ms", "p999_ms", "rss_peak_kib", "store_commands")
    return dict.fromkeys(names) | {"errors": 0}
