# SPDX-License-Identifier: MIT
"""Extensions of SMTP beyond the everyday ones: LIMITS, FUTURERELEASE, DELIVERBY, MT-PRIORITY."""
import datetime
import email
import email.policy
import re
import time

import pytest
from lib.outgoing import SENDER, last_of, send, sending_relay, wait_empty, wait_event
from lib.process import wait_until
from lib.raw import Raw
from lib.receiver import Delay

ONE = {"lanes": [{"match": "*", "connections": 1}]}


def offers(raw):
    """What EHLO says: {keyword: parameters}."""
    return {line.split(" ", 1)[0]: line.partition(" ")[2] for line in raw.ehlo().lines[1:]}


# ---- LIMITS (RFC 9422)

def test_limits_are_told_as_they_hold(make_relay):
    relay = sending_relay(make_relay, {"limits": {"recipients": 100, "session_messages": 3}})
    with Raw(relay.listener("trusted")) as raw:
        assert offers(raw)["LIMITS"] == "RCPTMAX=100 MAILMAX=3"
        for _ in range(3):
            raw.expect(f"MAIL FROM:<{SENDER}>", 250)
            raw.expect("RSET", 250)
        assert raw.ask(f"MAIL FROM:<{SENDER}>").code == 421 and raw.is_closed()
    relay.reload({"limits": {"recipients": 1000, "session_messages": "none"}})
    with Raw(relay.listener("trusted")) as raw:
        assert offers(raw)["LIMITS"] == "RCPTMAX=1000"


def queued(relay, count, domain="example.org"):
    """So many messages, held and then released together."""
    relay.cli("queue", "hold", "--all")
    idents = [send(relay, f"b{n}@{domain}") for n in range(count)]
    relay.cli("queue", "release", "--all")
    return idents


@pytest.mark.parametrize("limits,connections", [("LIMITS MAILMAX=2", 3), ("LIMITS mailmax=2 NEWMAX=x RCPTMAX=", 3),
                                                ("LIMITS MAILMAX=0 RCPTMAX=07", 1), ("LIMITS", 1)])
def test_messages_over_a_connection(make_relay, make_receiver, dns, limits, connections):
    receiver = make_receiver(capabilities=[limits])
    dns.domain("example.org", receiver)
    relay = sending_relay(make_relay, ONE)
    queued(relay, 5)
    receiver.wait(5)
    wait_empty(relay)
    assert receiver.connections == connections


def test_recipients_of_a_transaction(make_relay, make_receiver, dns):
    receiver = make_receiver(capabilities=["LIMITS RCPTMAX=2"])
    dns.domain("example.org", receiver)
    relay = sending_relay(make_relay, ONE)
    relay.wait_state(send(relay, [f"b{n}@example.org" for n in range(5)]), "delivered")
    assert sorted(len(t.recipients) for t in receiver.messages()) == [1, 2, 2]


def test_domains_over_a_connection(make_relay, make_receiver, dns):
    receiver = make_receiver(capabilities=["LIMITS RCPTDOMAINMAX=1"])
    for domain in ("one.test", "two.test"):
        dns.mx(domain, (10, "mx.shared.test"))
    dns.a("mx.shared.test", receiver.address)
    relay = sending_relay(make_relay, ONE)
    relay.cli("queue", "hold", "--all")
    for n in range(6):
        send(relay, f"b@{'one' if n % 2 else 'two'}.test")
    relay.cli("queue", "release", "--all")
    receiver.wait(6)
    domains = {}
    for t in receiver.messages():
        domains.setdefault(t.connection, set()).add(t.recipients[0].split("@")[1])
    assert all(len(of) == 1 for of in domains.values()), domains


def test_why_and_lanes_name_the_limit(make_relay, make_receiver, dns):
    receiver = make_receiver(capabilities=["LIMITS MAILMAX=1 RCPTMAX=7"])
    dns.domain("example.org", receiver)
    receiver.script("end", Delay(120))
    relay = sending_relay(make_relay, ONE)
    idents = queued(relay, 3)
    wait_until(lambda: any(c.startswith("DATA") or c.startswith("BDAT") for c in receiver.commands), 10, "a transaction")
    whys = [relay.cli("message", "why", ident) for ident in idents]
    assert any(w["limit"] == "remote" and "MAILMAX" in w["text"] and w["setting"] == "lanes[0].connections" for w in whys), whys
    lane = next(one for one in relay.cli_list("queue", "lanes") if one["remote_limits"])
    assert lane["remote_limits"] == {"messages_per_connection": 1, "recipients_per_transaction": 7, "domains_per_connection": None}


# ---- what is asked of the queue: who may

SCHEDULING = {"FUTURERELEASE", "DELIVERBY", "MT-PRIORITY"}


def test_scheduling_is_offered_where_it_holds(make_relay, authority):
    mx = {"name": "mx", "address": "127.0.0.1:0", "tls": "starttls", "auth": "optional", "submission": "off"}
    back = {"name": "back", "address": "127.0.0.1:0", "tls": "none", "role": "bounces"}
    relay = sending_relay(make_relay, {"listeners": [
        mx, back, {"name": "submission", "address": "127.0.0.1:0", "tls": "starttls", "auth": "required"},
        {"name": "trusted", "address": "127.0.0.1:0", "tls": "none", "auth": "optional", "trusted": ["127.0.0.0/8"], "account": "trusted"}]})
    for listener, offered in (("mx", False), ("back", False), ("submission", True), ("trusted", True)):
        with Raw(relay.listener(listener)) as raw:
            offer = offers(raw)
            assert SCHEDULING & set(offer) == (SCHEDULING if offered else set()), listener
            assert "REQUIRETLS" not in offer
            if offered:
                seconds, until = offer["FUTURERELEASE"].split()
                until = datetime.datetime.fromisoformat(until.replace("Z", "+00:00")).timestamp()
                assert abs(until - time.time() - int(seconds)) < 60 and offer["DELIVERBY"] == "10"
            elif listener == "mx":
                for parameter in ("HOLDFOR=5", "BY=60;R", "MT-PRIORITY=9"):
                    answer = raw.ask(f"MAIL FROM:<a@b.test> {parameter}")
                    assert answer.code == 555 and answer.enhanced == "5.5.4"


# ---- FUTURERELEASE (RFC 4865)

def after(seconds):
    return (datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=seconds)).isoformat(timespec="seconds")


@pytest.mark.parametrize("parameter", [lambda: "HOLDFOR=4", lambda: f"HOLDUNTIL={after(4)}"], ids=["for", "until"])
def test_held_until_its_time(make_relay, make_receiver, dns, parameter):
    """Over a restart; the parameter goes no further, as the time is over when the mail goes."""
    receiver = make_receiver(capabilities=["FUTURERELEASE 100000 2036-01-01T00:00:00Z"])
    dns.domain("example.org", receiver)
    relay = sending_relay(make_relay)
    begun = time.time()
    ident = send(relay, "bob@example.org", mail_options=[parameter()])
    why = relay.cli("message", "why", ident)
    not_before, until = (datetime.datetime.fromisoformat(at.replace("Z", "+00:00")) for at in (relay.message(ident)["not_before"], why["until"]))
    assert why["limit"] == "scheduled" and abs((not_before - until).total_seconds()) < 0.1  # one is of the monotonic clock
    assert any("not before" in (e["text"] or "") for e in relay.cli_list("events") if e["type"] == "accepted")
    relay.restart()
    receiver.wait_one("bob@example.org")
    assert time.time() - begun >= 2.9
    assert not [c for c in receiver.commands if "HOLD" in c]


def test_future_release_in_reports(make_relay, receiver_, box):
    receiver_.script("rcpt", "550 5.1.1 nobody")
    relay = sending_relay(make_relay)
    send(relay, "bob@example.org", mail_options=["HOLDFOR=1"])
    assert status_of(box.wait(1)[0])["Future-Release-Request"] == "for; 1"


# ---- DELIVERBY (RFC 2852)

QUICK = {"retry": {"first": "1s", "factor": 1, "max": "1s", "lifetime": "60s", "warn_after": "30s"}, "limits": {"deliver_by": "1s"}}


@pytest.fixture
def box(make_receiver, dns):
    """The sender's own mail server."""
    one = make_receiver()
    dns.domain("client.test", one)
    return one


def status_of(transaction):
    """The fields about the message of a notification, and its first recipient's Action and Status."""
    message = email.message_from_bytes(transaction.data, policy=email.policy.default)
    about, recipient = list(message.iter_parts())[1].get_payload()[:2]
    return {**dict(about.items()), "Action": recipient["Action"], "Status": recipient["Status"]}


def test_returned_when_its_time_is_up(make_relay, make_receiver, dns, box):
    receiver = make_receiver(capabilities=["DELIVERBY"])
    dns.domain("example.org", receiver)
    receiver.script("rcpt", "451 4.2.0 later")
    relay = sending_relay(make_relay, QUICK)
    ident = send(relay, "bob@example.org", mail_options=["BY=3;R"])
    asked = relay.message(ident)["deliver_by"]
    assert asked["else"] == "return" and not asked["trace"] and asked["until"]
    relay.restart()
    relay.wait_state(ident, "expired")
    assert "in the time that its sender gave" in wait_event(relay, ident, "expired")[0]["text"]
    status = status_of(box.wait(1)[0])
    assert status["Action"] == "failed" and status["Status"] == "5.4.7" and status["Deliver-By-Date"]


def test_its_sender_is_told_when_its_time_is_up(make_relay, receiver_, box):
    """Mode N: a delayed notification at that time, once; delivery goes on."""
    receiver_.script("rcpt", "451 4.2.0 later")
    relay = sending_relay(make_relay, QUICK)
    ident = send(relay, "bob@example.org", mail_options=["BY=2;N"])
    status = status_of(box.wait(1)[0])
    assert status["Action"] == "delayed" and status["Status"] == "4.4.7" and status["Deliver-By-Date"]
    receiver_.clear()
    relay.wait_state(ident, "delivered")
    assert any(status_of(t)["Action"] == "relayed" for t in box.wait(2)), "the next server knows nothing of the time"


def test_no_second_report_of_a_time_that_was_up(make_relay, receiver_, box):
    receiver_.script("rcpt", "451 4.2.0 later", times=3)
    relay = sending_relay(make_relay, QUICK)
    ident = send(relay, "bob@example.org", mail_options=["BY=-30;N"], rcpt_options=["NOTIFY=DELAY,FAILURE"])
    relay.wait_state(ident, "delivered")
    assert [status_of(t)["Action"] for t in box.wait(1)] == ["relayed"]


@pytest.mark.parametrize("asked,told", [([], "NOTIFY=FAILURE,DELAY"), (["NOTIFY=SUCCESS"], "NOTIFY=SUCCESS,DELAY"), (["NOTIFY=NEVER"], "NOTIFY=NEVER")],
                         ids=["nothing", "success", "never"])
def test_next_server_is_asked_to_tell_of_delays(make_relay, make_receiver, dns, asked, told):
    """Mode N, at a server with DSN and without DELIVERBY (RFC 2852 4.1.4.2)."""
    receiver = make_receiver(capabilities=["DSN", "MT-PRIORITY"])
    dns.domain("example.org", receiver)
    relay = sending_relay(make_relay, QUICK)
    relay.wait_state(send(relay, "bob@example.org", mail_options=["BY=100;N"], rcpt_options=asked), "delivered")
    rcpt, mail = ([c for c in receiver.commands if c.startswith(verb)] for verb in ("RCPT", "MAIL"))
    assert len(rcpt) == 1 and told in rcpt[0].split(), rcpt
    assert "MT-PRIORITY=0" in mail[0].split(), "RFC 6710 4.2: the value, whatever it is"


@pytest.mark.parametrize("given,passed", [("BY=100;R", r"BY=(9\d|100);R"), ("BY=100;NT", r"BY=(9\d|100);NT"), ("BY=-50;N", r"BY=-5\d;N")])
def test_passed_on_with_what_is_left(make_relay, make_receiver, dns, box, given, passed):
    receiver = make_receiver(capabilities=["DELIVERBY 5"])
    dns.domain("example.org", receiver)
    relay = sending_relay(make_relay, QUICK)
    relay.wait_state(send(relay, "bob@example.org", mail_options=[given]), "delivered")
    sent = [p for p in receiver.wait_one("bob@example.org").mail_parameters if p.startswith("BY=")]
    assert len(sent) == 1 and re.fullmatch(passed, sent[0]), sent
    if given.endswith("T"):
        assert status_of(box.wait(1)[0])["Action"] == "relayed", "the trace"
    else:
        wait_empty(relay)
        assert not box.transactions


@pytest.mark.parametrize("offer", [[], ["DELIVERBY 200"]], ids=["none", "too slow"])
def test_not_relayed_to_who_may_be_late(make_relay, make_receiver, dns, box, offer):
    """Mode R: returned at once, where the next server knows nothing of the time, or wants more of it."""
    receiver = make_receiver(capabilities=offer)
    dns.domain("example.org", receiver)
    relay = sending_relay(make_relay, QUICK)
    last = last_of(relay.wait_state(send(relay, "bob@example.org", mail_options=["BY=100;R"]), "failed"))
    assert last["enhanced"] == "5.4.7" and not [c for c in receiver.commands if c.startswith("MAIL")]
    assert status_of(box.wait(1)[0])["Status"] == "5.4.7"


def test_never_means_never(make_relay, receiver_, box):
    relay = sending_relay(make_relay, QUICK)
    relay.wait_state(send(relay, "bob@example.org", mail_options=["BY=100;NT"], rcpt_options=["NOTIFY=NEVER"]), "delivered")
    relay.wait_state(send(relay, "bob@example.org", sender="", mail_options=["BY=100;NT"]), "delivered")
    wait_empty(relay)
    assert not box.transactions


# ---- MT-PRIORITY (RFC 6710)

def test_priority(make_relay, make_receiver, dns):
    """Passed on where it is offered, told in Received, kept over a restart."""
    knows, other = make_receiver(capabilities=["MT-PRIORITY MIXER"]), make_receiver()
    dns.domain("knows.test", knows)
    dns.domain("other.test", other)
    relay = sending_relay(make_relay)
    relay.cli("queue", "hold", "--all")
    idents = [send(relay, f"bob@{domain}.test", mail_options=["MT-PRIORITY=-4"]) for domain in ("knows", "other")]
    relay.restart()
    assert [relay.message(ident)["priority"] for ident in idents] == [-4, -4]
    relay.cli("queue", "release", "--all")
    assert "MT-PRIORITY=-4" in knows.wait_one().mail_parameters
    assert not any("PRIORITY" in p for p in other.wait_one().mail_parameters)
    assert b"\r\n\tPRIORITY -4;" in knows.messages()[0].data


def test_priority_that_an_account_may_ask_for(make_relay, receiver_):
    """Less than normal always; more is lowered, the client told, and nothing of it is in the envelope."""
    relay = sending_relay(make_relay)
    account = relay.cli_list("account", "list")[0]["account"]
    relay.cli("queue", "hold", "--all")
    for option, wanted, kept in (("any", 9, 9), ("normal", 9, 0), ("normal", -4, -4), ("off", -4, 0), ("off", 9, 0)):
        relay.cli("account", "set", account, "priority", option)
        assert relay.message(send(relay, "bob@example.org", mail_options=[f"MT-PRIORITY={wanted}"]))["priority"] == kept, option


def test_urgent_mail_first(make_relay, receiver_):
    relay = sending_relay(make_relay, ONE)
    relay.cli("queue", "hold", "--all")
    order = {send(relay, f"b{n}@example.org", mail_options=[f"MT-PRIORITY={n}"]): n for n in (-9, 0, 9, 4, -2, 2)}
    receiver_.script("connect", Delay(1), times=1)
    relay.cli("queue", "release", "--all")
    receiver_.wait(6)
    came = [int(t.recipients[0].split("@")[0][1:]) for t in receiver_.messages()]
    assert sorted(came) == sorted(order.values()) and came[1:] == sorted(came[1:], reverse=True), came
