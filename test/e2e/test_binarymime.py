# SPDX-License-Identifier: MIT
"""BINARYMIME (RFC 3030): taken by BDAT only, stored as it is, passed on as it is or converted at the edge, never by DATA."""
import email
import email.policy
import pathlib

import pytest
from lib.message import same_but_added
from lib.outgoing import SENDER, last_of, sending_relay, wait_empty
from lib.raw import Raw
from lib.rawserver import Chunker, RawServer

# What would end, begin or break something, were it ever taken for lines.
NASTY = (bytes(range(256)) + b"\r\n.\r\n" + b"\n.\n" + b"\r.\r" + b"\r\nMAIL FROM:<evil@client.test>\r\nRCPT TO:<v@example.org>\r\nDATA\r\n"
         + b"x" * 3000 + b"\r\n..\r\n.\r\n\r")
HEAD = b"From: alice@client.test\r\nTo: bob@example.org\r\nSubject: binary\r\nMIME-Version: 1.0\r\n"


def mixed(payload=NASTY, kind=b"mixed", extra=b""):
    """A message of a text and a binary part."""
    return (HEAD + b"Content-Type: multipart/" + kind + b"; boundary=cut" + extra + b"\r\nContent-Transfer-Encoding: binary\r\n\r\n"
            b"--cut\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\nGr\xc3\xbc\xc3\x9fe\r\n"
            b"--cut\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: binary\r\n\r\n"
            + payload + b"\r\n--cut--\r\n")


def submit(relay, data, recipient="bob@example.org", parameters="", chunk=None):
    """By BDAT with BODY=BINARYMIME; the message's ID."""
    with Raw(relay.listener("trusted")) as raw:
        raw.ehlo()
        raw.envelope(SENDER, recipient, " BODY=BINARYMIME" + parameters)
        return raw.bdat(data, chunk).ident


def chunker_domain(dns, extensions):
    chunker = Chunker(extensions)
    dns.domain("example.org", RawServer(chunker))
    return chunker


@pytest.fixture
def relay(make_relay):
    return sending_relay(make_relay)


@pytest.fixture
def box(make_receiver, dns):
    one = make_receiver()
    dns.domain("client.test", one)
    return one


def parts_of(data):
    message = email.message_from_bytes(data, policy=email.policy.SMTP)
    return [(part["Content-Transfer-Encoding"], part.get_payload(decode=True)) for part in message.iter_parts()]


# ---- in: the dialogues of RFC 3030 section 4

def test_as_in_the_rfc(relay, dns):
    """Section 4.2: chunks of 100000 and 324 octets, then an empty last one; the reply to each tells its octets."""
    chunker = chunker_domain(dns, ["PIPELINING", "BINARYMIME", "CHUNKING"])
    content = HEAD + b"Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: binary\r\n\r\n"
    content += (NASTY * 100)[:100324 - len(content)]
    with Raw(relay.listener("trusted")) as raw:
        offered = [line.split()[0] for line in raw.ehlo().lines]
        assert {"PIPELINING", "BINARYMIME", "CHUNKING"} <= set(offered)
        raw.send(f"MAIL FROM:<{SENDER}> BODY=BINARYMIME\r\nRCPT TO:<bob@example.org>\r\nRCPT TO:<carol@example.org>\r\n")
        assert [raw.reply().code for _ in range(3)] == [250, 250, 250]
        raw.send(b"BDAT 100000\r\n" + content[:100000] + b"BDAT 324\r\n" + content[100000:] + b"BDAT 0 LAST\r\n")
        replies = [raw.reply() for _ in range(3)]
        assert "100000 octets" in replies[0].text and "324 octets" in replies[1].text
        raw.expect("QUIT", 221)
    relay.wait_state(replies[2].ident, "delivered")
    assert any("BODY=BINARYMIME" in c for c in chunker.commands) and "DATA" not in chunker.commands
    assert chunker.bodies[0].endswith(content.split(b"\r\n\r\n", 1)[1])


def test_not_by_data(relay, receiver_):
    """RFC 3030 section 3: DATA gets 503; the message can still come by BDAT, or be given up."""
    with Raw(relay.listener("trusted")) as raw:
        raw.ehlo()
        raw.envelope(SENDER, "bob@example.org", " BODY=BINARYMIME")
        answer = raw.ask("DATA")
        assert answer.code == 503 and answer.enhanced == "5.5.1"
        assert raw.bdat(mixed()).code == 250
    receiver_.wait_one("bob@example.org")


def test_without_the_declaration_lines_are_lines(relay, receiver_):
    for body, code in ((b"a\nb", 550), (b"a\rb", 550), (b"x" * 1200 + b"\r\n", 550)):
        with Raw(relay.listener("trusted")) as raw:
            raw.ehlo()
            raw.envelope(SENDER, "bob@example.org", " BODY=8BITMIME")
            assert raw.bdat(HEAD + b"\r\n" + body).code == code


# ---- out

@pytest.mark.parametrize("chunk", [None, 997])
def test_passed_on_as_it_is(relay, dns, chunk):
    """Over a restart too."""
    chunker = chunker_domain(dns, ["PIPELINING", "8BITMIME", "BINARYMIME", "CHUNKING", "SIZE 1000000"])
    relay.cli("queue", "hold", "--all")
    ident = submit(relay, mixed(), chunk=chunk)
    assert relay.message(ident)["body"] == "binarymime"
    relay.restart()
    relay.cli("queue", "release", "--all")
    relay.wait_state(ident, "delivered")
    assert any(c.startswith("MAIL FROM") and "BODY=BINARYMIME" in c for c in chunker.commands)
    assert any(c.startswith("BDAT") for c in chunker.commands) and "DATA" not in chunker.commands
    assert same_but_added(mixed(), chunker.bodies[0]) is None


@pytest.mark.parametrize("without,body,encodings", [([], "8BITMIME", ["8bit", "base64"]), (["8BITMIME"], None, ["quoted-printable", "base64"])])
def test_converted_at_the_edge(relay, dns, make_receiver, without, body, encodings):
    """Part by part; what comes out of the other end is what went in, and nothing of it is taken for a command."""
    receiver = make_receiver(without=without)
    dns.domain("example.org", receiver)
    relay.wait_state(submit(relay, mixed()), "delivered")
    got = receiver.wait_one("bob@example.org")
    assert ("BODY=8BITMIME" in got.mail_parameters) == (body is not None)
    assert [e for e, _ in parts_of(got.data)] == encodings
    assert [p.rstrip(b"\r\n") if n == 0 else p for n, (_, p) in enumerate(parts_of(got.data))] == ["Grüße".encode(), NASTY]
    assert max(map(len, got.data.split(b"\r\n"))) <= 998 and b"\0" not in got.data
    wait_empty(relay)
    assert len(receiver.transactions) == 1


@pytest.mark.parametrize("offer", [["CHUNKING"], ["BINARYMIME"], ["CHUNKING", "8BITMIME", "PIPELINING"]])
def test_binary_needs_both(relay, dns, offer):
    """BINARYMIME counts only with CHUNKING; else the message is converted, whichever way it goes."""
    chunker = chunker_domain(dns, offer)
    relay.wait_state(submit(relay, mixed()), "delivered")
    assert not any("BINARYMIME" in c for c in chunker.commands)
    assert parts_of(chunker.bodies[0])[1] == ("base64", NASTY)


SIGNED = b"; micalg=sha-256; protocol=\"application/pgp-signature\""


def test_signed_content_is_not_converted(relay, dns, make_receiver, box):
    """Bounced where it can't pass as it is (5.6.3), and the report has the header only."""
    dns.domain("example.org", make_receiver())
    last = last_of(relay.wait_state(submit(relay, mixed(kind=b"signed", extra=SIGNED), parameters=" RET=FULL"), "failed"))
    assert last["enhanced"] == "5.6.3"
    report = box.wait(1)[0].data
    assert b"\0" not in report and b"Subject: binary" in report and b"text/rfc822-headers" in report


def test_signed_content_passes_as_it_is(relay, dns):
    chunker = chunker_domain(dns, ["CHUNKING", "BINARYMIME"])
    data = mixed(kind=b"signed", extra=SIGNED)
    relay.wait_state(submit(relay, data), "delivered")
    assert same_but_added(data, chunker.bodies[0]) is None


def test_broken_parts_are_bounced(relay, receiver_):
    """A part whose header has bare newlines can't be taken apart: no attempt is made for ever."""
    broken = mixed().replace(b"Content-Type: application/octet-stream\r\n", b"Content-Type: application/octet-stream\nX: y\r\n")
    assert last_of(relay.wait_state(submit(relay, broken), "failed"))["enhanced"] == "5.6.3"
    assert not receiver_.transactions


def test_maildir(make_relay, tmp_path):
    folder = tmp_path / "mail"
    relay = sending_relay(make_relay, {"routes": [{"match": {"recipient": "local.test"}, "via": f"maildir:{folder}/%d/%u"}, {"match": {}, "via": "discard"}]})
    relay.wait_state(submit(relay, mixed(), "bob@local.test"), "delivered")
    files = list(pathlib.Path(folder / "local.test" / "bob" / "new").iterdir())
    assert len(files) == 1
    assert parts_of(files[0].read_bytes())[1] == ("base64", NASTY)
