# SPDX-License-Identifier: MIT
"""Extensions of SMTP beyond the everyday ones: LIMITS."""
import pytest
from lib.outgoing import SENDER, send, sending_relay, wait_empty
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
    receiver.script("end", Delay(5))
    relay = sending_relay(make_relay, ONE)
    idents = queued(relay, 3)
    wait_until(lambda: any(c.startswith("DATA") or c.startswith("BDAT") for c in receiver.commands), 10, "a transaction")
    whys = [relay.cli("message", "why", ident) for ident in idents]
    assert any(w["limit"] == "remote" and "MAILMAX" in w["text"] and w["setting"] == "lanes[0].connections" for w in whys), whys
    lane = next(one for one in relay.cli_list("queue", "lanes") if one["remote_limits"])
    assert lane["remote_limits"] == {"messages_per_connection": 1, "recipients_per_transaction": 7, "domains_per_connection": None}
