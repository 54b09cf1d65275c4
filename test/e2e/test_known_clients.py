# SPDX-License-Identifier: MIT
"""Credentials without a password: the network that a client comes from, the certificate that it has."""
import base64
import hashlib
import ssl
import subprocess

import pytest
from lib import peers
from lib.certs import Authority
from lib.message import text_message
from lib.process import wait_until
from lib.raw import Raw
from lib.world import PASSWORD, world_fixture

HOME, ELSEWHERE = "127.42.1.7", "127.42.9.9"


def config(world):
    world.clients = Authority(world.folder / "clients", "authority of clients")
    world.robot = world.clients.issue("robot.client.test", stem="robot")
    world.stranger = Authority(world.folder / "strangers", "nobody's").issue("robot.client.test", stem="stranger")
    world.pinned = Authority(world.folder / "pinned", "nobody's either").issue("pinned.test", stem="pinned")
    tls = {"address": "127.0.0.1:0", "tls": "starttls", "auth": "required"}
    return {"tls": {"certificate": str(world.pair.certificate), "key": str(world.pair.key),
                    "client_authorities": str(world.clients.file)},
            "listeners": [
                {"name": "plain", "address": "127.0.0.1:0", "tls": "none", "auth": "required", "trusted": ["127.0.0.0/8"]},
                {"name": "open", "address": "127.0.0.1:0", "tls": "starttls", "auth": "optional", "submission": "off"},
                {"name": "proxied", "address": "127.0.0.1:0", "tls": "none", "auth": "required", "trusted": ["192.0.2.1"],
                 "proxy": ["127.42.1.0/24"], "xclient": ["127.42.1.0/24"]},
                {**tls, "name": "ask", "client_certificates": "ask"}, {**tls, "name": "login", "client_certificates": "login"},
                {**tls, "name": "smtps", "tls": "implicit", "client_certificates": "ask"}],
            "limits": {"auth_failures": 100}}


def fill(world):
    world.relay.add_account("alice", domains=["client.test"])
    world.relay.add_account("carol", domains=["carol.test"])
    world.relay.cli("credential", "add", "alice", "--network", "127.42.1.0/24")
    world.relay.cli("credential", "add", "carol", "--network", "127.42.1.99")
    world.relay.cli("credential", "add", "alice", "--certificate-name", "Robot.client.test")
    world.relay.cli("credential", "add", "carol", "--certificate", str(world.pinned.certificate))


world = world_fixture(config, fill)


def send(world, raw, sender="alice@client.test"):
    """The message as it arrived, and as it is told of."""
    ident = raw.envelope(sender, "bob@example.org").data(text_message(sender, "bob@example.org")).ident
    return world.arrived(ident).data.decode(), world.relay.message(ident)


def session(world, listener, pair=None, version=None):
    context = world.authority.client_context()
    if pair:
        context.load_cert_chain(pair.certificate, pair.key)
    if version:
        context.maximum_version = version
    if listener == "smtps":
        raw = Raw(world.relay.listener(listener), source=ELSEWHERE, context=context)
    else:
        raw = Raw(world.relay.listener(listener), source=ELSEWHERE)
        raw.ehlo()
        raw.starttls(context)
    raw.offers = [line for line in raw.ehlo().lines if line.startswith("AUTH")][0].split()[1:]
    return raw


# ---- source networks

@pytest.mark.parametrize("listener", ["plain", "open"])
def test_network_needs_no_login(world, listener):
    with world.open(listener, source=HOME) as raw:
        data, told = send(world, raw)
    assert told["account"] == "alice" and f"([{HOME}])" in data
    with world.open(listener, source=ELSEWHERE) as raw:
        if listener == "plain":
            assert raw.ask("MAIL FROM:<alice@client.test>").code == 530
        else:
            raw.expect("MAIL FROM:<alice@client.test>", 250)
            assert raw.ask("RCPT TO:<bob@example.org>").code == 550


def test_network_is_no_open_relay(world):
    """The account's sender domains are checked as ever, in MAIL FROM and in the message; the smallest network counts."""
    with world.open("plain", source=HOME) as raw:
        assert raw.ask("MAIL FROM:<eve@other.test>").code == 550
        raw.envelope("alice@client.test", "bob@example.org")
        assert raw.data(b"From: eve@other.test\r\nTo: bob@example.org\r\n\r\nx\r\n").code == 550
    with world.open("plain", source="127.42.1.99") as raw:
        assert raw.ask("MAIL FROM:<alice@client.test>").code == 550
        assert send(world, raw, "carol@carol.test")[1]["account"] == "carol"


def test_login_counts_more_than_network(world):
    with world.open("plain", "carol", source=HOME) as raw:
        assert raw.ask("MAIL FROM:<alice@client.test>").code == 550
        assert send(world, raw, "carol@carol.test")[1]["account"] == "carol"


def test_told_addresses_count(world):
    """Behind a proxy it is the client's network, not the proxy's."""
    for header, code in ((f"PROXY TCP4 {HOME} 127.0.0.1 1 25\r\n", 250), ("PROXY TCP4 192.0.2.9 127.0.0.1 1 25\r\n", 530),
                         ("PROXY UNKNOWN\r\n", 530)):
        with Raw(world.relay.listener("proxied"), source=HOME, greet=False) as raw:
            raw.send(header)
            assert raw.reply().code == 220
            raw.ehlo()
            assert raw.ask("MAIL FROM:<alice@client.test>").code == code
            if code == 250:
                raw.expect("RSET", 250)
                for address in ("192.0.2.9", "[UNAVAILABLE]"):
                    assert raw.ask(f"XCLIENT ADDR={address}").code == 220
                    raw.ehlo()
                    assert raw.ask("MAIL FROM:<alice@client.test>").code == 530


def test_removed_network_counts_no_more(world):
    """At once, for sessions that are open, too; and a suspended account's mail is refused."""
    world.relay.cli("credential", "add", "carol", "--network", "127.42.50.0/24")
    with world.open("plain", source="127.42.50.1") as raw:
        send(world, raw, "carol@carol.test")
        world.relay.cli("account", "suspend", "carol")
        assert raw.ask("MAIL FROM:<carol@carol.test>").enhanced == "5.7.1"
        world.relay.cli("account", "activate", "carol")
        world.relay.cli("credential", "remove", "carol", "--network", "127.42.50.0/24")
        assert raw.ask("MAIL FROM:<carol@carol.test>").code == 530


# ---- certificates

@pytest.mark.parametrize("version", [None, ssl.TLSVersion.TLSv1_2], ids=["1.3", "1.2"])
@pytest.mark.parametrize("listener", ["ask", "smtps"])
def test_external(world, listener, version):
    """By a name that an authority signed: AUTH EXTERNAL, with and without an initial response."""
    for how in (["AUTH EXTERNAL ="], ["AUTH EXTERNAL", ""], ["AUTH EXTERNAL " + base64.b64encode(b"alice").decode()]):
        with session(world, listener, world.robot, version) as raw:
            assert raw.offers[0] == "EXTERNAL"
            assert raw.ask("MAIL FROM:<alice@client.test>").code == 530
            assert [raw.ask(line).code for line in how][-1] == 235
            data, told = send(world, raw)
            assert told["account"] == "alice" and "with ESMTPSA" in data
            assert raw.ask("MAIL FROM:<carol@carol.test>").code == 550


def test_login_at_once(world):
    """Where the listener says so a known certificate needs no AUTH; a login still counts more."""
    with session(world, "login", world.robot) as raw:
        assert send(world, raw)[1]["account"] == "alice"
        assert raw.plain("carol", PASSWORD).code == 235
        assert send(world, raw, "carol@carol.test")[1]["account"] == "carol"
    with session(world, "login", world.pinned) as raw:
        assert raw.ask("MAIL FROM:<alice@client.test>").code == 550
        send(world, raw, "carol@carol.test")


@pytest.mark.parametrize("shown", [None, "stranger"])
def test_unknown_certificates(world, shown):
    """No certificate is no error, nor is one that nobody knows, whatever name is in it; the log tells its fingerprint."""
    for listener in ("ask", "login"):
        with session(world, listener, shown and world.stranger) as raw:
            assert "EXTERNAL" not in raw.offers
            assert raw.ask("AUTH EXTERNAL =").code == 504
            assert raw.ask("MAIL FROM:<alice@client.test>").code == 530
            assert raw.plain("alice", PASSWORD).code == 235
    if shown:
        wait_until(lambda: f"certificate=certificate:{fingerprint(world.stranger)}" in world.relay.log(), 10)


def test_removed_certificate_counts_no_more(world):
    """Nor does one who has logged in with it."""
    world.relay.cli("credential", "add", "carol", "--certificate", str(world.stranger.certificate))
    with session(world, "ask", world.stranger) as raw:
        assert raw.ask("AUTH EXTERNAL =").code == 235
        send(world, raw, "carol@carol.test")
        world.relay.cli("credential", "remove", "carol", "--certificate", str(world.stranger.certificate))
        assert raw.ask("MAIL FROM:<carol@carol.test>").code == 530


def test_external_as_somebody_else(world):
    with session(world, "ask", world.robot) as raw:
        assert raw.ask("AUTH EXTERNAL " + base64.b64encode(b"carol").decode()).code == 535


def fingerprint(pair):
    der = ssl.PEM_cert_to_DER_cert(pair.certificate.read_text().partition("-----END")[0] + "-----END CERTIFICATE-----\n")
    return hashlib.sha256(der).hexdigest()


def test_fingerprints(world):
    """Of the certificate as openssl prints it, and of its key, which a new certificate may have, too."""
    printed = subprocess.run(["openssl", "x509", "-in", world.stranger.certificate, "-noout", "-fingerprint", "-sha256"],
                             capture_output=True, text=True, check=True).stdout.strip().partition("=")[2]
    added = world.relay.cli("credential", "add", "carol", "--fingerprint", printed)
    assert added == {"account": "carol", "login": f"certificate:{fingerprint(world.stranger)}", "password": None}
    with session(world, "login", world.stranger) as raw:
        send(world, raw, "carol@carol.test")
    world.relay.cli("credential", "remove", "carol", "--certificate", str(world.stranger.certificate))
    with session(world, "login", world.stranger) as raw:
        assert raw.ask("MAIL FROM:<carol@carol.test>").code == 530
    key = subprocess.run(["openssl", "pkey", "-in", world.stranger.key, "-pubout", "-outform", "DER"], capture_output=True,
                         check=True).stdout
    world.relay.cli("credential", "add", "carol", "--fingerprint", hashlib.sha256(key).hexdigest())
    with session(world, "login", world.stranger) as raw:
        send(world, raw, "carol@carol.test")
    world.relay.cli("credential", "remove", "carol", "--fingerprint", hashlib.sha256(key).hexdigest())


def test_expired_certificate_has_no_names(world):
    old = world.clients.issue("robot.client.test", stem="old", from_days=-9, to_days=-0.5)
    with session(world, "ask", old) as raw:
        assert "EXTERNAL" not in raw.offers


def test_j_gsasl(world, start_peer):
    """GNU SASL's EXTERNAL, over GnuTLS."""
    gsasl = start_peer(peers.Gsasl, authority=world.authority)
    right, said = gsasl.login(world.relay.listener("ask"), "EXTERNAL", "", "", *gsasl.certificate(world.robot))
    assert right, said
    wrong, said = gsasl.login(world.relay.listener("ask"), "EXTERNAL", "", "", *gsasl.certificate(world.stranger))
    assert not wrong and "504 5.5.4" in said


# ---- the commands

def test_commands(make_relay):
    relay = make_relay()
    relay.cli("account", "add", "acme")
    relay.cli("account", "add", "beta")
    made = relay.cli("credential", "add", "acme", "--network", "2001:DB8::/32")
    assert made == {"account": "acme", "login": "network:2001:db8::/32", "password": None}
    assert relay.cli("credential", "add", "acme", "--network", "2001:db8::/32") == made
    listed = relay.cli_list("credential", "list", "acme")
    assert [(one["login"], one["kind"], one["password"], one["scram"]) for one in listed] == [
        ("network:2001:db8::/32", "network", None, False)]
    for words, code in [
            (["acme", "--network", "0.0.0.0/0"], 65), (["acme", "--network", "192.0.2.1/24"], 65), (["acme", "--network", "all"], 65),
            (["beta", "--network", "2001:db8::/32"], 65), (["acme", "--fingerprint", "abc"], 65), (["nobody", "--network", "192.0.2.1"], 66),
            (["acme", "--certificate", "/nonexistent"], 66), (["acme", "--certificate", str(relay.config_file)], 65),
            (["acme", "--network", "192.0.2.1", "--login", "x"], 64), (["acme", "--network", "192.0.2.1", "--generate"], 64),
            (["acme", "--network", "192.0.2.1", "--fingerprint", "abc"], 64)]:
        assert relay.run("credential", "add", *words, check=False).returncode == code, words
    assert relay.cli("credential", "remove", "acme", "--login", "network:2001:db8::/32")["account"] == "acme"
    assert relay.run("credential", "remove", "acme", "--network", "2001:db8::/32", check=False).returncode == 66
    assert relay.run("credential", "remove", "acme", check=False).returncode == 64


@pytest.mark.parametrize("changes, says", [
    ({"client_authorities": "nothing.pem"}, "nothing.pem"), ({"client_authorities": "posthaste.yaml"}, "tls.client_authorities")])
def test_authorities_that_are_none(make_relay, pair, changes, says):
    relay = make_relay(start=False, config={"tls": changes})
    result = relay.run("check-config", check=False)
    assert result.returncode == 78 and says in result.stderr
