"""What was set out to be reached, and what was: ratios between subjects of the same run.

A target is only judged if all it needs was measured.
"""

from dataclasses import dataclass

KIB_PER_MIB = 1024
ADDED_MS_MIN = 0.01


@dataclass
class Judge:
    """Looks figures up by scenario, case and subject."""

    scenarios: list

    def rows(self, scenario: str, case: str, subject: str) -> list:
        """The rows whose case begins like this."""
        return [
            row
            for found in self.scenarios
            if found["id"] == scenario
            for row in found["cases"]
            if row["case"].startswith(case) and row["subject"] == subject
        ]

    def value(self, scenario: str, case: str, subject: str, *path: str):
        """A median, or nothing."""
        for row in self.rows(scenario, case, subject):
            figure = row["median"]
            for name in path:
                figure = (figure or {}).get(name)
            return figure
        return None

    def most(self, scenario: str, case: str, subject: str, *path: str):
        """The largest figure of all rounds, or nothing."""
        found = []
        for row in self.rows(scenario, case, subject):
            for figure in row["rounds"]:
                for name in path:
                    figure = (figure or {}).get(name)
                found.append(figure)
        return max((figure for figure in found if figure is not None), default=None)


def ratio(over, under):
    """One by the other, or nothing if one of them is not there."""
    return over / under if over is not None and under else None


def judged(scenarios: list) -> list:
    """Each target with its limit, what was measured, and whether it was met."""
    of = Judge(scenarios)
    found = [*pass_through(of), *guarded(of), *replayed(of), *storm(of), *growth(of), *added(of), *footprint(of)]
    return [
        {"id": id, "what": what, "limit": limit, "value": round(value, 3), "met": value <= limit}
        for id, what, limit, value in found
        if value is not None
    ]


def pass_through(of: Judge):
    for case in ("GET 300 B", "POST 300 B"):
        cpu = {name: of.value("S1", case, name, "cpu_us") for name in ("semel", "nginx", "envoy")}
        yield "S1", f"{case}: CPU per request, to nginx", 1.1, ratio(cpu["semel"], cpu["nginx"])
        yield "S1", f"{case}: CPU per request, to Envoy", 0.4, ratio(cpu["semel"], cpu["envoy"])


def guarded(of: Judge):
    cpu = lambda subject: of.value("S2", "POST", subject, "cpu_us")
    for store in ("semel redis always", "semel redis everysec"):
        yield "S2", f"{store}: CPU per request, to nginx plain", 2.5, ratio(cpu(store), cpu("nginx"))
        peer = ratio(cpu(store), cpu("idempotent-proxy"))
        yield "S2", f"{store}: CPU per request, to idempotent-proxy", 0.4, peer
        # Two before the answer; the batches behind it are in this figure too, spread over many.
        trips = of.value("S2", "POST", store, "extra", "round_trips")
        yield "S2", f"{store}: store round trips per operation, batches behind the answer included", 2.5, trips
    p99, p50 = (of.value("S2", "POST", "semel embedded", name) for name in ("p99_ms", "p50_ms"))
    yield "S2", "semel embedded: p99 to p50", 3, ratio(p99, p50)
    longest = of.most("S2", "POST", "semel embedded", "extra", "max_ms")
    yield "S2", "semel embedded: longest request of all rounds, ms", 50, longest


def replayed(of: Judge):
    cpu = lambda case, subject: of.value("S3", case, subject, "cpu_us")
    for case in ("one hot", "10,000 settled"):
        for store in ("semel embedded", "semel redis everysec"):
            found = ratio(cpu(case, store), cpu(case, "nginx"))
            yield "S3", f"{store}, {case}: CPU per request, to nginx plain", 0.8, found
    trips = lambda case: of.value("S3", case, "semel redis everysec", "extra", "round_trips")
    # What a process asks its store now and then, whatever comes in, is in these figures too.
    yield "S3", "store round trips per replay, locally known", 0.02, trips("one hot")
    yield "S3", "store round trips per replay, settled by another process", 1.02, trips("settled by another")


def storm(of: Judge):
    for store in ("semel embedded", "semel redis everysec"):
        with_it = of.value("S4", "background beside", store, "p99_ms")
        alone = of.value("S4", "background alone", store, "p99_ms")
        yield "S4", f"{store}: background p99 beside the storm, to p99 alone", 1.5, ratio(with_it, alone)
        yield "S4", f"{store}: errors, background", 0, of.most("S4", "background beside", store, "errors")
        yield "S4", f"{store}: errors, storm", 0, of.most("S4", "background beside", store, "extra", "storm_errors")
        times = of.most("S4", "background beside", store, "extra", "executions_of_the_slow_key")
        yield "S4", f"{store}: executions of the slow key", 1, times
    times = of.most("S9", "two processes", "semel redis everysec", "extra", "most")
    yield "S9", "two processes: executions of one key, at most", 1, times


def growth(of: Judge):
    for store in ("semel embedded", "semel redis everysec"):
        for kind in ("new keys", "settled keys"):
            for name, words in (("cpu_us", "CPU per request"), ("p99_ms", "p99")):
                full = of.value("S6", f"{kind}, 1,000,000 records", store, name)
                # Beside it, in the same rounds.
                new = of.value("S6", f"{kind}, 1,000,000 records", f"{store}, new", name)
                yield "S6", f"{store}, {kind}: {words} at 1,000,000 records, to a new store", 1.2, ratio(full, new)


def added(of: Judge):
    p50 = {
        name: of.value("S7", "1,000", name, "p50_ms")
        for name in ("direct", "nginx", "semel", "semel redis everysec", "semel redis always")
    }
    if None in p50.values():
        return
    by_nginx = p50["nginx"] - p50["direct"]
    # Less than this was not measured, it was the weather.
    if by_nginx < ADDED_MS_MIN:
        return
    for subject, limit in (("semel", 1.5), ("semel redis everysec", 3), ("semel redis always", 3)):
        way = "semel, passed through" if subject == "semel" else subject
        yield "S7", f"{way}: added p50, to what nginx adds", limit, (p50[subject] - p50["direct"]) / by_nginx


def footprint(of: Judge):
    for store in ("semel memory", "semel embedded"):
        extra = lambda case, name: of.value("S8", case, store, "extra", name)
        yield "S8", f"{store}: start to ready, ms", 100, extra("start", "ready_ms")
        # The peak, for not all of them need be there when somebody looks.
        idle, busy = extra("start", "rss_idle_kib"), of.value("S8", "2,000", store, "rss_peak_kib")
        yield "S8", f"{store}: RSS idle, MiB", 20, ratio(idle, KIB_PER_MIB)
        yield "S8", f"{store}: RSS with 2,000 in flight, MiB", 120, ratio(busy, KIB_PER_MIB)
