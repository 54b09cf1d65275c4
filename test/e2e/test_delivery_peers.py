# SPDX-License-Identifier: MIT
"""Delivery to servers that others wrote, and into mailboxes: Postfix, Dovecot, Maildir; local domains."""
import mailbox
import os
import time

import pytest
from lib import network, peers
from lib.message import same_but_added, text_message
from lib.outgoing import SENDER, last_of, seconds_of, send, sending_relay
from lib.process import wait_until
from lib.relay import Refused


def body_with_everything():
    return "hé\n.dot\n..\nFrom the start\n" + "long " * 150 + "\n\n\nend\n"


def test_postfix_by_real_dns(make_relay, start_peer, authority):
    """MX in Knot, STARTTLS by Postfix, verified; delivered, and a user it does not know bounced."""
    pair = authority.issue("mx.example.org", stem="postfix-mx")
    postfix = start_peer(peers.Postfix, domains=["example.org"], pair=pair)
    knot = start_peer(peers.Knot, zones={"example.org": f"@ MX 10 mx\nmx A {postfix.address}\n"})
    relay = sending_relay(make_relay, {"dns": {"servers": [knot.server]},
                                       "routes": [{"match": {}, "via": "mx", "tls": "verify"}]})
    data = text_message(SENDER, "bob@example.org", body=body_with_everything())
    ident = send(relay, ["bob@example.org", "unknown@example.org"], data, mail_options=["BODY=8BITMIME"])
    got = postfix.wait("bob@example.org")[0].replace(b"\n", b"\r\n")
    assert same_but_added(data, got) is None
    assert b"TLSv1.3" in got and f"id {ident}".encode() in got
    relay.wait_state(ident, "delivered", "bob@example.org")
    message = relay.wait_state(ident, "failed", "unknown@example.org")
    assert last_of(message, "unknown@example.org")["code"] == 550
    assert "verified" in last_of(message, "bob@example.org")["tls"]


def test_postfix_with_tls_from_the_first_byte(make_relay, start_peer, dns, authority):
    """As port 465 of most smarthosts: smtpd_tls_wrappermode."""
    pair = authority.issue("smart.example.org", stem="postfix-smtps")
    postfix = start_peer(peers.Postfix, domains=["example.org"], pair=pair, port=465, main="\nsmtpd_tls_wrappermode = yes\n")
    dns.a("smart.example.org", postfix.address)
    relay = sending_relay(make_relay, {"routes": [{"match": {}, "via": "smtps://smart.example.org:465", "tls": "verify"}]})
    message = relay.wait_state(send(relay, "bob@example.org"), "delivered")
    assert "verified" in last_of(message)["tls"] and b"TLSv1.3" in postfix.wait("bob@example.org")[0]


def test_postfix_takes_many(make_relay, start_peer, dns):
    """200 messages of several sizes over a few connections, none lost, none twice."""
    postfix = start_peer(peers.Postfix, domains=["example.org"])
    dns.mx("example.org", "mx.example.org")
    dns.a("mx.example.org", postfix.address)
    relay = sending_relay(make_relay)
    with relay.client("trusted") as client:
        for number in range(200):
            send(relay, "bob@example.org", client=client, subject=f"number {number};", body="line\n" * (number * 7 % 500))
    got = postfix.wait("bob@example.org", 200, seconds=40)
    numbers = sorted(int(m.split(b"Subject: number ")[1].split(b";")[0]) for m in got)
    assert numbers == list(range(200))


@pytest.mark.parametrize("way", ["host", "path"])
def test_dovecot_by_lmtp(make_relay, start_peer, way):
    """By LMTP over TCP and over a Unix socket, then fetched by IMAP: byte-equal but for the documented fields."""
    dovecot = start_peer(peers.Dovecot)
    via = f"lmtp:{dovecot.address}:{dovecot.lmtp_port}" if way == "host" else f"lmtp:{dovecot.lmtp_path}"
    relay = sending_relay(make_relay, {"routes": [{"match": {}, "via": via}]})
    for number, body in enumerate((body_with_everything(), "x\n" * 40000)):
        data = text_message(SENDER, "bob@local.test", body=body)
        ident = send(relay, ["bob@local.test", "eve@local.test"], data, mail_options=["BODY=8BITMIME"])
        for user in ("bob@local.test", "eve@local.test"):
            got = dovecot.fetch(user, number + 1)[-1]
            assert same_but_added(data, got) is None
        message = relay.wait_state(ident, "delivered")
        assert last_of(message, "bob@local.test")["code"] == 250


def test_lmtp_answers_for_each_recipient(make_relay, start_peer):
    """LMTP's replies after the data are per recipient: one full mailbox fails alone."""
    dovecot = start_peer(peers.Dovecot, extra="""\
plugin {
  quota = maildir:User quota
  quota_rule = *:storage=1M
}
protocol lmtp {
  mail_plugins = quota
}
""")
    relay = sending_relay(make_relay, {"routes": [{"match": {}, "via": f"lmtp:{dovecot.address}:{dovecot.lmtp_port}"}]})
    big = text_message(SENDER, "full@local.test", body=("y" * 70 + "\n") * 12000)
    relay.wait_state(send(relay, "full@local.test", big), "delivered")
    ident = send(relay, ["full@local.test", "empty@local.test"], big)
    message = relay.wait_state(ident, "delivered", "empty@local.test")
    message = relay.message(ident)
    full = [r for r in message["recipients"] if r["address"] == "full@local.test"][0]
    assert full["state"] != "delivered" and full["last"]["code"] in (452, 552, 554)
    assert len(dovecot.fetch("empty@local.test")) == 1 and len(dovecot.fetch("full@local.test")) == 1


def maildir_relay(make_relay, tmp_path, **more):
    return sending_relay(make_relay, {"routes": [{"match": {}, "via": f"maildir:{tmp_path}/mail/%d/%u", **more}]})


def maildir(tmp_path, domain, user):
    return tmp_path / "mail" / domain / user


def new_in(folder):
    return sorted((folder / "new").glob("*")) if (folder / "new").exists() else []


def test_maildir(make_relay, tmp_path):
    """One file each in new/, nothing left in tmp/, readable for Python's mailbox; addresses in lower case."""
    relay = maildir_relay(make_relay, tmp_path)
    data = text_message(SENDER, "bob@local.test", body=body_with_everything())
    ident = send(relay, ["Bob@Local.Test", "eve@local.test"], data, mail_options=["BODY=8BITMIME"])
    relay.wait_state(ident, "delivered")
    for user in ("bob", "eve"):
        folder = maildir(tmp_path, "local.test", user)
        files = new_in(folder)
        assert len(files) == 1 and not list((folder / "tmp").iterdir())
        got = files[0].read_bytes()
        got = got if b"\r\n" in got else got.replace(b"\n", b"\r\n")
        assert same_but_added(data, got) is None
        assert got.startswith(b"Return-Path: <alice@client.test>")
        assert len(mailbox.Maildir(folder, create=False)) == 1


@pytest.mark.parametrize("address", ['"../../evil"@local.test', '".."@local.test', '"a/b"@local.test', '".hidden"@local.test'])
def test_f_maildir_stays_inside(make_relay, tmp_path, address):
    """An address can't lead out of the folder: it fails, and nothing is written."""
    relay = maildir_relay(make_relay, tmp_path)
    (tmp_path / "mail").mkdir()
    ident = send(relay, address, text_message(SENDER, "bob@local.test"), rcpt_options=["NOTIFY=NEVER"])
    relay.wait_state(ident, "failed")
    assert not list(tmp_path.rglob("*evil*")) and not list((tmp_path / "mail").rglob("new/*"))


def test_maildir_that_can_not_be_written(make_relay, tmp_path):
    """A broken disk of ours is nobody's fault: deferred, and delivered once it is well."""
    (tmp_path / "mail").write_text("in the way")
    relay = maildir_relay(make_relay, tmp_path)
    ident = send(relay, "bob@local.test")
    wait_until(lambda: relay.message(ident)["recipients"][0]["attempts"] >= 1, 10)
    assert relay.states(ident) == {"bob@local.test": "queued"}
    (tmp_path / "mail").unlink()
    relay.wait_state(ident, "delivered")
    assert len(new_in(maildir(tmp_path, "local.test", "bob"))) == 1


def test_mailboxes_that_hang_delay_only_themselves(make_relay, tmp_path):
    """Opening a file hangs in each of eight mailboxes, as on a server of files that is gone. Large mail is taken and delivered."""
    relay = sending_relay(make_relay, {"routes": [{"match": {"recipient": "local.test"}, "via": f"maildir:{tmp_path}/mail/%d/%u"},
                                                  {"match": {}, "via": "discard"}]})
    relay.cli("queue", "hold", "--domain", "local.test")
    idents = [send(relay, f"u{n}@local.test") for n in range(8)]
    pipes = []
    for n, ident in enumerate(idents):
        folder = maildir(tmp_path, "local.test", f"u{n}") / "tmp"
        folder.mkdir(parents=True)
        pipes.append(folder / f"{int(seconds_of(relay.message(ident)['accepted_at']))}.{ident}_1.posthaste")
        os.mkfifo(pipes[-1])
    relay.cli("queue", "release", "--domain", "local.test")
    time.sleep(1)
    with relay.client("trusted", timeout=10) as client:
        data = text_message(SENDER, "bob@nowhere.test", body=("x" * 70 + "\n") * 6000)
        relay.wait_state(send(relay, "bob@nowhere.test", data, client=client), "delivered")
    assert {state for ident in idents for state in relay.states(ident).values()} == {"queued"}
    readers = [os.open(pipe, os.O_RDONLY | os.O_NONBLOCK) for pipe in pipes]
    for ident in idents:
        relay.wait_state(ident, "delivered")
    for reader in readers:
        os.close(reader)


def test_discard(make_relay, receiver_):
    relay = sending_relay(make_relay, {"routes": [{"match": {"recipient": "nowhere.test"}, "via": "discard"},
                                                  {"match": {}, "via": f"mx:{network.smtp_port()}"}]})
    ident = send(relay, ["bob@nowhere.test", "bob@example.org"])
    receiver_.wait_one("bob@example.org")
    message = relay.wait_state(ident, "delivered")
    assert "discard" in last_of(message, "bob@nowhere.test")["text"]
    assert receiver_.messages()[0].recipients == ["bob@example.org"]


TABLE = """\
option subaddress +
bob@local.test
eve@local.test
postmaster@local.test: bob@local.test
team@local.test: bob@local.test, eve@local.test, away@example.org
sales@local.test: team@local.test
@open.test
"""


def test_local_domain(make_relay, receiver_, tmp_path):
    """Who is in the table exists; aliases go to all they name, here and elsewhere; the unknown are refused at once."""
    table = tmp_path / "recipients"
    table.write_text(TABLE)
    relay = sending_relay(make_relay, {"routes": [
        {"match": {"recipient": ["local.test", "open.test"]}, "via": f"maildir:{tmp_path}/mail/%d/%u", "recipients": str(table)},
        {"match": {}, "via": f"mx:{network.smtp_port()}"}]})
    with pytest.raises(Refused) as refused:
        send(relay, "nobody@local.test")
    assert refused.value.step == "RCPT" and refused.value.code == 550 and b"5.1.1" in refused.value.text
    for number, (address, boxes) in enumerate((("bob@local.test", ["bob"]), ("BOB+list@LOCAL.test", ["bob"]),
                                               ("postmaster@local.test", ["bob"]), ("sales@local.test", ["bob", "eve"]))):
        before = {user: len(new_in(maildir(tmp_path, "local.test", user))) for user in ("bob", "eve")}
        relay.wait_state(send(relay, address), "delivered")
        after = {user: len(new_in(maildir(tmp_path, "local.test", user))) for user in ("bob", "eve")}
        assert [user for user in after if after[user] == before[user] + 1] == boxes, address
    assert [t.recipients for t in receiver_.messages()] == [["away@example.org"]]
    relay.wait_state(send(relay, "whoever@open.test"), "delivered")
    assert len(new_in(maildir(tmp_path, "open.test", "whoever"))) == 1
    table.write_text(TABLE + "nobody@local.test\n")
    relay.reload()
    wait_until(lambda: try_send(relay, "nobody@local.test"), 10)


def test_an_alias_counts_as_those_it_stands_for(make_relay, tmp_path):
    """limits.recipients bounds what a message is kept for, not what was typed; one alias alone is taken whole."""
    table = tmp_path / "recipients"
    table.write_text("".join(f"list{n}@local.test: {', '.join(f'm{n}-{i}@local.test' for i in range(150))}\n" for n in range(2))
                     + "m0-7@local.test\nbob@local.test\n@local.test\n")
    relay = sending_relay(make_relay, {"limits": {"recipients": 160}, "routes": [
        {"match": {"recipient": "local.test"}, "via": "discard", "recipients": str(table)}, {"match": {}, "via": "discard"}]})
    with relay.client("trusted") as client:
        client.ehlo()
        client.mail(SENDER)
        assert client.rcpt("list0@local.test")[0] == 250
        assert client.rcpt("list1@local.test") == (
            452, b"4.5.3 Too many recipients; at most 160 for one message, send the rest in another")
        assert client.rcpt("m0-7@local.test")[0] == client.rcpt("bob@local.test")[0] == 250
        code, text = client.data(text_message(SENDER, "list0@local.test"))
        assert code == 250
    ident = text.decode().split()[-1]
    assert len(relay.message(ident)["recipients"]) == 151  # m0-7 once


def test_an_alias_is_found_by_its_own_name(make_relay, make_receiver, tmp_path):
    """Whom the sender named is known to the next host (ORCPT), to bounces and to who looks for the mail (RFC 3461)."""
    table = tmp_path / "recipients"
    table.write_text("team+a@local.test: bob@local.test, away@example.org, gone@example.org\nbob@local.test\n")
    receiver = make_receiver(capabilities=["DSN"])
    receiver.script("rcpt", "550 5.1.1 no such user", when="gone@")
    relay = sending_relay(make_relay, {"routes": [
        {"match": {"recipient": ["local.test", "client.test"]}, "via": f"maildir:{tmp_path}/mail/%d/%u", "recipients": str(table)},
        {"match": {}, "via": f"smtp://{receiver.address}:{receiver.port}"}]})
    table.write_text(table.read_text() + f"{SENDER}\n")
    relay.reload()
    ident = wait_until(lambda: try_send(relay, "Team+a@Local.test"), 10)
    relay.wait_state(ident, "failed", "gone@example.org")
    relay.wait_state(ident, "delivered", "away@example.org")
    relay.wait_state(ident, "delivered", "bob@local.test")
    assert receiver.wait_one("away@example.org").recipient_parameters["away@example.org"] == [
        "ORCPT=rfc822;Team+2Ba@Local.test"]
    for name in ("team+a@local.test", "away@example.org", "bob@local.test"):
        assert [m["id"] for m in relay.cli_list("message", "find", "--recipient", name)] == [ident], name
    delivered = relay.cli_list("history", "--recipient", "TEAM+A@local.test", "--type", "delivered")
    assert sorted(event["recipient"] for event in delivered) == ["away@example.org", "bob@local.test"]
    user, _, domain = SENDER.partition("@")
    bounce = wait_until(lambda: new_in(maildir(tmp_path, domain, user)), 10)[0].read_bytes()
    assert b"Original-Recipient: rfc822; Team+a@Local.test" in bounce and b"Final-Recipient: rfc822; gone@example.org" in bounce


def try_send(relay, address):
    try:
        return send(relay, address)
    except Refused:
        return None


def test_maildir_files_are_private(make_relay, tmp_path):
    relay = maildir_relay(make_relay, tmp_path)
    relay.wait_state(send(relay, "bob@local.test"), "delivered")
    mode = os.stat(new_in(maildir(tmp_path, "local.test", "bob"))[0]).st_mode
    assert not mode & 0o007
