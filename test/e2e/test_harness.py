# SPDX-License-Identifier: MIT
"""The harness itself: the scripted servers and the foreign ones do what the other tests rely on."""
import pathlib
import smtplib
import socket
import time

import pytest
from dns import exception as dns_exception
from dns import message as dns_message
from dns import query as dns_query
from lib import clients, network, peers
from lib.message import same_but_added, text_message
from lib.receiver import CLOSE, DROP


def ask(server, name, rtype, timeout=30.0):
    return dns_query.udp(dns_message.make_query(name, rtype), server.address, port=server.port, timeout=timeout)


def texts(answer):
    return sorted(rdata.to_text().lower() for rrset in answer.answer for rdata in rrset)


def test_dns_answers(dns):
    dns.mx("example.org", "mx1.example.org", (20, "mx2.example.org"))
    dns.a("mx1.example.org", "127.1.2.3", "2001:db8::1")
    dns.cname("www.example.org", "example.org")
    dns.null_mx("nomail.test")
    dns.servfail("broken.test")
    assert texts(ask(dns, "EXAMPLE.org", "MX")) == ["10 mx1.example.org.", "20 mx2.example.org."]
    assert texts(ask(dns, "mx1.example.org", "AAAA")) == ["2001:db8::1"]
    assert texts(ask(dns, "www.example.org", "MX")) == ["10 mx1.example.org.", "20 mx2.example.org.", "example.org."]
    assert texts(ask(dns, "nomail.test", "MX")) == ["0 ."]
    assert ask(dns, "absent.test", "MX").rcode() == 3
    assert ask(dns, "mx1.example.org", "MX").rcode() == 0
    assert ask(dns, "a.broken.test", "A").rcode() == 2
    assert dns.asked("example.org", "MX") == 1


def test_dns_silence_and_delay(dns):
    dns.a("slow.test", "127.1.2.3")
    dns.delay("slow.test", 0.3)
    dns.silent("mute.test")
    start = time.monotonic()
    assert texts(ask(dns, "slow.test", "A")) == ["127.1.2.3"]
    assert time.monotonic() - start >= 0.3
    with pytest.raises(dns_exception.Timeout):
        ask(dns, "mute.test", "A", timeout=0.3)


def test_dns_truncates(dns):
    for number in range(100):
        dns.txt("big.test", f"{number} " + "x" * 60)
    reply, tcp = dns_query.udp_with_fallback(
        dns_message.make_query("big.test", "TXT"), dns.address, port=dns.port, timeout=30)
    assert tcp and len(texts(reply)) == 100


def client_of(receiver):
    return smtplib.SMTP(receiver.address, receiver.port, "client.test", timeout=60)


def test_receiver_keeps_bytes(make_receiver):
    receiver = make_receiver(capabilities=["DSN", "PIPELINING"])
    data = text_message("a@client.test", "b@example.org") + b".dot\r\n\x00\xff\r\n" + b"y" * 5000 + b"\r\n"
    with client_of(receiver) as client:
        client.ehlo()
        assert client.has_extn("DSN") and client.has_extn("8BITMIME") and not client.has_extn("AUTH")
        client.sendmail("a@client.test", ["b@example.org"], data, ["BODY=8BITMIME", "RET=HDRS"], ["NOTIFY=NEVER"])
    got = receiver.wait_one("b@example.org")
    assert got.data == data and same_but_added(data, got.data) is None
    assert got.mail_parameters[-1] == "RET=HDRS" and got.recipient_parameters == {"b@example.org": ["NOTIFY=NEVER"]}


def test_receiver_scripts(make_receiver):
    receiver = make_receiver()
    receiver.script("rcpt", "450-4.2.1 busy\r\n450 4.2.1 later", times=1, when="b@example.org")
    with client_of(receiver) as client:
        client.ehlo()
        client.mail("a@client.test")
        assert client.rcpt("c@example.org")[0] == 250
        assert client.rcpt("b@example.org") == (450, b"4.2.1 busy\n4.2.1 later")
        assert client.rcpt("b@example.org")[0] == 250
        receiver.script("end", "554 5.6.0 no", times=1)
        assert client.data(b"x\r\n")[0] == 554
    assert not receiver.messages() and len(receiver.transactions) == 1


@pytest.mark.parametrize("step,actions", [
    ("connect", ["421 4.3.2 busy", CLOSE]), ("mail", [DROP]), ("data", ["421 4.3.2 bye", CLOSE]), ("body", [DROP]), ("end", [DROP])])
def test_receiver_closes(make_receiver, step, actions):
    receiver = make_receiver()
    receiver.script(step, *actions, after=100)
    with pytest.raises((smtplib.SMTPException, OSError)):
        with client_of(receiver) as client:
            client.ehlo()
            client.sendmail("a@client.test", ["b@example.org"], text_message("a@client.test", "b@example.org") * 100)
            client.noop()
    assert not receiver.messages()


def test_receiver_greylists(make_receiver):
    receiver = make_receiver()
    receiver.greylist(0.5)
    with client_of(receiver) as client:
        client.ehlo()
        client.mail("a@client.test")
        assert client.rcpt("b@example.org")[0] == 451
        time.sleep(0.6)
        assert client.rcpt("b@example.org")[0] == 250


def test_receiver_tls_and_login(make_receiver, authority):
    pair = authority.issue("mx.example.org", "127.0.0.1")
    receiver = make_receiver(tls=pair.server_context(), accounts={"me": "pw"})
    context = authority.client_context()
    context.check_hostname = False
    with client_of(receiver) as client:
        client.starttls(context=context)
        client.ehlo()
        client.login("me", "pw")
        client.sendmail("a@client.test", ["b@example.org"], b"x\r\n")
    got = receiver.wait_one()
    assert got.tls == "TLSv1.3" and got.login == "me"


@pytest.mark.parametrize("name", clients.ALL)
def test_clients_send(make_receiver, authority, name):
    """Each foreign client logs in over STARTTLS and sends bytes as they are (to a server that is not ours)."""
    pair = authority.issue("127.0.0.1", stem="local")
    receiver = make_receiver(address="127.0.0.1", port=0, tls=pair.server_context(), accounts={"me": "p w"}, require_tls=True)
    data = text_message("a@client.test", "b@example.org", body="hé\n.dot\n..\nend\n")
    to = clients.To(receiver.address, receiver.port, "starttls", "me", "p w", "LOGIN", authority.file)
    clients.ALL[name](to, "a@client.test", ["b@example.org", "c@example.org"], data)
    got = receiver.wait_one("c@example.org")
    assert same_but_added(data, got.data) is None
    assert got.login == "me" and got.tls and got.recipients == ["b@example.org", "c@example.org"]
    with pytest.raises(clients.Failed):
        receiver.script("end", "554 5.6.0 no")
        clients.ALL[name](to, "a@client.test", ["b@example.org"], data)


def test_network_is_private(peers_root):
    """Nothing of the host can be reached, and its addresses are not ours."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        with pytest.raises(OSError):
            probe.connect(("192.0.2.1", 53))
    assert network.PRIVATE


def test_knot_serves_zones(start_peer):
    knot = start_peer(peers.Knot, zones={"example.org": "@ MX 10 mx\nmx A 127.9.8.7\n", "signed.test": "@ MX 10 mx\n"},
                      signed=["signed.test"])
    assert texts(ask(knot, "example.org", "MX")) == ["10 mx.example.org."]
    knot.change("example.org", "@ MX 20 other\nother A 127.9.8.6\n")
    assert texts(ask(knot, "example.org", "MX")) == ["20 other.example.org."]
    assert "DNSKEY 257 3 13" in knot.anchor_file("signed.test").read_text()


def test_postfix_receives(start_peer, authority):
    postfix = start_peer(peers.Postfix, domains=["example.org"], pair=authority.issue("postfix.test"))
    data = text_message("a@client.test", "b@example.org", body="hé\n.dot\n")
    with smtplib.SMTP(postfix.address, postfix.port, "client.test", timeout=60) as client:
        client.starttls()
        client.sendmail("a@client.test", ["b@example.org"], data)
        assert client.rcpt("unknown@example.org")[0] >= 500
    got = postfix.wait("b@example.org")[0].replace(b"\n", b"\r\n")
    assert same_but_added(data, got) is None


def test_postfix_sends(start_peer, make_receiver):
    receiver = make_receiver()
    postfix = start_peer(peers.Postfix, relay_to=(receiver.address, receiver.port))
    postfix.send("a@client.test", ["b@example.org"], "Subject: x\n\nhello\n")
    assert b"hello" in receiver.wait_one("b@example.org").data


def test_dovecot_takes_and_gives(start_peer):
    dovecot = start_peer(peers.Dovecot)
    data = text_message("a@client.test", "b@example.org")
    with smtplib.LMTP(dovecot.address, dovecot.lmtp_port) as client:
        client.sendmail("a@client.test", ["b@example.org"], data)
    got = dovecot.fetch("b@example.org")[0]
    assert same_but_added(data, got) is None
    assert dovecot.lmtp_path.is_socket()


def test_peers_leave_nothing(start_peer, peers_root):
    """When a peer is closed, none of its processes is left and the cached root is as it was."""
    knot = start_peer(peers.Knot, zones={"example.org": ""})
    inner = knot.inner_pid()
    knot.close()
    assert not peers.lives(inner)
    assert not list(pathlib.Path(peers_root).glob("test/*"))
