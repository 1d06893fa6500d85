"""Runs the client tests: `python run.py [START OF A NAME ...]`.

Prints `PASS name` or `FAIL name` with the reason for each test and ends with `clients: N passed, N failed`. There is
no skipping: what can't run has failed. Called by tests/run, which installs the clients first.
"""

import sys
import time
import unittest

import estate


class Report(unittest.TestResult):
    """Counts and prints each test; a set-up that fails is a failed test."""

    def __init__(self):
        super().__init__()
        self.passed = 0
        self.failed = 0
        self.began = 0.0

    def startTest(self, test):
        super().startTest(test)
        self.began = time.monotonic()

    def addSuccess(self, test):
        self.passed += 1
        print(f"PASS {name(test)} ({time.monotonic() - self.began:.1f} s)", flush=True)

    def addFailure(self, test, err):
        self.failed += 1
        text = self._exc_info_to_string(err, test)
        print(f"FAIL {name(test)}\n    " + text.rstrip().replace("\n", "\n    "), flush=True)

    addError = addFailure

    def addSubTest(self, test, subtest, err):
        """A part of a test that failed; the test as a whole is then told neither as passed nor as failed."""
        super().addSubTest(test, subtest, err)
        if err is not None:
            self.addFailure(subtest, err)

    def addSkip(self, test, reason):
        self.failed += 1
        print(f"FAIL {name(test)}: skipped, which no test here may be: {reason}", flush=True)


def name(test) -> str:
    """`test_curl.Carriers.test_query_is_stripped` as `curl.Carriers.query_is_stripped`."""
    return test.id().removeprefix("test_").replace(".test_", ".")


def every(suite):
    """All tests of nested suites, in order."""
    for one in suite:
        yield from every(one) if isinstance(one, unittest.TestSuite) else [one]


def main(wanted: list[str]) -> int:
    found = every(unittest.defaultTestLoader.discover(str(estate.HERE), pattern="test_*.py"))
    chosen = [test for test in found if not wanted or any(name(test).startswith(part) for part in wanted)]
    print(f"client tests: {len(chosen)} against {estate.BINARY}", flush=True)
    report = Report()
    unittest.TestSuite(chosen).run(report)
    if report.passed + report.failed == 0:
        print(f"FAIL no test's name starts with {' or '.join(wanted)}")
        report.failed = 1
    print(f"clients: {report.passed} passed, {report.failed} failed")
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
