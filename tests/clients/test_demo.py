"""`sidetrack demo`: what it prints is pasted into a shell, word by word, and must do what it says."""

import re
import signal
import tempfile
import unittest

from estate import BINARY, Process, run


class Demo(unittest.TestCase):
    """The demo on free ports, started in an empty folder."""

    # What the answer to a printed command must show, by a part of the command.
    SHOWN = {
        "-H 'X-PR-ID: 42' http://preview.localhost": "checkout@42;reason=fork",
        "curl -i http://pr-42.preview.localhost": "shop@42;reason=fork",
        "https://pr-42.preview.localhost": "HTTP/2 200",
        "?pr-id=42": "set-cookie: pr-id=42",
        "-H 'baggage: ": "reason=fork",
        "curl -i http://pr-57.preview.localhost": "reason=parent_fork",
        "-H 'X-PR-ID: 999'": "unknown_preview",
        "-H 'X-PR-ID: 57' http://pr-42": "conflicting_keys",
        "sidetrack explain ": "parent_fork",
        "sidetrack preview ls ": "42",
    }

    def setUp(self):
        scratch = tempfile.TemporaryDirectory(prefix="sidetrack-demo-")
        self.addCleanup(scratch.cleanup)
        self.folder = scratch.name

    def paste(self, command: str) -> str:
        done = run(["bash", "-c", command], cwd=self.folder)
        self.assertEqual(done.returncode, 0, f"{command}\n{done.stdout}{done.stderr}")
        return done.stdout

    def test_it_checks_itself(self):
        done = run([BINARY, "demo", "--check"], cwd=self.folder)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIn("reason=fork", done.stdout)
        self.assertNotIn("FAIL", done.stdout)

    def test_what_it_prints_works_when_pasted(self):
        ports = [part for name in ("http", "https", "admin") for part in (f"--{name}-port", "0")]
        demo = Process([BINARY, "demo", *ports], cwd=self.folder)
        try:
            demo.await_lines("^Running until ctrl-c")
            lines = [line.strip() for line in demo.lines]
            answers = {line: self.paste(line) for line in lines if line.startswith(("curl ", f"{BINARY} "))}
            for part, shown in self.SHOWN.items():
                mine = [answer for command, answer in answers.items() if part in command.replace(BINARY, "sidetrack")]
                self.assertTrue(mine, f"no command with {part!r}\n{demo.output()}")
                self.assertIn(shown, mine[0], part)
            self.visit(lines)
        finally:
            code = demo.stop(signal.SIGINT)
        self.assertEqual(code, 0, demo.output())
        self.assertNotIn("panicked", demo.output())

    def visit(self, lines: list[str]):
        """Opens each address that is meant for a browser; the development CA is the one that the demo names."""
        ca = next(line.split()[-1] for line in lines if line.startswith("development CA"))
        addresses = [line.split()[0] for line in lines if re.match(r"https?://", line)]
        self.assertTrue({"http", "https"} <= {address.split(":")[0] for address in addresses}, lines)
        for address in addresses:
            page = self.paste(f"curl -sS --fail --cacert '{ca}' -H 'Accept: text/html' '{address}'")
            self.assertIn("<html", page, address)
