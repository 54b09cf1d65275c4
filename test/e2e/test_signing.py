# SPDX-License-Identifier: MIT
"""Outgoing mail is signed with DKIM: judged by python3-dkim with the records that the service said to publish."""
import contextlib
import os
import pathlib
import re
import signal
import sqlite3
import subprocess
import time

import dkim
import pytest

from lib.message import field_name, same_but_added, split, text_message
from lib.process import wait_until
from lib.rawserver import Chunker, RawServer
from lib.relay import submit

DOMAIN = "client.test"
SENDER, RECIPIENT = "alice@client.test", "bob@example.org"
QUICK = {"dkim": {"check_every": "1s"}}
BOTH = {"dkim": {"check_every": "1s", "keys": "both"}}
ADDED = {b"received", b"date", b"message-id", b"dkim-signature"}


def keys_of(relay, domain=DOMAIN, state=None):
    assert "a law of the program" not in relay.log()
    return [key for key in relay.cli_list("dkim", "list") if key["domain"] == domain and state in (None, key["state"])]


def name_of(key):
    return f"{key['selector']}._domainkey.{key['domain']}"


def publish(dns, key):
    dns.remove(name_of(key))
    dns.txt(name_of(key), key["record"])


def made(relay, count=1, domain=DOMAIN, state="new"):
    """The keys that the service has made."""
    return wait_until(lambda: len(keys := keys_of(relay, domain, state)) == count and keys, 30,
                      f"{count} {state} keys of {domain}", every=0.2)


def set_up(relay, dns, domain=DOMAIN, count=1):
    """Publishes what there is to publish, until the keys sign."""
    for key in made(relay, count, domain):
        publish(dns, key)
    return made(relay, count, domain, "active")


def records(relay):
    """What a verifier finds in the DNS, for python3-dkim."""
    zone = {(name_of(key) + ".").encode(): key["record"].encode() for key in relay.cli_list("dkim", "list")}
    return lambda name, timeout=5: zone.get(name)


def signatures(data):
    return [field for field in split(data)[0] if field_name(field) == b"dkim-signature"]


def tags(field):
    text = re.sub(rb"\s+", b"", field.partition(b":")[2]).decode()
    return dict(part.split("=", 1) for part in text.split(";") if part)


def verify_all(relay, data):
    """Every signature passes; the tags of each, from the top."""
    found = signatures(data)
    for index in range(len(found)):
        assert dkim.DKIM(data, minkey=1024).verify(idx=index, dnsfunc=records(relay)), found[index]
    return [tags(field) for field in found]


def send(relay, data=None, recipients=RECIPIENT, login="alice", sender=SENDER, options=()):
    data = data or text_message(sender, RECIPIENT)
    with relay.client(login=login) as client:
        client.ehlo()
        return submit(client, sender, recipients, data, options), data


@pytest.fixture
def relay(make_relay):
    """One whose account `alice` is to have an Ed25519 key: those are made quickly."""
    one = make_relay(QUICK)
    one.add_account("alice", domains=[DOMAIN])
    return one


def received(receiver, count):
    return wait_until(lambda: len(all_ := receiver.messages()) >= count and all_, 20, f"{count} messages", every=0.05)


def test_signed_with_both(make_relay, dns, receiver_):
    """RSA and Ed25519 on one message, aligned with From; nothing else is changed. Before the keys are published, none."""
    relay = make_relay(BOTH)
    relay.add_account("alice", domains=[DOMAIN])
    send(relay)
    assert not signatures(receiver_.wait_one().data)
    set_up(relay, dns, count=2)
    sent = send(relay)[1]
    got = received(receiver_, 2)[1].data
    found = verify_all(relay, got)
    assert [(one["a"], one["d"], one["c"]) for one in found] == [
        ("ed25519-sha256", DOMAIN, "relaxed/relaxed"), ("rsa-sha256", DOMAIN, "relaxed/relaxed")]
    assert not any("l" in one for one in found)
    for one in found:
        names = one["h"].lower().split(":")
        assert all(names.count(name) > 1 for name in ("from", "to", "subject", "date", "message-id"))
    assert same_but_added(sent, got, ADDED) is None


def test_binary_mail_is_converted(relay, dns, make_receiver):
    """RFC 6376 5.3: signed in a form that needs no conversion, also for a server that takes the binary one (RFC 3030)."""
    chunker = Chunker(["CHUNKING", "BINARYMIME", "8BITMIME"])
    dns.domain("binary.test", RawServer(chunker))
    dns.domain("lines.test", lines := make_receiver(without=("8BITMIME",)))
    set_up(relay, dns)
    data = (b"From: alice@client.test\r\nTo: bob@binary.test\r\nSubject: x\r\nMIME-Version: 1.0\r\nContent-Type: application/octet-stream\r\n"
            b"Content-Transfer-Encoding: binary\r\n\r\n" + bytes(range(256)) + b" \n.\n\r\n.\r\n \t\r")
    with relay.client(login="alice") as client:
        client.ehlo()
        for command in (f"MAIL FROM:<{SENDER}> BODY=BINARYMIME", "RCPT TO:<bob@binary.test>", "RCPT TO:<bob@lines.test>"):
            assert client.docmd(command)[0] == 250
        client.send(f"BDAT {len(data)} LAST\r\n".encode() + data)
        assert client.getreply()[0] == 250
    got = [lines.wait_one().data, wait_until(lambda: chunker.bodies, 20, "the message")[0]]
    for one in got:
        assert len(verify_all(relay, one)) == 1
        assert b"Content-Transfer-Encoding: base64" in one and b"\0" not in one
    assert not any("BINARYMIME" in c for c in chunker.commands)


def test_made_once_for_all_lanes(relay, dns, make_receiver):
    """Recipients at several sites get the very same signature; the body was read once, when it came."""
    receivers = [make_receiver() for _ in range(3)]
    for index, one in enumerate(receivers):
        dns.domain(f"site{index}.test", one)
    set_up(relay, dns)
    send(relay, recipients=[f"bob{n}@site{index}.test" for index in range(3) for n in range(2)])
    got = {tuple(signatures(one.wait_one().data)) for one in receivers}
    assert len(got) == 1 and len(got.pop()) == 1
    assert relay.metrics()['posthaste_dkim_signatures_total{algorithm="ed25519"}'] == 1
    assert relay.metrics()["posthaste_dkim_bodies_read_total"] == 0


def test_downgrade_is_signed_as_sent(relay, dns, make_receiver):
    """An 8-bit message verifies at a server without 8BITMIME as it does at one with it."""
    plain, able = make_receiver(without=("8BITMIME",)), make_receiver()
    dns.domain("old.test", plain)
    dns.domain("new.test", able)
    set_up(relay, dns)
    data = text_message(SENDER, RECIPIENT, body="Gr\u00fc\u00dfe aus K\u00f6ln\n.dot\n" * 40).replace(
        b"Content-Transfer-Encoding: quoted-printable", b"Content-Transfer-Encoding: 8bit")
    head, _, _ = data.partition(b"\r\n\r\n")
    head = re.sub(rb"Content-Transfer-Encoding: \S+", b"Content-Transfer-Encoding: 8bit", head)
    data = head + b"\r\n\r\n" + "Gr\u00fc\u00dfe aus K\u00f6ln\r\n.dot  \r\n".encode() * 40
    send(relay, data, ["bob@old.test", "bob@new.test"], options=["BODY=8BITMIME"])
    old, new = plain.wait_one().data, able.wait_one().data
    assert max(old) < 128 <= max(new)
    for got in (old, new):
        assert len(verify_all(relay, got)) == 1
    assert signatures(old) != signatures(new)
    assert relay.metrics()["posthaste_dkim_bodies_read_total"] == 1


def test_large_body(relay, dns, receiver_):
    """One that stands in a file of its own."""
    set_up(relay, dns)
    body = b"".join(b"%06d \t some  white space \t \r\n" % n for n in range(30000)) + b"\r\n" * 5
    data = text_message(SENDER, RECIPIENT).partition(b"\r\n\r\n")[0] + b"\r\n\r\n" + body
    send(relay, data)
    assert len(verify_all(relay, receiver_.wait_one(seconds=30).data)) == 1
    assert relay.metrics()["posthaste_dkim_bodies_read_total"] == 0


def test_accepted_before_there_was_a_key(make_relay, dns, receiver_):
    relay = make_relay({**QUICK, "retry": {"first": "1h", "max": "1h", "lifetime": "2h", "warn_after": "none"}})
    relay.add_account("alice", domains=[DOMAIN])
    receiver_.script("rcpt", "451 4.7.1 come back later", times=1)
    ident = send(relay)[0]
    set_up(relay, dns)
    relay.cli("queue", "retry", "--id", ident)
    relay.wait_state(ident, "delivered")
    assert len(verify_all(relay, receiver_.wait_one().data)) == 1
    assert relay.metrics()["posthaste_dkim_bodies_read_total"] == 1


def test_parent_domain_signs(make_relay, dns, receiver_):
    """A domain without keys of its own is signed for by the nearest parent of the account's that has some; another
    account's keys never."""
    relay = make_relay(QUICK)
    relay.add_account("alice", domains=[DOMAIN], options=["--any-sender"])
    relay.add_account("eve", domains=["eve.test"], options=["--any-sender"])
    set_up(relay, dns)
    for sender, login, want in (("a@news.client.test", "alice", [DOMAIN]), ("a@other.test", "alice", []),
                                ("a@client.test.evil.test", "alice", []), (SENDER, "eve", [])):
        count = len(receiver_.messages())
        send(relay, text_message(sender, RECIPIENT), login=login, sender=sender)
        got = received(receiver_, count + 1)[count].data
        assert [one["d"] for one in verify_all(relay, got)] == want, sender


def test_service_signs_too(make_relay, dns, receiver_):
    relay = make_relay({"dkim": {**QUICK["dkim"], "service_domain": "service.test"}})
    relay.add_account("alice", domains=[DOMAIN])
    set_up(relay, dns, "service.test")
    send(relay)
    assert [one["d"] for one in verify_all(relay, receiver_.wait_one().data)] == ["service.test"]
    set_up(relay, dns)
    send(relay)
    assert [one["d"] for one in verify_all(relay, received(receiver_, 2)[1].data)] == [DOMAIN, "service.test"]


# ---- rotation ------------------------------------------------------------------------------------------------

def selector_of(relay, receiver, count):
    send(relay)
    one, = verify_all(relay, received(receiver, count)[count - 1].data)
    return one["s"]


def test_rotation(make_relay, dns, receiver_):
    """The new key signs once it is seen, the old one stays for its grace time, each step is in the audit log."""
    relay = make_relay({"dkim": {**QUICK["dkim"], "grace": "1h"}})
    relay.add_account("alice", domains=[DOMAIN])
    dns.ttl = 1
    first, = set_up(relay, dns)
    assert selector_of(relay, receiver_, 1) == first["selector"]
    relay.cli("dkim", "rotate", "alice", DOMAIN)
    second, = made(relay)
    assert second["selector"] != first["selector"]
    dns.txt(name_of(second), first["record"])  # another key under its name is not it
    time.sleep(2.5)
    assert selector_of(relay, receiver_, 2) == first["selector"]
    publish(dns, second)
    made(relay, state="old")
    assert selector_of(relay, receiver_, 3) == second["selector"]
    assert {key["state"] for key in keys_of(relay)} == {"active", "old"}
    relay.reload({"dkim": {"grace": "1s"}})
    wait_until(lambda: [key["state"] for key in keys_of(relay)] == ["active"], 20, "the old key removed", every=0.2)
    relay.stop()
    with contextlib.closing(sqlite3.connect(f"{relay.config['state']}/accounts.db")) as accounts:
        log = accounts.execute("SELECT op, actor, args FROM audit").fetchall()
    steps = [op for op, _, _ in log if op.startswith("dkim.")]
    assert steps == ["dkim.add", "dkim.seen", "dkim.rotate", "dkim.add", "dkim.seen", "dkim.remove"]
    assert all("sealed" not in str(row) for row in log)


def test_rotation_by_age(make_relay, dns, receiver_):
    relay = make_relay({"dkim": {**QUICK["dkim"], "rotate_after": "2s", "grace": "1s"}})
    relay.add_account("alice", domains=[DOMAIN])

    def publish_new():
        for key in keys_of(relay, state="new"):
            publish(dns, key)
        return any(int(key["selector"][2:-1]) >= 3 for key in keys_of(relay, state="active"))
    wait_until(publish_new, 60, "third key", every=0.3)


def test_cname(make_relay, dns, receiver_):
    """With CNAMEs the domain's owner publishes two names once; rotation is the operator's zone alone."""
    relay = make_relay({"dkim": {**QUICK["dkim"], "grace": "1s"}, "domains": {"dkim": "cname", "dkim_zone": "keys.test"}})
    relay.add_account("alice", domains=[DOMAIN])
    dns.ttl = 1
    records_ = [r for r in relay.cli("domain", "add", "alice", DOMAIN)["records"] if r["purpose"] == "dkim"]
    assert [(r["type"], r["name"], r["value"]) for r in records_] == [
        ("CNAME", f"ph{n}e._domainkey.{DOMAIN}", f"ph{n}e.{DOMAIN}.keys.test") for n in (1, 2)]
    for record in records_:
        dns.cname(record["name"], record["value"])

    def publish_zone():
        for line in relay.run("dkim", "zone").stdout.splitlines():
            name, _, _, _, value = line.split(None, 4)
            dns.replace(name, "TXT", value)
    for count, selector in enumerate(("ph1e", "ph2e", "ph1e"), 1):
        publish_zone()
        wait_until(lambda s=selector: [k["selector"] for k in keys_of(relay)] == [s] and keys_of(relay)[0]["state"] == "active",
                   30, f"{selector} alone", every=0.2)
        assert selector_of(relay, receiver_, count) == selector
        text = relay.run("dkim", "rotate", "alice", DOMAIN).stdout
        after = "ph2e" if selector == "ph1e" else "ph1e"
        assert list(printed(text)) == [f"{after}.{DOMAIN}.keys.test"] and "\nRecords to publish in the zone keys.test:\n" in text
        assert printed(text).items() <= printed(relay.run("dkim", "zone").stdout).items()


def printed(text):
    """The records that a command prints, as NAME: VALUE. No blank may stand before one: it would go on with the name of the line above."""
    found = re.findall(r'^(\S+)\. (?:300 IN )?TXT ((?:"[^"]{1,255}" ?)+)$', text, re.M)
    return {name: "".join(re.findall('"([^"]*)"', value)) for name, value in found}


def test_rotate_prints_the_records(make_relay, dns):
    """Those of the new keys, to be published as they stand there; without the service there are none yet."""
    relay = make_relay({**BOTH, "dkim": {**BOTH["dkim"], "service_domain": "service.test"}})
    relay.add_account("alice", domains=[DOMAIN])
    first = set_up(relay, dns, count=2)
    text = relay.run("dkim", "rotate", "alice", DOMAIN).stdout
    new = made(relay, 2)
    assert printed(text) == {name_of(key): key["record"] for key in new} and "\nRecords to publish:\n" in text
    assert re.findall(r" (new|active) ", text) == ["active", "active", "new", "new"] and all(one["selector"] in text for one in first)
    assert relay.run("dkim", "rotate", "alice", DOMAIN).stdout == text
    assert relay.run("dkim", "rotate", "Alice", DOMAIN.upper()).stdout == text
    assert {key["selector"] for key in relay.cli("dkim", "rotate", "alice", DOMAIN)} == {key["selector"] for key in first + new}
    service = made(relay, 2, "service.test")
    assert printed(relay.run("dkim", "rotate", "--service").stdout) == {name_of(key): key["record"] for key in service}
    for key in new:
        publish(dns, key)
    made(relay, 2, state="old")
    relay.stop()
    text = relay.run("dkim", "rotate", "alice", DOMAIN).stdout
    assert printed(text) == {} and "no new keys yet: the service makes them while it runs." in text
    relay.start()
    assert set(printed(relay.run("dkim", "rotate", "alice", DOMAIN).stdout)) == {name_of(key) for key in made(relay, 2)}


def test_import(make_relay, dns, receiver_, tmp_path):
    """A key that is in use elsewhere: its bytes never reach the relay, it signs once its record is seen."""
    relay = make_relay(BOTH)
    relay.add_account("alice", domains=[DOMAIN])
    assert {key["selector"] for key in made(relay, 2)} == {"ph1r", "ph1e"}
    pem = subprocess.run(["openssl", "genrsa", "2048"], capture_output=True, text=True, check=True).stdout
    key = relay.cli("dkim", "import", "alice", DOMAIN, "--selector", "mail2019", stdin=pem)
    assert key["algorithm"] == "rsa" and key["selector"] == "mail2019" and "sealed" not in key
    assert {key["selector"] for key in keys_of(relay)} == {"mail2019", "ph1e"}
    publish(dns, key)
    made(relay, state="active")
    assert selector_of(relay, receiver_, 1) == "mail2019"
    pem = subprocess.run(["openssl", "genrsa", "2048"], capture_output=True, text=True, check=True).stdout
    text = relay.run("dkim", "import", "alice", DOMAIN, "--selector", "next", stdin=pem).stdout
    assert printed(text) == {name_of(one): one["record"] for one in keys_of(relay) if one["selector"] == "next"}
    bad = relay.run("dkim", "import", "alice", DOMAIN, "--selector", "x", stdin="no key", check=False)
    assert bad.returncode == 65


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: gives a folder to another user")
def test_import_before_the_first_start(make_relay):
    """The master key that root makes so can be read by the service, which a unit starts as the folder's owner."""
    relay = make_relay(QUICK, start=False)
    state = pathlib.Path(relay.config["state"])
    state.mkdir(exist_ok=True)
    os.chown(state, 65534, 65534)
    relay.add_account("alice", domains=[DOMAIN])
    pem = subprocess.run(["openssl", "genrsa", "2048"], capture_output=True, text=True, check=True).stdout
    relay.cli("dkim", "import", "alice", DOMAIN, "--selector", "mail2019", stdin=pem)
    key = pathlib.Path(f"{state}.key")
    assert (key.stat().st_uid, key.stat().st_mode & 0o777) == (65534, 0o600)


# ---- the signer and its keys ---------------------------------------------------------------------------------

def test_never_unsigned(make_relay, dns, receiver_):
    """Without the master key no signature is to be had: mail waits, it does not go unsigned."""
    relay = make_relay(QUICK)
    relay.add_account("alice", domains=[DOMAIN])
    set_up(relay, dns)
    relay.stop()
    master = pathlib.Path(relay.config["state"] + ".key")
    assert master.stat().st_mode & 0o777 == 0o600
    kept = master.read_text()
    master.unlink()
    relay.start()
    ident = send(relay)[0]
    wait_until(lambda: relay.message(ident)["recipients"][0]["attempts"] >= 1, 20, "an attempt", every=0.2)
    last = relay.message(ident)["recipients"][0]["last"]
    assert "DKIM" in last["text"], last
    assert not receiver_.messages()
    relay.stop()
    master.write_text(kept)
    relay.start()
    relay.wait_state(ident, "delivered", seconds=30)
    assert len(verify_all(relay, receiver_.wait_one().data)) == 1


def test_signer_is_killed(relay, dns, receiver_):
    """What was to be signed is signed by the next one."""
    set_up(relay, dns)
    for count in range(1, 4):
        signer, = relay.children()["signer"]
        os.kill(signer, signal.SIGKILL)
        relay.wait_state(send(relay)[0], "delivered")
        assert len(verify_all(relay, received(receiver_, count)[count - 1].data)) == 1


def test_after_a_restart(relay, dns, receiver_):
    """Keys outlive the process, and a relay that is killed."""
    set_up(relay, dns)
    relay.restart()
    assert selector_of(relay, receiver_, 1) == "ph1e"
    os.kill(relay.relay_pid(), signal.SIGKILL)
    wait_until(lambda: relay.log().count("ready pid=") >= 3, 20, "another relay")
    assert selector_of(relay, receiver_, 2) == "ph1e"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can read another process's memory")
def test_keys_never_in_the_relay(make_relay, dns, receiver_):
    """Neither an imported key nor the master key stands in the relay's memory; the signer has both."""
    from test_shut_in import holds
    relay = make_relay(QUICK)
    relay.add_account("alice", domains=[DOMAIN])
    pem = subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519"], capture_output=True, text=True, check=True).stdout
    der = subprocess.run(["openssl", "pkey", "-outform", "DER"], input=pem.encode(), capture_output=True, check=True).stdout
    for key in made(relay):
        publish(dns, key)
    made(relay, state="active")
    relay.cli("dkim", "import", "alice", DOMAIN, "--selector", "own", stdin=pem)
    publish(dns, keys_of(relay, state="new")[0])
    made(relay, state="old")
    assert selector_of(relay, receiver_, 1) == "own"
    master = bytes.fromhex(pathlib.Path(relay.config["state"] + ".key").read_text().strip())
    secrets = [der[-32:], pem.splitlines()[1].encode(), master]
    assert not holds(relay.relay_pid(), secrets)
    assert holds(relay.children()["signer"][0], secrets) >= {0, 2}
    assert not holds(relay.ready["pid"], secrets)
