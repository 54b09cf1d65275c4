# SPDX-License-Identifier: MIT
"""Handing mail to other servers by SMTP: what they may answer, offer, lack, or do to us."""
import email
import email.policy
import socket
import struct
import time

import pytest
from lib import network
from lib.message import same_but_added, split, text_message
from lib.outgoing import SENDER, attempts_of, last_of, send, sending_relay, wait_empty, wait_event
from lib.process import wait_until
from lib.rawserver import Chunker, RawServer
from lib.receiver import CLOSE, DROP, SWALLOW, Delay

NO_TLS = {"routes": [{"match": {}, "via": f"mx:{network.smtp_port()}", "tls": "none"}]}
ONE = {"lanes": [{"match": "*", "connections": 1}]}


@pytest.fixture
def relay(make_relay):
    return sending_relay(make_relay)


# ---- what a server may answer

@pytest.mark.parametrize("step,actions", [
    ("connect", ["421 4.3.2 too busy", CLOSE]), ("connect", [DROP]), ("ehlo", ["421 4.3.2 not now", CLOSE]),
    ("mail", ["451 4.3.0 not now"]), ("mail", ["421 4.3.2 closing", CLOSE]), ("mail", [DROP]),
    ("rcpt", ["450-4.2.1 this mailbox\r\n450-4.2.1 is busy\r\n450 4.2.1 for now"]), ("rcpt", ["552 5.5.3 too many recipients"]),
    ("rcpt", [DROP]), ("data", ["451 4.3.0 no data now"]), ("data", ["421 4.3.2 bye", CLOSE]),
    ("body", [DROP]), ("end", ["452 4.2.2 over quota"]), ("end", ["421 4.3.2 bye", CLOSE]), ("end", [DROP])],
    ids=lambda v: v if isinstance(v, str) else str(v[0])[:3] if isinstance(v[0], str) else "drop")
def test_temporary_failures(relay, receiver_, step, actions):
    """Once so, then as usual: delivered by the second attempt, once. RFC 5321 4.5.3.1.10: 552 to RCPT is temporary."""
    receiver_.script(step, *actions, times=1, after=2000)
    data = text_message(SENDER, "bob@example.org", body="x" * 70 + "\n" + "line\n" * 2000)
    ident = send(relay, "bob@example.org", data)
    receiver_.wait_one("bob@example.org")
    message = relay.wait_state(ident, "delivered")
    assert attempts_of(message) == (1 if step in ("connect", "ehlo") else 2)
    time.sleep(0.2)
    assert len(receiver_.messages()) == 1
    assert same_but_added(data, receiver_.messages()[0].data) is None


@pytest.mark.parametrize("step,reply,enhanced", [
    ("mail", "550 5.7.1 not from there", "5.7.1"), ("rcpt", "550-5.1.1 no\r\n550 5.1.1 such user", "5.1.1"),
    ("rcpt", "553 no enhanced code", "5.0.0"), ("data", "554 5.7.0 no", "5.7.0"), ("end", "554 5.6.0 bad content", "5.6.0")])
def test_permanent_failures(relay, receiver_, step, reply, enhanced):
    receiver_.script(step, reply)
    ident = send(relay, "bob@example.org")
    message = relay.wait_state(ident, "failed")
    last = last_of(message)
    assert last["code"] == int(reply[:3]) and last["enhanced"] == enhanced and attempts_of(message) == 1
    if "such user" in reply:
        assert "such user" in last["text"] and "no" in last["text"], last


def test_greylisting(relay, receiver_):
    receiver_.greylist(1.5)
    ident = send(relay, "bob@example.org")
    receiver_.wait_one("bob@example.org")
    assert attempts_of(relay.wait_state(ident, "delivered")) >= 2
    assert len(receiver_.messages()) == 1


def test_g_reset_after_the_final_dot(relay, dns):
    """A server that takes the content and then resets the connection: nobody knows; so it is sent again (law 2)."""
    rounds = []

    def serve(connection):
        chunker = Chunker([])
        if rounds:
            rounds.append(chunker)
            chunker(connection)
            return
        rounds.append(None)
        connection.sendall(b"220 raw.test\r\n")
        heard = b""
        while b"\r\n.\r\n" not in heard:
            heard += connection.recv(65536)
            if heard.endswith(b"DATA\r\n"):
                connection.sendall(b"354 go\r\n")
            elif b"\r\n.\r\n" not in heard and b"DATA\r\n" not in heard:
                connection.sendall(b"250 fine\r\n")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
    server = RawServer(serve)
    dns.domain("reset.test", server)
    ident = send(relay, "bob@reset.test")
    message = relay.wait_state(ident, "delivered")
    assert attempts_of(message) == 2 and len(rounds[1].bodies) == 1
    server.close()


def test_recipients_are_judged_one_by_one(relay, receiver_):
    """One message, three recipients, three answers; only the one that was put off is sent again."""
    receiver_.script("rcpt", "550 5.1.1 unknown", when="bad@")
    receiver_.script("rcpt", "451 4.2.0 later", when="slow@", times=1)
    ident = send(relay, ["good@example.org", "bad@example.org", "slow@example.org"])
    receiver_.wait_one("good@example.org")
    relay.wait_state(ident, "delivered", "slow@example.org")
    assert relay.states(ident) == {"good@example.org": "delivered", "bad@example.org": "failed", "slow@example.org": "delivered"}
    about = [t.recipients for t in receiver_.messages() if t.mail_from == SENDER]
    assert about == [["good@example.org"], ["slow@example.org"]]


# ---- the next address, the next host

@pytest.mark.parametrize("fault", ["closed", "busy", "drop", "refuses hello"])
def test_next_host(relay, dns, make_receiver, fault):
    """RFC 5321 5.1: each host in order until one can be spoken to, within the same attempt."""
    second = make_receiver()
    first = make_receiver()
    if fault == "closed":
        first.close()
    elif fault == "refuses hello":
        first.script("ehlo", "554 5.3.2 no").script("helo", "554 5.3.2 no")
    else:
        first.script("connect", *(["421 4.3.2 busy", CLOSE] if fault == "busy" else [DROP]))
    dns.domain("two.test", first, second)
    ident = send(relay, "bob@two.test")
    second.wait_one("bob@two.test")
    message = relay.wait_state(ident, "delivered")
    assert last_of(message)["mx"] == "mx2.two.test" and attempts_of(message) == 1


def test_one_silent_site_delays_only_itself(relay, dns, make_receiver):
    """Law 9: a server that says nothing keeps its own mail waiting, nobody else's."""
    mute, well = make_receiver(), make_receiver()
    mute.script("ehlo", SWALLOW)
    dns.domain("mute.test", mute)
    dns.domain("well.test", well)
    stuck = [send(relay, "bob@mute.test") for _ in range(3)]
    wait_until(lambda: mute.connections, 5)
    send(relay, "bob@well.test")
    well.wait_one("bob@well.test")
    assert all(relay.states(ident) == {"bob@mute.test": "queued"} for ident in stuck) and not mute.transactions


# ---- connections

def queue_held(relay, count, domain="example.org", **kwargs):
    """`count` messages that are let go all at once."""
    relay.cli("queue", "hold", "--domain", domain)
    with relay.client("trusted") as client:
        idents = [send(relay, f"b{n}@{domain}", client=client, **kwargs) for n in range(count)]
    relay.cli("queue", "release", "--domain", domain)
    return idents


def test_a_connection_carries_many_messages(make_relay, receiver_):
    relay = sending_relay(make_relay, ONE)
    queue_held(relay, 25)
    receiver_.wait(25)
    wait_empty(relay)
    assert len(receiver_.messages()) == 25
    assert receiver_.connections == 1


def test_an_idle_connection_is_used_again(make_relay, receiver_):
    """For a few seconds a connection is kept for what may come; then it says QUIT."""
    relay = sending_relay(make_relay, ONE)
    for number in range(3):
        relay.wait_state(send(relay, f"b{number}@example.org"), "delivered")
    assert receiver_.connections == 1
    wait_until(lambda: "QUIT" in receiver_.commands and receiver_.open_now == 0, 12)


def test_a_connection_gone_stale_costs_no_attempt(make_relay, receiver_):
    """The server closed while the connection was idle: the next message is not deferred for it."""
    relay = sending_relay(make_relay, ONE)
    relay.wait_state(send(relay, "b1@example.org"), "delivered")
    receiver_.script("mail", DROP, times=1)
    ident = send(relay, "b2@example.org")
    message = relay.wait_state(ident, "delivered")
    assert attempts_of(message) == 1 and receiver_.connections == 2


@pytest.mark.parametrize("how", ["closes when idle", "closes after each", "421 after each"])
def test_g_servers_that_end_sessions_early(make_relay, receiver_, how):
    """A server may limit a session as it likes: that is no failure, costs no attempt and puts nothing off."""
    relay = sending_relay(make_relay, {**ONE, "retry": {"first": "10m", "factor": 1, "max": "10m", "lifetime": "1h", "warn_after": "none"}})
    if how == "closes after each":
        receiver_.script("end", "250 2.0.0 fine, and good bye", CLOSE)
    elif how == "421 after each":
        receiver_.script("mail", "421 4.7.0 enough for this session", CLOSE,
                         when=lambda _: receiver_.commands.count("EHLO relay.test") == sum(t.accepted for t in receiver_.transactions))
    for number in range(4):
        message = relay.wait_state(send(relay, f"b{number}@example.org"), "delivered")
        assert attempts_of(message) == 1
        if how == "closes when idle":
            receiver_.hang_up()
    assert receiver_.connections >= 4


@pytest.mark.parametrize("refusal", ["452 4.5.3 too many recipients", "552 too many"])
def test_too_many_recipients_go_next(make_relay, receiver_, refusal):
    """RFC 5321 4.5.3.1.10: what is over the server's limit goes with the next transaction and is no new attempt; after
    the first the limit is known."""
    relay = sending_relay(make_relay, {"lanes": [{"match": "*", "connections": 1}]})

    def rcpts():
        """Of the transaction under way."""
        since = receiver_.commands[::-1]
        return next(n for n, command in enumerate(since) if command.startswith("MAIL"))
    receiver_.script("rcpt", refusal, when=lambda _: rcpts() > 2)
    message = relay.wait_state(send(relay, [f"b{n}@example.org" for n in range(10)]), "delivered")
    assert {r["attempts"] for r in message["recipients"]} == {1}
    assert [len(t.recipients) for t in receiver_.messages()] == [2] * 5
    assert len([c for c in receiver_.commands if c.startswith("RCPT")]) == 10 + 8


def test_unanswered_quit_keeps_no_mail_waiting(make_relay, receiver_):
    """A connection that was idle for long enough is being closed, and its server says nothing to QUIT."""
    receiver_.script("quit", SWALLOW)
    relay = sending_relay(make_relay)
    send(relay, "bob@example.org")
    wait_until(lambda: "QUIT" in receiver_.commands, 60)
    began = time.monotonic()
    send(relay, "bob@example.org")
    assert receiver_.wait(2)[1].at - began < 8  # the reply to QUIT has 10 s


def test_stop_does_not_wait_for_a_silent_server(make_relay, receiver_):
    """SIGTERM while a server keeps its greeting back: there is nothing to finish; and its lane is not blamed for it."""
    relay = sending_relay(make_relay, {"retry": {"first": "10m", "factor": 1, "max": "10m", "lifetime": "1h", "warn_after": "none"},
                                       "shutdown_grace": "5m"})
    receiver_.script("ehlo", SWALLOW, times=1)
    ident = send(relay, "bob@example.org")
    wait_until(lambda: receiver_.commands, 5)
    assert relay.stop(60) == 0  # it would wait for five minutes
    relay.start()
    relay.wait_state(ident, "delivered")  # it would be tried again in ten


def test_messages_per_connection(make_relay, receiver_):
    relay = sending_relay(make_relay, {"lanes": [{"match": "*", "connections": 1, "messages_per_connection": 10}]})
    queue_held(relay, 25)
    receiver_.wait(25)
    wait_empty(relay)
    counts = [sum(t.connection == n for t in receiver_.messages()) for n in (1, 2, 3)]
    assert receiver_.connections == 3 and sorted(counts) == [5, 10, 10]


def test_connections_at_once(make_relay, receiver_):
    relay = sending_relay(make_relay, {"lanes": [{"match": "*", "connections": 3}]})
    receiver_.script("end", Delay(0.1))
    queue_held(relay, 30)
    receiver_.wait(30)
    assert receiver_.open_most == 3


def test_recipients_per_transaction(make_relay, receiver_):
    relay = sending_relay(make_relay, {"lanes": [{"match": "*", "connections": 1, "recipients_per_transaction": 5}]})
    ident = send(relay, [f"b{n}@example.org" for n in range(12)])
    relay.wait_state(ident, "delivered")
    assert sorted(len(t.recipients) for t in receiver_.messages()) == [2, 5, 5]


def test_recipients_share_a_transaction(make_relay, receiver_, dns):
    """One message for several users is one transaction; different reverse-paths never share one."""
    relay = sending_relay(make_relay, ONE)
    ident = send(relay, [f"b{n}@example.org" for n in range(20)])
    relay.wait_state(ident, "delivered")
    assert [len(t.recipients) for t in receiver_.messages()] == [20]
    for number in range(2):
        relay.wait_state(send(relay, "bob@example.org", sender=f"s{number}@client.test"), "delivered")
    assert [t.mail_from for t in receiver_.messages()][1:] == ["s0@client.test", "s1@client.test"]


def test_messages_per_second(make_relay, receiver_):
    relay = sending_relay(make_relay, {"lanes": [{"match": "*", "connections": 5, "messages_per_second": 5}]})
    relay.cli("queue", "hold", "--all")
    with relay.client("trusted") as client:
        for number in range(15):
            send(relay, f"b{number}@example.org", client=client)
    begun = time.monotonic()
    relay.cli("queue", "release", "--all")
    times = sorted(t.at for t in receiver_.wait(15))
    assert times[-1] - begun >= 1.5, "15 messages at 5 a second"
    # Counted from the beginning: a receiver that was kept from the processor sees two seconds' share at once.
    assert all(number <= 7 + 5 * (at - begun) for number, at in enumerate(times, 1)), times


# ---- extensions

def chunker_domain(dns, extensions):
    chunker = Chunker(extensions)
    server = RawServer(chunker)
    dns.domain("chunk.test", server)
    return chunker


def test_pipelining(relay, dns):
    """MAIL, every RCPT and DATA leave together where the server offers it."""
    chunker = chunker_domain(dns, ["PIPELINING", "8BITMIME"])
    relay.wait_state(send(relay, ["a@chunk.test", "b@chunk.test", "c@chunk.test"]), "delivered")
    assert any(f.startswith(b"MAIL FROM") and f.count(b"RCPT TO") == 3 and f.endswith(b"DATA\r\n") for f in chunker.flights)


def test_no_pipelining_unless_offered(relay, dns):
    chunker = chunker_domain(dns, ["8BITMIME"])
    relay.wait_state(send(relay, ["a@chunk.test", "b@chunk.test"]), "delivered")
    before_data = chunker.flights[:[f[:4] for f in chunker.flights].index(b"DATA") + 1]
    assert all(f.count(b"\r\n") == 1 for f in before_data), before_data


def test_chunking(relay, dns):
    """BDAT: the exact octets, nothing stuffed, one round trip saved."""
    chunker = chunker_domain(dns, ["PIPELINING", "CHUNKING", "8BITMIME", "SIZE 1000000"])
    data = text_message(SENDER, "b@chunk.test") + b".\r\n..two\r\n.end\r\n"
    relay.wait_state(send(relay, "b@chunk.test", data), "delivered")
    assert any(c.startswith("BDAT ") and c.endswith(" LAST") for c in chunker.commands) and "DATA" not in chunker.commands
    assert same_but_added(data, chunker.bodies[0]) is None


def test_size(relay, dns, make_receiver):
    """What is larger than the server takes fails before it is sent; what is not is announced."""
    small = make_receiver(without=["SIZE"], capabilities=["SIZE 2000"])
    dns.domain("small.test", small)
    ident = send(relay, "bob@small.test", text_message(SENDER, "bob@small.test", body="x" * 60 + "\n" * 3000))
    last = last_of(relay.wait_state(ident, "failed"))
    assert last["enhanced"] == "5.3.4" and not [c for c in small.commands if c.startswith("MAIL")]
    relay.wait_state(send(relay, "bob@small.test", text_message(SENDER, "bob@small.test")), "delivered")
    got = small.wait_one("bob@small.test")
    assert f"SIZE={len(got.data)}" in got.mail_parameters


@pytest.mark.parametrize("envid,orcpt", [("abc+2Bd", "rfc822;Bob+40dsn.test"), ("<abc>", "rfc822;<Bob@dsn.test>")])
def test_dsn_parameters_are_passed_on(relay, dns, make_receiver, envid, orcpt):
    knows = make_receiver(capabilities=["DSN"])
    dns.domain("dsn.test", knows)
    ident = send(relay, "bob@dsn.test", mail_options=["RET=HDRS", f"ENVID={envid}"],
                 rcpt_options=["NOTIFY=SUCCESS,DELAY", f"ORCPT={orcpt}"])
    got = knows.wait_one("bob@dsn.test")
    assert {"RET=HDRS", f"ENVID={envid}"} <= set(got.mail_parameters)
    parameters = got.recipient_parameters["bob@dsn.test"]
    assert f"ORCPT={orcpt}" in parameters
    assert [set(p[7:].split(",")) for p in parameters if p.startswith("NOTIFY=")] == [{"SUCCESS", "DELAY"}]
    relay.wait_state(ident, "delivered")


def test_no_parameters_to_servers_that_know_none(relay, dns, make_receiver):
    plain = make_receiver(without=["SIZE", "8BITMIME", "SMTPUTF8"])
    dns.domain("plain.test", plain)
    send(relay, "bob@plain.test", mail_options=["RET=HDRS", "ENVID=abc", "BODY=8BITMIME"], rcpt_options=["NOTIFY=NEVER"])
    got = plain.wait_one("bob@plain.test")
    assert got.mail_parameters == [] and got.recipient_parameters["bob@plain.test"] == []


# ---- what can't pass as it is

TEXT_8BIT = ("From: a@client.test\r\nTo: bob@example.org\r\nSubject: 8 bit\r\nDate: Sun, 22 Nov 2026 07:00:00 +0000\r\n"
             "Message-ID: <1@client.test>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
             "Content-Transfer-Encoding: 8bit\r\n\r\nGrüße = schön\r\n.dot\r\n" + "ä" * 400 + "\r\ntrailing \r\n").encode()


def multipart_8bit():
    binary = bytes(range(128, 256)) * 3
    return (b"From: a@client.test\r\nTo: bob@example.org\r\nSubject: parts\r\nDate: Sun, 22 Nov 2026 07:00:00 +0000\r\n"
            b"Message-ID: <2@client.test>\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"b1\"\r\n"
            b"Content-Transfer-Encoding: 8bit\r\n\r\npreamble\r\n--b1\r\nContent-Type: text/html; charset=iso-8859-1\r\n"
            b"Content-Transfer-Encoding: 8bit\r\n\r\n<p>\xe4\xf6\xfc=</p>\r\n\r\n--b1\r\nContent-Type: text/plain\r\n\r\nplain = 7bit\r\n"
            b"--b1\r\nContent-Type: text/plain; charset=x-odd\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" + binary +
            b"\r\n--b1\r\nContent-Type: message/rfc822\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
            b"Subject: inner\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
            b"Content-Transfer-Encoding: 8bit\r\n\r\ninnen: \xc3\xa4\r\n--b1--\r\n")


def leaves(data):
    """(type, decoded payload) of every leaf, and the header fields but those of the encoding."""
    message = email.message_from_bytes(data, policy=email.policy.compat32)
    return [(part.get_content_type(), part.get_content_charset(), part.get_payload(decode=True)) for part in message.walk()
            if not part.is_multipart()]


@pytest.mark.parametrize("data", [TEXT_8BIT, multipart_8bit()], ids=["text", "multipart"])
def test_n_seven_bit_downgrade(relay, dns, make_receiver, data):
    """RFC 6152 3: where the next server lacks 8BITMIME the same message arrives in a 7-bit form; else as it was."""
    old, new = make_receiver(without=["8BITMIME", "SMTPUTF8"]), make_receiver()
    dns.domain("old.test", old)
    dns.domain("new.test", new)
    for domain in ("old.test", "new.test"):
        ident = send(relay, f"bob@{domain}", data, mail_options=["BODY=8BITMIME"])
        relay.wait_state(ident, "delivered")
    got = old.wait_one("bob@old.test")
    assert not any(byte > 127 for byte in got.data), "still 8-bit"
    assert max(map(len, got.data.split(b"\r\n"))) <= 998
    assert leaves(got.data) == leaves(data)
    assert not [p for p in got.mail_parameters if p.startswith("BODY=8")]
    unchanged = [f for f in split(data)[0] if not f.lower().startswith(b"content-transfer-encoding")]
    assert all(field in split(got.data)[0] for field in unchanged)
    straight = new.wait_one("bob@new.test")
    assert same_but_added(data, straight.data) is None and "BODY=8BITMIME" in straight.mail_parameters


UTF8_MESSAGE = "From: \"Älice\" <älice@client.test>\r\nTo: bob@example.org\r\nSubject: schön\r\nDate: Sun, 22 Nov 2026 07:00:00 +0000\r\nMessage-ID: <3@client.test>\r\n\r\nx\r\n".encode()


def utf8_client(relay):
    client = relay.client("trusted")
    client.ehlo()
    client.command_encoding = "utf-8"
    return client


@pytest.mark.parametrize("sender,recipient,data", [
    ("älice@client.test", "bob@{}", None), (SENDER, "böb@{}", None), (SENDER, "bob@{}", UTF8_MESSAGE)],
    ids=["sender", "recipient", "header"])
def test_smtputf8_where_it_can_pass_and_where_not(relay, dns, make_receiver, sender, recipient, data):
    """RFC 6531 3.4: never changed in silence: to a server without it the message fails, 5.6.7."""
    knows, lacks = make_receiver(), make_receiver(without=["SMTPUTF8"])
    dns.domain("knows.test", knows)
    dns.domain("lacks.test", lacks)
    data = data or text_message(SENDER, "bob@client.test")
    with utf8_client(relay) as client:
        good = send(relay, recipient.format("knows.test"), data, sender, ["SMTPUTF8", "BODY=8BITMIME"], client=client)
        bad = send(relay, recipient.format("lacks.test"), data, sender, ["SMTPUTF8", "BODY=8BITMIME"], client=client)
    got = knows.wait_one()
    assert "SMTPUTF8" in got.mail_parameters and got.mail_from == sender and got.recipients == [recipient.format("knows.test")]
    assert same_but_added(data, got.data) is None
    relay.wait_state(good, "delivered")
    assert last_of(relay.wait_state(bad, "failed"))["enhanced"] == "5.6.7"
    assert not lacks.messages()


PART_IN_UTF8 = (b'From: alice@client.test\r\nTo: bob@example.org\r\nSubject: x\r\nDate: Sun, 22 Nov 2026 07:00:00 +0000\r\n'
                b'Message-ID: <4@client.test>\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="=b"\r\n\r\n--=b\r\n'
                b'Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\nsch\xc3\xb6n\r\n--=b\r\n'
                b'Content-Type: application/pdf\r\nContent-Disposition: attachment; filename="%s.pdf"\r\n\r\nx\r\n--=b--\r\n')


@pytest.mark.parametrize("without", [["SMTPUTF8"], ["SMTPUTF8", "8BITMIME"]], ids=["8bit", "7bit"])
@pytest.mark.parametrize("size", [0, 400_000], ids=["small", "extent"])
def test_smtputf8_in_headers_of_parts(relay, dns, make_receiver, without, size):
    """RFC 6532: raw UTF-8 in a part's header needs SMTPUTF8 as one in the message's does; 8-bit text does not."""
    knows, lacks = make_receiver(), make_receiver(without=without)
    dns.domain("knows.test", knows)
    dns.domain("lacks.test", lacks)
    filler = b"padding\r\n" * (size // 9)
    needs = PART_IN_UTF8.replace(b"%s", "größe".encode()).replace(b"\r\nx\r\n", b"\r\n" + filler + b"x\r\n")
    plain = PART_IN_UTF8.replace(b"%s", b"size").replace(b"\r\nx\r\n", b"\r\n" + filler + b"x\r\n")
    options = ["SMTPUTF8", "BODY=8BITMIME"]
    good, bad, fine = send(relay, "bob@knows.test", needs, mail_options=options), send(
        relay, "bob@lacks.test", needs, mail_options=options), send(relay, "eve@lacks.test", plain, mail_options=options)
    got = knows.wait_one("bob@knows.test")
    assert "SMTPUTF8" in got.mail_parameters and same_but_added(needs, got.data) is None
    relay.wait_state(good, "delivered")
    assert last_of(relay.wait_state(bad, "failed"))["enhanced"] == "5.6.7"
    relay.wait_state(fine, "delivered")
    got = lacks.wait_one("eve@lacks.test")
    assert "SMTPUTF8" not in got.mail_parameters and leaves(got.data) == leaves(plain)
    assert [m.recipients for m in lacks.messages()] == [["eve@lacks.test"]]


def test_smtputf8_declared_but_not_needed(relay, dns, make_receiver):
    lacks = make_receiver(without=["SMTPUTF8"])
    dns.domain("lacks.test", lacks)
    ident = send(relay, "bob@lacks.test", mail_options=["SMTPUTF8"])
    assert "SMTPUTF8" not in lacks.wait_one("bob@lacks.test").mail_parameters
    relay.wait_state(ident, "delivered")


# ---- TLS

def tls_route(tls):
    return {"routes": [{"match": {}, "via": f"mx:{network.smtp_port()}", "tls": tls}]}


@pytest.fixture(scope="session")
def stranger(tmp_path_factory):
    """An authority that nobody trusts."""
    from lib import certs
    return certs.Authority(tmp_path_factory.mktemp("stranger"), "nobody knows this authority")


def certificate(kind, authority, stranger):
    if kind == "good":
        return authority.issue("mx1.example.org", stem="mx-good")
    if kind == "wrong name":
        return authority.issue("mx1.example.com", stem="mx-wrong")
    if kind == "expired":
        return authority.issue("mx1.example.org", stem="mx-expired", from_days=-3, to_days=-1)
    return stranger.issue("mx1.example.org", stem="mx-unknown")


@pytest.mark.parametrize("kind", ["good", "wrong name", "expired", "unknown authority", "none"])
@pytest.mark.parametrize("tls", ["may", "encrypt", "verify", "none"])
def test_tls_by_route(make_relay, make_receiver, dns, authority, stranger, tls, kind):
    """What each route policy makes of each server: over TLS, in the clear, or not at all."""
    pair = None if kind == "none" else certificate(kind, authority, stranger)
    receiver = make_receiver(tls=pair.server_context() if pair else None)
    dns.domain("example.org", receiver)
    relay = sending_relay(make_relay, tls_route(tls))
    ident = send(relay, "bob@example.org")
    passes = {"may": True, "none": True, "encrypt": kind != "none", "verify": kind == "good"}[tls]
    if not passes:
        wait_until(lambda: receiver.connections >= 1 and relay.cli("message", "why", ident)["limit"] in
                   ("backoff", "retry_time"), 10)
        assert relay.states(ident) == {"bob@example.org": "queued"} and not receiver.transactions
        assert not [c for c in receiver.commands if c.startswith("MAIL")]
        return
    got = receiver.wait_one("bob@example.org")
    message = relay.wait_state(ident, "delivered")
    assert bool(got.tls) == (tls != "none" and kind != "none")
    shown = last_of(message)["tls"]
    assert (shown is None) == (not got.tls) and (not got.tls or got.tls in shown)
    if tls == "none":
        assert "STARTTLS" not in receiver.commands


@pytest.mark.parametrize("how", ["454", "hangs up", "plain text", "no TLS"])
def test_d_broken_starttls(make_relay, make_receiver, dns, authority, how):
    """STARTTLS that is offered but fails, and again after retry.first: spoken to without, and not tried again for a while."""
    pair = authority.issue("mx1.example.org", stem="mx-broken")
    receiver = make_receiver(tls=pair.server_context())
    if how == "454":
        receiver.script("starttls", "454 4.7.0 TLS not available")
    elif how == "hangs up":
        receiver.script("starttls", DROP)
    elif how == "plain text":
        receiver.script("starttls", "220 2.0.0 go ahead\r\n250 injected", SWALLOW)
    else:
        receiver.script("starttls", "220 2.0.0 go ahead", Delay(0.3), "250 this is no TLS record", SWALLOW)
    dns.domain("example.org", receiver)
    relay = sending_relay(make_relay, {"lanes": [{"match": "*", "connections": 1, "messages_per_connection": 1}]})
    for number in range(3):
        message = relay.wait_state(send(relay, f"b{number}@example.org"), "delivered")
        assert attempts_of(message) == 1
    assert not any(t.tls for t in receiver.messages())
    assert receiver.commands.count("STARTTLS") == 2


def test_starttls_that_failed_once(make_relay, make_receiver, dns, authority):
    """One hang-up (a restart, an overload) is no reason to go without."""
    receiver = make_receiver(tls=authority.issue("mx1.example.org", stem="mx-hiccup").server_context())
    receiver.script("starttls", DROP, times=1)
    dns.domain("example.org", receiver)
    relay = sending_relay(make_relay)
    relay.wait_state(send(relay, "bob@example.org"), "delivered")
    assert receiver.wait_one("bob@example.org").tls and receiver.commands.count("STARTTLS") == 2


def test_no_login_without_tls(make_relay, make_receiver, authority, tmp_path):
    """Who logs in waits for TLS however often it fails, and goes on when it works again."""
    receiver = make_receiver(tls=authority.issue("127.0.0.1", stem="smart-hiccups").server_context(), accounts={"us": "pw"})
    receiver.script("starttls", DROP, times=3)
    (tmp_path / "password").write_text("pw\n")
    relay = sending_relay(make_relay, {"routes": [
        {"match": {}, "via": f"smtp://{receiver.address}:{receiver.port}", "login": "us", "password_file": str(tmp_path / "password")}]})
    relay.wait_state(send(relay, "bob@example.org"), "delivered", seconds=40)
    got = receiver.wait_one("bob@example.org")
    assert got.tls and got.login == "us"
    assert receiver.commands.count("STARTTLS") == 4, receiver.commands


@pytest.mark.parametrize("how", ["454", "hangs up"])
def test_tls_is_required_where_it_has_failed(make_relay, make_receiver, dns, authority, how):
    """530 in a session that goes without TLS since STARTTLS failed is no bounce: TLS is tried again."""
    receiver = make_receiver(tls=authority.issue("mx1.example.org", stem="mx-required").server_context(), require_tls=True)
    receiver.script("starttls", "454 4.7.0 TLS not available" if how == "454" else DROP, times=2)
    dns.domain("example.org", receiver)
    relay = sending_relay(make_relay)
    ident = send(relay, "bob@example.org")
    relay.wait_state(ident, "delivered", seconds=40)
    assert receiver.wait_one("bob@example.org").tls
    assert receiver.commands.count("STARTTLS") == 3
    assert [e["code"] for e in wait_event(relay, ident, "deferred")] == [530]


def test_tls_sessions_are_resumed(make_relay, make_receiver, dns, authority):
    context = authority.issue("mx1.example.org", stem="mx-resume").server_context()
    receiver = make_receiver(tls=context)
    dns.domain("example.org", receiver)
    relay = sending_relay(make_relay, {"lanes": [{"match": "*", "connections": 1, "messages_per_connection": 1}]})
    for number in range(4):
        relay.wait_state(send(relay, f"b{number}@example.org"), "delivered")
    assert context.session_stats()["hits"] >= 2, context.session_stats()


# ---- TLS from the first byte

@pytest.mark.parametrize("tls,kind,passes", [
    ("may", "unknown authority", True), ("encrypt", "wrong name", True), ("verify", "good", True),
    ("verify", "wrong name", False), ("may", "none", False)])
def test_tls_from_the_first_byte(make_relay, make_receiver, dns, authority, stranger, tls, kind, passes):
    """smtps: in TLS or not at all, also where the server there speaks first, in the clear."""
    pair = certificate("good" if kind == "none" else kind, authority, stranger)
    receiver = make_receiver(tls=pair.server_context(), implicit=kind != "none")
    dns.a("mx1.example.org", receiver.address)
    relay = sending_relay(make_relay, {"routes": [
        {"match": {}, "via": f"smtps://mx1.example.org:{receiver.port}", "tls": tls}]})
    ident = send(relay, "bob@example.net")
    if passes:
        assert receiver.wait_one("bob@example.net").tls
        assert last_of(relay.wait_state(ident, "delivered"))["tls"].startswith("TLSv1.3")
        assert "STARTTLS" not in receiver.commands
        return
    why = wait_until(lambda: (found := relay.cli("message", "why", ident))["limit"] in ("backoff", "retry_time") and found, 10)
    assert "TLS with mx1.example.org failed" in str(why), why
    assert relay.states(ident) == {"bob@example.net": "queued"} and not receiver.commands


def test_tls_from_the_first_byte_that_does_not_come(make_relay, make_receiver, dns, authority):
    """The next address is tried."""
    pair = authority.issue("smart.test", stem="smart-second")
    well = make_receiver(tls=pair.server_context(), implicit=True)
    broken = RawServer(lambda connection: None)
    numbers = range(20)  # the addresses of a name are tried in any order
    for number in numbers:
        dns.a(f"smart{number}.test", broken.address, well.address)
    relay = sending_relay(make_relay, {"routes": [
        {"match": {"recipient": f"{number}.example"}, "via": f"smtps://smart{number}.test:{well.port}"} for number in numbers]})
    for number in numbers:
        message = relay.wait_state(send(relay, f"bob@{number}.example"), "delivered")
        assert attempts_of(message) == 1
    assert broken.connections
    broken.close()


# ---- a smarthost with a login

def smarthost(receiver, tmp_path, password, tls="may", host=None, scheme="smtp"):
    file = tmp_path / "password"
    file.write_text(password + "\n")
    return {"routes": [{"match": {}, "via": f"{scheme}://{host or receiver.address}:{receiver.port}", "login": "relay-user",
                        "password_file": str(file), "tls": tls}]}


@pytest.mark.parametrize("scheme", ["smtp", "smtps"])
def test_login_at_a_smarthost(make_relay, make_receiver, dns, authority, tmp_path, scheme):
    pair = authority.issue("smart.test", stem="smart")
    implicit = scheme == "smtps"
    receiver = make_receiver(tls=pair.server_context(), accounts={"relay-user": "s3 cret"}, require_tls=not implicit,
                             implicit=implicit)
    dns.a("smart.test", receiver.address)
    dns.mx("example.org", "nowhere.example.org")
    relay = sending_relay(make_relay, smarthost(receiver, tmp_path, "s3 cret", "verify", "smart.test", scheme))
    ident = send(relay, ["bob@example.org", "carol@other.test"])
    relay.wait_state(ident, "delivered")
    got = receiver.wait_one()
    assert got.login == "relay-user" and got.tls
    assert "s3 cret" not in relay.log()


@pytest.mark.parametrize("fault", ["wrong password", "no TLS"])
def test_login_that_fails_defers(make_relay, make_receiver, authority, tmp_path, fault):
    """The operator's mistake fails nobody's mail; and a password never travels in the clear."""
    pair = authority.issue("127.0.0.1", stem="smart-bad")
    receiver = make_receiver(tls=pair.server_context() if fault != "no TLS" else None, accounts={"relay-user": "right"})
    relay = sending_relay(make_relay, smarthost(receiver, tmp_path, "wrong"))
    ident = send(relay, "bob@example.org")
    wait_until(lambda: receiver.connections and relay.cli("message", "why", ident)["limit"] in ("backoff", "retry_time"), 10)
    assert relay.states(ident) == {"bob@example.org": "queued"} and not receiver.transactions
    if fault == "no TLS":
        assert not [c for c in receiver.commands if c.startswith("AUTH")]


# ---- hostile servers

def hostile(kind):
    def serve(connection):
        if kind == "endless line":
            connection.sendall(b"220 ")
            while True:
                connection.sendall(b"x" * 65536)
        if kind == "endless lines":
            while True:
                connection.sendall(b"220-more\r\n" * 1000)
        if kind == "garbage":
            connection.sendall(bytes(range(256)) * 40 + b"\r\n")
        elif kind == "bare newlines":
            connection.sendall(b"220 a\n250 b\n250 c\n")
        elif kind == "answers in advance":
            connection.sendall(b"220 a\r\n" + b"250 yes\r\n" * 4 + b"354 go\r\n250 2.0.0 taken\r\n")
        elif kind == "nul":
            connection.sendall(b"220 a\0b\r\n")
            connection.recv(1000)
            connection.sendall(b"250-a\0\r\n250 SIZE 99999999999999999999999999\r\n")
            connection.recv(1000)
            connection.sendall(b"550 5.1.1 \x1b[2J\0\r no\r\n")
        connection.recv(65536)
        time.sleep(0.3)
    return serve


@pytest.mark.parametrize("kind", ["endless line", "endless lines", "garbage", "bare newlines", "answers in advance", "nul"])
def test_g_hostile_servers(relay, dns, make_receiver, kind):
    """The relay lives, believes nothing it was not told properly, and serves others."""
    server, well = RawServer(hostile(kind)), make_receiver()
    dns.domain("evil.test", server)
    dns.domain("well.test", well)
    ident = send(relay, "bob@evil.test")
    wait_until(lambda: server.connections, 5)
    relay.wait_state(send(relay, "bob@well.test"), "delivered", seconds=5)
    time.sleep(1)
    relay.process.check_running()
    assert relay.states(ident)["bob@evil.test"] != "delivered"
    assert "\x1b" not in relay.log() and "\0" not in relay.log()
    server.close()


# ---- routes

def test_routes(make_relay, make_receiver, dns):
    """By recipient, sender, account and listener: exact, `*.domain`, `*`; the first that matches holds."""
    names = ["exact", "below", "sender", "account", "listener", "both", "rest"]
    to = {name: make_receiver() for name in names}
    via = {name: f"smtp://{one.address}:{one.port}" for name, one in to.items()}
    plain = {"address": "127.0.0.1:0", "tls": "none", "auth": "optional", "trusted": ["127.0.0.0/8"]}
    relay = sending_relay(make_relay, {
        "listeners": [{**plain, "name": "trusted", "account": "trusted"}, {**plain, "name": "second", "account": "trusted"},
                      {**plain, "name": "third", "account": "other"}],
        "routes": [
            {"match": {"recipient": "bob@one.test", "sender": "s@client.test"}, "via": via["both"]},
            {"match": {"recipient": "bob@one.test"}, "via": via["exact"]},
            {"match": {"recipient": "*.two.test"}, "via": via["below"]},
            {"match": {"sender": "special.test"}, "via": via["sender"]},
            {"match": {"account": "other"}, "via": via["account"]},
            {"match": {"listener": "second"}, "via": via["listener"]},
            {"match": {"recipient": "*"}, "via": via["rest"]}]})
    relay.cli("account", "add", "other", "--any-sender")
    rows = [("trusted", SENDER, "bob@one.test", "exact"), ("trusted", "s@client.test", "bob@one.test", "both"),
            ("trusted", SENDER, "BOB@ONE.test", "exact"), ("trusted", SENDER, "eve@one.test", "rest"),
            ("trusted", SENDER, "a@deep.two.test", "below"), ("trusted", SENDER, "a@two.test", "rest"),
            ("trusted", "x@special.test", "a@three.test", "sender"), ("third", SENDER, "a@three.test", "account"),
            ("second", SENDER, "a@three.test", "listener"), ("second", "x@special.test", "b@three.test", "sender"),
            ("trusted", SENDER, "a@three.test", "rest")]
    for listener, sender, recipient, want in rows:
        before = {name: len(one.messages()) for name, one in to.items()}
        with relay.client(listener) as client:
            relay.wait_state(send(relay, recipient, sender=sender, client=client), "delivered")
        got = [name for name, one in to.items() if len(one.messages()) > before[name]]
        assert got == [want], (listener, sender, recipient, want, got)


# ---- bytes

CORPUS = {
    "dots": b"a\r\n.\r\n..\r\n...\r\n.x\r\nend\r\n",
    "only a dot": b".\r\n",
    "no final newline": b"no newline at the end",
    "empty body": b"",
    "empty lines": b"\r\n\r\n\r\n",
    "long lines": b"x" * 998 + b"\r\n" + b"y" * 997 + b".\r\n",
    "eight bit": bytes(b for b in range(128, 256)) + b"\r\n",
    "controls": b"\x00\x01\x08\x0b\x0c\x1a\x1b[2J\x7f\r\n",
    "trailing blanks": b"a \r\n\t\r\n \r\n",
    "big": b"".join(b"%d %s\r\n" % (n, b"z" * (n % 97)) for n in range(9000)),
}


@pytest.mark.parametrize("name", CORPUS)
def test_bytes_arrive_as_they_were_sent(make_relay, receiver_, name):
    head = text_message(SENDER, "bob@example.org").partition(b"\r\n\r\n")[0].replace(b"7bit", b"8bit")
    data = head + b"\r\n\r\n" + CORPUS[name]
    relay = sending_relay(make_relay, ONE)
    ident = send(relay, "bob@example.org", data, mail_options=["BODY=8BITMIME"])
    got = receiver_.wait_one("bob@example.org")
    want = data if data.endswith(b"\r\n") else data + b"\r\n"  # RFC 5321 4.1.1.4: the client's final CRLF
    assert same_but_added(want, got.data) is None
    relay.wait_state(ident, "delivered")
