# SPDX-License-Identifier: MIT
"""Messages of every shape arrive byte for byte as they were sent, behind one Received field."""
import base64
import email.message
import email.policy
import itertools
import random

import pytest
from lib.world import PLAIN, world_fixture


def fill(world):
    world.relay.add_account("alice", domains=["client.test"])


world = world_fixture({"listeners": [PLAIN]}, fill)
_numbers = itertools.count(1)


def message(body, content_type="text/plain; charset=utf-8", encoding="8bit", more=b""):
    number = next(_numbers)
    return (f"From: alice@client.test\r\nTo: bob@example.org\r\nSubject: corpus {number}\r\nDate: Sun, 22 Nov 2026 07:00:00 +0000\r\n"
            f"Message-ID: <corpus.{number}@client.test>\r\nMIME-Version: 1.0\r\nContent-Type: {content_type}\r\n"
            f"Content-Transfer-Encoding: {encoding}\r\n").encode() + more + b"\r\n" + body


def multipart():
    out = email.message.EmailMessage(policy=email.policy.SMTP)
    out["From"], out["To"], out["Subject"] = "alice@client.test", "bob@example.org", "Grüße aus Köln, sehr lang und gefaltet " * 3
    out["Date"], out["Message-ID"] = "Sun, 22 Nov 2026 07:00:00 +0000", f"<multi.{next(_numbers)}@client.test>"
    out.set_content("Grüße\n.\n..\n")
    out.add_alternative("<p>Grüße</p>\n", subtype="html")
    out.add_attachment(bytes(range(256)) * 40, maintype="application", subtype="octet-stream", filename="ä b.bin")
    inner = email.message.EmailMessage(policy=email.policy.SMTP)
    inner["From"], inner["Subject"] = "x@other.test", "inside"
    inner.set_content("inner\n")
    out.add_attachment(inner)
    return out.as_bytes()


LINES = b"".join(b"%d %s\r\n" % (n, b"x" * (n % 200)) for n in range(3000))
RANDOM = random.Random(7)
CORPUS = {
    "plain": lambda: message(b"hello\r\n"),
    "empty_body": lambda: message(b""),
    "empty_lines": lambda: message(b"\r\n\r\n\r\n"),
    "utf8": lambda: message("Grüße, 你好, 🙂\r\n".encode()),
    "latin1": lambda: message(bytes(range(128, 256)) + b"\r\n", "text/plain; charset=iso-8859-1"),
    "every_byte": lambda: message(bytes(b for b in range(1, 256) if b not in (10, 13)) * 3 + b"\r\n"),
    "dots": lambda: message(b".\r\n..\r\n...\r\n. \r\n.a\r\n\r\n.\r\n"),
    "line_998": lambda: message(b"x" * 998 + b"\r\n." + b"y" * 997 + b"\r\n"),
    "nul": lambda: message(b"a\0b\0\0\r\n\0\r\n"),
    "controls": lambda: message(b"\x01\x02\x07\x08\x0b\x0c\x1b[31m\x7f\r\n"),
    "trailing_space": lambda: message(b"a  \r\n\t\r\n \r\n"),
    "many_lines": lambda: message(LINES),
    "extent": lambda: message(LINES * 4),
    "base64": lambda: message(base64.encodebytes(RANDOM.randbytes(100_000)).replace(b"\n", b"\r\n"), "application/pdf", "base64"),
    "quoted_printable": lambda: message(b"=C3=BC=\r\n soft =3D\r\n", encoding="quoted-printable"),
    "multipart": multipart,
    "odd_boundary": lambda: message(b"--=_(a'b)+_,-./:=?\r\n\r\nx\r\n--=_(a'b)+_,-./:=?--\r\n", "multipart/mixed; boundary=\"=_(a'b)+_,-./:=?\"", "7bit"),
    "cut_multipart": lambda: message(b"--b\r\nContent-Type: text/plain\r\n\r\nno end\r\n", "multipart/mixed; boundary=b"),
    "folded_header": lambda: message(b"x\r\n", more=b"X-Folded: a\r\n\tb\r\n  c\r\n\t\r\n d\r\nX-Empty:\r\nX-Case-KEPT :  two  \r\n"),
    "long_header": lambda: message(b"x\r\n", more=b"References:" + b"".join(b"\r\n <%d@client.test>" % n for n in range(300)) + b"\r\n"),
    "signed": lambda: message(b"x\r\n", more=b"DKIM-Signature: v=1; a=rsa-sha256; d=client.test; s=k;\r\n\th=from; bh=abc=;\r\n\tb=def=\r\n"),
}


def check(world, data, answer):
    got = world.arrived(answer.ident).data
    added, _, rest = got.partition(b"\r\nFrom: alice@client.test\r\n")
    assert added.startswith(b"Received: from client.test ") and added.count(b"\r\n") == added.count(b"\r\n\t")
    assert b"From: alice@client.test\r\n" + rest == data


@pytest.mark.parametrize("name", CORPUS)
def test_arrives_by_data(world, name):
    data = CORPUS[name]()
    with world.open("plain", "alice") as raw:
        raw.envelope("alice@client.test", "bob@example.org", " BODY=8BITMIME")
        check(world, data, raw.data(data))


@pytest.mark.parametrize("name", CORPUS)
def test_arrives_by_bdat(world, name):
    data = CORPUS[name]()
    with world.open("plain", "alice") as raw:
        raw.envelope("alice@client.test", "bob@example.org", " BODY=8BITMIME")
        check(world, data, raw.bdat(data, RANDOM.choice([None, 100, 4096, 70000]) if len(data) > 1000 else None))


@pytest.mark.parametrize("body", [b"no newline", b".", b"a\r\n.b", b"\0", b"x" * 998], ids=["text", "dot", "dot_line", "nul", "long"])
def test_no_final_newline(world, body):
    """Only a chunk can end so; what goes out by DATA gets the line end that it must have there."""
    data = message(body)
    with world.open("plain", "alice") as raw:
        raw.envelope("alice@client.test", "bob@example.org")
        check(world, data + b"\r\n", raw.bdat(data))


def test_survives_a_crash(world):
    """What was accepted before kill -9 arrives after it, the same bytes."""
    world.dns.silent("example.org")
    datas = {}
    try:
        for name in ("plain", "nul", "extent", "multipart"):
            data = CORPUS[name]().replace(b"bob@example.org", b"later@example.org")
            with world.open("plain", "alice") as raw:
                raw.envelope("alice@client.test", "later@example.org")
                datas[name] = data, raw.data(data)
        world.relay.kill()
    finally:
        world.dns.speak("example.org")
    world.relay.start()
    for data, answer in datas.values():
        check(world, data, answer)
