# SPDX-License-Identifier: MIT
"""`posthaste top`: a frame of what the service does, drawn on a terminal, which is left as it was."""
import contextlib
import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import termios

import pytest
from lib.message import text_message
from lib.process import wait_until
from lib.relay import BINARY, submit


@pytest.fixture
def busy(make_relay, dns):
    """A relay with a lane that backs off, mail on hold, and a little done."""
    dns.mx("dead.test", "mx.dead.test")
    dns.a("mx.dead.test", "127.0.0.77")
    relay = make_relay({"retry": {"first": "30s", "max": "60s", "lifetime": "1h", "warn_after": "none"}})
    relay.add_account("alice", domains=["client.test"])
    relay.cli("queue", "hold", "--domain", "held.test")
    dns.mx("held.test", "mx.dead.test")
    with relay.client(login="alice") as client:
        for to in ("b@dead.test", "c@dead.test", "d@held.test"):
            submit(client, "a@client.test", to, text_message("a@client.test", to))
    wait_until(lambda: any(lane["backoff_until"] for lane in relay.cli_list("queue", "lanes")), 20)
    return relay


def test_once(busy):
    text = busy.run("top", "--once").stdout
    assert "\x1b" not in text
    assert re.search(r"^queue +2 queued +0 active +0 scheduled +1 held  oldest \d+s$", text, re.M)
    assert re.search(r"^LANE +READY +CONNECTIONS +BUSY +HOUR +OLDEST +BINDS$", text, re.M)
    assert re.search(r"^\S*mx\.dead\.test +\d+ +\d+/20 +0 +\d+ +\d+m?\d*s +backs off until \d\d:\d\d:\d\d: ", text, re.M)
    assert "no alerts" in text and "/s accepted" in text
    one = json.loads(busy.run("top", "--once", "--json").stdout)
    assert one["queued"] == 2 and one["held"] == 1 and one["lanes"] == 1 and one["alerts"] == []
    assert one["oldest_seconds"] > 0
    lane = busy.cli("queue", "lanes")
    waiting = sorted(row["id"] for row in busy.cli_list("queue", "list", "--domain", "dead.test"))
    first, second = (busy.message(ident)["accepted_at"] for ident in waiting)
    assert lane["oldest_at"] <= first < second  # when it began to come
    assert set(one) >= {"accepted_per_second", "delivered_per_second", "deferred_per_second", "sessions", "connections"}


class Terminal:
    def __init__(self, relay, rows, columns):
        self.leader, follower = pty.openpty()
        self.resize(rows, columns)
        self.follower = follower
        self.before = termios.tcgetattr(follower)
        self.process = subprocess.Popen([BINARY, "top", "--config", relay.config_file], stdin=follower, stdout=follower,
                                        stderr=follower, start_new_session=True)
        os.set_blocking(self.leader, False)
        self.out = b""

    def resize(self, rows, columns):
        fcntl.ioctl(self.leader, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def read(self):
        with contextlib.suppress(BlockingIOError, OSError):
            while part := os.read(self.leader, 65536):
                self.out += part
        return self.out

    def frames(self):
        return self.read().split(b"\x1b[H")[1:]

    def end(self):
        self.process.wait(20)
        self.read()
        after = termios.tcgetattr(self.follower)
        os.close(self.leader)
        os.close(self.follower)
        return after


@pytest.mark.parametrize("how", ["q", "interrupt"])
def test_on_a_terminal(busy, how):
    """It fits, also after a change of size; q and ^C end it, and the terminal is as it was."""
    terminal = Terminal(busy, 8, 60)
    wait_until(lambda: len(terminal.frames()) >= 2, 30)
    for frame in terminal.frames()[:1]:
        lines = re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", frame).split(b"\r\n")
        assert len(lines) <= 8 and all(len(line) <= 60 for line in lines), lines
    assert terminal.out.startswith(b"\x1b[?1049h")
    terminal.resize(30, 120)
    terminal.process.send_signal(signal.SIGWINCH)
    count = len(terminal.frames())
    wait_until(lambda: len(terminal.frames()) >= count + 3, 30)
    whole = terminal.frames()[-2]  # the last one may be half drawn
    assert any(len(re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", line)) > 60 for line in whole.split(b"\r\n"))
    if how == "q":
        os.write(terminal.leader, b"q")
    else:
        terminal.process.send_signal(signal.SIGINT)
    after = terminal.end()
    assert terminal.process.returncode == 0 and terminal.out.endswith(b"\x1b[?25h\x1b[?1049l")
    assert after == terminal.before


def test_without_a_service(make_relay):
    relay = make_relay(start=False)
    result = relay.run("top", "--once", check=False)
    assert result.returncode == 69 and result.stderr
    relay.start()
    relay.run("top", "--once")
