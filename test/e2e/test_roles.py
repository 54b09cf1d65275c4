# SPDX-License-Identifier: MIT
"""Who may act and who may only look at the control socket, and the audit log of it."""
import json
import os
import pathlib
import shutil
import sqlite3
import subprocess
import sys
import tempfile

import pytest
from lib import network
from lib.message import text_message
from lib.process import wait_until
from lib.relay import BINARY, submit

pytestmark = pytest.mark.skipif(not network.PRIVATE, reason="needs root: runs commands as other users")

OPERATORS, READERS = ("games", 60), ("users", 100)  # groups of every Debian
ASK = """
import http.client, json, socket, sys
connection = http.client.HTTPConnection("control", timeout=60)
connection.sock = socket.socket(socket.AF_UNIX)
connection.sock.connect(sys.argv[1])
connection.request(sys.argv[2], sys.argv[3], sys.argv[4] or None)
answer = connection.getresponse()
print(answer.status, answer.read().decode())
"""


class User:
    """Somebody without privileges: `primary` is a group's number, `others` further ones."""

    def __init__(self, place, uid, primary=65534, others=()):
        self.place, self.uid = place, uid
        self.who = {"user": uid, "group": primary, "extra_groups": list(others), "cwd": "/"}

    def run(self, *arguments, stdin=""):
        return subprocess.run([self.place.binary, *arguments], input=stdin, capture_output=True, text=True, timeout=60, check=False,
                              env={"PATH": os.environ["PATH"], "POSTHASTE_CONFIG": str(self.place.config)}, **self.who)

    def ask(self, method, path, body=None):
        """(status, object) of a request at the control socket."""
        done = subprocess.run([sys.executable, "-c", ASK, self.place.control, method, path, json.dumps(body) if body is not None else ""],
                              capture_output=True, text=True, timeout=60, check=True, **self.who)
        status, _, text = done.stdout.partition(" ")
        return int(status), [json.loads(line) for line in text.splitlines() if line]


class Place:
    """A relay whose control socket, configuration and program all users can reach."""

    def __init__(self, make_relay, folder, roles):
        folder.chmod(0o755)
        self.control, self.config, self.binary = folder / "control.sock", folder / "posthaste.yaml", folder / "posthaste"
        shutil.copy(BINARY, self.binary)
        self.relay = make_relay({"control": str(self.control), "roles": roles}, start=False)
        shutil.copy(self.relay.config_file, self.config)
        self.relay.start()
        self.operator = User(self, 21001, others=[OPERATORS[1]])
        self.reader = User(self, 21002, primary=READERS[1])
        self.stranger = User(self, 21003)

    def audit(self, *arguments):
        return self.relay.cli_list("audit", *arguments)


@pytest.fixture
def place(make_relay, dns):
    dns.mx("nowhere.test", "mx.nowhere.test")
    dns.a("mx.nowhere.test", "127.0.0.77")
    with tempfile.TemporaryDirectory() as folder:
        yield Place(make_relay, pathlib.Path(folder), {"operators": OPERATORS[0], "readers": READERS[0]})


ACTS = [["account", "add", "acme"], ["account", "close", "trusted"], ["credential", "add", "trusted", "--login", "x", "--generate"],
        ["credential", "remove", "trusted", "--login", "x"], ["domain", "add", "trusted", "example.net"], ["domain", "remove", "trusted", "x.org"],
        ["dkim", "rotate", "trusted", "example.net"], ["account", "set", "trusted", "preflight", "off"], ["suppress", "add", "a@example.org"], ["suppress", "remove", "a@example.org"],
        ["queue", "hold", "--all"], ["queue", "release", "--all"], ["queue", "retry", "--all"], ["queue", "bounce", "--all"],
        ["queue", "delete", "--all"], ["upgrade"]]
READS = [["account", "list"], ["account", "show", "trusted"], ["credential", "list"], ["domain", "list"], ["dkim", "list"],
         ["suppress", "list"], ["suppress", "check", "a@example.org"], ["queue", "list"], ["queue", "lanes"],
         ["queue", "delete", "--all", "--dry-run"], ["message", "find", "--sender", "a@example.net"], ["events"], ["top", "--once"], ["audit"]]


def test_readers_read(place):
    """All that only shows something works for readers; what acts is refused with 77, changes nothing and is recorded."""
    place.relay.add_account("trusted", domains=["example.net"])
    with place.relay.client("trusted") as client:
        ident = submit(client, "a@example.net", "b@nowhere.test", text_message("a@example.net", "b@nowhere.test"))
    before = place.audit()
    for command in [*READS, ["message", "show", ident], ["message", "why", ident]]:
        done = place.reader.run(*command)
        assert done.returncode == 0, (command, done.stderr)
    assert place.audit() == before
    for command in ACTS:
        done = place.reader.run(*command)
        assert done.returncode == 77, (command, done.returncode, done.stderr)
        assert f"members of the group {OPERATORS[0]} only may do this; you may read" in done.stderr, done.stderr
    assert place.relay.states(ident) == {"b@nowhere.test": "queued"}
    refused = place.audit("--user", "21002")
    assert {row["outcome"] for row in refused} == {"refused"} and refused[0]["actor"] == "cli:uid 21002"
    assert {row["action"] for row in refused} >= {"account.add", "queue.delete", "suppress.add", "upgrade"}
    assert refused[-1]["args"]["account"] == "acme" and refused[-1]["via"] == "control" and refused[-1]["gid"] == READERS[1]


def test_strangers(place):
    """Nobody else sees anything, not even that it is there; many of them leave the place to others."""
    for command in READS[:4] + ACTS[:1]:
        done = place.stranger.run(*command)
        assert done.returncode == 77 and f"members of the group {READERS[0]}" in done.stderr or "only may do this" in done.stderr, done.stderr
    status, (answer,) = place.stranger.ask("GET", "/v1/secret")
    assert status == 403 and "error" in answer
    pid = place.relay.relay_pid()
    for body in ([1], "x", 7, None, [{"op": "account.add"}], {"op": [1]}):  # JSON, and mostly no object
        status, (answer,) = place.stranger.ask("POST", "/v1/store", body)
        assert status == 403 and "error" in answer
    assert place.relay.relay_pid() == pid
    crowd = subprocess.Popen([sys.executable, "-c", "import socket, sys, time\nheld = []\nfor _ in range(200):\n s = socket.socket(socket.AF_UNIX)\n"
                              " s.connect(sys.argv[1]); held.append(s)\nprint('there', flush=True)\ntime.sleep(60)", place.control],
                             stdout=subprocess.PIPE, **place.stranger.who)
    assert crowd.stdout.readline() == b"there\n"
    assert place.reader.run("queue", "lanes").returncode == 0
    crowd.kill()
    crowd.wait()


def test_operators_act(place):
    """By a supplementary group; each action has its row: who, through what, what, and what came of it."""
    assert place.operator.run("account", "add", "acme", "--class", "bulk").returncode == 0
    assert place.operator.run("account", "add", "acme", "--class", "bulk").returncode == 0
    assert place.operator.run("account", "add", "acme").returncode == 65
    assert place.operator.run("credential", "add", "acme", "--login", "joe", "--password-stdin", stdin="a secret of mine\n").returncode == 0
    rows = place.audit("--user", "21001")
    assert [(row["action"], row["outcome"]) for row in rows] == [
        ("credential.add", "done"), ("account.add", "failed"), ("account.add", "unchanged"), ("account.add", "done")]
    assert rows[0]["args"] == {"account": "acme", "login": "joe"} and "already" in rows[1]["detail"]
    assert rows[3] | {"number": 0, "at": 0, "ended_at": 0, "pid": 0} == {
        "number": 0, "at": 0, "ended_at": 0, "actor": "cli:uid 21001", "uid": 21001, "gid": 65534, "pid": 0, "via": "control",
        "action": "account.add", "args": {"account": "acme", "any_sender": False, "class": "bulk"}, "outcome": "done", "detail": None}
    assert "secret" not in json.dumps(rows) and all(row["pid"] > 1 for row in rows)


def test_queue_actions_and_others(place):
    place.relay.add_account("trusted", domains=["example.net"])
    place.relay.cli("queue", "hold", "--all")
    with place.relay.client("trusted") as client:
        for _ in range(3):
            submit(client, "a@example.net", ["b@nowhere.test", "c@nowhere.test"], text_message("a@example.net", "b@nowhere.test"))
    done = place.operator.run("queue", "delete", "--domain", "nowhere.test", "--json")
    assert json.loads(done.stdout)["changed"] == 6
    row, hold = place.audit("--action", "queue")
    assert (row["action"], row["outcome"], row["detail"]) == ("queue.delete", "done", "matched 6, changed 6")
    assert row["args"]["domain"] == "nowhere.test" and row["at"] <= row["ended_at"]
    assert hold["actor"] == "cli:root" and hold["uid"] == 0
    place.operator.run("suppress", "add", "a@example.org", "--note", "asked for it")
    place.operator.run("suppress", "import", "-", stdin="x@example.org\ny@example.org\n")
    bulk, one = place.audit("--action", "suppress")
    assert bulk["args"]["rows"] == 2 and bulk["detail"] == "added 2, unchanged 0"
    assert one["args"] == {"address": "a@example.org", "note": "asked for it"}
    assert place.audit("--action", "suppress.add") == [one]


def test_roles_follow_a_reload(place):
    """A group gets a role, and loses it; the permissions of the socket follow. An unknown group is refused."""
    assert place.control.stat().st_mode & 0o777 == 0o666
    place.relay.reload({"roles": None})
    assert place.control.stat().st_mode & 0o777 == 0o660
    assert place.reader.run("queue", "lanes").returncode == 77
    place.relay.reload({"roles": {"readers": OPERATORS[0]}})
    assert place.operator.run("queue", "lanes").returncode == 0
    assert place.operator.run("queue", "hold", "--all").returncode == 77
    place.relay.reload({"roles": {"readers": "nosuchgroup"}})
    assert "roles.readers: there is no group nosuchgroup" in place.relay.log()
    assert place.operator.run("queue", "lanes").returncode == 0
    done = place.relay.run("check-config", check=False)
    assert done.returncode == 78 and "there is no group nosuchgroup" in done.stderr


def test_reload(place):
    """`config reload` says what became of it; it is in the audit log, and so is who sent a SIGHUP."""
    relay = place.relay
    assert relay.cli("config", "reload") == {"reloaded": True, "restart": []}
    assert place.operator.run("config", "reload").returncode == 0
    assert place.reader.run("config", "reload").returncode == 77
    good = relay.config_file.read_text()
    relay.config_file.write_text(good.replace("hostname:", "hostnme:"))
    result = relay.run("config", "reload", check=False)
    assert result.returncode == 78 and "did you mean 'hostname'" in result.stderr and "\\" not in result.stderr, result.stderr
    relay.config_file.write_text(good)
    relay.write_config({"roles": {"readers": "nosuchgroup"}})
    result = relay.run("config", "reload", check=False)
    assert result.returncode == 78 and "there is no group nosuchgroup" in result.stderr
    relay.reload({"roles": {"readers": READERS[0]}})
    wait_until(lambda: place.audit("--action", "config")[0]["via"] == "signal", 30, "the row of the signal")
    rows = [(row["actor"], row["outcome"]) for row in place.audit("--action", "config.reload")]
    assert rows == [("signal:root", "done"), ("cli:root", "failed"), ("cli:uid 21002", "refused"), ("cli:uid 21001", "done"), ("cli:root", "done")]
    assert place.audit("--action", "config.reload")[0]["pid"] == os.getpid()


def test_refusals_do_not_fill_the_disk(place):
    for _ in range(60):
        assert place.reader.ask("POST", "/v1/queue", {"action": "delete", "all": True})[0] == 403
    rows = place.audit("--user", "21002")
    assert 20 <= len(rows) <= 30


def test_audit_pages_and_filters(place):
    for n in range(5):
        place.relay.cli("account", "add", f"a{n}")
    one = place.audit("--limit", "1")
    assert [row["args"]["account"] for row in one] == ["a4"]
    assert len(place.audit("--action", "account")) == 5 and place.audit("--action", "acc") == []
    assert len(place.audit("--since", "1h")) == 5 and place.audit("--until", "1h") == []
    assert place.audit("--since", one[0]["at"]) == one
    assert len(place.audit("--user", "root")) == 5 == len(place.audit("--user", "cli:root")) == len(place.audit("--user", "0"))
    for wrong in (["--since", "yesterday"], ["--limit", "0"], ["--limit", "x"]):
        assert place.relay.run("audit", *wrong, check=False).returncode in (64, 65)
    text = place.relay.run("audit").stdout.splitlines()
    assert text[0].split() == ["AT", "WHO", "ACTION", "OUTCOME", "DETAIL", "ARGUMENTS"] and "account=a4" in text[1]


def test_without_the_service(place):
    """Commands on the files are in the log, too, and it is read there."""
    place.relay.stop()
    place.relay.run("account", "add", "acme")
    place.relay.run("suppress", "add", "a@example.org")
    rows = place.audit()
    assert [(row["action"], row["via"], row["outcome"], row["actor"]) for row in rows] == [
        ("suppress.add", "files", "done", "cli:root"), ("account.add", "files", "done", "cli:root")]


def test_retention(place):
    """Rows older than audit.keep go."""
    place.relay.cli("account", "add", "old")
    place.relay.stop()
    with sqlite3.connect(pathlib.Path(place.relay.config["state"]) / "accounts.db") as db:
        db.execute("DROP TRIGGER audit_stays")
        db.execute("UPDATE audit SET at = at - 400 * 86400000000")
    place.relay.start()
    place.relay.cli("queue", "hold", "--all")
    wait_until(lambda: [row["action"] for row in place.audit()] == ["queue.hold"], 30, "the old row gone")
