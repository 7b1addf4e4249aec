"""semel beside its peers: `make bench`, or `python3 bench/load --only S2,S3 --rounds 3`.

Each scenario puts its proxies before one fast upstream: the proxies on one core, load, upstream and
stores on another. Every case is played in rounds, all subjects in turn, and each figure is the median
of the rounds. Read `scenarios` for what is sent to whom, `proxies` for how each is configured,
`measure` for where the figures come from, `targets` for what was to be reached.
"""

import argparse
import signal
import sys
import time
from pathlib import Path

from footprint import s8
from growth import s6
from processes import ROOT, Field, Missing, find, settle_down
from proxies import Stage
from results import Results, middle
from scenarios import STORM_SECONDS, Scenario, Sender, s1, s2, s3, s4, s5, s7, s9, s10
from targets import judged

# Warm-ups are as long as wrk's shortest run.
WARM_UP_SECONDS = 1
# What a window takes beyond itself: processes to start, figures to read.
WINDOW_EXTRA_SECONDS = 0.2

GUARDS = "redis-server idempotent-proxy-server"
SCENARIOS = [
    Scenario("S1", "Passed through", s1, 16, 6, "wrk nginx haproxy envoy"),
    Scenario("S2", "Guarded, each request with a new key", s2, 6, 9, f"wrk nginx {GUARDS}"),
    Scenario("S3", "Replays of settled keys", s3, 10, 15, f"wrk nginx {GUARDS}"),
    Scenario("S4", "A storm of duplicates", s4, 6, 10, f"wrk {GUARDS}", seconds_min=STORM_SECONDS),
    Scenario("S5", "A mix, as on a day", s5, 4, 10, f"wrk envoy {GUARDS}"),
    Scenario("S6", "Growth of the store", s6, 20, 400, "wrk redis-server"),
    Scenario("S7", "1,000 requests per second", s7, 7, 10, "oha nginx envoy redis-server"),
    Scenario("S8", "Start and memory", s8, 0, 80, "nginx envoy"),
    Scenario("S9", "Two processes on one Redis", s9, 2, 3, "wrk redis-server"),
    Scenario("S10", "An upstream with TLS", s10, 4, 6, "wrk nginx openssl"),
]


def options() -> argparse.Namespace:
    """What was asked for on the command line."""
    parser = argparse.ArgumentParser(prog="bench/load", description="semel beside its peers")
    parser.add_argument("--only", help="scenarios to run, as in S2,S3; default: all but S6")
    parser.add_argument("--rounds", type=int, default=5, help="how often each case is played")
    parser.add_argument("--seconds", type=float, default=3, help="how long a window is")
    parser.add_argument("--out", type=Path, default=ROOT / "target/bench/results.json")
    parser.add_argument("--semel", type=Path, default=ROOT / "target/release/semel")
    return parser.parse_args()


def chosen(only: str) -> list:
    """The scenarios to run, in their order."""
    known = [scenario.id for scenario in SCENARIOS]
    wanted = only.upper().split(",") if only else [id for id in known if id != "S6"]
    for id in wanted:
        if id not in known:
            sys.exit(f"there is no scenario {id}: {', '.join(known)}")
    return [scenario for scenario in SCENARIOS if scenario.id in wanted]


def estimate(scenario: Scenario, rounds: int, seconds: float) -> float:
    """About how many seconds a scenario takes."""
    window = max(seconds, scenario.seconds_min) + WINDOW_EXTRA_SECONDS
    warm_ups = scenario.windows * (WARM_UP_SECONDS + WINDOW_EXTRA_SECONDS)
    return scenario.fixed_seconds + warm_ups + scenario.windows * rounds * window


def play(scenario: Scenario, stage: Stage, rounds: int, seconds: float) -> list:
    """Plays a scenario's cases in rounds; returns a row for each case and subject."""
    rows, send = [], Sender(seconds)
    for case in scenario.cases(stage, send):
        found = {subject.name: [] for subject in case.subjects}
        if case.warms_up:
            send.seconds = WARM_UP_SECONDS
            for subject in case.subjects:
                case.run(subject, 0)
            send.seconds = seconds
        for number in range(1, (case.rounds or rounds) + 1):
            for subject in case.subjects:
                found[subject.name].append(case.run(subject, number))
        for name, figures in found.items():
            row = {"case": case.name, "subject": name, "tool": case.tool, "rounds": figures}
            rows.append(row | {"median": middle(figures)})
            tell(case.name, name, rows[-1]["median"])
    return rows


def tell(case: str, subject: str, figures: dict) -> None:
    """A row for who watches."""
    shown = ("rps", "cpu_us", "p50_ms", "p99_ms", "p999_ms", "errors", "rss_peak_kib", "store_commands", "extra")
    values = " ".join(f"{name}={figures[name]}" for name in shown if figures.get(name) is not None)
    print(f"    {case} · {subject}: {values}", flush=True)


def main() -> None:
    asked = options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by a signal"))
    plan = chosen(asked.only)
    times = [estimate(scenario, asked.rounds, asked.seconds) for scenario in plan]
    for scenario, seconds in zip(plan, times):
        print(f"{scenario.id:>4}  {scenario.title:<40} about {seconds / 60:4.1f} min")
    print(f"about {sum(times) / 60:.0f} minutes, {asked.rounds} rounds of {asked.seconds:g} s", flush=True)

    # Better now than in ten minutes.
    for name in sorted({name for scenario in plan for name in scenario.needs.split()}):
        find(name)
    settle_down()
    semel = asked.semel.resolve()
    if not semel.exists():
        raise Missing(f"{semel} is not there: `make bench` builds it")
    results = Results(asked.out, semel, asked.rounds, asked.seconds)
    began = time.monotonic()
    for scenario in plan:
        print(f"{scenario.id} {scenario.title} ({(time.monotonic() - began) / 60:.1f} min)", flush=True)
        with Field() as field:
            rows = play(scenario, Stage(field, semel), asked.rounds, asked.seconds)
        results.add(scenario.id, scenario.title, rows)
    results.judge(judged(results.found["scenarios"]))
    for target in results.found["targets"]:
        mark = "met   " if target["met"] else "MISSED"
        print(f"{mark} {target['id']:>3} {target['what']}: {target['value']:g} (limit {target['limit']:g})")
    print(f"wrote {asked.out} after {(time.monotonic() - began) / 60:.1f} minutes")


if __name__ == "__main__":
    try:
        main()
    except Missing as missing:
        sys.exit(str(missing))
    except KeyboardInterrupt:
        sys.exit("interrupted")
