# SPDX-License-Identifier: MIT
"""Processes that never outlive the test that started them, and waiting without guessing."""
import ctypes
import json
import os
import pathlib
import signal
import subprocess
import time

TOP = pathlib.Path(__file__).resolve().parents[3]
_libc = ctypes.CDLL(None, use_errno=True)
PR_SET_PDEATHSIG = 1
PATIENCE_S = 60.0  # what is waited for may take this long on a busy machine, however little a test thinks it needs


def die_with_parent():
    """In the child, before exec: the kernel kills it when the test process goes, however that happens."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def wait_until(ask, seconds=10.0, what=None, every=0.02):
    """Calls ask() until it returns something true, and returns that; AssertionError after `seconds`, but PATIENCE_S at least."""
    seconds = max(seconds, PATIENCE_S)
    end = time.monotonic() + seconds
    while True:
        answer = ask()
        if answer:
            return answer
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {what or getattr(ask, '__name__', ask)}")
        time.sleep(every)


def json_lines(path):
    """The objects of a file that somebody writes, a line each: whole lines only."""
    return [json.loads(line) for line in pathlib.Path(path).read_text().split("\n")[:-1]]


class Process:
    """A program whose output goes to a file; stop() asks, then kills, by its own id."""

    def __init__(self, command, log, env=None, cwd=None, stdin=subprocess.DEVNULL):
        self.command = [str(word) for word in command]
        self.log_path = pathlib.Path(log)
        with open(self.log_path, "ab") as out:
            self.popen = subprocess.Popen(self.command, stdin=stdin, stdout=out, stderr=out, cwd=cwd,
                                          env={**os.environ, **(env or {})}, preexec_fn=die_with_parent)
        self.pid = self.popen.pid

    def running(self):
        return self.popen.poll() is None

    def log(self):
        return self.log_path.read_text(errors="replace")

    def check_running(self):
        assert self.running(), f"{self.command[0]} ended with {self.popen.returncode}:\n{self.log()[-4000:]}"
        return True

    def signal(self, number):
        if self.running():
            os.kill(self.pid, number)

    def wait(self, seconds=10.0):
        """The exit code; AssertionError if it is still running after `seconds`, but PATIENCE_S at least."""
        seconds = max(seconds, PATIENCE_S)
        try:
            return self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.command[0]} still runs after {seconds} s:\n{self.log()[-4000:]}") from None

    def stop(self, seconds=PATIENCE_S):
        """SIGTERM, then SIGKILL after `seconds`; returns the exit code."""
        self.signal(signal.SIGTERM)
        try:
            return self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            return self.kill()

    def kill(self):
        self.signal(signal.SIGKILL)
        return self.popen.wait(PATIENCE_S)
