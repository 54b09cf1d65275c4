# SPDX-License-Identifier: MIT
"""docs/INTERFACE.md, line by line, on the running program."""
import contextlib
import datetime
import hashlib
import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import smtplib
import socket
import sqlite3
import subprocess
import tempfile
import time

import pytest
from lib.message import text_message
from lib.outgoing import seconds_of, wait_empty
from lib.process import PATIENCE_S, Process, json_lines, wait_until
from lib.relay import BINARY, Refused, submit

ALICE, BOB = "alice@client.test", "bob@example.org"
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
MESSAGE_KEYS = ["id", "account", "credential", "class", "tag", "sender", "message_id", "envid", "size", "accepted_at", "body", "priority", "not_before", "deliver_by", "preflight", "recipients"]
RECIPIENT_KEYS = ["address", "state", "attempts", "next_attempt_at", "last"]
LAST_KEYS = ["at", "mx", "ip", "tls", "code", "enhanced", "text", "reason", "hard"]
EVENT_KEYS = ["cursor", "at", "type", "id", "recipient", "lane", "code", "enhanced", "text", "reason", "hard"]
SLOW = {"retry": {"first": "1h", "max": "1h", "lifetime": "1d", "warn_after": "none"}}  # one attempt, then it waits


def send(relay, recipients=BOB, mail_options=(), rcpt_options=(), **headers):
    recipients = [recipients] if isinstance(recipients, str) else recipients
    with relay.client(login="alice") as client:
        return submit(client, ALICE, recipients, text_message(ALICE, recipients[0], **headers), mail_options, rcpt_options)


def recipient(relay, ident, address=BOB):
    return next(r for r in relay.message(ident)["recipients"] if r["address"] == address)


def wait_attempt(relay, ident, address=BOB):
    wait_until(lambda: recipient(relay, ident, address)["attempts"] > 0, 15, "an attempt", every=0.1)


@pytest.fixture
def slow_relay(make_relay):
    relay = make_relay(SLOW)
    relay.add_account("alice", domains=["client.test"])
    return relay


# ---- serve -----------------------------------------------------------------------------------------------

def test_example_of_the_readme(pair, tmp_path):
    readme = (pathlib.Path(__file__).resolve().parents[2] / "README.md").read_text()
    text = re.search(r"```yaml[^\n]*\n(.*?)```", readme, re.DOTALL).group(1)
    for name, file in ("relay.pem", pair.certificate), ("relay.key", pair.key):
        assert f"/etc/posthaste/{name}" in text
        text = text.replace(f"/etc/posthaste/{name}", str(file))
    (tmp_path / "posthaste.yaml").write_text(text)
    run = subprocess.run([BINARY, "check-config", "--config", tmp_path / "posthaste.yaml"], capture_output=True, text=True)
    assert run.returncode == 0 and "2 listeners, " in run.stdout, run


def test_ready_file(make_relay):
    relay = make_relay(start=False)
    relay.process = Process([BINARY, "serve", "--config", relay.config_file, "--ready-file", relay.ready_file],
                            relay.folder / "relay.log")
    wait_until(lambda: relay.process.check_running() and relay.ready_file.exists(), 20)
    text = relay.ready_file.read_text()  # at once: it is whole from the first moment
    ready = json.loads(text)
    assert list(ready) == ["pid", "version", "control", "listeners", "http", "unsubscribe"]
    assert ready["pid"] == relay.process.pid
    assert re.fullmatch(r"\d+\.\d+\.\d+", ready["version"])
    assert [one["name"] for one in ready["listeners"]] == ["submission", "submissions", "trusted"]
    for one in [*ready["listeners"], ready["http"]]:
        assert one["address"] == "127.0.0.1" and 1024 <= one["port"] <= 65535  # port 0 was asked for
        socket.create_connection((one["address"], one["port"]), timeout=60).close()
    assert pathlib.Path(ready["control"]).is_socket()
    assert list(relay.folder.glob("ready.json*")) == [relay.ready_file]
    assert relay.stop() == 0
    assert not relay.ready_file.exists()


def test_foreground_and_streams(relay_):
    """The log is standard error: nothing but it comes out."""
    assert relay_.process.running()
    lines = relay_.log().splitlines()
    assert lines and all(re.match(TIME.pattern + r" (error|warn|info|debug) ", line) for line in lines)


def test_sighup_reloads(relay_, receiver_):
    before = relay_.ready
    more = relay_.config["listeners"] + [{"name": "extra", "address": "127.0.0.1:0", "tls": "starttls"}]
    relay_.reload({"listeners": more})
    wait_until(lambda: len(json.loads(relay_.ready_file.read_text())["listeners"]) == 4, 10, "the new listener")
    relay_.ready = json.loads(relay_.ready_file.read_text())
    assert relay_.ready["listeners"][:3] == before["listeners"] and relay_.ready["pid"] == before["pid"]
    with relay_.client("extra", login="alice") as client:
        submit(client, ALICE, BOB, text_message(ALICE, BOB))
    receiver_.wait_one(BOB)


def test_sighup_with_a_bad_file(relay_, receiver_):
    good = relay_.config_file.read_text()
    relay_.config_file.write_text(good + "nonsense: 1\n")
    relay_.process.signal(signal.SIGHUP)
    wait_until(lambda: "the old configuration goes on" in relay_.log(), 10)
    assert "nonsense" in relay_.log()
    assert send(relay_)
    relay_.config_file.write_text(good)
    assert relay_.stop() == 0


def begin_data(client, to=BOB):
    assert client.mail(ALICE)[0] == 250 and client.rcpt(to)[0] == 250
    assert client.docmd("DATA")[0] == 354


def test_sigterm_ends_running_transactions(relay_, receiver_):
    idle = relay_.client(login="alice")
    busy = relay_.client(login="alice")
    begin_data(busy)
    busy.sock.sendall(b"From: alice@client.test\r\nSubject: late\r\n\r\n")
    relay_.process.signal(signal.SIGTERM)
    code, text = idle.getreply()
    assert code == 421 and text.startswith(b"4.3.2")
    assert relay_.process.running()
    busy.sock.sendall(b"the rest\r\n.\r\n")
    code, text = busy.getreply()
    assert code == 250 and re.fullmatch(rb"2\.0\.0 Ok: queued as [0-9A-Za-z]{12,26}", text)
    assert relay_.process.wait(60) == 0
    relay_.start()  # what was answered 250 is there
    ident = text.split()[-1].decode()
    relay_.wait_state(ident, "delivered")
    assert b"the rest" in receiver_.wait_one(BOB).data


def test_sigterm_waits_no_longer_than_the_grace(make_relay, receiver_):
    relay = make_relay({"shutdown_grace": "1s"})
    relay.add_account("alice", domains=["client.test"])
    client = relay.client(login="alice")
    begin_data(client)
    started = time.monotonic()
    assert relay.stop(20) == 0
    assert 0.9 < time.monotonic() - started < 20  # without the option: 30 s


# ---- all commands ----------------------------------------------------------------------------------------

def test_exit_codes(slow_relay, tmp_path):
    def exit_of(*words, **kwargs):
        result = slow_relay.run(*words, check=False, **kwargs)
        assert result.returncode == 0 or (result.stderr.strip() and not result.stdout)
        return result.returncode
    unknown = "0" * 20
    assert exit_of("queue", "list") == 0
    assert exit_of("queue") == exit_of("message") == exit_of("nonsense") == 64
    assert exit_of("message", "show") == exit_of("queue", "hold") == exit_of("queue", "hold", "--all", "--id", unknown) == 64
    assert exit_of("message", "find") == exit_of("events", "--after", "x") == exit_of("queue", "list", "--nonsense") == 64
    assert exit_of("message", "find", "--tag", "x", "--since", "yesterday") == 65
    assert exit_of("queue", "hold", "--domain", "not a domain") == 65
    assert exit_of("message", "show", unknown) == exit_of("message", "why", unknown) == 66
    assert exit_of("message", "show", "nosuchid0000") == exit_of("queue", "retry", "--id", "nosuchid0000") == 66
    assert exit_of("queue", "list", "--account", "nobody") == 66
    assert slow_relay.stop() == 0
    for words in (["message", "show", unknown], ["queue", "list"], ["queue", "hold", "--all"], ["events"], ["queue", "lanes"],
                  ["message", "find", "--tag", "x"], ["message", "why", unknown], ["backup", tmp_path / "b"]):
        assert exit_of(*words) == 69, words
    assert not (tmp_path / "b").exists()
    assert exit_of("account", "list") == 0
    slow_relay.config_file.write_text("hostname: [\n")
    assert exit_of("queue", "list") == exit_of("serve") == exit_of("check-config") == 78


def test_exit_when_a_port_is_busy(make_relay):
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as taken:
        relay = make_relay({"http": {"address": f"127.0.0.1:{taken.getsockname()[1]}"}}, start=False)
        result = relay.run("serve", check=False)
    assert result.returncode == 75 and "in use" in result.stderr


def test_exit_without_permission():
    """As another user: a port below 1024, and the control socket of a running service."""
    if os.geteuid() != 0:
        pytest.skip("needs root to become somebody else")
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        folder.chmod(0o755)
        binary = folder / "posthaste"
        shutil.copy(BINARY, binary)
        for name, owner in (("theirs", 65534), ("ours", 0)):
            (folder / name).mkdir()
            os.chown(folder / name, owner, owner)
            (folder / f"{name}.yaml").write_text(
                f"hostname: relay.test\nspool: {folder / name / 'spool'}\nstate: {folder / name / 'state'}\n"
                "tls: {self_signed: yes}\nhttp: {address: none}\ndns: {servers: [127.0.0.1@9], trust_anchor: none}\n"
                f"listeners: [{{name: low, address: '127.0.0.1:{5 if name == 'theirs' else 0}'}}]\n")

        def as_nobody(*words):
            return subprocess.run(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", binary, *words],
                                  capture_output=True, text=True, timeout=120)
        result = as_nobody("serve", "--config", folder / "theirs.yaml")
        assert result.returncode == 77, result.stderr
        ours = Process([binary, "serve", "--config", folder / "ours.yaml", "--ready-file", folder / "ready"], folder / "log")
        try:
            wait_until(lambda: ours.check_running() and (folder / "ready").exists(), 20)
            result = as_nobody("queue", "list", "--config", folder / "ours.yaml")
            assert result.returncode == 77 and "permission" in result.stderr
        finally:
            assert ours.stop() == 0


def test_exit_when_a_key_is_no_use(make_relay, tmp_path):
    """A missing key, one that is none, and what a table of local recipients should not say."""
    for name, content in (("missing", None), ("nonsense", b"no key at all\n")):
        key = tmp_path / name
        if content:
            key.write_bytes(content)
        relay = make_relay(start=False, name=f"relay-{name}")
        relay.write_config({"tls": {"key": str(key)}})
        for command in ("check-config", "serve"):
            result = relay.run(command, check=False, timeout=60)
            assert result.returncode == 78 and not result.stdout, command
            assert "key" in result.stderr and (content or str(key) in result.stderr), result.stderr
    table = tmp_path / "recipients"
    table.write_text("not an address\n")
    relay = make_relay({"routes": [{"match": {"recipient": "example.org"}, "via": "discard", "recipients": str(table)}]}, start=False)
    for command in ("check-config", "serve"):
        result = relay.run(command, check=False, timeout=60)
        assert result.returncode == 78 and str(table) in result.stderr, (command, result.stderr)


# ---- accepted mail ---------------------------------------------------------------------------------------

def test_accepted_reply_and_received_field(relay_, receiver_):
    idents = [send(relay_) for _ in range(5)]  # submit() insists on the exact reply
    assert len(set(idents)) == 5
    relay_.restart()
    idents.append(send(relay_))
    assert len(set(idents)) == 6
    got = receiver_.wait(6)
    for ident in idents:
        fields = [m.data.split(b"\r\n\r\n")[0].replace(b"\r\n\t", b" ").replace(b"\r\n ", b" ") for m in got]
        assert sum(bool(re.search(rb"^Received: .* id " + ident.encode() + rb"\b", f, re.M)) for f in fields) == 1


# ---- messages --------------------------------------------------------------------------------------------

def test_message_show(slow_relay, receiver_):
    to = [f"{name}@example.org" for name in ("ok", "later", "never")]
    receiver_.script("rcpt", "451 4.7.1 come back later", when="later@")
    receiver_.script("rcpt", "550 5.1.1 no such user", when="never@")
    ident = send(slow_relay, to, mail_options=["ENVID=env-7"], X_Posthaste_Tag="welcome", X_Posthaste_Class="bulk")
    for address in to:
        wait_attempt(slow_relay, ident, address)
    message = slow_relay.message(ident)
    assert list(message) == MESSAGE_KEYS
    assert message["id"] == ident and message["account"] == "alice" and message["class"] == "bulk"
    assert message["tag"] == "welcome" and message["sender"] == ALICE and message["envid"] == "env-7"
    assert re.fullmatch(r"<.+@client.test>", message["message_id"]) and message["size"] > 300
    assert TIME.fullmatch(message["accepted_at"])
    rows = {r["address"]: r for r in message["recipients"]}
    assert list(rows) == to
    for row in rows.values():
        assert list(row) == RECIPIENT_KEYS and list(row["last"]) == LAST_KEYS and row["attempts"] == 1
        assert TIME.fullmatch(row["last"]["at"]) and row["last"]["mx"] == "mx1.example.org"
        assert row["last"]["ip"].startswith(receiver_.address)
    assert rows[to[0]]["state"] == "delivered" and rows[to[0]]["last"]["code"] == 250
    assert rows[to[1]]["state"] == "queued" and rows[to[1]]["last"]["code"] == 451
    assert rows[to[1]]["last"]["enhanced"] == "4.7.1" and "come back later" in rows[to[1]]["last"]["text"]
    assert rows[to[2]]["state"] == "failed" and rows[to[2]]["last"]["enhanced"] == "5.1.1"
    assert rows[to[0]]["next_attempt_at"] is None and rows[to[2]]["next_attempt_at"] is None
    due = datetime.datetime.fromisoformat(rows[to[1]]["next_attempt_at"].replace("Z", "+00:00"))
    left = (due - datetime.datetime.now(datetime.timezone.utc)).total_seconds()
    assert 1500 < left < 7200
    shown = slow_relay.run("message", "show", ident).stdout  # for people
    assert ident in shown and "come back later" in shown and "RECIPIENT" in shown


def test_message_show_at_once(relay_, receiver_):
    """Who was answered 250 finds his message, and mail that waits has a state."""
    for _ in range(10):
        ident = send(relay_)
        assert relay_.states(ident)[BOB] in ("queued", "delivered")


def test_message_show_held_expired_removed(make_relay, receiver_):
    receiver_.script("rcpt", "451 4.7.1 come back later")
    relay = make_relay({"retry": {"first": "1s", "max": "1s", "lifetime": "5s", "warn_after": "none"}})
    relay.add_account("alice", domains=["client.test"])
    expired = send(relay)
    relay.wait_state(expired, "expired")
    assert recipient(relay, expired)["attempts"] >= 2
    assert recipient(relay, expired)["last"]["code"] == 451  # the last answer, not our own words
    relay.cli("queue", "hold", "--domain", "example.org")
    held = send(relay)
    assert relay.states(held) == {BOB: "held"} and recipient(relay, held)["next_attempt_at"] is None
    relay.cli("queue", "delete", "--id", held)
    assert relay.states(held) == {BOB: "removed"}
    types = {ident: [e["type"] for e in relay.cli_list("events") if e["id"] == ident] for ident in (expired, held)}
    assert types[expired][:3] == ["accepted", "attempted", "deferred"] and types[expired][-2:] == ["expired", "dsn"]
    assert types[held][0] == "accepted" and types[held][-1] == "removed"


def test_message_find(slow_relay, receiver_):
    receiver_.script("rcpt", "451 4.7.1 come back later")
    one = send(slow_relay, ["x@example.org", BOB], mail_options=["ENVID=first"], X_Posthaste_Tag="red")
    two = send(slow_relay, mail_options=["ENVID=second"], X_Posthaste_Tag="blue")

    def find(*words):
        found = slow_relay.cli_list("message", "find", *words)
        assert all(list(message) == MESSAGE_KEYS for message in found)
        return [message["id"] for message in found]
    assert find("--recipient", BOB) == [two, one]  # the newest first
    assert find("--recipient", "X@Example.org") == [one]
    assert find("--sender", ALICE) == [two, one]
    assert find("--tag", "red") == [one] and find("--envid", "second") == [two]
    ident = slow_relay.message(one)["message_id"]
    assert find("--message-id", ident) == find("--message-id", ident.strip("<>")) == [one]
    assert find("--recipient", BOB, "--tag", "blue") == [two]
    assert find("--recipient", "nobody@example.org") == []
    accepted = slow_relay.message(two)["accepted_at"]
    assert find("--recipient", BOB, "--since", accepted) == [two] == find("--recipient", "@example.org", "--tag", "blue")
    assert find("--account", "alice", "--until", accepted) == [one]
    table = slow_relay.run("message", "find", "--sender", ALICE).stdout
    assert len(table.splitlines()) == 3 and "x@example.org and 1 more" in table


def test_message_find_passes_over_what_can_not_be_shown(slow_relay, receiver_):
    """A message that was found and is gone from the history when it is to be shown hides no other."""
    slow_relay.cli("queue", "hold", "--all")
    one, two = send(slow_relay), send(slow_relay)
    slow_relay.message(two)
    with contextlib.closing(sqlite3.connect(max((slow_relay.folder / "state" / "events").glob("*.db")), timeout=10)) as day:
        day.execute("DELETE FROM part WHERE (high, low) = (SELECT high, low FROM part ORDER BY high DESC, low DESC LIMIT 1)")
        day.commit()
    assert [m["id"] for m in slow_relay.cli_list("message", "find", "--recipient", BOB)] == [one]


HISTORY_KEYS = [*EVENT_KEYS, "mx", "ip", "tls", "sender", "message_id", "account", "tag"]


def test_history(slow_relay, receiver_, dns):
    dns.domain("sub.example.org", receiver_)
    receiver_.script("rcpt", "550 5.1.1 no such user", when="bob@")
    one = send(slow_relay, ["x@example.org", BOB], mail_options=["ENVID=first"], X_Posthaste_Tag="red")
    two = send(slow_relay, "y@sub.example.org", mail_options=["ENVID=second"], X_Posthaste_Tag="blue")
    for ident, address in (one, "x@example.org"), (one, BOB), (two, "y@sub.example.org"):
        wait_attempt(slow_relay, ident, address)
    wait_empty(slow_relay)  # of the notification, too

    def history(*words):
        found = slow_relay.cli_list("history", *words)
        assert all(set(event) - {"feedback"} == set(HISTORY_KEYS) for event in found)
        return [(event["id"], event["type"], event["recipient"]) for event in found]
    to_x = [(one, "delivered", "x@example.org"), (one, "accepted", "x@example.org")]
    assert history("--recipient", "X@Example.ORG") == to_x
    assert history("--recipient", "x@example.org", "--type", "accepted") == to_x[1:]
    assert {found[0] for found in history("--recipient", "@example.org")} == {one}, "a domain is not those below it"
    assert history("--recipient", "@Sub.Example.org", "--type", "delivered") == [(two, "delivered", "y@sub.example.org")]
    assert history("--type", "bounced", "--sender", ALICE) == [(one, "bounced", BOB)]
    assert {found[0] for found in history("--tag", "blue")} == {found[0] for found in history("--envid", "second")} == {two}
    report = slow_relay.cli_list("history", "--sender", "<>", "--type", "accepted")
    assert [event["recipient"] for event in report] == [ALICE]
    assert history("--account", "nobody") == [] and len(history("--account", "alice", "--type", "accepted")) == 4
    assert len(history("--sender", ALICE, "--until", "1h")) == 0 < len(history("--sender", ALICE, "--since", "1h"))
    accepted = slow_relay.message(two)["accepted_at"]
    assert {found[0] for found in history("--sender", ALICE, "--type", "accepted", "--since", accepted)} == {two}
    ident = slow_relay.message(one)["message_id"]
    assert history("--message-id", ident.strip("<>")) == history("--message-id", ident) != []
    everything, paged = slow_relay.cli_list("history"), []
    while page := slow_relay.cli_list("history", "--limit", "1", *(["--before", paged[-1]["cursor"]] if paged else [])):
        paged += page
    assert paged == everything and [event["at"] for event in paged] == sorted((event["at"] for event in paged), reverse=True)
    table = slow_relay.run("history", "--recipient", BOB).stdout
    assert table.split()[:2] == ["AT", "EVENT"] and "550 5.1.1 no such user" in table
    for words, says in ((["--type", "lost"], "must be one of"), (["--since", "noon"], "must be a time"), (["--before", "x"], "cursor")):
        wrong = slow_relay.run("history", *words, check=False)
        assert wrong.returncode == 64 + 1 and says in wrong.stderr, wrong
    assert slow_relay.run("history", "--limit", "0", check=False).returncode == 64


def test_message_why(slow_relay, receiver_, dns):
    receiver_.script("rcpt", "451 4.7.1 come back later", when="bob@")

    def why(ident, *words):
        reason = slow_relay.cli("message", "why", ident, *words)
        assert list(reason) == ["limit", "until", "setting", "text", "last"] and reason["text"]
        return reason
    ident = send(slow_relay, ["ok@example.org", BOB])
    wait_attempt(slow_relay, ident, "ok@example.org")
    wait_attempt(slow_relay, ident)
    reason = why(ident)
    assert reason["limit"] == "retry_time" and reason["setting"].startswith("retry.") and TIME.fullmatch(reason["until"])
    for same in (why(ident, BOB), why(ident, "2")):  # a time of the monotonic clock is not told to the millisecond
        assert {**same, "until": reason["until"]} == reason and abs(seconds_of(same["until"]) - seconds_of(reason["until"])) < 0.5
    assert why(ident, "ok@example.org") == why(ident, "1")
    assert why(ident, "1")["limit"] == "none" and "delivered" in why(ident, "1")["text"]
    assert slow_relay.run("message", "why", ident, "who@example.org", check=False).returncode == 66
    assert reason["last"] == slow_relay.message(ident)["recipients"][1]["last"] and reason["last"]["text"] == "come back later"
    slow_relay.restart()
    assert why(ident)["last"] == reason["last"] and "451 4.7.1 come back later" in slow_relay.run("message", "why", ident).stdout
    slow_relay.cli("queue", "hold", "--id", ident)
    assert why(ident)["limit"] == "hold"
    dns.servfail("broken.test")
    ident = send(slow_relay, "x@broken.test")
    wait_until(lambda: why(ident)["limit"] == "dns" and why(ident)["until"], 15, "limit dns", every=0.2)
    assert why(ident)["last"] is None
    assert abs(seconds_of(slow_relay.message(ident)["recipients"][0]["next_attempt_at"]) - seconds_of(why(ident)["until"])) < 0.5
    later = (datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=2)).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert why(send(slow_relay, "sched@example.org", X_Posthaste_Send_At=later))["limit"] == "scheduled"
    assert slow_relay.cli("queue", "hold", "--recipient", "sched@example.org", "--dry-run")["matched"] == 1  # at once
    assert slow_relay.cli_list("queue", "list", "--domain", "example.org")[-1]["state"] == "scheduled"


# ---- the queue -------------------------------------------------------------------------------------------

def test_queue_lists(slow_relay, receiver_):
    receiver_.script("rcpt", "451 4.7.1 come back later")
    assert slow_relay.cli_list("queue", "list") == []
    ident = send(slow_relay, [BOB, "eve@example.org"])
    wait_attempt(slow_relay, ident)
    wait_attempt(slow_relay, ident, "eve@example.org")
    rows = slow_relay.cli_list("queue", "list")
    assert sum(row["recipients"] for row in rows) == 2
    for row in rows:
        assert list(row) == ["id", "account", "class", "domain", "state", "recipients", "attempts", "next_attempt_at", "size"]
        assert (row["id"], row["account"], row["class"], row["domain"]) == (ident, "alice", "transactional", "example.org")
        assert row["state"] == "queued" and row["attempts"] == 1 and TIME.fullmatch(row["next_attempt_at"])
    for words in (["--id", ident], ["--domain", "EXAMPLE.org"], ["--account", "alice"]):
        same = slow_relay.cli_list("queue", "list", *words)
        assert all(abs(seconds_of(a["next_attempt_at"]) - seconds_of(b["next_attempt_at"])) < 0.5 for a, b in zip(same, rows))
        assert [{**row, "next_attempt_at": 0} for row in same] == [{**row, "next_attempt_at": 0} for row in rows]
    assert slow_relay.cli_list("queue", "list", "--domain", "example.com") == []
    lane = slow_relay.cli_list("queue", "lanes")[0]
    assert list(lane) == ["lane", "ready", "oldest_at", "connections", "connecting", "busy", "connections_max", "hour_used", "day_used",
                          "remote_limits", "backoff_until", "text"]
    assert "mx1.example.org" in lane["lane"] and lane["connections_max"] == 20
    assert ident in slow_relay.run("queue", "list").stdout and "mx1.example.org" in slow_relay.run("queue", "lanes").stdout


def test_queue_actions(slow_relay, receiver_):
    receiver_.script("rcpt", "451 4.7.1 come back later", times=3)
    ident = send(slow_relay, [BOB, "eve@example.org", "joe@example.org"])
    for name in ("bob", "eve", "joe"):
        wait_attempt(slow_relay, ident, f"{name}@example.org")

    def act(action, *words):
        answer = slow_relay.cli("queue", action, *words)
        assert list(answer) == ["matched", "changed", "dry_run"]
        return answer["matched"], answer["changed"], answer["dry_run"]
    for action in ("hold", "retry", "bounce", "delete"):
        assert act(action, "--all", "--dry-run") == (3, 0, True)
    assert set(slow_relay.states(ident).values()) == {"queued"}
    assert act("hold", "--recipient", BOB) == (1, 1, False)
    assert slow_relay.states(ident)[BOB] == "held"
    assert act("hold", "--recipient", BOB)[1] == 0
    assert act("release", "--all", "--dry-run") == (1, 0, True)
    assert act("release", "--recipient", BOB) == (1, 1, False)
    assert act("hold", "--id", ident) == act("release", "--account", "alice") == (3, 3, False)
    assert act("delete", "--recipient", "eve@example.org") == (1, 1, False)
    assert slow_relay.states(ident)["eve@example.org"] == "removed"
    assert act("bounce", "--recipient", "joe@example.org") == (1, 1, False)
    assert slow_relay.states(ident)["joe@example.org"] == "failed"
    assert act("retry", "--domain", "example.org") == (1, 1, False)
    slow_relay.wait_state(ident, "delivered", recipient=BOB)
    assert act("retry", "--id", ident) == (0, 0, False)
    told = [e for e in slow_relay.cli_list("events") if e["id"] == ident and e["recipient"] == "joe@example.org"]
    assert [e["type"] for e in told][-2:] == ["bounced", "dsn"]


def test_holds_are_listed(slow_relay, receiver_):
    """The standing holds: what, who, since when, why, and how much; also after a restart, and until released."""
    slow_relay.cli("queue", "hold", "--domain", "Example.ORG", "--reason", "first")
    slow_relay.cli("queue", "hold", "--domain", "example.org", "--reason", "loses mail, \u00fcber X")
    slow_relay.cli("queue", "hold", "--account", "alice")
    ident = send(slow_relay, [BOB, "eve@example.org"])
    slow_relay.wait_state(ident, "held")
    for _ in range(2):
        domain, account = slow_relay.cli_list("queue", "holds")
        assert list(domain) == ["scope", "domain", "account", "since", "actor", "reason", "messages", "recipients"]
        assert (domain["scope"], domain["domain"], domain["account"]) == ("domain", "example.org", None)
        assert (account["scope"], account["domain"], account["account"], account["reason"]) == ("account", None, "alice", None)
        assert domain["reason"] == "loses mail, \u00fcber X" and domain["actor"].startswith("cli:") and domain["since"] <= account["since"]
        assert all((hold["messages"], hold["recipients"]) == (1, 2) for hold in (domain, account))
        slow_relay.restart()
    assert slow_relay.cli("message", "why", ident)["text"].endswith("mail to example.org is held: loses mail, \u00fcber X")
    shown = slow_relay.run("queue", "holds").stdout.splitlines()
    assert shown[0].split() == ["SCOPE", "DOMAIN", "ACCOUNT", "SINCE", "BY", "MESSAGES", "RECIPIENTS", "REASON"] and len(shown) == 3
    for bad in ("two\nlines", "x" * 201):
        assert slow_relay.run("queue", "hold", "--all", "--reason", bad, check=False).returncode == 65
    slow_relay.cli("queue", "release", "--domain", "example.org", "--reason", "they say it is mended")
    slow_relay.cli("queue", "release", "--account", "alice", "--reason", "enough")
    assert not slow_relay.cli_list("queue", "holds") and not slow_relay.run("queue", "holds").stdout
    told = [e["text"] for e in slow_relay.cli_list("events") if e["id"] == ident and e["type"] == "released"]
    assert len(told) == 2 and all(text.startswith("enough by cli:") for text in told)
    assert [row["args"].get("reason") for row in slow_relay.cli_list("audit", "--action", "queue")][:2] == ["enough", "they say it is mended"]


def test_more_than_a_page(slow_relay, receiver_):
    """Lists, actions and events of more than the 1000 that the control socket gives at once."""
    slow_relay.add_account("trusted", domains=["load.example"])
    slow_relay.cli("queue", "hold", "--all")
    result = subprocess.run([BINARY, "load", "--to", f"127.0.0.1:{slow_relay.listener('trusted')[1]}", "--count", "1100",
                             "--sessions", "5", "--size", "200", "--rcpt", "user%m@example.org"],
                            capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stdout
    rows = slow_relay.cli_list("queue", "list")
    assert len({row["id"] for row in rows}) == len(rows) == 1100 and {row["state"] for row in rows} == {"held"}
    assert len(slow_relay.cli_list("events")) == 1100
    assert len(slow_relay.cli_list("message", "find", "--recipient", "user7@example.org")) == 1
    assert slow_relay.cli("queue", "delete", "--domain", "example.org") == {"matched": 1100, "changed": 1100, "dry_run": False}
    events = slow_relay.cli_list("events")
    assert [e["type"] for e in events] == ["accepted"] * 1100 + ["removed"] * 1100
    assert len({e["recipient"] for e in events}) == 1100 and events[-1]["text"].endswith("by cli:root")
    assert slow_relay.cli_list("queue", "list") == []


def posted(relay, path, text):
    """(status, object) of a POST at the control socket."""
    connection = http.client.HTTPConnection("control", timeout=PATIENCE_S)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(f"{relay.config['state']}/control.sock")
    with contextlib.closing(connection):
        connection.request("POST", path, text)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())


def suppressed_page(relay, count):
    return posted(relay, "/v1/suppress", json.dumps({"op": "suppress.list", "args": {"max": count}}))


def test_i_deep_json(relay_):
    """A hundred thousand arrays within each other are no request; ten are."""
    pid = relay_.relay_pid()
    for depth, wanted in ((10, 200), (100000, 400)):
        nested = "[" * depth + "]" * depth
        status, answer = posted(relay_, "/v1/suppress", '{"op": "suppress.list", "args": {"max": 1}, "x": %s}' % nested)
        assert status == wanted, answer
    assert answer["error"].startswith("the body is not a JSON object")
    assert relay_.relay_pid() == pid


def test_an_answer_that_is_too_large(relay_):
    """Beyond 64 MiB there is an error that says what to do, not a part of what was asked for; less is given whole."""
    relay_.stop()
    note = "\x01" * 1200  # six bytes each in JSON
    database = sqlite3.connect(relay_.config["state"] + "/suppressions.db")
    with contextlib.closing(database), database:
        database.executemany("INSERT INTO suppression VALUES (?, -1, '', 4, 1, NULL, 1, 'test', ?)",
                             ((f"u{number:05}@example.org", note) for number in range(10000)))
    relay_.start()
    status, answer = suppressed_page(relay_, 10000)
    assert (status, answer) == (400, {"error": "the answer is too large: ask for less at once"})
    status, answer = suppressed_page(relay_, 9000)  # 62 MiB
    assert status == 200 and len(answer["entries"]) == 9000 and answer["next"]["address"] == "u08999@example.org"
    assert {entry["note"] for entry in answer["entries"]} == {note}


@pytest.mark.parametrize("words", [["--domain", "example.org"], ["--account", "alice"], ["--all"]])
def test_hold_holds_later_mail(relay_, receiver_, words):
    assert relay_.cli("queue", "hold", *words)["matched"] == 0
    ident = send(relay_)
    assert relay_.states(ident) == {BOB: "held"}
    relay_.restart()
    later = send(relay_)
    time.sleep(0.5)
    assert relay_.states(ident) == relay_.states(later) == {BOB: "held"} and not receiver_.messages()
    assert relay_.cli("queue", "release", *words)["changed"] == 2
    relay_.wait_state(ident, "delivered")
    relay_.wait_state(later, "delivered")
    relay_.wait_state(send(relay_), "delivered")  # the rule is gone, too


# ---- events ----------------------------------------------------------------------------------------------

def test_events(slow_relay, receiver_):
    receiver_.script("rcpt", "451 4.7.1 come back later", times=1)
    first = send(slow_relay)
    wait_attempt(slow_relay, first)
    slow_relay.cli("queue", "hold", "--id", first)
    slow_relay.cli("queue", "release", "--id", first)
    slow_relay.cli("queue", "retry", "--id", first)
    slow_relay.wait_state(first, "delivered")
    events = slow_relay.cli_list("events")
    assert all(list(e) == EVENT_KEYS and TIME.fullmatch(e["at"]) and e["id"] == first and e["recipient"] == BOB for e in events)
    assert [e["type"] for e in events] == ["accepted", "attempted", "deferred", "held", "released", "attempted", "delivered"]
    assert events[2]["code"] == 451 and events[2]["enhanced"] == "4.7.1" and "mx1.example.org" in events[2]["lane"]
    cursors = [e["cursor"] for e in events]
    assert cursors == sorted(cursors)
    assert slow_relay.cli_list("events", "--after", cursors[2]) == events[3:]
    assert slow_relay.cli_list("events", "--after", cursors[-1]) == []
    assert first in slow_relay.run("events").stdout
    with open(slow_relay.folder / "followed", "wb") as out:
        follow = subprocess.Popen([BINARY, "events", "--json", "--follow", "--after", str(cursors[-1]), "--config",
                                   slow_relay.config_file], stdout=out)
    try:
        second = send(slow_relay)
        slow_relay.wait_state(second, "delivered")

        def followed():
            return json_lines(slow_relay.folder / "followed")
        wait_until(lambda: len(followed()) >= 3, 10, "followed events")
        assert [(e["id"], e["type"]) for e in followed()] == [(second, t) for t in ("accepted", "attempted", "delivered")]
        assert follow.poll() is None
    finally:
        follow.kill()
        follow.wait()


# ---- sink and load ---------------------------------------------------------------------------------------

@pytest.fixture
def start_sink(tmp_path):
    started = []

    def start(*words, rules=None):
        folder = tmp_path / f"sink{len(started)}"
        folder.mkdir()
        if rules is not None:
            (folder / "rules").write_text(rules)
            words = (*words, "--rules", folder / "rules")
        sink = Process([BINARY, "sink", "--listen", "127.0.0.1:0", "--log", folder / "log", "--ready-file", folder / "ready",
                        *words], folder / "out")
        started.append(sink)
        wait_until(lambda: sink.check_running() and (folder / "ready").exists(), 10)
        sink.port = json.loads((folder / "ready").read_text())["listeners"][0]["port"]
        sink.lines = lambda: json_lines(folder / "log")
        return sink
    yield start
    for sink in started:
        sink.kill()


def test_sink(start_sink):
    sink = start_sink("--count", "3", rules="refused@example.org rcpt refuse\nexample.com rcpt first 1 defer\n"
                                            "* final first 1 delay 200\n")
    data = b"Subject: x\r\n\r\nbody\r\n.dot\r\n"
    with smtplib.SMTP("127.0.0.1", sink.port, "client.test", timeout=60) as client:
        client.ehlo()
        client.mail(ALICE)
        assert client.rcpt("refused@example.org")[0] // 100 == 5
        assert client.rcpt("x@example.com")[0] // 100 == 4 and client.rcpt("x@example.com")[0] == 250
        assert client.rcpt(BOB)[0] == 250
        began = time.monotonic()
        assert client.data(data)[0] == 250 and time.monotonic() - began >= 0.2
    lines = sink.lines()
    assert [line["recipient"] for line in lines] == ["x@example.com", BOB]
    for line in lines:
        assert {"at", "id", "sender", "recipient", "sha256"} <= set(line)
        assert TIME.fullmatch(line["at"]) and line["sender"] == ALICE and line["sha256"] == hashlib.sha256(data).hexdigest()
    with smtplib.SMTP("127.0.0.1", sink.port, "client.test", timeout=60) as client:
        client.sendmail(ALICE, [BOB], data)
    assert sink.wait(60) == 0  # --count


@pytest.mark.parametrize("tls", ["none", "starttls", "implicit"])
def test_load(make_relay, start_sink, tmp_path, tls):
    sink = start_sink()
    relay = make_relay({"routes": [{"match": {}, "via": f"smtp://127.0.0.1:{sink.port}"}]})
    login, password = relay.add_account("alice", domains=["load.example"])
    relay.add_account("trusted", domains=["load.example"])
    (tmp_path / "password").write_text(password + "\n")
    words = ["--login", login, "--password-file", tmp_path / "password"] if tls != "none" else []
    port = relay.listener({"none": "trusted", "starttls": "submission", "implicit": "submissions"}[tls])[1]
    result = subprocess.run([BINARY, "load", "--to", f"127.0.0.1:{port}", "--count", "20", "--sessions", "4", "--rate", "200",
                             "--size", "2000", "--recipients", "3", "--tls", tls, "--ids", tmp_path / "ids", "--json", *words],
                            capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["messages"] == report["accepted"] == 20 and report["recipients_accepted"] == 60
    ids = [json.loads(line) for line in (tmp_path / "ids").read_text().splitlines()]
    assert len({line["id"] for line in ids}) == 20
    wait_until(lambda: len(sink.lines()) == 60, 30, "all at the sink")


# ---- metrics and health ----------------------------------------------------------------------------------

METRICS = """messages_accepted_total recipients_accepted_total bytes_accepted_total messages_refused_total
    recipients_refused_total sessions_total sessions_refused_total sessions_tls_total logins_total logins_failed_total
    sessions recipients_total{outcome="delivered"} recipients_total{outcome="failed"}
    recipients_total{outcome="deferred"} recipients_total{outcome="expired"} transactions_total connections_opened_total
    connections_failed_total bytes_sent_total dkim_signatures_total{algorithm="rsa"}
    dkim_signatures_total{algorithm="ed25519"} dkim_failures_total dkim_bodies_read_total spool_flushes_total spool_flush_failures_total spool_frames_total
    spool_records_total spool_written_bytes_total spool_compacted_bytes_total spool_damaged_records_total spool_segments
    spool_segments_free spool_live_messages spool_live_bytes spool_extents spool_extent_bytes spool_accepting
    queue_recipients{state="queued"} queue_recipients{state="scheduled"} queue_recipients{state="held"}
    queue_recipients{state="active"} queue_messages queue_domains queue_lanes queue_connections queue_memory_bytes
    queue_stored_bytes queue_bytes{kind="message"} queue_bytes{kind="recipient"} queue_bytes{kind="domain"}
    queue_loading history_sequence process_cpu_seconds_total acceptance_seconds_count
    acceptance_seconds_bucket{le="+Inf"} delivery_seconds_count delivery_seconds_bucket{le="60"} connections_tls_total
    lane_ready lane_deferred_total spool_flush_seconds_total spool_sequence certificate_not_after_seconds disk_free_ratio
    dns_questions_total{result="answered"} dns_questions_total{result="failed"} process_resident_memory_bytes
    process_open_fds process_max_fds start_time_seconds""".split()
ON_DEMAND = {"lane_ready", "lane_deferred_total"}  # a line for each lane that has some


def test_metrics(relay_, receiver_):
    ident = send(relay_)
    relay_.wait_state(ident, "delivered")
    wait_until(lambda: relay_.metrics()['posthaste_recipients_total{outcome="delivered"}'] == 1)  # the worker's, after the record
    wait_until(lambda: relay_.metrics()["posthaste_queue_messages"] == 0)
    metrics = relay_.metrics()
    status, text = relay_.http("/metrics")
    for name in METRICS:
        assert f"posthaste_{name}" in metrics or name in ON_DEMAND and f"# TYPE posthaste_{name} " in text, name
    assert metrics["posthaste_messages_accepted_total"] == 1 and metrics["posthaste_spool_flushes_total"] >= 1
    assert metrics['posthaste_recipients_total{outcome="delivered"}'] == 1 and metrics['posthaste_queue_recipients{state="queued"}'] == 0
    assert metrics["posthaste_acceptance_seconds_count"] == metrics["posthaste_delivery_seconds_count"] == 1
    assert metrics["posthaste_connections_opened_total"] == 1 and metrics["posthaste_connections_tls_total"] == 0
    assert metrics["posthaste_process_resident_memory_bytes"] > 1e6
    assert 10 < metrics["posthaste_process_open_fds"] < metrics["posthaste_process_max_fds"]
    assert abs(metrics["posthaste_start_time_seconds"] - time.time()) < 600
    for line in text.splitlines():  # the text format, version 0.0.4
        assert re.fullmatch(r"# (HELP|TYPE) posthaste_[a-z_]+ .+|posthaste_[a-z_]+(\{[a-z_]+=\"[^\"]*\"\})? [0-9.]+", line), line
    documented = (pathlib.Path(__file__).parents[2] / "docs" / "INTERFACE.md").read_text()
    for name in {re.sub(r"_seconds_(count|bucket)$", "_seconds", name.partition("{")[0]) for name in METRICS}:
        assert f"`posthaste_{name}" in documented, name


def test_lanes_that_stand_out(relay_, receiver_):
    """A lane whose site puts mail off is named."""
    receiver_.script("rcpt", "451 4.7.1 later", times=1)
    relay_.wait_state(send(relay_), "delivered", seconds=30)
    lanes = {name: value for name, value in relay_.metrics().items() if name.startswith("posthaste_lane_deferred_total{")}
    assert list(lanes.values()) == [1] and "example.org" in list(lanes)[0], lanes


def test_health(relay_):
    assert relay_.http("/healthz") == (200, "ok\n")
    assert relay_.http("/readyz") == (200, "ready\n")
    assert relay_.http("/v1/queue")[0] == 404  # what changes things is not on TCP


# ---- backup ----------------------------------------------------------------------------------------------

@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: gives folders to another user")
def test_backup_gives_nothing_else_away(make_relay, tmp_path):
    """What the service's user puts in STATE, links where root is to make a folder, leads to nothing of root's."""
    relay = make_relay()
    state, victim = pathlib.Path(relay.config["state"]), tmp_path / "victim"
    victim.mkdir()
    os.chown(state, 65534, 65534)  # by which the command knows the service's user
    last = int(pathlib.Path("/proc/loadavg").read_text().split()[-1])
    for pid in range(last, last + 3000):
        (state / f"backup.{pid}").symlink_to(victim)
    relay.run("backup", tmp_path / "copy", check=False)  # this relay is root's: it cannot write what is another's
    assert (victim.stat().st_uid, list(victim.iterdir())) == (0, [])
    (tmp_path / "taken").symlink_to(victim)
    os.chown(tmp_path / "taken", 65534, 65534, follow_symlinks=False)
    os.chown(tmp_path, 65534, 65534)
    taken = relay.run("backup", tmp_path / "taken", check=False)
    assert taken.returncode == 77 and f"cannot back up to {tmp_path / 'taken'}: a symbolic link on the way is not root's" in taken.stderr
    assert victim.stat().st_uid == 0


needs_strace = pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("strace"), reason="needs root and strace")


@pytest.fixture
def nobodys(make_relay):
    """A service that would run as nobody, whose STATE may come to stand in a folder of nobody's; and a folder of root's."""
    relay = make_relay(start=False)
    place, victim = relay.folder / "place", relay.folder / "victim"
    for folder in (place, victim):
        folder.mkdir()
    os.chown(place, 65534, 65534)
    relay.write_config({"user": "nobody", "state": str(place / "state")})
    return relay, place / "state", victim


def command_under_strace(relay, *options):
    return subprocess.Popen(["strace", "-qq", "-f", "-o", os.devnull, *options, str(BINARY), "account", "list", "--config", str(relay.config_file)],
                            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def put_link(state, victim):
    state.rename(state.parent / "made")
    state.symlink_to(victim)
    os.chown(state, 65534, 65534, follow_symlinks=False)


@needs_strace
def test_a_command_on_files_gives_nothing_else_away(nobodys):
    """Who has the folder above STATE puts a link there once root has made STATE: what it leads to stays root's."""
    relay, state, victim = nobodys
    with command_under_strace(relay, "-e", "inject=?mkdir,mkdirat:delay_exit=500000") as command:
        wait_until(state.exists, 20, "the folder")
        put_link(state, victim)
        said = command.communicate(timeout=60)[1]
    assert victim.stat().st_uid == 0
    assert command.returncode == 77 and f"cannot make the folder {state}: a symbolic link on the way is not root's" in said, said
    refused_by_the_link(relay, victim)


def is_about_to_make_a_file(tracer):
    """Whether what is traced stands before openat() with O_CREAT."""
    try:
        child = pathlib.Path(f"/proc/{tracer}/task/{tracer}/children").read_text().split()[0]
        number, *arguments = pathlib.Path(f"/proc/{child}/syscall").read_text().split()
    except (IndexError, OSError):
        return False
    return number in ("257", "56") and bool(int(arguments[2], 16) & os.O_CREAT)  # x86-64, arm64


@needs_strace
def test_a_command_on_files_works_in_the_folder_that_it_found(nobodys):
    """A link in the place of STATE just before its first file is opened: the file is not made behind it."""
    relay, state, victim = nobodys
    relay.run("account", "list")
    (state / "lock").unlink()
    waits = "inject=?open,openat:delay_enter=2000000"
    with command_under_strace(relay, "-P", str(state), "-P", str(state / "lock"), "-e", waits) as command:
        wait_until(lambda: is_about_to_make_a_file(command.pid), 60, "the call")
        put_link(state, victim)
        command.communicate(timeout=60)
    assert not list(victim.iterdir())
    assert (state.parent / "made" / "lock").exists()


@needs_strace
def test_a_command_on_files_that_cannot_give_state_away(nobodys):
    """STATE is not left as root's, where the service could not work."""
    relay, state, _ = nobodys
    with command_under_strace(relay, "-e", "inject=fchownat:error=EPERM") as command:
        said = command.communicate(timeout=60)[1]
    assert command.returncode == 77 and f"cannot make the folder {state}: Operation not permitted" in said, said
    assert not state.exists()
    relay.run("account", "list")
    assert state.stat().st_uid == (state / "accounts.db").stat().st_uid == 65534


def refused_by_the_link(relay, victim):
    """However often it is tried, nothing is made behind the link."""
    for command in (["account", "list"], ["suppress", "list"], ["account", "list"]):
        said = relay.run(*command, check=False)
        assert said.returncode == 77 and "a symbolic link on the way is not root's" in said.stderr, said.stderr
        assert not list(victim.rglob("*"))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: gives links to another user")
@pytest.mark.parametrize("way", ["state", "link/state", "link/a/state"])
def test_a_command_on_files_by_links(nobodys, way):
    """Behind a link of the service's user root makes and opens nothing; behind one that root made it does."""
    relay, state, victim = nobodys
    place = state.parent
    link = place / way.partition("/")[0]
    link.symlink_to(victim)
    os.chown(link, 65534, 65534, follow_symlinks=False)
    relay.write_config({"user": "nobody", "state": str(place / way), "control": str(relay.folder / "control")})  # a short path
    refused_by_the_link(relay, victim)
    os.chown(link, 0, 0, follow_symlinks=False)
    relay.run("account", "list")
    assert {path.name for path in victim.rglob("*") if path.is_file()} >= {"lock", "accounts.db"}


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: gives links to another user")
def test_backup_and_restore_by_links(make_relay, tmp_path):
    """Where the data were moved by a link that root made, in a folder that is another's, root's commands follow it; one that is
    another's they name, and they leave nothing behind it."""
    place, data, away = tmp_path / "place", tmp_path / "data", tmp_path / "away"
    for folder in (place, data, away):
        folder.mkdir()
    os.chown(place, 65534, 65534)
    (place / "state").symlink_to(data)
    relay = make_relay({"state": str(place / "state")})
    relay.run("backup", tmp_path / "copy")
    os.chown(place / "state", 65534, 65534, follow_symlinks=False)
    refused = relay.run("backup", tmp_path / "other", check=False)
    assert refused.returncode == 77 and "cannot write in " in refused.stderr and "is not root's" in refused.stderr, refused.stderr
    assert not list(data.glob("backup.*")) and not (tmp_path / "other").exists()
    relay.stop()

    latest = place / "latest"
    latest.symlink_to(tmp_path / "copy")
    restored = make_relay(relay.config | {"spool": str(away / "spool"), "state": str(away / "state")}, start=False)
    os.chown(latest, 65534, 65534, follow_symlinks=False)
    refused = restored.run("restore", latest, check=False)
    assert refused.returncode == 77 and f"cannot restore {latest}/" in refused.stderr and "is not root's" in refused.stderr, refused.stderr
    assert not list(away.iterdir())
    os.chown(latest, 0, 0, follow_symlinks=False)
    restored.run("restore", latest)


@pytest.mark.parametrize("there", [True, False], ids=["empty", "missing"])
def test_restore_and_a_spool_that_is_a_link(make_relay, tmp_path, there):
    """Nothing is put in the link's place, nor done at all, however often it is tried; the folder that it leads to may be named."""
    relay = make_relay()
    relay.run("backup", tmp_path / "copy")
    relay.stop()
    away, disk = tmp_path / "away", tmp_path / "disk"
    for folder in (away, disk):
        folder.mkdir()
    if there:
        (disk / "spool").mkdir()
    (away / "spool").symlink_to(disk / "spool")
    config = relay.config | {"spool": str(away / "spool"), "state": str(away / "state")}
    restored = make_relay(config, start=False)
    for _ in range(2):
        refused = restored.run("restore", tmp_path / "copy", check=False)
        assert refused.returncode == 65 and f"{away / 'spool'} is a symbolic link" in refused.stderr, refused.stderr
        assert (away / "spool").readlink() == disk / "spool" and list(away.iterdir()) == [away / "spool"]
        assert [[p.name for p in disk.iterdir()], list(disk.glob("*/*"))] == [["spool"] * there, []]
    restored.write_config(config | {"spool": str(disk / "spool")})
    restored.run("restore", tmp_path / "copy")
    restored.write_config(config)
    restored.start()


def test_backup_and_restore(make_relay, receiver_, tmp_path):
    relay = make_relay({"retry": {"first": "1h", "max": "1h", "lifetime": "1d"}})
    relay.add_account("alice", domains=["client.test"])
    receiver_.script("rcpt", "451 4.7.1 come back later", times=1)
    ident = send(relay)
    wait_until(lambda: relay.message(ident)["recipients"][0]["attempts"] == 1, 10, "the first attempt")
    copy = tmp_path / "copy"
    assert relay.cli("backup", copy) == {"backup": str(copy)}
    assert relay.run("backup", copy, check=False).returncode == 65
    assert relay.run("restore", copy, check=False).returncode == 75
    assert relay.stop() == 0
    assert relay.run("backup", tmp_path / "other", check=False).returncode == 69
    assert relay.run("restore", copy, check=False).returncode == 65
    assert relay.run("restore", tmp_path / "none", check=False).returncode == 66
    restored = make_relay(relay.config | {"spool": str(tmp_path / "spool2"), "state": str(tmp_path / "state2")}, start=False)
    assert restored.cli("restore", copy)["restored"] == str(copy)
    for _ in range(2):  # a restart does not end the hold
        restored.start()
        assert restored.states(ident) == {"bob@example.org": "held"}
        assert restored.cli("message", "why", ident)["limit"] == "hold"
        assert restored.stop() == 0
    restored.start()
    assert [a["account"] for a in restored.cli_list("account", "list")] == ["alice"]
    assert restored.cli("queue", "retry", "--all")["matched"] == 0
    assert restored.states(ident) == {"bob@example.org": "held"}
    assert restored.cli("queue", "release", "--all") == {"matched": 1, "changed": 1, "dry_run": False}
    restored.restart()  # nor does it come back
    assert restored.states(ident) == {"bob@example.org": "queued"}
    assert restored.cli("queue", "retry", "--all")["matched"] == 1  # it was an hour away
    restored.wait_state(ident, "delivered")
    receiver_.wait_one("bob@example.org")
