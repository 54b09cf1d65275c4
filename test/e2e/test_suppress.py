# SPDX-License-Identifier: MIT
"""The suppression list: what is on it gets no mail, whoever put it there, over restarts, crashes and backups."""
import csv
import json
import os
import signal
import sqlite3
import subprocess
import time

import pytest
from lib.message import text_message
from lib.outgoing import SENDER, last_of, send, sending_relay, wait_event
from lib.process import wait_until
from lib.relay import BINARY, CliError, Refused, submit

SLOW_RETRY = {"retry": {"first": "60s", "factor": 1, "max": "60s", "lifetime": "1h", "warn_after": "none"}}


@pytest.fixture
def relay(make_relay):
    return sending_relay(make_relay)


def rcpt(relay, address, login=None):
    """(code, text) of RCPT TO as the account `trusted`, or as the login's."""
    with relay.client("submission" if login else "trusted", login=login) as client:
        client.ehlo()
        client.mail(f"x@{login}.test" if login else SENDER)
        code, text = client.rcpt(address)
        client.rset()
        return code, text.decode()


def entries(relay, *arguments):
    return relay.cli_list("suppress", "list", *arguments)


def scopes(relay, address):
    return {(e["scope"], e["account"], e["stream"], e["reason"])
            for e in relay.cli("suppress", "check", address)["entries"]}


def wait_suppressed(relay, address, seconds=10):
    wait_until(lambda: relay.cli("suppress", "check", address)["suppressed"], seconds, f"{address} suppressed")


# ---- RCPT

def test_refused_until_lifted(relay, receiver_):
    """The refusal tells why, since when, for whom and how it is lifted; every spelling meets the entry."""
    relay.cli("suppress", "add", "Bob@Example.ORG", "--account", "trusted", "--reason", "complaint", "--note", "by phone")
    for spelling in ("bob@example.org", "BOB@EXAMPLE.ORG", '"bob"@example.org'):
        code, text = rcpt(relay, spelling)
        assert code == 550 and text.startswith("5.7.1 ")
        assert "complaint" in text and time.strftime("%Y-%m-%d", time.gmtime()) in text
        assert "account trusted" in text and "posthaste suppress remove" in text and "phone" not in text
    assert rcpt(relay, "b.ob@example.org")[0] == 250 and rcpt(relay, "bob+x@example.org")[0] == 250
    assert relay.metrics()["posthaste_recipients_suppressed_total"] == 3
    assert relay.cli("suppress", "remove", "bob@example.org", "--account", "trusted")["removed"] == 1
    assert rcpt(relay, "bob@example.org")[0] == 250
    changes = relay.cli("suppress", "check", "bob@example.org")["changes"]
    assert [(c["op"], c["reason"]) for c in changes] == [("remove", "complaint"), ("add", "complaint")]
    assert all(c["actor"].startswith("cli:") and c["at"] for c in changes)


def test_accounts_apart(make_relay, receiver_):
    """Law 3: an account's entries concern and show its own mail only; those of the service concern all."""
    relay = make_relay()
    for name in ("one", "two"):
        relay.add_account(name, domains=[f"{name}.test"])
    relay.cli("suppress", "add", "bob@example.org", "--account", "one")
    assert rcpt(relay, "bob@example.org", "one")[0] == 550
    assert rcpt(relay, "bob@example.org", "two")[0] == 250
    assert relay.cli("suppress", "check", "bob@example.org", "--account", "two")["entries"] == []
    assert relay.cli("suppress", "check", "bob@example.org", "--account", "two")["changes"] == []
    assert entries(relay, "--account", "two") == []
    relay.cli("suppress", "add", "eve@example.org", "--note", "asked by one")
    for name in ("one", "two"):
        code, text = rcpt(relay, "eve@example.org", name)
        assert code == 550 and "whole service" in text and "asked" not in text
    assert {e["address"] for e in entries(relay, "--account", "one")} == {"bob@example.org"}
    assert {e["address"] for e in entries(relay, "--service")} == {"eve@example.org"}
    with pytest.raises(CliError) as error:
        relay.cli("suppress", "add", "x@example.org", "--account", "three")
    assert error.value.code == 66


def test_stream(relay, receiver_):
    """An entry for one stream: other mail goes; of several recipients the one is removed, alone it is refused."""
    relay.cli("suppress", "add", "bob@example.org", "--account", "trusted", "--stream", "news", "--reason", "unsubscribe")
    send(relay, "bob@example.org", X_Posthaste_Tag="receipts")
    receiver_.wait_one("bob@example.org")
    with pytest.raises(Refused) as refused:
        send(relay, "bob@example.org", X_Posthaste_Tag="news")
    assert refused.value.step == "DATA" and refused.value.code == 550
    assert b"5.7.1" in refused.value.text and b"unsubscribe" in refused.value.text
    ident = send(relay, ["bob@example.org", "carol@example.org"], X_Posthaste_Tag="news")
    receiver_.wait_one("carol@example.org")
    relay.wait_state(ident, "removed", "bob@example.org")
    relay.wait_state(ident, "delivered", "carol@example.org")
    assert sum("bob@example.org" in t.recipients for t in receiver_.messages()) == 1


# ---- delivery

def test_suppressed_while_it_waits(make_relay, receiver_):
    """What waits in the queue is looked at again; history says why it was removed."""
    relay = sending_relay(make_relay, SLOW_RETRY)
    receiver_.script("rcpt", "451 4.2.0 later", times=2)
    ident = send(relay, ["bob@example.org", "carol@example.org"])
    wait_until(lambda: all(r["attempts"] for r in relay.message(ident)["recipients"]), 20, "one attempt")
    relay.cli("suppress", "add", "bob@example.org", "--account", "trusted", "--reason", "complaint")
    relay.cli("queue", "retry", "--all")
    relay.wait_state(ident, "removed", "bob@example.org")
    relay.wait_state(ident, "delivered", "carol@example.org")
    assert [t.recipients for t in receiver_.messages()] == [["carol@example.org"]]
    event = wait_event(relay, ident, "removed")[0]
    assert event["text"].startswith("suppressed: complaint since")
    assert event["text"].startswith(last_of(relay.message(ident), "bob@example.org")["text"])
    assert relay.metrics()["posthaste_suppress_removed_recipients_total"] == 1


def test_removed_instead_of_refused(relay, receiver_):
    """account set ... suppressed remove: RCPT takes it, delivery records it as removed."""
    relay.cli("account", "set", "trusted", "suppressed", "remove")
    relay.cli("suppress", "add", "bob@example.org")
    ident = send(relay, ["bob@example.org", "carol@example.org"])
    relay.wait_state(ident, "removed", "bob@example.org")
    relay.wait_state(ident, "delivered", "carol@example.org")
    assert "whole service" in wait_event(relay, ident, "removed")[0]["text"]
    relay.cli("account", "set", "trusted", "suppressed", "refuse")
    assert rcpt(relay, "bob@example.org")[0] == 550


# ---- the journal

def test_hard_bounce_is_suppressed(relay, receiver_):
    """A bad address is suppressed for the account that sent to it; a refusal for what we are is not."""
    receiver_.script("rcpt", "550 5.1.1 <gone@example.org>: no such user", when="gone@")
    receiver_.script("rcpt", "550 5.7.1 your address is on our block list", when="picky@")
    receiver_.script("mail", "550 5.1.1 unknown user", when="nobody@")
    ident = send(relay, "gone@example.org")
    other = send(relay, "picky@example.org")
    third = send(relay, "reader@example.org", sender="nobody@client.test")
    for one in (other, third, ident):
        relay.wait_state(one, "failed")
    wait_suppressed(relay, "gone@example.org")
    entry, = relay.cli("suppress", "check", "gone@example.org")["entries"]
    assert (entry["scope"], entry["account"], entry["reason"]) == ("account", "trusted", "hard-bounce")
    assert entry["note"].startswith(f"{ident}.1 user-unknown: 550 5.1.1") and entry["expires"] and entry["actor"] == "posthaste"
    code, text = rcpt(relay, "gone@example.org")
    assert code == 550 and "hard-bounce" in text and "until" in text
    for kept in ("picky@example.org", "reader@example.org"):
        assert not relay.cli("suppress", "check", kept)["suppressed"]
    assert rcpt(relay, "picky@example.org")[0] == 250


def test_policy_follows_a_reload(make_relay, receiver_):
    relay = sending_relay(make_relay, {"suppress": {"hard_bounces": False}})
    receiver_.script("rcpt", "550 5.1.1 no such user")
    relay.wait_state(send(relay, "a@example.org"), "failed")
    relay.reload({"suppress": {"hard_bounces": True, "bounce_keep": "6s"}})
    wait_until(lambda: "configuration reloaded" in relay.log() or "reload" in relay.log(), 10, "reload")
    time.sleep(0.5)
    relay.wait_state(send(relay, "b@example.org"), "failed")
    wait_suppressed(relay, "b@example.org")
    assert rcpt(relay, "b@example.org")[0] == 550
    wait_until(lambda: rcpt(relay, "b@example.org")[0] == 250, 10, "the end of the entry")
    assert not relay.cli("suppress", "check", "a@example.org")["suppressed"]


def test_crash_between_outcome_and_suppression(relay, receiver_):
    """kill -9 when the outcome is durable and the entry is not: after the restart there is one, made once."""
    receiver_.script("rcpt", "550 5.1.1 no such user")
    database = relay.config["state"] + "/suppressions.db"
    hold = sqlite3.connect(database, isolation_level=None)
    hold.execute("BEGIN IMMEDIATE")  # nobody else can write
    ident = send(relay, "gone@example.org")
    relay.wait_state(ident, "failed")
    wait_until(lambda: "suppression does not follow the journal" in relay.log(), 10, "a vain attempt")
    relay.kill()
    hold.execute("ROLLBACK")
    assert hold.execute("SELECT count(*) FROM suppression").fetchone() == (0,)
    hold.close()
    relay.start()
    wait_suppressed(relay, "gone@example.org")
    for _ in range(2):  # and it stays one, over an ordered stop and over another crash
        relay.restart()
        relay.kill()
        relay.start()
    assert [c["op"] for c in relay.cli("suppress", "check", "gone@example.org")["changes"]] == ["add"]
    assert rcpt(relay, "gone@example.org")[0] == 550


def test_what_was_lifted_does_not_come_back(relay, receiver_):
    """A lost journal position has outcomes read again: what an operator lifted since stays lifted."""
    receiver_.script("rcpt", "550 5.1.1 no such user", times=2)
    for name in ("lifted", "gone"):
        relay.wait_state(send(relay, f"{name}@example.org"), "failed")
        wait_suppressed(relay, f"{name}@example.org")
    relay.cli("suppress", "remove", "lifted@example.org", "--account", "trusted")
    relay.stop()
    with sqlite3.connect(relay.config["state"] + "/suppressions.db") as database:
        database.execute("UPDATE number SET value = 1 WHERE name = 'sequence'")
        database.execute("DELETE FROM suppression WHERE address LIKE 'gone@%'")
    database.close()
    relay.start()
    wait_suppressed(relay, "gone@example.org")
    assert not relay.cli("suppress", "check", "lifted@example.org")["suppressed"]


# ---- expiry

def test_expiry(relay, receiver_):
    relay.cli("suppress", "add", "bob@example.org", "--expires", "5s")
    assert rcpt(relay, "bob@example.org")[0] == 550
    wait_until(lambda: rcpt(relay, "bob@example.org")[0] == 250, 10, "the end of the entry")
    assert not relay.cli("suppress", "check", "bob@example.org")["suppressed"]


# ---- backup

def test_backup_and_restore(make_relay, receiver_, tmp_path):
    """The list comes back with a backup; the journal's positions may differ, nothing is lost by that."""
    relay = sending_relay(make_relay)
    receiver_.script("rcpt", "550 5.1.1 no such user", when="gone")
    relay.cli("suppress", "add", "bob@example.org", "--account", "trusted", "--reason", "complaint")
    relay.wait_state(send(relay, "gone@example.org"), "failed")
    wait_suppressed(relay, "gone@example.org")
    copy = tmp_path / "backup"
    relay.cli("backup", copy)
    assert (copy / "suppressions.db").is_file()
    relay.wait_state(send(relay, "carol@example.org"), "delivered")
    relay.stop()
    fresh = make_relay(relay.config | {"spool": str(tmp_path / "spool2"), "state": str(tmp_path / "state2")}, start=False)
    fresh.cli("restore", copy)
    fresh.start()
    assert rcpt(fresh, "bob@example.org")[0] == 550 and rcpt(fresh, "gone@example.org")[0] == 550
    fresh.wait_state(send(fresh, "gone2@example.org"), "held")
    fresh.cli("queue", "release", "--all")
    wait_suppressed(fresh, "gone2@example.org")
    assert relay.run("restore", copy, check=False).returncode == 65  # there is a list already


# ---- import and export

def write_list(path, count, start=0):
    path.write_text("".join(f"user{n}@example.net\n" for n in range(start, start + count)))


def test_import_and_export(relay, receiver_, tmp_path):
    """CSV and lists, errors by line, the same again changes nothing, and what is exported can be imported."""
    source = tmp_path / "list.csv"
    source.write_text('Email,Reason,Note,stream,expires\n'
                      'a@example.org,complaint,"says ""stop"", loudly",,\n'
                      'b@example.org,,,news,2040-01-01T00:00:00Z\n'
                      'no address,,,,\n'
                      'c@example.org,nonsense,,,\n'
                      'D@example.org,,"two\nlines",,\n', encoding="utf-8-sig")
    result = relay.run("suppress", "import", source, "--account", "trusted", "--json", check=False)
    assert result.returncode == 65
    assert f"{source}:4: 'no address' is no address" in result.stderr and f"{source}:5: 'nonsense'" in result.stderr
    answer = json.loads(result.stdout)
    assert (answer["lines"], answer["added"], answer["unchanged"], answer["errors"]) == (7, 3, 0, 2)
    assert scopes(relay, "a@example.org") == {("account", "trusted", None, "complaint")}
    assert scopes(relay, "b@example.org") == {("stream", "trusted", "news", "manual")}
    assert rcpt(relay, "a@example.org")[0] == 550 and rcpt(relay, "d@example.org")[0] == 550
    again = json.loads(relay.run("suppress", "import", source, "--account", "trusted", "--json", check=False).stdout)
    assert (again["added"], again["unchanged"]) == (0, 3)

    relay.run("suppress", "import", "-", stdin="# a list\n\nx@example.org\n\"y z\"@example.org\n")
    exported = relay.run("suppress", "export").stdout
    rows = list(csv.DictReader(exported.splitlines()))
    assert {(r["address"], r["scope"], r["account"], r["stream"]) for r in rows} == {
        ("a@example.org", "account", "trusted", ""), ("b@example.org", "stream", "trusted", "news"),
        ("d@example.org", "account", "trusted", ""), ("x@example.org", "service", "", ""),
        ('"y z"@example.org', "service", "", "")}
    assert relay.run("suppress", "export", "--account", "trusted", "--list").stdout.split() == \
        ["a@example.org", "b@example.org", "d@example.org"]
    relay.stop()  # and while it is stopped
    os.unlink(relay.config["state"] + "/suppressions.db")
    relay.run("suppress", "import", "-", stdin=exported)
    assert relay.run("suppress", "export").stdout == exported
    relay.start()
    assert rcpt(relay, "a@example.org")[0] == 550 and rcpt(relay, "x@example.org")[0] == 550


def test_import_is_resumed(relay, receiver_, tmp_path):
    """An import that is interrupted says where it goes on; what it added stays; progress is told."""
    source = tmp_path / "many"
    write_list(source, 300000)
    command = [str(BINARY), "suppress", "import", str(source), "--progress", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               env={**os.environ, "POSTHASTE_CONFIG": str(relay.config_file)})
    wait_until(lambda: relay.metrics()["posthaste_suppress_addresses"] > 16000, 30, "a first batch", every=0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    first = json.loads(out)
    assert process.returncode == 130 and not first["complete"] and 0 < first["added"] < 300000
    assert f"--from-line {first['lines'] + 1}" in err
    rest = relay.cli("suppress", "import", source, "--from-line", first["lines"] + 1)
    assert rest["complete"] and first["added"] + rest["added"] == 300000 and rest["unchanged"] == 0
    assert relay.metrics()["posthaste_suppress_addresses"] == 300000
    assert rcpt(relay, "USER299999@example.net")[0] == 550


def test_import_over_a_crash(relay, receiver_, tmp_path):
    """kill -9 of the service in the middle: what was answered stays, and the same file once more completes it."""
    source = tmp_path / "many"
    write_list(source, 200000)
    command = [str(BINARY), "suppress", "import", str(source), "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               env={**os.environ, "POSTHASTE_CONFIG": str(relay.config_file)})
    wait_until(lambda: relay.metrics()["posthaste_suppress_addresses"] > 16000, 30, "a first batch", every=0.01)
    relay.kill()
    out, _ = process.communicate(timeout=60)
    first = json.loads(out)
    assert process.returncode != 0 and 0 < first["added"] < 200000
    relay.start()
    rest = relay.cli("suppress", "import", source)
    assert rest["complete"] and rest["unchanged"] >= first["added"] and rest["added"] + rest["unchanged"] == 200000


def test_safe_while_the_list_is_loaded(relay, receiver_, tmp_path):
    """The start does not wait for a long list, and nothing slips through meanwhile."""
    source = tmp_path / "many"
    write_list(source, 200000)
    relay.stop()
    assert relay.cli("suppress", "import", source)["added"] == 200000
    relay.start()
    with relay.client("trusted") as client:
        client.mail(SENDER)
        for n in (0, 1, 99999, 199998, 199999):
            assert client.rcpt(f"user{n}@example.net")[0] == 550
        assert client.rcpt("bob@example.org")[0] == 250
        client.rset()
    wait_until(lambda: relay.metrics()["posthaste_suppress_loaded"] == 1, 30, "loaded")
    assert relay.metrics()["posthaste_suppress_addresses"] == 200000
    assert rcpt(relay, "user77777@example.net")[0] == 550
    questions = relay.metrics()["posthaste_suppress_questions_total"]
    assert rcpt(relay, "bob@example.org")[0] == 250
    assert relay.metrics()["posthaste_suppress_questions_total"] == questions  # memory knows


def test_list_pages(relay, receiver_, tmp_path):
    """Every entry is listed once, however many pages that takes."""
    source = tmp_path / "many"
    write_list(source, 25000)
    relay.cli("suppress", "import", source, "--account", "trusted")
    relay.cli("suppress", "add", "bob@example.org")
    found = entries(relay)
    assert len(found) == 25001 and len({e["address"] for e in found}) == 25001
    assert len(entries(relay, "--account", "trusted", "--reason", "manual")) == 25000
    assert entries(relay, "--reason", "complaint") == []
