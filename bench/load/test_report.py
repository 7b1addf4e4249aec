"""The report says what was measured, says all that is wrong with a measurement, and is the one that is committed."""

import json
import tempfile
import unittest
from pathlib import Path

import report


def row(subject, cpu_us, case="a case", **more):
    """Made-up figures: round, so that nobody takes them for measured ones."""
    median = {"rps": 1000, "cpu_us": cpu_us, "p50_ms": 1, "p99_ms": 2, "p999_ms": None, "errors": 0} | more
    return {"case": case, "subject": subject, "tool": "oha", "rounds": [], "median": median}


def made_up():
    return {
        "machine": {"cpu": "made up", "cores": 2, "versions": {"nginx": "0", "semel": "0"}},
        "scenarios": [
            {"id": "S1", "title": "one", "cases": [row("nginx", 20), row("semel", 30), row("direct", 5, p50_ms=0.4)]},
            {"id": "S10", "title": "ten", "cases": [row("semel", 10, extra={"ready_ms": 7})]},
        ],
        "targets": [
            {"id": "S1", "what": "CPU to nginx", "limit": 1.1, "value": 1.5, "met": False},
            {"id": "S7", "what": "added p50", "limit": 2, "value": None, "met": None},
        ],
    }


class AReport(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)
        self.results = self.root / "bench/results"
        self.results.mkdir(parents=True)
        (self.root / "bench/README.md").write_text("before\n<!-- results -->\nold\n<!-- /results -->\nafter\n")
        (self.root / "README.md").write_text("before\n<!-- speed -->\nold\n<!-- speed -->\nafter\n")

    def put(self, bench, name="results.json"):
        (self.results / name).write_text(json.dumps(bench))

    def page(self, name="bench/README.md"):
        return report.pages(self.root)[self.root / name]

    def wrong(self):
        with self.assertRaises(report.Wrong) as caught:
            report.pages(self.root)
        return str(caught.exception)

    def test_relates_each_to_nginx_and_to_going_direct_and_leaves_out_what_was_not_measured(self):
        self.put(made_up())
        page = self.page()
        self.assertIn("| semel | 1,000 | 30.0 | 1.50 | 1.00 | 2.00 | 0.600 | 0.000 | 0 |", page)
        self.assertIn("| no proxy | 1,000 |  |  | 0.40 |", page)
        self.assertNotIn("p99.9", page)
        self.assertIn("ready, ms", page)
        self.assertTrue(page.startswith("before\n") and page.endswith("after\n") and "old" not in page)

    def test_tells_a_target_that_is_missed_from_one_that_was_not_measured(self):
        self.put(made_up())
        page = self.page()
        self.assertIn("0 of 2 met", page)
        self.assertIn("| S1 | CPU to nginx | ≤ 1.10 | 1.50 | **missed** |", page)
        self.assertIn("| S7 | added p50 | ≤ 2.00 |  | not measured |", page)

    def test_takes_growth_from_its_own_file_and_in_the_order_of_the_numbers(self):
        self.put(made_up())
        cases = [row("semel", 10 + at, f"fresh, {at} records", extra={"records": at}) for at in (0, 10)]
        self.put({"scenarios": [{"id": "S6", "title": "six", "cases": cases}]}, "growth.json")
        page = self.page()
        self.assertLess(page.index("### S1"), page.index("### S6"))
        self.assertLess(page.index("### S6"), page.index("### S10"))
        self.assertIn("polyline", self.page("bench/plots/S6-growth.svg"))

    def test_names_every_field_that_is_wrong(self):
        bench = made_up()
        bench["scenarios"][0]["cases"][1]["median"]["rps"] = "many"
        del bench["scenarios"][1]["title"]
        self.put(bench)
        said = self.wrong()
        self.assertIn(".scenarios[0].cases[1].median.rps", said)
        self.assertIn(".scenarios[1].title", said)

    def test_says_what_to_do_where_nothing_was_measured(self):
        self.assertIn("make bench", self.wrong())
        (self.results / "results.json").write_text("{")
        self.assertIn("is not JSON", self.wrong())

    def test_a_page_without_its_marks_is_not_written_over(self):
        self.put(made_up())
        (self.root / "README.md").write_text("all by hand\n")
        self.assertIn("lacks its marks", self.wrong())

    @unittest.skipUnless((report.ROOT / "bench/results/results.json").exists(), "nothing is committed yet")
    def test_the_committed_pages_are_those_of_the_committed_measurements(self):
        for path, text in report.pages(report.ROOT).items():
            self.assertEqual(path.read_text(), text, f"{path}: run bench/load/report.py")


if __name__ == "__main__":
    unittest.main()
