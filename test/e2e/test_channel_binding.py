# SPDX-License-Identifier: MIT
"""SCRAM-SHA-256-PLUS: a login holds for the TLS connection that both ends see, and for no other."""
import base64
import hashlib
import hmac
import os
import ssl

import pytest
from lib import peers
from lib.message import text_message
from lib.process import wait_until
from lib.rawserver import RawServer
from lib.relay import submit
from lib.world import PASSWORD, world_fixture

PLUS = "SCRAM-SHA-256-PLUS"


def fill(world):
    world.relay.add_account("alice", domains=["client.test"])
    world.generated = world.relay.cli("credential", "add", "alice", "--login", "machine", "--generate")["password"]


world = world_fixture({"limits": {"auth_failures": 100}}, fill)


def b64(data):
    return base64.b64encode(data.encode() if isinstance(data, str) else data).decode()


def parts(text):
    return dict(part.split("=", 1) for part in text.split(","))


def proofs(password, salt, rounds, message):
    """The client's proof and the server's signature (RFC 5802 section 3)."""
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, rounds)
    key = hmac.digest(salted, b"Client Key", "sha256")
    signature = hmac.digest(hashlib.sha256(key).digest(), message, "sha256")
    return (bytes(a ^ b for a, b in zip(key, signature)),
            hmac.digest(hmac.digest(salted, b"Server Key", "sha256"), message, "sha256"))


def log_in(raw, header, binding, mechanism=PLUS, login="alice", password=PASSWORD):
    """The client's side; the last answer."""
    bare = f"n={login},r={b64(os.urandom(18))}"
    answer = raw.ask(f"AUTH {mechanism} {b64(header + bare)}")
    if answer.code != 334:
        return answer
    first = base64.b64decode(answer.text).decode()
    final = f"c={b64(header.encode() + binding)},r={parts(first)['r']}"
    proof, signature = proofs(password, base64.b64decode(parts(first)["s"]), int(parts(first)["i"]), f"{bare},{first},{final}".encode())
    answer = raw.ask(b64(f"{final},p={b64(proof)}"))
    if answer.code != 334:
        return answer
    assert base64.b64decode(answer.text).decode() == f"v={b64(signature)}"
    return raw.ask("")


def end_point(raw):
    return hashlib.sha256(raw.socket.getpeercert(True)).digest()


@pytest.mark.parametrize("listener", ["submission", "submissions"])
@pytest.mark.parametrize("login", ["alice", "machine"])
def test_server_end_point(world, listener, login):
    """A client of the standards' text, in Python: bound to the certificate's hash."""
    with world.open(listener, tls=True) as raw:
        assert f"AUTH {PLUS} SCRAM-SHA-256 PLAIN LOGIN" in raw.ehlo().lines
        password = PASSWORD if login == "alice" else world.generated
        assert log_in(raw, "p=tls-server-end-point,,", end_point(raw), login=login, password=password).code == 235
        raw.envelope("alice@client.test", "bob@example.org")


@pytest.mark.parametrize("header, mechanism, code", [
    ("p=tls-server-end-point,,", PLUS, 535),  # the right password, over another TLS connection
    ("p=tls-exporter,,", PLUS, 535), ("p=tls-unique,,", PLUS, 535),
    ("y,,", "SCRAM-SHA-256", 535),  # the offer of PLUS was taken out of what the client saw
    ("n,,", "SCRAM-SHA-256", 235),  # it does not know PLUS
    ("n,,", PLUS, 501), ("y,,", PLUS, 501), ("p=tls-server-end-point,,", "SCRAM-SHA-256", 501)])
def test_e_what_does_not_fit(world, header, mechanism, code):
    with world.open("submission", tls=True) as raw:
        answer = log_in(raw, header, hashlib.sha256(b"of another certificate").digest() if header[0] == "p" else b"", mechanism)
        assert answer.code == code, answer
        if code == 535:
            assert answer.text.startswith("5.7.8 The login is bound to another")


def test_without_tls_there_is_no_plus(world, make_relay):
    relay = make_relay({"listeners": [{"name": "plain", "address": "127.0.0.1:0", "tls": "none", "trusted": ["127.0.0.0/8"]}]})
    relay.add_account("alice", domains=["client.test"])
    with relay.client("plain") as client:
        assert client.esmtp_features["auth"].split() == ["SCRAM-SHA-256", "PLAIN", "LOGIN"]
        assert client.docmd("AUTH", f"{PLUS} {b64('p=tls-exporter,,n=alice,r=abc')}")[0] == 504


@pytest.mark.parametrize("login", ["alice", "machine"])
def test_j_gsasl(world, start_peer, login):
    """GNU SASL over GnuTLS binds to tls-exporter; without PLUS it says that it was not offered, which is not so."""
    gsasl = start_peer(peers.Gsasl, authority=world.authority)
    where = world.relay.listener("submission")
    password = PASSWORD if login == "alice" else world.generated
    right, said = gsasl.login(where, PLUS, login, password)
    assert right, said
    wrong, said = gsasl.login(where, PLUS, login, "wrong")
    assert not wrong and "535 5.7.8 Login or password wrong" in said
    right, said = gsasl.login(where, "SCRAM-SHA-256", login, password, "--no-cb")
    assert right, said
    right, said = gsasl.login(where, "PLAIN", login, password)
    assert right, said


# ---- our side as a client, at a smarthost that is a script

class Smarthost:
    """Knows PLUS, bound to its certificate's hash, and checks all that RFC 5802 has a server check."""

    def __init__(self, pair, mechanisms, password="s3 cret"):
        self.context = pair.server_context()
        # tls-exporter can't be asked of Python's ssl: a connection that has none is bound to the certificate.
        self.context.maximum_version = ssl.TLSVersion.TLSv1_2
        self.context.options |= 1  # SSL_OP_NO_EXTENDED_MASTER_SECRET
        self.hash = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pair.certificate.read_text().partition("-----END")[0]
                                                            + "-----END CERTIFICATE-----\n")).digest()
        self.mechanisms, self.password, self.flags, self.done = mechanisms, password, [], []

    def __call__(self, connection):
        stream = [connection, connection.makefile("rwb")]

        def say(text):
            stream[1].write(text.encode() + b"\r\n")
            stream[1].flush()

        def line():
            text = stream[1].readline().decode()
            if not text:
                raise OSError("closed")
            return text.rstrip("\r\n")
        say("220 smart.test")
        while True:
            words = line().split()
            if words[0] == "EHLO":
                say("250-smart.test\r\n" + ("250 STARTTLS" if stream[0] is connection else f"250 AUTH {self.mechanisms}"))
            elif words[0] == "STARTTLS":
                say("220 go")
                stream[0] = self.context.wrap_socket(connection, server_side=True)
                stream[1] = stream[0].makefile("rwb")
            elif words[0] == "AUTH":
                self._scram(words, say, line)
            elif words[0] == "DATA":
                say("354 go")
                while line() != ".":
                    pass
                say("250 taken")
            else:
                say("221 bye" if words[0] == "QUIT" else "250 ok")

    def _scram(self, words, say, line):
        flag, _, bare = base64.b64decode(words[2]).decode().split(",", 2)
        self.flags.append((words[1], flag))
        salt, header = b"0123456789abcdef", f"{flag},,".encode()
        first = f"r={parts(bare)['r']}{b64(os.urandom(12))},s={b64(salt)},i=4096"
        say(f"334 {b64(first)}")
        final = base64.b64decode(line()).decode()
        signed, _, given = final.rpartition(",p=")
        bound = header + (self.hash if words[1] == PLUS else b"")
        proof, signature = proofs(self.password, salt, 4096, f"{bare},{first},{signed}".encode())
        if base64.b64decode(parts(signed)["c"]) != bound or base64.b64decode(given) != proof or parts(signed)["r"] != parts(first)["r"]:
            say("535 5.7.8 no")
            return
        say(f"334 {b64(b'v=' + b64(signature).encode())}")
        assert line() == ""
        self.done.append(words[1])
        say("235 2.7.0 ok")


@pytest.mark.parametrize("mechanisms, chosen", [
    (f"LOGIN PLAIN SCRAM-SHA-256 {PLUS}", (PLUS, "p=tls-server-end-point")), ("LOGIN PLAIN SCRAM-SHA-256", ("SCRAM-SHA-256", "y"))])
def test_at_a_smarthost(make_relay, authority, tmp_path, mechanisms, chosen):
    """The strongest mechanism that it offers, never the password itself."""
    smarthost = Smarthost(authority.issue("127.0.0.1", stem="smart-scram"), mechanisms)
    server = RawServer(smarthost)
    (tmp_path / "password").write_text("s3 cret\n")
    port = server._sock.getsockname()[1]
    relay = make_relay({"routes": [{"match": {}, "via": f"smtp://{server.address}:{port}", "login": "relay,user=",
                                    "password_file": str(tmp_path / "password"), "tls": "encrypt"}]})
    relay.add_account("alice", domains=["client.test"])
    with relay.client("submission", login="alice") as client:
        ident = submit(client, "alice@client.test", "bob@example.org", text_message("alice@client.test", "bob@example.org"))
    relay.wait_state(ident, "delivered")
    assert smarthost.flags[0] == chosen and smarthost.done[0] == chosen[0]
    server.close()


def test_smarthost_that_does_not_know_the_password(make_relay, authority, tmp_path):
    """Nor do we log in where the password is wrong: mail waits."""
    smarthost = Smarthost(authority.issue("127.0.0.1", stem="smart-wrong"), PLUS, password="another")
    server = RawServer(smarthost)
    (tmp_path / "password").write_text("s3 cret\n")
    relay = make_relay({"routes": [{"match": {}, "via": f"smtp://{server.address}:{server._sock.getsockname()[1]}", "login": "me",
                                    "password_file": str(tmp_path / "password"), "tls": "encrypt"}]})
    relay.add_account("alice", domains=["client.test"])
    with relay.client("submission", login="alice") as client:
        ident = submit(client, "alice@client.test", "bob@example.org", text_message("alice@client.test", "bob@example.org"))
    wait_until(lambda: smarthost.flags and relay.cli("message", "why", ident)["limit"] in ("backoff", "retry_time"), 20)
    assert relay.states(ident) == {"bob@example.org": "queued"} and not smarthost.done
    server.close()
