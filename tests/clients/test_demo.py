"""`sidetrack demo`: what it prints is pasted into a shell, word by word, and must work."""

import re
import signal
import tempfile
import unittest

from estate import BINARY, PATIENCE, Process, run, wait_until


class Demo(unittest.TestCase):
    """The demo on free ports, in an empty folder."""

    def setUp(self):
        scratch = tempfile.TemporaryDirectory(prefix="sidetrack-demo-")
        self.addCleanup(scratch.cleanup)
        self.folder = scratch.name

    def test_it_checks_itself(self):
        done = run([BINARY, "demo", "--check"], cwd=self.folder)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIn("reason=fork", done.stdout)

    def test_what_it_prints_works_when_pasted(self):
        demo = Process([BINARY, "demo"], cwd=self.folder)
        try:
            demo.await_lines(r"ctrl-c")
            lines = [line.strip().removeprefix("$ ") for line in demo.lines]
            commands = [line for line in lines if line.startswith("curl ")]
            self.assertGreaterEqual(len(commands), 3, demo.output())
            for command in commands:
                done = run(["bash", "-c", command], cwd=self.folder)
                self.assertEqual(done.returncode, 0, f"{command}: {done.stderr}")
                self.assertTrue(done.stdout.strip(), command)
            urls = sorted({url for line in lines for url in re.findall(r"https?://[^\s'\"]*preview\.localhost[^\s'\"]*", line)})
            self.assertTrue(any(url.startswith("https://pr-") for url in urls), urls)
            self.assertTrue(any(url.startswith("http://pr-") for url in urls), urls)
        finally:
            self.assertEqual(demo.stop(signal.SIGINT), 0, demo.output())
