# SPDX-License-Identifier: MIT
"""Foreign clients hand mail in: each way to connect, each mechanism, large messages, many recipients."""
import base64
import os
import shutil
import smtplib
import socket
import ssl
import warnings

import pytest
from lib import clients, network, peers
from lib.message import same_but_added, split, text_message
from lib.process import wait_until
from lib.raw import Raw, Scram
from lib.relay import submit
from lib.world import PASSWORD, PLAIN, world_fixture


def config(world):
    submission = {"name": "submission", "address": "127.0.0.1:0", "tls": "starttls", "auth": "required"}
    listeners = [submission, {**submission, "name": "submissions", "tls": "implicit"}, PLAIN,
                 {**PLAIN, "name": "trusted", "auth": "optional", "account": "alice"},
                 {**submission, "name": "foreign", "trusted": ["192.0.2.0/24"]}]
    if network.has_ipv6():
        listeners.append({**submission, "name": "ip6", "address": "[::1]:0"})
    return {"listeners": listeners}


def fill(world):
    world.relay.add_account("alice", domains=["client.test"])
    world.generated = world.relay.cli("credential", "add", "alice", "--login", "machine", "--generate")["password"]


world = world_fixture(config, fill)


def sent(world, marker, seconds=20.0):
    return world.receiver.wait_for(marker, seconds)


@pytest.mark.parametrize("name,listener,mechanism", [
    (name, listener, mechanism) for name in clients.ALL for listener in ("submission", "submissions")
    for mechanism in ("PLAIN", "LOGIN", "SCRAM-SHA-256") if name == "msmtp" or mechanism != "SCRAM-SHA-256"])
def test_client(world, name, listener, mechanism):
    data = text_message("alice@client.test", "bob@example.org", body="h\u00e9\n.dot\n..\n \nend\n")
    login, password = ("machine", world.generated) if name == "msmtp" and listener == "submissions" else ("alice", PASSWORD)
    to = clients.To.relay(world.relay, listener, login, password, mechanism)
    printed = clients.ALL[name](to, "alice@client.test", ["bob@example.org", "carol@example.org"], data)
    got = sent(world, data.partition(b"Message-ID: ")[2].partition(b"\r\n")[0])
    assert same_but_added(data, got.data) is None
    assert got.recipients == ["bob@example.org", "carol@example.org"] and got.mail_from == "alice@client.test"
    assert b"with ESMTPSA id" in split(got.data)[0][0]
    if name in ("swaks", "curl", "nodemailer"):
        assert "2.0.0 Ok: queued as " in printed


@pytest.mark.parametrize("name", clients.ALL)
def test_client_is_refused(world, name):
    """A wrong password, and a sender of somebody else: the client says that it failed."""
    data = text_message("alice@client.test", "bob@example.org")
    with pytest.raises(clients.Failed):
        clients.ALL[name](clients.To.relay(world.relay, "plain", "alice", "wrong"), "alice@client.test", ["bob@example.org"], data)
    with pytest.raises(clients.Failed) as failed:
        clients.ALL[name](clients.To.relay(world.relay, "plain", "alice"), "eve@other.test", ["bob@example.org"], data)
    assert "5.7.1" in failed.value.output and "other.test" in failed.value.output


@pytest.mark.parametrize("name", clients.ALL)
def test_trusted_network(world, name):
    """Plain, without a login, from a trusted network."""
    data = text_message("alice@client.test", "bob@example.org", body="trusted\n")
    clients.ALL[name](clients.To.relay(world.relay, "trusted"), "alice@client.test", ["bob@example.org"], data)
    got = sent(world, data.partition(b"Message-ID: ")[2].partition(b"\r\n")[0])
    assert same_but_added(data, got.data) is None


@pytest.mark.parametrize("listener", ["submission", "submissions"])
def test_smtplib(world, listener):
    data = text_message("alice@client.test", "bob@example.org")
    with world.relay.client(listener, login="alice") as client:
        for keyword in ("pipelining", "size", "8bitmime", "smtputf8", "enhancedstatuscodes", "dsn", "auth", "chunking"):
            assert client.has_extn(keyword), keyword
        assert not client.has_extn("starttls")
        assert client.esmtp_features["auth"].split() == ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "PLAIN", "LOGIN"]
        assert client.esmtp_features["size"] == str(50 << 20)
        first = submit(client, "alice@client.test", "bob@example.org", data)
        second = submit(client, "alice@client.test", "bob@example.org", data)
    assert first != second
    for ident in (first, second):
        assert same_but_added(data, sent(world, ident.encode()).data) is None


def test_postfix_as_client(world, start_peer):
    """Postfix relays to us over STARTTLS, from a trusted network."""
    host, port = world.relay.listener("trusted")
    postfix = start_peer(peers.Postfix, relay_to=(host, port))
    body = "Postfix speaks\n.dot\n" + "x" * 900 + "\n"
    postfix.send("alice@client.test", ["bob@example.org", "carol@example.org"], f"From: alice@client.test\nSubject: x\n\n{body}")
    got = sent(world, b"Postfix speaks")
    assert split(got.data)[1] == body.replace("\n", "\r\n").encode() and got.recipients == ["bob@example.org", "carol@example.org"]
    wait_until(lambda: "status=sent (250 2.0.0 Ok: queued as" in postfix.log(), 10, postfix.log()[-2000:])


# ---- logins, by hand

def b64(data):
    return base64.b64encode(data.encode() if isinstance(data, str) else data).decode()


def scram(raw, login, password, tamper=False):
    return Scram(raw, login).finish(password, tamper)


def test_scram(world):
    with world.open("submission", tls=True) as raw:
        assert scram(raw, "machine", "wrong").code == 535
        assert scram(raw, "machine", world.generated).code == 235
        assert raw.ask("MAIL FROM:<alice@client.test>").code == 250
    with world.open("submission", tls=True) as raw:
        assert scram(raw, "alice", "wrong").code == 535
        assert scram(raw, "alice", PASSWORD).code == 235  # chosen by a person
    with world.open("submission", tls=True) as raw:
        assert scram(raw, "machine", world.generated, tamper=True).code in (501, 535)
        assert raw.ask("MAIL FROM:<alice@client.test>").code == 530


def test_login_in_steps(world):
    """PLAIN without an initial response, LOGIN with and without."""
    with world.open("submission", tls=True) as raw:
        assert raw.ask("AUTH PLAIN").code == 334
        assert raw.ask("*").code == 501
        assert raw.ask("AUTH PLAIN").code == 334
        assert raw.ask(b64(f"\0alice\0{PASSWORD}")).code == 235
        assert raw.ask("AUTH PLAIN").code == 503
    for initial in (False, True):
        with world.open("submission", tls=True) as raw:
            if initial:
                assert raw.ask(f"AUTH LOGIN {b64('alice')}").text == b64("Password:")
            else:
                assert raw.ask("AUTH LOGIN").text == b64("Username:")
                assert raw.ask(b64("alice")).text == b64("Password:")
            assert raw.ask(b64(PASSWORD)).code == 235


def test_login_needs_tls(world):
    """Neither offered nor taken in the clear, but on a trusted network."""
    with world.open("submission") as raw:
        lines = raw.ehlo().lines
        assert "STARTTLS" in lines and not [line for line in lines if line.startswith("AUTH")]
        assert raw.plain("alice", PASSWORD).code == 530
        assert raw.ask("MAIL FROM:<alice@client.test>").code == 530
    with world.open("plain") as raw:
        lines = raw.ehlo().lines
        assert "STARTTLS" not in lines and [line for line in lines if line.startswith("AUTH")]
        assert raw.plain("alice", PASSWORD).code == 235
    with world.open("foreign") as raw:
        assert raw.plain("alice", PASSWORD).code == 530


# ---- TLS

@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("listener", ["submission", "submissions"])
def test_tls_version(world, listener, version):
    context = world.authority.client_context()
    context.minimum_version = context.maximum_version = version
    with Raw(world.relay.listener(listener), context=context if listener == "submissions" else None) as raw:
        raw.ehlo()
        if listener == "submission":
            raw.starttls(context)
            raw.ehlo()
        assert raw.socket.version() == version.name.replace("_", ".")
        assert raw.plain("alice", PASSWORD).code == 235


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_d_old_tls_is_refused(world, version):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version = context.maximum_version = version
    with Raw(world.relay.listener("submission")) as raw:
        raw.ehlo()
        with pytest.raises(ssl.SSLError) as error:
            raw.starttls(context)
        assert "PROTOCOL_VERSION" in str(error.value).upper().replace(" ", "_")
    with pytest.raises(ssl.SSLError):
        Raw(world.relay.listener("submissions"), context=context)


def test_ip6(world):
    if not network.has_ipv6():
        pytest.skip("no IPv6 here")
    address, port = world.relay.listener("ip6")
    data = text_message("alice@client.test", "bob@example.org")
    with smtplib.SMTP(address, port, "client.test", timeout=60) as client:
        client.starttls(context=world.authority.client_context())
        client.login("alice", PASSWORD)
        ident = submit(client, "alice@client.test", "bob@example.org", data)
    got = sent(world, ident.encode())
    assert same_but_added(data, got.data) is None and b"([IPv6:::1])" in split(got.data)[0][0]


def serial(relay, listener):
    context = relay.authority.client_context()
    with socket.create_connection(relay.listener(listener), timeout=60) as plain, context.wrap_socket(plain, server_hostname="localhost") as tls:
        return int(tls.getpeercert()["serialNumber"], 16)


def test_certificate_is_reloaded(make_relay, authority):
    """A new certificate is shown soon after the files change, with no signal; a broken one changes nothing."""
    pair = authority.issue("localhost", stem="rotating")
    relay = make_relay(pair=pair)
    assert serial(relay, "submissions") == pair.serial
    with Raw(relay.listener("submissions"), context=authority.client_context()) as kept:
        fresh = authority.issue("localhost", stem="fresh")
        shutil.copy(fresh.key, pair.key)
        shutil.copy(fresh.certificate, pair.certificate)
        wait_until(lambda: serial(relay, "submissions") == fresh.serial, 15, relay.log()[-2000:], every=0.2)
        assert kept.ehlo().code == 250  # what is open goes on
    pair.certificate.write_text("no certificate\n")
    wait_until(lambda: "certificate" in relay.log().rpartition("certificate changed")[2], 15, relay.log()[-2000:], every=0.2)
    assert serial(relay, "submissions") == fresh.serial


# ---- size and number

def test_bdat(world):
    data = text_message("alice@client.test", "bob@example.org", body="chunked\n.\n..dots\n" * 50)
    for chunk in (None, 7, 100):
        with world.open("plain", "alice") as raw:
            raw.envelope("alice@client.test", "bob@example.org", " BODY=8BITMIME")
            got = sent(world, raw.bdat(data, chunk).ident.encode())
        assert same_but_added(data, got.data) is None


def test_bdat_pipelined(world):
    """Everything in one segment, chunks too (RFC 3030 section 4.2)."""
    data = text_message("alice@client.test", "bob@example.org")
    with world.open("plain", "alice") as raw:
        raw.send(b"MAIL FROM:<alice@client.test>\r\nRCPT TO:<bob@example.org>\r\nBDAT 20\r\n" + data[:20]
                 + f"BDAT {len(data) - 20} LAST\r\n".encode() + data[20:] + b"NOOP\r\n")
        answers = [raw.reply() for _ in range(5)]
    assert [a.code for a in answers] == [250] * 5 and "20 octets" in answers[2].text
    assert same_but_added(data, sent(world, answers[3].ident.encode()).data) is None


def test_large_attachment(world):
    """25 MB of it, by each way that streams."""
    attachment = base64.encodebytes(os.urandom(1 << 20)).replace(b"\n", b"\r\n") * 18
    head = (b"From: alice@client.test\r\nTo: bob@example.org\r\nSubject: large\r\nDate: Sun, 22 Nov 2026 07:00:00 +0000\r\n"
            b"Message-ID: <large%d@client.test>\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
            b"--b\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\n")
    for number, name in enumerate(["curl", "bdat"]):
        data = head % number + attachment + b"--b--\r\n"
        assert len(data) > 25_000_000
        if name == "bdat":
            with world.open("plain", "alice") as raw:
                raw.envelope("alice@client.test", "bob@example.org", f" SIZE={len(data)}")
                assert raw.bdat(data, 1 << 20).code == 250
        else:
            to = clients.To.relay(world.relay, "submissions", "alice")
            clients.ALL[name](to, "alice@client.test", ["bob@example.org"], data)
        got = sent(world, b"<large%d@client.test>" % number, 40)
        assert same_but_added(data, got.data) is None
        world.receiver.transactions.remove(got)


def test_500_recipients(world):
    recipients = [f"r{number}@example.org" for number in range(500)]
    data = text_message("alice@client.test", "undisclosed@example.org", body="five hundred\n")
    to = clients.To.relay(world.relay, "plain", "alice")
    clients.nodemailer(to, "alice@client.test", recipients, data)
    mark = data.partition(b"Message-ID: ")[2].partition(b"\r\n")[0]

    def arrived():
        return [r for t in world.receiver.messages() if mark in t.data for r in t.recipients]
    wait_until(lambda: len(arrived()) >= 500, 20, "500 recipients", every=0.1)
    assert sorted(arrived()) == sorted(recipients)
