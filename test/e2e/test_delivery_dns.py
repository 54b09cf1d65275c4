# SPDX-License-Identifier: MIT
"""Where mail goes as DNS says: MX and addresses, their faults, loops, DNSSEC."""
import pytest
from lib import network, peers
from lib.outgoing import attempts_of, last_of, send, sending_relay
from lib.process import wait_until
from lib.relay import Refused


@pytest.fixture
def relay(make_relay):
    return sending_relay(make_relay)


WAITS = ("dns", "backoff", "retry_time")


def why(relay, ident):
    return relay.cli("message", "why", ident)["limit"]


def ipv6_only():
    if not network.has_ipv6():
        pytest.skip("this kernel has no IPv6")


def test_mx_by_preference(relay, dns, make_receiver):
    """The lowest preference wins, in whatever order the records come."""
    last, first, middle = make_receiver(), make_receiver(), make_receiver()
    dns.mx("pref.test", (30, "c.pref.test"), (5, "a.pref.test"), (20, "b.pref.test"))
    for name, one in (("c", last), ("a", first), ("b", middle)):
        dns.a(f"{name}.pref.test", one.address)
    ident = send(relay, "bob@pref.test")
    assert first.wait_one().recipients == ["bob@pref.test"]
    message = relay.wait_state(ident, "delivered")
    assert last_of(message)["mx"] == "a.pref.test"
    assert last_of(message)["ip"].startswith(first.address)
    assert not last.connections and not middle.connections


def test_equal_preferences_are_shuffled(relay, dns, make_receiver):
    """RFC 5321 5.1: hosts of equal preference share the load (16 sites; all on one side: 1 in 32768)."""
    left, right = make_receiver(), make_receiver()
    for number in range(16):
        domain = f"d{number}.test"
        dns.mx(domain, (10, f"left.{domain}"), (10, f"right.{domain}"))
        dns.a(f"left.{domain}", left.address)
        dns.a(f"right.{domain}", right.address)
        send(relay, f"bob@{domain}")
    wait_until(lambda: len(left.messages()) + len(right.messages()) == 16, 20)
    assert left.messages() and right.messages()


def test_implicit_mx(relay, dns, make_receiver):
    receiver = make_receiver()
    dns.a("plain.test", receiver.address)
    ident = send(relay, "bob@plain.test")
    receiver.wait_one("bob@plain.test")
    assert last_of(relay.wait_state(ident, "delivered"))["mx"] == "plain.test"


def test_no_implicit_mx_beside_an_mx(relay, dns, make_receiver):
    """RFC 5321 5.1: where there is an MX record, the domain's own address is no way, even if the MX is dead."""
    receiver = make_receiver()
    dns.a("shop.test", receiver.address)
    dns.mx("shop.test", "gone.shop.test")
    ident = send(relay, "bob@shop.test")
    wait_until(lambda: relay.states(ident)["bob@shop.test"] == "failed" or why(relay, ident) in WAITS, 10)
    assert not receiver.connections


def test_h_null_mx(relay, dns):
    dns.null_mx("nomail.test")
    with pytest.raises(Refused) as refused:
        send(relay, "bob@nomail.test")
    assert refused.value.code == 556 and b"5.1.10" in refused.value.text


def test_null_mx_found_later(relay, dns):
    """A domain that stops taking mail while a message waits: failed at the next look, not after five days."""
    dns.servfail("turning.test")
    ident = send(relay, "bob@turning.test")
    dns.null_mx("turning.test")
    dns.rcode("turning.test", None)
    last = last_of(relay.wait_state(ident, "failed", seconds=30))
    assert (last["code"], last["enhanced"]) == (556, "5.1.10")


def test_no_such_domain(relay, dns):
    with pytest.raises(Refused) as refused:
        send(relay, "bob@absent.test")
    assert refused.value.code == 550 and b"5.1.2" in refused.value.text


def test_domain_vanishes(relay, dns):
    """NXDOMAIN found at delivery fails at once."""
    dns.servfail("vanishing.test")
    ident = send(relay, "bob@vanishing.test")
    dns.rcode("vanishing.test", None)
    last = last_of(relay.wait_state(ident, "failed", seconds=30))
    assert (last["code"], last["enhanced"]) == (550, "5.1.2")


@pytest.mark.parametrize("fault", ["SERVFAIL", "REFUSED", "silence"])
def test_h_dns_faults_defer(relay, dns, make_receiver, fault):
    """What may pass is waited for: the message is accepted, kept, explained, and delivered when DNS is back."""
    receiver = make_receiver()
    dns.domain("broken.test", receiver)
    if fault == "silence":
        dns.silent("broken.test")
    else:
        dns.rcode("broken.test", fault)
    ident = send(relay, "bob@broken.test")
    if fault != "silence":  # that takes its time
        wait_until(lambda: why(relay, ident) in WAITS, 15)
        assert relay.states(ident) == {"bob@broken.test": "queued"}
    assert not receiver.connections
    dns.speak("broken.test")
    dns.rcode("broken.test", None)
    receiver.wait_one("bob@broken.test", seconds=45)
    relay.wait_state(ident, "delivered")


def test_faulty_mx_host_is_not_a_missing_one(relay, dns, make_receiver):
    """The MX is known but its address is SERVFAIL: deferred, never failed; the other host is used meanwhile."""
    receiver = make_receiver()
    dns.mx("half.test", "sick.half.test", "well.half.test")
    dns.servfail("sick.half.test")
    dns.a("well.half.test", receiver.address)
    ident = send(relay, "bob@half.test")
    receiver.wait_one("bob@half.test")
    relay.wait_state(ident, "delivered")


def test_ipv6_only(relay, dns, make_receiver):
    ipv6_only()
    receiver = make_receiver(address=network.new_address6())
    dns.domain("six.test", receiver)
    ident = send(relay, "bob@six.test")
    receiver.wait_one("bob@six.test")
    assert receiver.address in last_of(relay.wait_state(ident, "delivered"))["ip"]


@pytest.mark.parametrize("alive", ["A", "AAAA"])
def test_both_families(relay, dns, make_receiver, alive):
    """A host with both: where one family's address does not answer, the other serves, in the same attempt."""
    ipv6_only()
    receiver = make_receiver(address=network.new_address() if alive == "A" else network.new_address6())
    dead = network.new_address6() if alive == "A" else network.new_address()
    dns.mx("both.test", "mx.both.test")
    dns.a("mx.both.test", receiver.address, dead)
    ident = send(relay, "bob@both.test")
    receiver.wait_one("bob@both.test")
    assert attempts_of(relay.wait_state(ident, "delivered")) == 1


def test_several_addresses(relay, dns, make_receiver):
    """All addresses of a host are tried before the attempt counts as failed."""
    receiver = make_receiver()
    dns.mx("many.test", "mx.many.test")
    dns.a("mx.many.test", *(network.new_address() for _ in range(5)), receiver.address)
    ident = send(relay, "bob@many.test")
    receiver.wait_one("bob@many.test")
    assert attempts_of(relay.wait_state(ident, "delivered")) == 1


def test_cname_domain(relay, dns, make_receiver):
    """RFC 5321 5.1: the name that a CNAME leads to is processed as if it were the original one."""
    receiver = make_receiver()
    dns.domain("real.test", receiver)
    dns.cname("alias.test", "real.test")
    ident = send(relay, "bob@alias.test")
    assert receiver.wait_one().recipients == ["bob@alias.test"]
    relay.wait_state(ident, "delivered")


def test_h_mx_host_is_a_cname(relay, dns, make_receiver):
    """Against RFC 2181 10.3, but usual: it is followed."""
    receiver = make_receiver()
    dns.mx("loose.test", "mail.loose.test")
    dns.cname("mail.loose.test", "host.elsewhere.test")
    dns.a("host.elsewhere.test", receiver.address)
    ident = send(relay, "bob@loose.test")
    receiver.wait_one("bob@loose.test")
    relay.wait_state(ident, "delivered")


def test_idn_domain(relay, dns, make_receiver):
    """A domain in its own script is looked up in its ASCII form."""
    receiver = make_receiver()
    dns.domain("xn--bcher-kva.test", receiver)
    assert dns.asked("xn--bcher-kva.test") == 0
    ident = send(relay, "bob@xn--bcher-kva.test")
    receiver.wait_one("bob@xn--bcher-kva.test")
    relay.wait_state(ident, "delivered")
    with relay.client("trusted") as client:
        client.ehlo()
        client.command_encoding = "utf-8"
        ident = send(relay, "bob@bücher.test", data=b"From: a@client.test\r\nTo: x@client.test\r\n\r\nx\r\n",
                     mail_options=["SMTPUTF8"], client=client)
    receiver.wait(2)
    relay.wait_state(ident, "delivered")
    assert dns.asked("xn--bcher-kva.test", "MX") >= 1


# ---- ourselves

def loop_relay(make_relay, port=25):
    """Its own listener stands where MX hosts are looked for."""
    listeners = [{"name": "trusted", "address": "127.0.0.1:0", "tls": "none", "auth": "optional",
                  "trusted": ["127.0.0.0/8"], "account": "trusted"},
                 {"name": "in", "address": f"{network.new_address()}:{port}", "tls": "none", "auth": "optional",
                  "trusted": ["127.0.0.0/8"], "account": "trusted"}]
    relay = sending_relay(make_relay, {"listeners": listeners})
    return relay, relay.listener("in")[0]


def needs_port_25():
    if not network.PRIVATE:
        pytest.skip("needs root: takes port 25")


def test_h_loop_to_ourselves(make_relay, dns):
    needs_port_25()
    relay, own = loop_relay(make_relay)
    dns.mx("loop.test", "mx.loop.test")
    dns.a("mx.loop.test", own)
    ident = send(relay, "bob@loop.test")
    message = relay.wait_state(ident, "failed")
    assert last_of(message)["enhanced"] == "5.4.6"


@pytest.mark.parametrize("every", [False, True], ids=["one address", "every address"])
def test_h_loop_to_a_listener_that_a_reload_brought(make_relay, dns, every):
    own = "127.0.0.1" if every else network.new_address()
    port = network.free_port()  # of every address; others have 25 of theirs
    relay = sending_relay(make_relay, {"routes": [{"match": {}, "via": f"mx:{port}"}]})
    later = {"name": "later", "address": f"{'*' if every else own}:{port}", "tls": "none", "auth": "optional", "trusted": ["127.0.0.0/8"], "account": "trusted"}
    relay.reload({"listeners": [*relay.config["listeners"], later]})
    assert "reloaded" in relay.log()
    dns.mx("loop.test", "mx.loop.test")
    dns.a("mx.loop.test", own)
    message = relay.wait_state(send(relay, "bob@loop.test"), "failed")
    assert last_of(message)["enhanced"] == "5.4.6"


def test_loop_only_better_hosts_are_used(make_relay, dns, make_receiver):
    """RFC 5321 5.1: hosts of our own preference and worse are left out; better ones are not."""
    needs_port_25()
    relay, own = loop_relay(make_relay)
    better, worse = make_receiver(), make_receiver()
    dns.mx("backup.test", (5, "better.backup.test"), (10, "own.backup.test"), (20, "worse.backup.test"))
    for name, address in (("better", better.address), ("own", own), ("worse", worse.address)):
        dns.a(f"{name}.backup.test", address)
    better.script("mail", "451 4.3.0 not now", times=1)
    ident = send(relay, "bob@backup.test")
    better.wait_one("bob@backup.test")
    assert attempts_of(relay.wait_state(ident, "delivered")) == 2
    assert not worse.connections


def test_our_address_with_another_port_is_not_ourselves(make_relay, dns, make_receiver):
    """"Ourselves" is address and port: a sink on the same machine is another server."""
    receiver = make_receiver(address="127.0.0.1", port=0)
    relay = sending_relay(make_relay, {"routes": [{"match": {}, "via": f"mx:{receiver.port}"}]})
    dns.domain("near.test", receiver)
    ident = send(relay, "bob@near.test")
    receiver.wait_one("bob@near.test")
    relay.wait_state(ident, "delivered")


# ---- real DNS

def zone(address):
    return f"@ MX 10 mx\nmx A {address}\n"


def test_knot(make_relay, start_peer, make_receiver):
    """A real DNS server with real zones."""
    receiver = make_receiver()
    knot = start_peer(peers.Knot, zones={"example.org": zone(receiver.address) + "big TXT " + " ".join(["x" * 200] * 9)})
    relay = sending_relay(make_relay, {"dns": {"servers": [knot.server]}})
    ident = send(relay, "bob@example.org")
    receiver.wait_one("bob@example.org")
    relay.wait_state(ident, "delivered")
    with pytest.raises(Refused) as refused:
        send(relay, "bob@absent.example.org")
    assert b"5.1.2" in refused.value.text


def test_h_dnssec(make_relay, start_peer, make_receiver):
    """Signed zones: what the anchor proves is used; what contradicts it is bogus, which defers and reaches nobody."""
    receiver, forged = make_receiver(), make_receiver()
    knot = start_peer(peers.Knot, zones={"good.test": zone(receiver.address), "bad.test": zone(forged.address)},
                      signed=["good.test", "bad.test"])
    anchor = knot.anchor_file("good.test")
    anchor.write_text(anchor.read_text() + anchor.read_text().replace("good.test.", "bad.test."))
    relay = sending_relay(make_relay, {"dns": {"servers": [knot.server], "trust_anchor": str(anchor)}})
    good, bad = send(relay, "bob@good.test"), send(relay, "bob@bad.test")
    receiver.wait_one("bob@good.test")
    relay.wait_state(good, "delivered")
    wait_until(lambda: why(relay, bad) in WAITS, 15)
    assert relay.states(bad) == {"bob@bad.test": "queued"} and not forged.connections
