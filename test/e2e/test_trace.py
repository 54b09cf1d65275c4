# SPDX-License-Identifier: MIT
"""`message trace`: what was said when a message was tried last; `trace add`: all of it, for who is watched."""
import json

import pytest
from lib.message import text_message
from lib.process import wait_until
from lib.relay import submit

ALICE, BOB = "alice@client.test", "bob@example.org"
KEYS = ["id", "at", "result", "recorded", "lane", "mx", "ip", "tls", "left_out", "recipients", "dialogue"]
LINE_KEYS = ["ms", "from", "code", "enhanced", "text"]
SLOW = {"retry": {"first": "1h", "max": "1h", "lifetime": "1d", "warn_after": "none"}}
PASSWORD = "hunter2-and-more"


def send(relay, *recipients):
    with relay.client(login="alice") as client:
        return submit(client, ALICE, list(recipients) or [BOB], text_message(ALICE, BOB, body="a body that nobody may see"))


def trace(relay, *words):
    got = relay.cli("message", "trace", *words)
    assert list(got) == KEYS and all(list(line) == LINE_KEYS for line in got["dialogue"] or [])
    assert "nobody may see" not in json.dumps(got)
    return got


def said(got, who):
    return [f"{line['code']} {line['text']}" if line["code"] else line["text"] for line in got["dialogue"] if line["from"] == who]


@pytest.fixture
def relay(make_relay):
    one = make_relay(SLOW)
    one.add_account("alice", domains=["client.test"])
    return one


def tried(relay, ident, count=1):
    wait_until(lambda: all(r["attempts"] >= count for r in relay.message(ident)["recipients"]), 30, "attempts")


def test_a_failure_and_a_delivery(relay, receiver_):
    receiver_.script("rcpt", "550-5.1.1 no such user\r\n550 5.1.1 here", when="bob@")
    ident = send(relay)
    relay.wait_state(ident, "failed", seconds=30)
    got = trace(relay, ident)
    assert (got["id"], got["result"], got["recorded"], got["recipients"], got["left_out"]) == (ident, "failed", False, [BOB], 0)
    assert got["mx"] == "mx1.example.org" and got["ip"].startswith("127.")
    assert "connected to mx1.example.org" in said(got, "note")[0]
    ours = said(got, "us")
    assert ours[0].startswith("EHLO ") and any(line.startswith("MAIL FROM:<") for line in ours) and any(BOB in line for line in ours)
    refused = next(line for line in got["dialogue"] if line["code"] == 550)
    assert refused["enhanced"] == "5.1.1" and "no such user" in refused["text"]
    assert [line["ms"] for line in got["dialogue"]] == sorted(line["ms"] for line in got["dialogue"])
    table = relay.run("message", "trace", ident).stdout
    assert "> MAIL FROM:<" in table and "< 550-5.1.1 no such user\n" in table and "< 550 here\n" in table
    fine = send(relay, "carol@example.org")
    relay.wait_state(fine, "delivered", seconds=30)
    got = trace(relay, fine, "carol@example.org")
    assert got["result"] == "delivered" and got == trace(relay, fine) == trace(relay, fine, "1")
    assert said(got, "us")[-1] == "DATA" or said(got, "us")[-1].startswith("BDAT")
    assert said(got, "note")[-1].endswith("bytes of content") and said(got, "server")[-1].startswith("250")
    assert "bob@" not in json.dumps(got), "lines of another message"
    for words, code in ((["0" * 20], 66), ([fine, "who@example.org"], 66), (["x"], 66)):
        assert relay.run("message", "trace", *words, check=False).returncode == code, words


def test_secrets_are_hidden(make_relay, make_receiver, authority, tmp_path):
    """AUTH over TLS at a smarthost; what TLS was; and after a restart what the record has."""
    smarthost = make_receiver(tls=authority.issue("127.0.0.1", stem="smart").server_context(), accounts={"me": PASSWORD}, require_tls=True)
    (tmp_path / "password").write_text(PASSWORD + "\n")
    relay = make_relay({**SLOW, "routes": [{"match": {}, "via": f"smtp://{smarthost.address}:{smarthost.port}", "login": "me", "tls": "encrypt",
                                            "password_file": str(tmp_path / "password")}]})
    relay.add_account("alice", domains=["client.test"])
    ident = send(relay)
    relay.wait_state(ident, "delivered", seconds=30)
    got = trace(relay, ident)
    ours = said(got, "us")
    assert "STARTTLS" in ours and [line for line in ours if line.startswith("AUTH ")][0].endswith("***")
    assert PASSWORD not in json.dumps(got) and "aHVudGVy" not in json.dumps(got)
    assert any(line.startswith("TLS: TLSv1.") for line in said(got, "note")) and got["tls"].startswith("TLSv1.")
    relay.restart()
    after = trace(relay, ident)
    assert after["dialogue"] is None and after["result"] == "delivered" and after["tls"] == got["tls"]
    assert "not in memory any more" in relay.run("message", "trace", ident).stdout


def test_recorded_on_demand(relay, receiver_):
    assert relay.cli("trace", "add", "@Example.ORG", "--for", "1h")["address"] == "@example.org"
    relay.cli("trace", "add", "x@other.test")
    assert {watch["address"] for watch in relay.cli_list("trace", "list")} == {"@example.org", "x@other.test"}
    everybody = [f"user{n}@example.org" for n in range(150)]
    ident = send(relay, *everybody)
    tried(relay, ident)
    got = trace(relay, ident)
    assert got["recorded"] and got["left_out"] == 0 and sum("RCPT TO" in line for line in said(got, "us")) >= 50
    wait_until(lambda: 'from=us line="RCPT TO:<user0@example.org>' in relay.log(), 30, "the dialogue in the log")
    assert "nobody may see" not in relay.log()
    relay.restart()
    assert {watch["address"] for watch in relay.cli_list("trace", "list")} == {"@example.org", "x@other.test"}
    relay.cli("trace", "remove", "@example.org")
    unwatched = send(relay, *everybody)
    tried(relay, unwatched)
    got = trace(relay, unwatched)
    assert not got["recorded"]
    assert relay.run("trace", "remove", "@example.org", check=False).returncode == 66
    for words, code in ((["nobody"], 65), (["@-"], 65), (["a@b.test", "--for", "8d"], 65), (["a@b.test", "--for", "soon"], 64)):
        assert relay.run("trace", "add", *words, check=False).returncode == code, words
