# SPDX-License-Identifier: MIT
"""What a receiver's reply means decides whether it is tried again, and everybody is told the same of it."""
import json
import subprocess

import pytest
from lib.outgoing import attempts_of, last_of, send, sending_relay
from lib.process import wait_until
from lib.relay import BINARY

TO = "bob@example.org"


@pytest.fixture
def relay(make_relay):
    return sending_relay(make_relay)


def class_of(message, address=TO):
    return last_of(message, address)["reason"], last_of(message, address)["hard"]


@pytest.mark.parametrize("step,reply,reason,hard", [
    ("rcpt", "550 5.1.1 <bob@example.org>: Recipient address rejected: User unknown in local recipient table", "user-unknown", True),
    ("rcpt", "550-5.2.1 The email account that you tried to reach is\r\n550-5.2.1 disabled. Learn more\r\n550 5.2.1 gsmtp",
     "mailbox-disabled", True),
    ("rcpt", "552 5.2.2 mailbox is full", "mailbox-full", False),
    ("mail", "554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using zen.spamhaus.org", "reputation", False),
    ("end", "550 5.7.1 Message rejected as spam", "spam", False),
    ("end", "550 5.7.26 Unauthenticated email is not accepted", "authentication", False),
    ("mail", "550 5.1.1 Unknown user", "user-unknown", False),
    ("data", "550 no such user", "user-unknown", True),
    ("end", "550 5.1.1 no such user", "user-unknown", True),
    ("rcpt", "550 go away", "other", False)],
    ids=lambda v: v.split()[0] if isinstance(v, str) else str(v))
def test_failures_have_their_class(relay, receiver_, step, reply, reason, hard):
    receiver_.script(step, reply)
    ident = send(relay, TO)
    message = relay.wait_state(ident, "failed")
    assert class_of(message) == (reason, hard) and attempts_of(message) == 1
    event = next(e for e in relay.cli_list("events") if e["type"] == "bounced")
    assert (event["reason"], event["hard"]) == (reason, hard)
    assert f'posthaste_refusals_total{{outcome="failed",reason="{reason}"}} 1' in relay.http("/metrics")[1]
    assert reason in relay.run("message", "show", ident).stdout


@pytest.mark.parametrize("step", ["mail", "data", "end"])
def test_one_reply_for_several_is_hard_for_none(relay, receiver_, step):
    """It may be about the sender, or about any of them: nobody is suppressed for it."""
    receiver_.script(step, "550 5.1.1 no such user")
    both = [TO, "eve@example.org"]
    ident = send(relay, both)
    message = relay.wait_state(ident, "failed")
    assert [class_of(message, address) for address in both] == [("user-unknown", False)] * 2


def test_lmtp_replies_to_each(make_relay, tmp_path):
    """RFC 2033: to the content, too; so each is a recipient's own."""
    (tmp_path / "rules").write_text("example.org final refuse 550 5.1.1 no such user\n")
    ready = tmp_path / "ready.json"
    with subprocess.Popen([BINARY, "sink", "--lmtp", "--listen", "127.0.0.1:0", "--rules", tmp_path / "rules", "--ready-file", ready]) as sink:
        try:
            wait_until(ready.exists, 30, "the sink")
            port = json.loads(ready.read_text())["listeners"][0]["port"]
            relay = sending_relay(make_relay, {"routes": [{"match": {}, "via": f"lmtp:127.0.0.1:{port}"}]})
            both = [TO, "eve@example.org"]
            message = relay.wait_state(send(relay, both), "failed")
            assert [class_of(message, address) for address in both] == [("user-unknown", True)] * 2
        finally:
            sink.terminate()


@pytest.mark.parametrize("step,reply", [
    ("rcpt", "550 5.7.1 Greylisted, see the help"), ("mail", "550 Domain frequency limited [192.0.2.1]"),
    ("end", "554 5.7.1 You are over our rate limits")])
def test_a_refusal_that_means_later_is_tried_again(relay, receiver_, step, reply):
    receiver_.script(step, reply, times=1)
    ident = send(relay, TO)
    receiver_.wait_one(TO)
    message = relay.wait_state(ident, "delivered")
    assert attempts_of(message) == 2 and class_of(message) == (None, None)
    event = next(e for e in relay.cli_list("events") if e["type"] == "deferred")
    assert (event["reason"], event["hard"], event["code"]) == ("rate-limited", False, int(reply[:3]))
    assert 'posthaste_refusals_total{outcome="deferred",reason="rate-limited"} 1' in relay.http("/metrics")[1]


def test_a_deferral_is_never_hard(make_relay, receiver_):
    """450 user unknown: a directory may be away. It is tried until its lifetime is over, and then it is expired."""
    receiver_.script("rcpt", "450 4.1.1 user unknown")
    relay = sending_relay(make_relay, {"retry": {"first": "1s", "max": "1s", "lifetime": "6s", "warn_after": "none"}})
    ident = send(relay, TO)
    relay.wait_state(ident, "expired")
    events = [e for e in relay.cli_list("events") if e["type"] in ("deferred", "expired")]
    assert len(events) >= 3
    assert {(e["reason"], e["hard"]) for e in events[:-1]} == {("user-unknown", False)}
    assert (events[-1]["type"], events[-1]["reason"], events[-1]["hard"]) == ("expired", "expired", False)
    assert events[-1]["text"].endswith("the last attempt: mx1.example.org: 450 4.1.1 user unknown"), events[-1]


def test_what_we_find_ourselves_has_a_class(relay, dns):
    dns.servfail("turning.test")
    ident = send(relay, "bob@turning.test")
    dns.null_mx("turning.test")
    dns.rcode("turning.test", None)
    message = relay.wait_state(ident, "failed", seconds=30)
    assert class_of(message, "bob@turning.test") == ("host-unknown", True)


def test_rules_of_ones_own(make_relay, receiver_, tmp_path):
    rules = tmp_path / "rules.yaml"
    rules.write_text("rules:\n  - {name: house, reason: moved, words: gone fishing}\n")
    receiver_.script("rcpt", "550 5.7.1 gone fishing", when="bob@")
    receiver_.script("rcpt", "550 5.7.1 gone hunting", when="eve@")
    relay = sending_relay(make_relay, {"bounce": {"rules": str(rules)}})
    message = relay.wait_state(send(relay, TO), "failed")
    assert class_of(message) == ("moved", True)
    rules.write_text("rules:\n  - {name: house, reason: spam, words: gone * hunting}\n")
    relay.reload()
    message = relay.wait_state(send(relay, "eve@example.org"), "failed")
    assert class_of(message, "eve@example.org") == ("spam", False)


def test_bad_rules_are_told_and_change_nothing(make_relay, receiver_, tmp_path):
    rules = tmp_path / "rules.yaml"
    rules.write_text("rules:\n  - {name: house, reason: moved, words: gone fishing}\n")
    receiver_.script("rcpt", "550 5.7.1 gone fishing")
    relay = sending_relay(make_relay, {"bounce": {"rules": str(rules)}})
    rules.write_text("rules:\n  - {name: house, reason: gone, words: gone fishing}\n")
    checked = relay.run("check-config", check=False)
    assert checked.returncode == 78 and f"{rules}:2:27: error: no such reason" in checked.stderr
    relay.reload()
    wait_until(lambda: "no such reason" in relay.log(), 10, "the error in the log")
    message = relay.wait_state(send(relay, TO), "failed")
    assert class_of(message) == ("moved", True)
    rules.unlink()
    assert relay.run("check-config", check=False).returncode == 78
