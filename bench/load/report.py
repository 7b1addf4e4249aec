#!/usr/bin/env python3
"""Makes bench/README.md's results, README.md's Speed section and the plots from what `make bench` measured.

    bench/load/report.py            from bench/results/*.json, as committed
    bench/load/report.py FOLDER     takes results.json, growth.json and instructions.json from there first

A bench that is not there yet (growth, instructions) is left out; one that is not as it should be stops all.
"""

import json
import re
import shutil
import sys
from pathlib import Path

import plots

ROOT = Path(__file__).resolve().parents[2]
MEASURES = ["rps", "cpu_us", "p50_ms", "p99_ms", "p999_ms", "errors", "rss_peak_kib"]
NAMES = {
    "direct": "no proxy",
    "semel memory": "semel, memory",
    "semel embedded": "semel, embedded (synced)",
    "semel redis always": "semel, Redis (always)",
    "semel redis everysec": "semel, Redis (everysec)",
}
NUMBER = (int, float)


class Wrong(Exception):
    """The measurements cannot be reported; says why."""


# Reading


def load(path):
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise Wrong(f"{path} is not there: run `make bench` first") from None
    except ValueError as error:
        raise Wrong(f"{path} is not JSON: {error}") from None


def is_number(value):
    return isinstance(value, NUMBER) and not isinstance(value, bool)


class Checks:
    """What is wrong with a file, all of it, each with its place."""

    def __init__(self):
        self.problems = []

    def field(self, at, holder, key, types, optional=False):
        """The field if it is there and of these types; else what is like it, so that checking goes on."""
        value = holder.get(key) if isinstance(holder, dict) else None
        if value is None and optional:
            return None
        if not isinstance(value, types) or isinstance(value, bool) and bool not in types:
            names = " or ".join(kind.__name__ for kind in types)
            self.problems.append(f"{at}.{key}: {names} expected, got {json.dumps(value)[:60]}")
            return types[0]()
        return value

    def measured(self, at, median):
        for key in MEASURES:
            self.field(at, median, key, NUMBER, optional=True)
        commands = self.field(at, median, "store_commands", (dict,), optional=True) or {}
        for name in commands:
            self.field(f"{at}.store_commands", commands, name, NUMBER)
        self.field(at, median, "extra", (dict,), optional=True)

    def bench(self, bench):
        for place, scenario in enumerate(self.field("", bench, "scenarios", (list,))):
            at = f".scenarios[{place}]"
            for key in ("id", "title"):
                self.field(at, scenario, key, (str,))
            for order, case in enumerate(self.field(at, scenario, "cases", (list,))):
                here = f"{at}.cases[{order}]"
                for key in ("case", "subject"):
                    self.field(here, case, key, (str,))
                self.field(here, case, "tool", (str,), optional=True)
                self.measured(f"{here}.median", self.field(here, case, "median", (dict,)))
                rounds = self.field(here, case, "rounds", (list,), optional=True) or []
                for turn in range(len(rounds)):
                    self.measured(f"{here}.rounds[{turn}]", self.field(here + ".rounds", dict(enumerate(rounds)), turn, (dict,)))
        for place, target in enumerate(self.field("", bench, "targets", (list,), optional=True) or []):
            at = f".targets[{place}]"
            for key in ("id", "what"):
                self.field(at, target, key, (str,))
            self.field(at, target, "limit", NUMBER)
            self.field(at, target, "value", NUMBER, optional=True)
            self.field(at, target, "met", (bool,), optional=True)
        machine = self.field("", bench, "machine", (dict,), optional=True) or {}
        self.field(".machine", machine, "versions", (dict,), optional=True)

    def instructions(self, counted):
        for place, row in enumerate(self.field("", counted, "rows", (list,))):
            self.field(f".rows[{place}]", row, "what", (str,))
            self.field(f".rows[{place}]", row, "instructions", NUMBER)


def read(folder, name, check, needed=False):
    """One measurement, checked; None if it was not made."""
    path = folder / name
    if not needed and not path.exists():
        return None
    value = load(path)
    checks = Checks()
    check(checks, value)
    if checks.problems:
        raise Wrong(f"{path} is not as it should be:\n  " + "\n  ".join(checks.problems))
    return value


def with_growth(bench, growth):
    """One list of scenarios and targets: what the growth bench measured counts before the other's."""
    if growth is None:
        return bench["scenarios"], bench.get("targets") or []
    scenarios = {scenario["id"]: scenario for scenario in bench["scenarios"] + growth["scenarios"]}
    targets = {(it["id"], it["what"]): it for it in (bench.get("targets") or []) + (growth.get("targets") or [])}
    in_order = lambda name: [int(part) if part.isdigit() else part for part in re.findall(r"\d+|\D+", name)]
    return (sorted(scenarios.values(), key=lambda it: in_order(it["id"])),
            sorted(targets.values(), key=lambda it: in_order(it["id"])))


# Tables


def shown(subject):
    name, comma, more = subject.partition(",")
    return NAMES.get(name, name) + comma + more


def cpu_of(row):
    """A proxy's CPU time per request; where there is none in between it is the upstream's, which nobody asked for."""
    return None if row["subject"] == "direct" else row["median"].get("cpu_us")


def in_cases(scenario):
    """The rows by case, in the order in which they were measured."""
    groups = {}
    for row in scenario["cases"]:
        groups.setdefault(row["case"], []).append(row)
    return groups


def floor_of(scenario, case):
    """What nginx spends on a request of this case, or on one of this scenario where it has no such case."""
    spent = [(row["case"] == case, row["median"].get("cpu_us"))
             for row in scenario["cases"] if row["subject"] == "nginx"]
    here = [cpu for same, cpu in spent if same and cpu]
    anywhere = [cpu for _, cpu in spent if cpu]
    return (here or anywhere or [None])[0]


def cell(value, scale=1.0):
    return "" if value is None else plots.number(value / scale) if is_number(value) else str(value)


def cpu_cell(row):
    median = cpu_of(row)
    rounds = [it["cpu_us"] for it in row.get("rounds") or [] if it.get("cpu_us") is not None]
    if median is None or len(rounds) < 2:
        return cell(median)
    return f"{cell(median)} ({cell(min(rounds))}–{cell(max(rounds))})"


def commands_cell(row):
    commands = row["median"].get("store_commands")
    if commands is None:
        return ""
    return ", ".join(f"{name} {value:.2f}" for name, value in sorted(commands.items())) or "none"


def added_cell(scenario, key):
    """What a row adds to the latency of going direct, if somebody went."""
    def show(row):
        direct = next((it["median"].get(key) for it in in_cases(scenario)[row["case"]] if it["subject"] == "direct"), None)
        value = row["median"].get(key)
        return "" if None in (direct, value) or row["subject"] == "direct" else f"{value - direct:.3f}"

    return show


def extra_column(key):
    """A heading and a column for a measure that only some scenarios have, by its name: `ready_ms`, `rss_idle_kib`."""
    units = {"_ms": (", ms", 1), "_us": (", µs", 1), "_kib": (", MiB", 1024), "_bytes": (", MiB", 1 << 20)}
    suffix = next((end for end in units if key.endswith(end)), "")
    unit, scale = units.get(suffix, ("", 1))
    proper = {"rss": "RSS", "cpu": "CPU", "redis": "Redis"}
    heading = " ".join(proper.get(word, word) for word in key.removesuffix(suffix).split("_")) + unit
    return heading, lambda row: cell((row["median"].get("extra") or {}).get(key), scale)


def columns(scenario):
    def ratio(row):
        cpu, floor = cpu_of(row), floor_of(scenario, row["case"])
        return f"{cpu / floor:.2f}" if cpu is not None and floor else ""

    def measure(key, scale=1.0):
        return lambda row: cell(row["median"].get(key), scale)

    extras = dict.fromkeys(key for row in scenario["cases"] for key, value in (row["median"].get("extra") or {}).items()
                           if is_number(value) or isinstance(value, str))
    return [
        ("requests/s", measure("rps")),
        ("CPU, µs per request (rounds)", cpu_cell),
        ("to nginx", ratio),
        ("p50, ms", measure("p50_ms")),
        ("p99, ms", measure("p99_ms")),
        ("p99.9, ms", measure("p999_ms")),
        ("added p50, ms", added_cell(scenario, "p50_ms")),
        ("added p99, ms", added_cell(scenario, "p99_ms")),
        *map(extra_column, extras),
        ("peak RSS, MiB", measure("rss_peak_kib", 1024)),
        ("store commands per request", commands_cell),
        ("errors", measure("errors")),
    ]


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def scenario_table(scenario):
    """A row per subject, a bold row per case; columns in which nothing was measured are left out."""
    used = [(head, show) for head, show in columns(scenario) if any(show(row) for row in scenario["cases"])]
    rows = []
    for case, group in in_cases(scenario).items():
        rows.append([f"**{case}**"] + [""] * len(used))
        rows += [[shown(row["subject"])] + [show(row) for _, show in used] for row in group]
    return table([""] + [head for head, _ in used], rows)


def verdict(target):
    return {None: "not measured", True: "met", False: "**missed**"}[target.get("met")]


def targets_table(targets):
    rows = [[it["id"], it["what"], f"≤ {cell(it['limit'])}", cell(it.get("value")), verdict(it)] for it in targets]
    return table(["", "What", "Limit", "Measured", ""], rows)


# Plots


def cpu_groups(scenario, only=None):
    groups = []
    for case, rows in in_cases(scenario).items():
        spent = [(shown(row["subject"]), row["subject"], cpu_of(row)) for row in rows if cpu_of(row)]
        if spent and only in (None, case):
            groups.append((case, "µs", floor_of(scenario, case), spent))
    return groups


def latency_groups(scenario):
    # With and without the storm are to stand beside each other.
    by_subject = scenario["id"] == "S4"
    groups = {}
    for row in scenario["cases"]:
        percentiles = [row["median"].get(key) for key in ("p50_ms", "p99_ms", "p999_ms")]
        heading, label = (shown(row["subject"]), row["case"]) if by_subject else (row["case"], shown(row["subject"]))
        if percentiles[0]:
            groups.setdefault(heading, []).append((label, row["subject"], percentiles))
    return list(groups.items())


def footprint_groups(scenario):
    """Time and memory, which are in no unit that bars could share."""
    groups = []
    kinds = (("start to ready", "ready_ms", "ms", 1), ("RSS, idle", "rss_idle_kib", "MiB", 1024),
             ("RSS, 2,000 in flight", "rss_in_flight_kib", "MiB", 1024), ("binary", "binary_bytes", "MiB", 1 << 20))
    for heading, key, unit, scale in kinds:
        values = [(row["subject"], (row["median"].get("extra") or {}).get(key)) for row in scenario["cases"]]
        rows = [(shown(subject), subject, value / scale) for subject, value in values if is_number(value)]
        if rows:
            floor = next((value for _, subject, value in rows if subject == "nginx"), None)
            groups.append((heading, unit, floor, rows))
    return groups


def level_of(row):
    """How many records were in the store, and the case without them: `new keys, 1,000 records` → (1000, "new keys")."""
    said = re.search(r"\W*\b([\d,]+) records", row["case"])
    if said is None:
        return (row["median"].get("extra") or {}).get("records"), row["case"]
    rest = row["case"].replace(said[0], "")
    return int(said[1].replace(",", "")), f"{rest} them" if rest.endswith(" of") else rest


def growth_panels(scenario):
    panels = []
    for heading, key, unit in (("CPU per request", "cpu_us", "µs"), ("p99", "p99_ms", "ms")):
        series = {}
        for row in scenario["cases"]:
            (records, case), value = level_of(row), row["median"].get(key)
            if records is not None and value is not None:
                series.setdefault(f"{shown(row['subject'])}: {case}", []).append((records, value))
        series = {name: points for name, points in series.items() if len(points) > 1}
        if series:
            panels.append((heading, unit, list(series.items())))
    return panels


CPU_NOTE = "user + system time of the proxy, median of the rounds; dashed: nginx; each group on a scale of its own"


def drawn(scenario):
    """The plots of a scenario: what each shows, the end of its name, the SVG."""
    name, title = scenario["id"], scenario["title"]
    if name == "S6" and (panels := growth_panels(scenario)):
        return [("growth", "growth", plots.lines(f"{name}  {title}", "across: records in the store", panels))]
    if name == "S8" and (groups := footprint_groups(scenario)):
        note = "dashed: nginx; each group on a scale of its own"
        return [("footprint", "footprint", plots.bars(f"{name}  {title}", note, groups))]
    made = []
    if groups := cpu_groups(scenario):
        made.append(("CPU per request", "cpu", plots.bars(f"{name}  {title}: CPU per request", CPU_NOTE, groups)))
    if groups := latency_groups(scenario):
        note = "logarithmic; the median of each round's percentile"
        made.append(("latency", "latency", plots.dots(f"{name}  {title}: latency", note, groups, "ms")))
    return made


# Pages

INSTRUCTIONS_NOTE = """\
Per request, counted by callgrind in user space: free of noise, and blind to the kernel's part. Digests (SHA-256) and moves (copies
of memory) are in the first number too; callgrind hides the processor's own instructions for SHA-256, so digests weigh more
here than they do in truth."""


def measured_on(bench):
    machine = bench.get("machine") or {}
    versions = ", ".join(f"{name} {version}" for name, version in (machine.get("versions") or {}).items() if version)
    parts = [machine.get("cpu"), machine.get("cores") and f"{machine['cores']} cores", machine.get("memory"),
             machine.get("kernel"), versions]
    turns = f"{bench.get('rounds')} rounds of {bench.get('seconds')} s" if bench.get("rounds") else ""
    load = f"load average before: {bench['load_before']}" if bench.get("load_before") else ""
    return "; ".join(str(part) for part in [bench.get("when"), turns, *parts, load] if part) + "."


def results_section(bench, growth, counted, names):
    scenarios, targets = with_growth(bench, growth)
    parts = [f"Measured {measured_on(bench)}"]
    if growth:
        parts.append(f"S6 measured {measured_on(growth)}")
    if targets:
        met = sum(target.get("met") is True for target in targets)
        parts += ["### Targets", f"{met} of {len(targets)} met.", targets_table(targets)]
    for scenario in scenarios:
        tools = sorted({row.get("tool") for row in scenario["cases"]} & {"oha", "wrk"})
        parts += [f"### {scenario['id']}: {scenario['title']}", scenario_table(scenario)]
        if tools:
            parts.append(f"Load by {' and '.join(tools)}.")
        parts += [f"![{scenario['id']}: {what}](plots/{name})" for what, name in names[scenario["id"]]]
    if counted:
        more = dict.fromkeys(key for row in counted["rows"] for key, value in row.items() if is_number(value))
        rows = [[row["what"]] + [cell(row.get(key)) for key in more] for row in counted["rows"]]
        parts += ["### Instructions", INSTRUCTIONS_NOTE,
                  table([""] + [key.replace("_", " ") for key in more], rows)]
    return "\n\n".join(parts)


# What README.md shows: the first case of each of these.
SHOWN = ("S1", "S2", "S3")
READ_ME = """\
How much CPU time a proxy spends on a request, measured beside its peers on the same machine in the same run. nginx, as a plain
proxy, guards nothing and keeps no record: it is the floor, and the ratio is the price of the guard.

![CPU per request, beside the peers](bench/plots/speed.svg)

{table}

All were given one core. Read the ratios: microseconds are this machine's, and rates and latencies also tell of what shared it. A guarded
request is on record before it is sent, and its answer before it is given back; the store's syncs, which the disk decides, are in its
latency and not in its CPU time. A replay asks no upstream, so it can take less than passing on.

{verdict}How it was measured, all scenarios, what was tried, how to repeat it (`make bench-setup && make bench`):
[bench/README.md](bench/README.md)."""


def erred(row):
    errors = row["median"].get("errors")
    return f" (**{cell(errors)} errors**)" if errors else ""


def speed_section(scenarios, targets):
    rows, groups = [], []
    for scenario in (it for it in scenarios if it["id"] in SHOWN and it["cases"]):
        case, group = next(iter(in_cases(scenario).items()))
        show = dict(columns(scenario))
        rows.append([f"**{case}**"] + [""] * 5)
        rows += [[shown(row["subject"]) + erred(row), cell(row["median"].get("cpu_us"))]
                 + [show[head](row) for head in ("to nginx", "requests/s", "p50, ms", "p99, ms")]
                 for row in group if row["subject"] != "direct"]
        groups += cpu_groups(scenario, only=case)
    if not groups:
        raise Wrong(f"none of {', '.join(SHOWN)} has CPU times: nothing to show in README.md")
    judged = [target for target in targets if target.get("met") is not None]
    missed = sum(not target["met"] for target in judged)
    said = f"Of {len(judged)} targets, {len(judged) - missed} were met. " if judged else ""
    head = ["", "CPU, µs per request", "to nginx", "requests/s", "p50, ms", "p99, ms"]
    svg = plots.bars("CPU per request", CPU_NOTE, groups)
    return READ_ME.format(table=table(head, rows), verdict=said), svg


def between(path, opening, closing, text):
    """The page with this text between two of its marks."""
    page = path.read_text()
    before, mark, rest = page.partition(opening)
    _, end, after = rest.partition(closing)
    if not mark or not end:
        raise Wrong(f"{path} lacks its marks {opening} … {closing}")
    return f"{before}{opening}\n{text}\n{closing}{after}"


def pages(root):
    """What each file is to contain, by its path: the two pages and the plots."""
    results = root / "bench/results"
    bench = read(results, "results.json", Checks.bench, needed=True)
    growth = read(results, "growth.json", Checks.bench)
    counted = read(results, "instructions.json", Checks.instructions)
    scenarios, targets = with_growth(bench, growth)
    speed, summary = speed_section(scenarios, targets)

    files, names = {"bench/plots/speed.svg": summary}, {}
    for scenario in scenarios:
        made = [(what, f"{scenario['id']}-{end}.svg", svg) for what, end, svg in drawn(scenario)]
        files |= {f"bench/plots/{name}": svg for _, name, svg in made}
        names[scenario["id"]] = [(what, name) for what, name, _ in made]
    section = results_section(bench, growth, counted, names)
    files["bench/README.md"] = between(root / "bench/README.md", "<!-- results -->", "<!-- /results -->", section)
    files["README.md"] = between(root / "README.md", "<!-- speed -->", "<!-- speed -->", speed)
    return {root / path: text for path, text in files.items()}


def write(root):
    files = pages(root)
    folder = root / "bench/plots"
    folder.mkdir(exist_ok=True)
    for old in set(folder.glob("*.svg")) - set(files):
        old.unlink()
    for path, text in files.items():
        path.write_text(text)
    print(f"wrote bench/README.md, README.md (Speed) and {len(files) - 2} plots in bench/plots")


def take(folder, results):
    """Copies fresh measurements to where they are committed, once they are known to be sound."""
    kinds = (("results.json", Checks.bench), ("growth.json", Checks.bench), ("instructions.json", Checks.instructions))
    fresh = [name for name, check in kinds if read(folder, name, check) is not None]
    if not fresh:
        raise Wrong(f"{folder} has no measurements: run `make bench` first")
    results.mkdir(exist_ok=True)
    for name in fresh:
        shutil.copyfile(folder / name, results / name)


def main(arguments):
    if len(arguments) > 1 or arguments[:1] in (["-h"], ["--help"]):
        sys.exit(__doc__)
    try:
        if arguments:
            take(Path(arguments[0]), ROOT / "bench/results")
        write(ROOT)
    except Wrong as error:
        sys.exit(f"report: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
