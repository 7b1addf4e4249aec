"""What a run found, as JSON: the machine, every round, medians, and what became of the targets.

`report.py` makes tables and plots of the file. A figure that a case does not have is null.
"""

import json
import os
import platform
import re
import subprocess
from datetime import datetime, timezone
from pathlib import Path
from statistics import median

from processes import Missing, find

FORMAT = 1

# How each program says which version it is.
VERSIONS = {
    "nginx": ["nginx", "-v"],
    "haproxy": ["haproxy", "-v"],
    "envoy": ["envoy", "--version"],
    "redis": ["redis-server", "--version"],
    "oha": ["oha", "--version"],
    "wrk": ["wrk", "-v"],
}
# It does not say its version; the one that `make bench-setup` installs.
PEER_VERSION = "1.2.2"


def version(command: list) -> str:
    """The first number with dots that a program says, or that it is not there."""
    try:
        said = subprocess.run([find(command[0]), *command[1:]], capture_output=True, text=True)
    except Missing:
        return "not installed"
    # Envoy puts the commit before its version.
    found = re.search(r"(?<![0-9a-f])\d+\.\d+(\.\d+)*", said.stdout + said.stderr)
    return found.group() if found else "unknown"


def machine(semel: Path) -> dict:
    """What was measured on, and with what."""
    with open("/proc/cpuinfo") as info:
        models = [line.split(":")[1].strip() for line in info if line.startswith("model name")]
    with open("/proc/meminfo") as info:
        memory_kib = int(info.readline().split()[1])
    said = subprocess.run([semel, "--version"], capture_output=True, text=True).stdout
    return {
        "cpu": models[0] if models else platform.machine(),
        "cores": os.cpu_count(),
        "kernel": platform.release().split("-")[0],
        "memory": f"{memory_kib / (1 << 20):.0f} GiB",
        "versions": {name: version(command) for name, command in VERSIONS.items()}
        | {"idempotent-proxy": PEER_VERSION, "semel": f"{said.split()[-1]} ({commit()})"},
    }


def commit() -> str:
    """The commit that `make bench` has just built, and whether code was changed since."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        head = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True)
        code = [":/src", ":/Cargo.toml", ":/Cargo.lock", ":/.cargo", ":/bench/load"]
        changed = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", *code])
    except FileNotFoundError:
        return "unknown"
    if head.returncode:
        return "unknown"
    return head.stdout.strip() + (" and changes" if changed.returncode else "")


def load_average() -> str:
    """How busy the machine is."""
    with open("/proc/loadavg") as load:
        return " ".join(load.read().split()[:3])


def middle(rounds: list) -> dict:
    """The median of every figure, figures in figures included; null where nobody measured it."""
    result = {}
    for name in dict.fromkeys(name for one in rounds for name in one):
        values = [one[name] for one in rounds if one.get(name) is not None]
        if not values:
            result[name] = None
        elif isinstance(values[0], dict):
            result[name] = middle(values)
        else:
            result[name] = round(median(values), 3)
    return result


class Results:
    """A run's findings; they are written after each scenario, so that nothing is lost."""

    def __init__(self, path: Path, semel: Path, rounds: int, seconds: float):
        self.path = path
        self.found = {
            "format": FORMAT,
            "machine": machine(semel),
            "when": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "load_before": load_average(),
            "rounds": rounds,
            "seconds": seconds,
            "scenarios": [],
            "targets": [],
        }

    def add(self, id: str, title: str, cases: list) -> None:
        """Takes a scenario in, and writes the file."""
        self.found["scenarios"].append({"id": id, "title": title, "cases": cases})
        self.write()

    def judge(self, targets: list) -> None:
        """Takes in what became of the targets, and writes the file."""
        self.found["targets"] = targets
        self.write()

    def write(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps(self.found, indent=1) + "\n")
