"""Processes of the bench: started on one core, on free ports, in a folder of their own; ended by pid.

The proxy under test has core 0 for itself. Load generator, upstream and stores share core 1, as does
this program. Nothing here knows what is started.
"""

import os
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

PROXY_CORE = 0
LOAD_CORE = 1
READY_SECONDS_MAX = 20
STOP_SECONDS_MAX = 5
FILES_WANTED = 16_384

ROOT = Path(__file__).resolve().parents[2]
INSTALLED = ROOT / "target/bench"
PLACES = [INSTALLED / "bin", INSTALLED / "venv/bin"] + [
    Path(place) for place in os.get_exec_path() + ["/usr/sbin", "/sbin"]
]


class Missing(Exception):
    """Something is not installed, or did not start."""


def find(name: str) -> str:
    """Where a program is: what `make bench-setup` installed counts first."""
    for place in PLACES:
        if os.access(place / name, os.X_OK) and (place / name).is_file():
            return str(place / name)
    raise Missing(f"{name} is not installed: run `make bench-setup`")


def free_port() -> int:
    """A port of the loopback that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def settle_down() -> None:
    """Keeps this program, and with it the load, off the proxy's core; lets it open many files."""
    if os.cpu_count() < 2:
        raise Missing("the bench needs two cores: one for the proxy, one for the load")
    os.sched_setaffinity(0, {LOAD_CORE})
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = FILES_WANTED if most == resource.RLIM_INFINITY else min(FILES_WANTED, most)
    resource.setrlimit(resource.RLIMIT_NOFILE, (enough, most))


class Process:
    """A program that runs until it is stopped."""

    def __init__(self, name: str, command: list, folder: Path, core: int, env=None):
        self.name = name
        self.log = folder / f"{name}.log".replace(" ", "-")
        self.binary = command[0]
        self.born = time.monotonic()
        with open(self.log, "ab") as log:
            self.child = subprocess.Popen(
                [str(part) for part in command],
                cwd=folder,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # A group of its own: Ctrl-C reaches this program, which then ends the others in order.
                start_new_session=True,
                preexec_fn=lambda: os.sched_setaffinity(0, {core}),
            )
        self.pid = self.child.pid

    def await_port(self, port: int, ready=None) -> "Process":
        """Returns once it takes connections there, or once `ready` says so."""
        ready = ready or (lambda: is_open(port))
        end = time.monotonic() + READY_SECONDS_MAX
        while not ready():
            if self.child.poll() is not None or time.monotonic() > end:
                said = self.log.read_text(errors="replace")[-2000:]
                raise Missing(f"{self.name} did not start:\n{said}")
            time.sleep(0.0005)
        return self

    def binary_bytes(self) -> int:
        """How large its program is."""
        return os.stat(self.binary).st_size

    def stop(self) -> None:
        """Ends it: asks first, then insists. Its children end with it."""
        for sign in (signal.SIGTERM, signal.SIGKILL):
            if self.child.poll() is None:
                self.child.send_signal(sign)
                try:
                    self.child.wait(STOP_SECONDS_MAX)
                except subprocess.TimeoutExpired:
                    continue
        for pid in group(self.pid):
            os.kill(pid, signal.SIGKILL)


def group(leader: int) -> list:
    """The processes that a process started and that have not ended."""
    found = []
    for entry in os.listdir("/proc"):
        try:
            if entry.isdigit() and os.getpgid(int(entry)) == leader:
                found.append(int(entry))
        except ProcessLookupError:
            continue
    return found


def is_open(port: int) -> bool:
    """Whether somebody takes connections there."""
    with socket.socket() as caller:
        return caller.connect_ex(("127.0.0.1", port)) == 0


def http_ok(port: int, path: str) -> bool:
    """Whether a GET there is answered with 200."""
    try:
        with socket.create_connection(("127.0.0.1", port), 1) as caller:
            caller.sendall(f"GET {path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n".encode())
            return b" 200 " in caller.recv(64)
    except OSError:
        return False


class Field:
    """A folder and the processes in it; leaving it ends them and removes it."""

    def __enter__(self) -> "Field":
        self.folder = Path(tempfile.mkdtemp(prefix="semel-bench-"))
        self.processes = []
        return self

    def __exit__(self, *_) -> None:
        # In turn backwards, so that nobody loses its upstream or store while it still works.
        for process in reversed(self.processes):
            process.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def subfolder(self, name: str) -> Path:
        """A new folder; names may be asked for twice."""
        place = self.folder / f"{len(self.processes)}-{name.replace(' ', '-')}"
        place.mkdir(parents=True, exist_ok=True)
        return place

    def start(self, name: str, command: list, core: int, folder=None, env=None) -> Process:
        """Starts a program that ends with this field."""
        process = Process(name, command, folder or self.subfolder(name), core, env)
        self.processes.append(process)
        return process

    def end(self, process: Process) -> None:
        """Stops one of them before the others."""
        process.stop()
        self.processes.remove(process)
