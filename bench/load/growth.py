"""S6: whether a store that has kept a million operations is as fast as an empty one.

The records are those that semel itself makes: the store is filled through it.
"""

from collections.abc import Iterator
from pathlib import Path

from load import wrk, wrk_result
from proxies import Stage, Subject
from scenarios import KNOWN_KEYS, Case, Sender, settle

LEVELS = (0, 100_000, 1_000_000)
# How a store is called that is started beside the full ones, to be compared with in the same rounds. It
# keeps only what these rounds themselves bring: some ten thousand records.
NEW = ", new"
FILL_SECONDS = 5
FILL_CONNECTIONS = 256


class Filled:
    """A semel on a store whose records are counted."""

    def __init__(self, subject: Subject):
        self.subject, self.records, self.filled = subject, 0, 0
        self.bytes_before = self.bytes()
        settle(subject, "/pay", "known", KNOWN_KEYS)
        self.records = KNOWN_KEYS

    def bytes(self) -> int:
        """What the store takes: files of the embedded one, memory of a Redis."""
        if self.subject.redis:
            return self.subject.redis.used_memory()
        files = (self.subject.folder / "store").rglob("*")
        return sum(size(file) for file in files)

    def fill(self, level: int) -> None:
        """Lets semel settle new keys until so many are on record."""
        while self.records < level or (level and not self.filled):
            # Keys go on behind those that were sent, answered or not.
            way = ["unique", "fill", self.filled]
            running = wrk(self.subject.port, "/pay", way, FILL_SECONDS, FILL_CONNECTIONS)
            settled = wrk_result(running, FILL_SECONDS)["requests"]
            if settled == 0:
                raise RuntimeError(f"{self.subject.name} settles nothing any more")
            self.filled += settled + FILL_CONNECTIONS
            self.records += settled

    def told(self, figures: dict, new_records: int) -> dict:
        """A window's figures, and what the store has grown to."""
        self.records += new_records
        each = (self.bytes() - self.bytes_before) / self.records
        figures["extra"] |= {"records": self.records, "bytes_per_record": round(each)}
        return figures


def size(file: Path) -> int:
    """A file's size; nothing if it has just gone."""
    try:
        return file.stat().st_size if file.is_file() else 0
    except FileNotFoundError:
        return 0


def stores(stage: Stage, said: str = "") -> list[Filled]:
    """One semel on each kind of store, with nothing but the known keys."""
    subjects = [stage.semel("embedded"), stage.semel("redis everysec", stage.redis("everysec"))]
    for subject in subjects:
        subject.name += said
    return [Filled(subject) for subject in subjects]


def s6(stage: Stage, send: Sender) -> Iterator[Case]:
    """New and settled keys, on stores that grow."""
    grown = stores(stage)
    measured = {store.subject.name: store for store in grown}

    def new(subject: Subject, number) -> dict:
        figures = send.unique()(subject, number)
        return measured[subject.name].told(figures, round(figures["rps"] * send.seconds))

    def known(subject: Subject, number) -> dict:
        return measured[subject.name].told(send.known("known", KNOWN_KEYS)(subject, number), 0)

    def any_of_all(subject: Subject, number) -> dict:
        # So many that no process knows them all.
        store = measured[subject.name]
        return store.told(send.known("fill", store.filled)(subject, number), 0)

    for level in LEVELS:
        for store in grown:
            store.fill(level)
        if level == LEVELS[-1]:
            # Minutes have passed since the first level, and the machine is another one by now.
            measured |= {store.subject.name: store for store in stores(stage, NEW)}
        subjects = [store.subject for store in measured.values()]
        yield Case(f"new keys, {level:,} records", subjects, new)
        yield Case(f"settled keys, {level:,} records", subjects, known)
        if level:
            yield Case(f"any of {level:,} records", [store.subject for store in grown], any_of_all)
