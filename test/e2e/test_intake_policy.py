# SPDX-License-Identifier: MIT
"""Who may send as whom, what a message must look like, and which recipients are taken."""
import re
import select
import time

import pytest
from lib.message import field_name, split
from lib.process import wait_until
from lib.world import MX, PLAIN, world_fixture

RECIPIENTS = """\
option subaddress +
bob@local.test
postmaster@local.test: bob@local.test
team@local.test: bob@local.test, carol@example.org
"""


def config(world):
    table = world.folder / "recipients"
    table.write_text(RECIPIENTS)
    modes = [{**PLAIN, "name": mode, "submission": mode} for mode in ("strict", "off")]
    return {
        "listeners": [PLAIN, *modes, MX, {**PLAIN, "name": "hidden", "hide_client": True},
                      {**PLAIN, "name": "trusted", "auth": "optional", "account": "alice"},
                      {"name": "submission", "address": "127.0.0.1:0", "tls": "starttls", "auth": "required"}],
        "routes": [{"match": {"recipient": "local.test"}, "recipients": str(table), "via": f"smtp://{world.receiver.address}:{world.receiver.port}"},
                   {"match": {}, "via": f"mx:{world.receiver.port}"}],
        "limits": {"recipients": 100, "message_size": "64KiB", "header_size": "16KiB", "received": 10},
    }


def fill(world):
    world.relay.add_account("alice", domains=["client.test", "bücher.test"])
    world.relay.cli("domain", "add", "alice", "unproven.test")
    world.relay.add_account("bob", domains=["other.test"])
    world.relay.add_account("free", options=["--any-sender"])
    world.relay.add_account("bulky", domains=["news.test"], options=["--class", "bulk"])
    world.dns.null_mx("nomail.test")
    world.dns.servfail("broken.test")
    world.dns.silent("mute.test")
    world.dns.a("plainhost.test", world.receiver.address)
    world.dns.domain("xn--bcher-kva.example", world.receiver)


world = world_fixture(config, fill)
FULL = b"From: alice@client.test\r\nTo: bob@example.org\r\nSubject: x\r\nDate: Sun, 22 Nov 2026 07:00:00 +0000\r\nMessage-ID: <1@client.test>\r\n"
BODY = b"\r\nhello\r\n"


def submit(world, head, listener="plain", login="alice", sender="alice@client.test", recipients="bob@example.org", parameters=""):
    """One message with that header; the reply to its content."""
    with world.open(listener, login) as raw:
        raw.envelope(sender, recipients, parameters)
        return raw.data((head.encode() if isinstance(head, str) else head) + BODY)


# ---- the reverse-path

@pytest.mark.parametrize("sender,domain", [
    ("x@other.test", "other.test"),
    ("x@OTHER.test", "other.test"),
    ("x@sub.client.test", "sub.client.test"),
    ("x@client.test.other.test", "client.test.other.test"),
    ("@client.test:x@other.test", "other.test"),
    ('"x@client.test"@other.test', "other.test"),
    ('"<x@client.test>"@other.test', "other.test"),
    ("x%client.test@other.test", "other.test"),
    ("client.test!x@other.test", "other.test"),
    ("x@xn--clent-3ve.test", "xn--clent-3ve.test"),
    ("x@[127.0.0.1]", "[127.0.0.1]"),
])
def test_mail_from_foreign(world, sender, domain):
    with world.open(login="alice") as raw:
        answer = raw.expect(f"MAIL FROM:<{sender}>", 550)
        assert answer.enhanced == "5.7.1" and f"as {domain};" in answer.text and "posthaste domain add" in answer.text
        raw.expect("MAIL FROM:<a@client.test>", 250)


def test_mail_from_unverified(world):
    with world.open(login="alice") as raw:
        answer = raw.expect("MAIL FROM:<x@unproven.test>", 550)
    assert answer.enhanced == "5.7.1" and "unproven.test" in answer.text and "domain verify" in answer.text


def test_k_mail_from_homograph(world):
    with world.open(login="alice") as raw:
        answer = raw.expect("MAIL FROM:<x@\u0441lient.test> SMTPUTF8", 550)
        assert answer.enhanced == "5.7.1" and "xn--lient-0ye.test" in answer.text
        raw.expect("MAIL FROM:<x@b\u00fccher.test> SMTPUTF8", 250)
        raw.expect("RSET", 250)
        raw.expect("MAIL FROM:<x@XN--bcher-kva.test>", 250)


@pytest.mark.parametrize("sender", ["x@.client.test", "x@client..test", "x", "x@", "@client.test", "x@client.test\x00",
                                    "x@cl\x7fient.test", "a b@client.test"])
def test_mail_from_no_address(world, sender):
    with world.open(login="alice") as raw:
        answer = raw.ask(f"MAIL FROM:<{sender}>")
    assert answer.code in (500, 501) and answer.enhanced.startswith("5.")


# ---- From and Sender

FOREIGN = {
    "plain": "From: x@other.test",
    "name": 'From: "alice@client.test" <x@other.test>',
    "second": "From: alice@client.test, x@other.test\r\nSender: alice@client.test",
    "sender": "From: alice@client.test\r\nSender: x@other.test",
    "group": "From: friends: alice@client.test, x@other.test;\r\nSender: alice@client.test",
    "upper": "fROM: x@OTHER.TEST",
    "folded": "From:\r\n\tx@other.test",
    "folded_within": "From: Alice\r\n (alice@client.test)\r\n <x@other.test>",
    "comment": "From: (alice@client.test) x@other.test",
    "comment_within": "From: x@(alice@client.test)other.test",
    "comment_nested": "From: (a (b <alice@client.test>) c) <x@other.test>",
    "spaced": "From: x @ other.test",
    "quoted_local": 'From: "alice@client.test"@other.test',
    "colon_spaced": "From : x@other.test",
    "colon_tab": "From\t: x@other.test",
    "subdomain": "From: x@sub.other.test",
}


@pytest.mark.parametrize("listener", ["plain", "strict", "off"])
@pytest.mark.parametrize("name", FOREIGN)
def test_k_from_foreign(world, name, listener):
    rest = b"\r\nTo: b@example.org\r\nDate: Sun, 22 Nov 2026 07:00:00 +0000\r\nMessage-ID: <1@client.test>\r\n"
    answer = submit(world, FOREIGN[name].encode() + rest, listener)
    assert answer.code == 550 and answer.enhanced == "5.7.1", answer
    assert "names " in answer.text and "other.test" in answer.text and "posthaste domain add" in answer.text


AMBIGUOUS = {  # what one reader takes for ours and another for a stranger's is refused, whatever the words
    "source_route": "From: <@client.test:x@other.test>",
    "encoded_base64": "From: =?utf-8?b?YWxpY2VAY2xpZW50LnRlc3Q=?= <x@other.test>",
    "encoded_name": "From: =?utf-8?q?alice=40client.test?= <x@other.test>",
    "twice": "From: alice@client.test\r\nFrom: x@other.test",
    "twice_reversed": "From: x@other.test\r\nFrom: alice@client.test",
    "sender_twice": "From: alice@client.test\r\nSender: alice@client.test\r\nSender: x@other.test",
    "no_comma": "From: alice@client.test\r\n x@other.test",
    "no_comma_angles": "From: <alice@client.test> <x@other.test>",
    "trailing": "From: <alice@client.test>x@other.test",
    "encoded_address": "From: =?utf-8?q?x=40other.test?=",
    "first_folded": " From: x@other.test\r\nSubject: x",
    "open_quote": 'From: "x@other.test <alice@client.test>',
    "open_comment": "From: (x@other.test <alice@client.test>",
    "open_group": "From: x@other.test: alice@client.test",
    "literal": "From: alice@[127.0.0.1]",
    "mbox": "From x@other.test Sun Nov 22 07:00:00 2026\r\nSubject: x",
    "no_field": "this is no field\r\nFrom: x@other.test",
    "two_at": "From: alice@client.test@other.test",
    "final_dot": "From: x@other.test.",
    "nul": "From: alice@client.test\0, x@other.test",
    "semicolon": "From: alice@client.test; x@other.test",
    "8bit": "From: \xff <x@other.test>",
}


@pytest.mark.parametrize("listener", ["plain", "off"])
@pytest.mark.parametrize("name", AMBIGUOUS)
def test_k_from_ambiguous(world, name, listener):
    answer = submit(world, AMBIGUOUS[name].encode("latin-1") + b"\r\nTo: b@example.org\r\n", listener)
    assert answer.code == 550 and answer.enhanced in ("5.7.1", "5.6.0", "5.6.7"), answer


def test_from_unverified(world):
    answer = submit(world, "From: x@unproven.test\r\nTo: b@example.org\r\n")
    assert answer.code == 550 and answer.enhanced == "5.7.1" and "unproven.test" in answer.text and "domain verify" in answer.text


def test_from_null_sender(world):
    """The null sender opens no way around the check of From."""
    assert submit(world, "From: x@other.test\r\nTo: b@example.org\r\n", sender="").enhanced == "5.7.1"
    assert submit(world, "From: alice@client.test\r\nTo: b@example.org\r\n", sender="").code == 250


@pytest.mark.parametrize("head", [
    "From: alice@client.test, x@client.test\r\nSender: y@client.test",
    'From: "x@other.test" <alice@client.test>',
    "From: =?utf-8?q?Gr=C3=BC=C3=9Fe?= <alice@client.test>",
    'From: "x@other.test"@client.test',
    "From: staff: alice@client.test;",
    "From: a@CLIENT.test",
    "From: a@xn--bcher-kva.test",
    "From: alice@client.test\r\nReply-To: x@other.test",
], ids=["several", "name", "encoded_name", "quoted_local", "group", "upper", "idn", "reply_to"])
def test_from_own(world, head):
    assert submit(world, head + "\r\nTo: b@example.org\r\n").code == 250


def test_any_sender(world):
    assert submit(world, "From: x@anything.test\r\nTo: b@example.org\r\n", login="free", sender="y@whatever.test").code == 250


def test_k_domain_of_another_account(world):
    """What one account has verified is no other's."""
    assert submit(world, "From: x@other.test\r\nTo: b@example.org\r\n", login="bob", sender="x@other.test").code == 250
    assert submit(world, "From: x@client.test\r\nTo: b@example.org\r\n", login="bob", sender="x@other.test").enhanced == "5.7.1"


def test_trusted_listener_account(world):
    """A client without a login acts as the listener's account and is bound like it."""
    with world.open("trusted") as raw:
        raw.expect("MAIL FROM:<x@other.test>", 550)
        raw.envelope("alice@client.test", "b@example.org")
        assert raw.data(b"From: x@other.test\r\n" + BODY).enhanced == "5.7.1"


# ---- what is added and removed

def fields_of(world, answer):
    """(header fields added in front, those that were sent or added behind) of what the receiver got."""
    assert answer.code == 250, answer
    got, body = split(world.arrived(answer.ident).data)
    assert body == b"hello\r\n"
    return got[0], got[1:]


def test_fix_adds_what_is_missing(world):
    answer = submit(world, "From: alice@client.test\r\nSubject: x\r\n")
    received, rest = fields_of(world, answer)
    assert rest[:2] == [b"From: alice@client.test", b"Subject: x"]
    assert [field_name(f) for f in rest[2:]] == [b"date", b"message-id", b"to"]
    assert re.fullmatch(rb"Date: \w{3}, \d+ \w{3} \d{4} \d\d:\d\d:\d\d [+-]\d{4}", rest[2])
    assert re.fullmatch(rb"Message-ID: <[^@<>]+@relay\.test>", rest[3])
    assert rest[4] == b"To: undisclosed-recipients:;"
    expected = (rb"Received: from client\.test \(\[127\.0\.0\.1\]\)\r\n\tby relay\.test \(posthaste\) with ESMTPA id "
                + answer.ident.encode() + rb"\r\n\tfor <bob@example\.org>;\r\n\t\w{3}, \d+ \w{3} \d{4} \d\d:\d\d:\d\d [+-]\d{4}")
    assert re.fullmatch(expected, received), received


@pytest.mark.parametrize("listener", ["plain", "strict", "off"])
def test_whole_message_is_not_changed(world, listener):
    received, rest = fields_of(world, submit(world, FULL, listener))
    assert field_name(received) == b"received" and b"\r\n".join(rest) + b"\r\n" == FULL


def test_off_adds_nothing(world):
    received, rest = fields_of(world, submit(world, "Subject: x\r\nBcc: c@example.org\r\n", "off"))
    assert field_name(received) == b"received" and rest == [b"Subject: x", b"Bcc: c@example.org"]


@pytest.mark.parametrize("missing,words", [("Date", "Date field"), ("Message-ID", "Message-ID field"), ("To", "To, Cc or Bcc"), ("From", "From field")])
def test_strict_refuses_what_is_missing(world, missing, words):
    head = b"".join(line + b"\r\n" for line in FULL.split(b"\r\n") if line and not line.startswith(missing.encode() + b":"))
    answer = submit(world, head, "strict")
    assert answer.code == 550 and answer.enhanced == "5.6.0" and words in answer.text


@pytest.mark.parametrize("head,to", [
    ("Bcc: c@example.org", [b"To: undisclosed-recipients:;"]),
    ("To: b@example.org\r\nBCC: c@example.org,\r\n d@example.org\r\nbcc : e@example.org", [b"To: b@example.org"]),
    ("Cc: b@example.org\r\nBcc:", [b"Cc: b@example.org"]),
], ids=["only", "folded_twice", "empty"])
def test_bcc_is_removed(world, head, to):
    _, rest = fields_of(world, submit(world, f"From: alice@client.test\r\n{head}\r\n"))
    assert [f for f in rest if field_name(f) in (b"to", b"cc", b"bcc")] == to


def test_client_is_hidden(world):
    received, _ = fields_of(world, submit(world, FULL, "hidden"))
    assert received.startswith(b"Received: by relay.test (posthaste) with ESMTPA id ")
    assert b"127.0.0.1" not in received and b"client.test" not in received and b"for <" not in received


def test_several_recipients_are_not_named(world):
    received, _ = fields_of(world, submit(world, FULL, recipients=["b@example.org", "c@example.org"]))
    assert b"for <" not in received


def test_received_tells_tls_and_helo(world):
    with world.open("submission", "alice", tls=True) as raw:
        raw.ehlo("[127.0.0.1]")
        raw.envelope("alice@client.test", "b@example.org")
        received, _ = fields_of(world, raw.data(FULL + BODY))
    assert received.startswith(b"Received: from [127.0.0.1] ([127.0.0.1])\r\n\tby relay.test (posthaste) with ESMTPSA id ")
    assert b"\r\n\t(TLSv1.3 TLS_" in received


# ---- refused content, each with its own text

@pytest.mark.parametrize("head,code,enhanced,words", [
    pytest.param("Subject: x", 550, "5.6.0", "no From field", id="no_from"),
    pytest.param("From: alice@client.test\r\nFrom: alice@client.test", 550, "5.6.0", "several From fields", id="several_from"),
    pytest.param("From: alice@client.test, b@client.test", 550, "5.6.0", "no Sender field", id="no_sender"),
    pytest.param("From: alice@client.test\r\nTo: b@", 550, "5.6.0", "not valid in the field To", id="bad_to"),
    pytest.param("From: alice@client.test\r\nCc: <b@example.org", 550, "5.6.0", "not valid in the field Cc", id="bad_cc"),
    pytest.param("From: alice@client.test\r\nSubject: a\r\nSubject: b", 550, "5.6.0", "field Subject more than once", id="subject_twice"),
    pytest.param("From: alice@client.test\r\nno field", 550, "5.6.0", "not a field (Name: value): no field", id="no_field"),
    pytest.param("From: alice@client.test\r\nSubject: \u00fc", 550, "5.6.7", "beyond ASCII in the field Subject", id="8bit_header"),
    pytest.param("From: alice@client.test\r\n" + "Received: x\r\n" * 10 + "Received: x", 554, "5.4.6", "more than 10 Received", id="loop"),
    pytest.param("From: alice@client.test\r\nSubject: " + "x" * 990, 550, "5.6.0", "line of more than 998 octets", id="long_field"),
    pytest.param("From: alice@client.test\r\n" + "X-A: aaaaaaaaaaaaaaaaaaaa\r\n" * 900 + "X-B: b", 552, "5.3.4", "header too large; at most 16384", id="large_header"),
    pytest.param("From: alice@client.test\r\nX-Posthaste-Class: fast", 550, "5.6.0", "transactional, personal or bulk: fast", id="bad_class"),
    pytest.param("From: alice@client.test\r\nX-Posthaste-Send-At: tomorrow", 550, "5.6.0", "not a time within reach", id="bad_time"),
    pytest.param("From: alice@client.test\r\nX-Posthaste-Send-At: 2036-01-01T00:00:00Z", 550, "5.6.0", "not a time within reach", id="far_time"),
    pytest.param("From: alice@client.test\r\nX-Posthaste-Tag: " + "t" * 65, 550, "5.6.0", "X-Posthaste-Tag is too long", id="long_tag"),
    pytest.param("From: alice@client.test\r\nX-Posthaste-Tag: a\r\nX-Posthaste-Tag: b", 550, "5.6.0", "X-Posthaste-Tag more than once", id="tag_twice"),
])
def test_l_refused(world, head, code, enhanced, words):
    answer = submit(world, head + "\r\n")
    assert (answer.code, answer.enhanced) == (code, enhanced) and words in answer.text, answer


@pytest.mark.parametrize("content,words", [
    (b"a\nb\r\n", "bare LF"), (b"a\rb\r\n", "bare CR"), (b"x" * 999 + b"\r\n", "more than 998")], ids=["lf", "cr", "long"])
def test_refused_body(world, content, words):
    with world.open(login="alice") as raw:
        raw.envelope("alice@client.test", "b@example.org")
        answer = raw.data(FULL + b"\r\n" + content)
        assert answer.code == 550 and answer.enhanced == "5.6.0" and words in answer.text
        raw.envelope("alice@client.test", "b@example.org")
        assert raw.data(FULL + b"\r\n" + b"x" * 998 + b"\r\n").code == 250


def test_too_large(world):
    with world.open(login="alice") as raw:
        answer = raw.ehlo()
        assert "SIZE 65536" in answer.lines
        answer = raw.expect("MAIL FROM:<alice@client.test> SIZE=65537", 552)
        assert answer.enhanced == "5.3.4" and "at most 65536 octets" in answer.text
        raw.envelope("alice@client.test", "b@example.org")
        answer = raw.data(FULL + b"\r\n" + (b"x" * 98 + b"\r\n") * 700)
        assert (answer.code, answer.enhanced) == (552, "5.3.4") and "at most 65536 octets" in answer.text
        assert raw.ask("NOOP").code == 250


def test_far_too_large_closes(world):
    with world.open(login="alice") as raw:
        raw.envelope("alice@client.test", "b@example.org")
        answer = raw.expect(f"BDAT {1 << 40}", 552)
        assert answer.enhanced == "5.3.4" and "far too large" in answer.text and raw.is_closed()


def test_too_many_recipients(world):
    with world.open(login="alice") as raw:
        raw.envelope("alice@client.test", [f"r{n}@example.org" for n in range(100)])
        answer = raw.expect("RCPT TO:<r100@example.org>", 452)
        assert answer.enhanced == "4.5.3" and "at most 100" in answer.text
        answer = raw.data(FULL + BODY)
    assert len(world.arrived(answer.ident).recipients) == 100


# ---- instructions to posthaste

@pytest.mark.parametrize("value", ["transactional", "personal", "BULK"])
def test_instructions_are_removed(world, value):
    head = f"X-Posthaste-Class: {value}\r\nX-Posthaste-Tag: spring sale\r\nx-posthaste-send-at : 2020-01-01T00:00:00Z\r\n"
    _, rest = fields_of(world, submit(world, head.encode() + FULL))
    assert b"\r\n".join(rest) + b"\r\n" == FULL


def test_send_at_waits(world):
    at = time.time() + 2.5
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at)) + f".{int(at % 1 * 1000):03d}Z"
    answer = submit(world, f"X-Posthaste-Send-At: {stamp}\r\n".encode() + FULL)
    world.arrived(answer.ident)
    assert at - 0.1 <= time.time()


def test_instructions_of_strangers_are_left(world):
    """Mail that comes in without a login keeps such fields: they are nobody's order."""
    with world.open("mx") as raw:
        raw.envelope("x@elsewhere.test", "bob@local.test")
        answer = raw.data(b"X-Posthaste-Send-At: 2027-01-01T00:00:00Z\r\n" + FULL + BODY)
    _, rest = fields_of(world, answer)
    assert rest[0] == b"X-Posthaste-Send-At: 2027-01-01T00:00:00Z"


# ---- recipients

@pytest.mark.parametrize("recipient,code,enhanced,words", [
    ("x@absent.test", 550, "5.1.2", "does not exist: absent.test"),
    ("x@ABSENT.test", 550, "5.1.2", "absent.test"),
    ("x@nomail.test", 556, "5.1.10", "null MX): nomail.test"),
    ("x@broken.test", 250, "2.1.5", "Ok"),
    ("x@plainhost.test", 250, "2.1.5", "Ok"),
    ("x@example.org", 250, "2.1.5", "Ok"),
    ("x@[127.0.0.1]", 550, "5.1.2", "address in brackets"),
    ("x", 501, "5.1.3", "Recipient address"),
    ("@x", 501, "5.1.3", "Recipient address"),
    ("x@exa mple.org", 501, None, ""),
])
def test_recipient(world, recipient, code, enhanced, words):
    with world.open(login="alice") as raw:
        raw.expect("MAIL FROM:<alice@client.test>", 250)
        answer = raw.expect(f"RCPT TO:<{recipient}>", code)
    assert enhanced in (None, answer.enhanced) and words in answer.text


def test_dns_budget(world):
    """A domain whose servers are silent is accepted once 2 s are over, and not much later."""
    with world.open(login="alice") as raw:
        raw.expect("MAIL FROM:<alice@client.test>", 250)
        start = time.monotonic()
        raw.expect("RCPT TO:<x@mute.test>", 250)
        assert 1.5 < time.monotonic() - start < 10  # the resolver itself would ask for longer


def test_dns_budget_delays_nobody_else(world):
    """Who asks about a domain that is well has the answer before that one. (Once in five: the machine may stop for 2 s.)"""
    waited = []
    for number in range(5):
        with world.open(login="alice") as slow, world.open(login="alice") as quick:
            slow.expect("MAIL FROM:<alice@client.test>", 250)
            slow.send(f"RCPT TO:<x@also{number}.mute.test>\r\n")
            quick.envelope("alice@client.test", "b@example.org")
            waited.append(not select.select([slow.socket], [], [], 0)[0])
            assert slow.reply().code == 250
        if waited[-1]:
            return
    raise AssertionError("it was answered after the other each time")


OPEN_RELAY = ["a%example.org@local.test", "@local.test:a@example.org", "example.org!a@local.test", '"a@example.org"@local.test',
              "a@example.org", "a@EXAMPLE.ORG", "a@example.org.", "a@[127.0.0.1]", "a@[IPv6:::1]", "a@[IPv6:::ffff:127.0.0.1]",
              "a%example.org", "a@example.org@local.test", "a@local.test@example.org", "local.test!a@example.org",
              '"a"@example.org', "a@local.test.example.org", "a@sub.local.test", "a@relay.test%example.org", "a@localhost",
              "<a@example.org>", '""@example.org', "bob@local.test,a@example.org", "bob@local.test a@example.org"]


@pytest.mark.parametrize("sender", ["", "x@elsewhere.test", "bob@local.test", "alice@client.test", "x@relay.test"])
def test_k_no_open_relay(world, sender):
    with world.open("mx") as raw:
        raw.expect(f"MAIL FROM:<{sender}>", 250)
        answers = {recipient: raw.ask(f"RCPT TO:<{recipient}>") for recipient in OPEN_RELAY[:12]}
        raw.expect("RCPT TO:<bob@local.test>", 250)
    with world.open("mx") as raw:
        raw.expect(f"MAIL FROM:<{sender}>", 250)
        answers.update({recipient: raw.ask(f"RCPT TO:<{recipient}>") for recipient in OPEN_RELAY[12:]})
    assert not {r: str(a) for r, a in answers.items() if a.code < 500}
    assert "needs a login" in answers["a@example.org"].text and answers["a@example.org"].enhanced == "5.7.1"


def test_k_no_open_relay_utf8(world):
    with world.open("mx") as raw:
        raw.expect("MAIL FROM:<x@elsewhere.test> SMTPUTF8", 250)
        assert raw.ask("RCPT TO:<bob@l\u043ecal.test>").code >= 500
        assert raw.ask("RCPT TO:<bob@example\u3002org>").code >= 500


def test_submission_needs_a_login(world):
    with world.open("submission", tls=True) as raw:
        for recipient in OPEN_RELAY[:5]:
            assert raw.expect("MAIL FROM:<alice@client.test>", 530).enhanced == "5.7.0"
            raw.expect(f"RCPT TO:<{recipient}>", 503)


@pytest.mark.parametrize("recipient,code,arrives", [
    ("bob@local.test", 250, ["bob@local.test"]),
    ("BOB@Local.Test", 250, ["BOB@local.test", "BOB@Local.Test", "bob@local.test"]),
    ("bob+tag@local.test", 250, ["bob@local.test", "bob+tag@local.test"]),
    ("postmaster@local.test", 250, ["bob@local.test"]),
])
def test_local_recipient(world, recipient, code, arrives):
    with world.open("mx") as raw:
        raw.envelope("x@elsewhere.test", recipient)
        transaction = world.arrived(raw.data(FULL + BODY).ident)
    assert len(transaction.recipients) == 1 and transaction.recipients[0] in arrives


def test_local_alias_goes_to_all(world):
    with world.open("mx") as raw:
        raw.envelope("x@elsewhere.test", ["team@local.test", "bob@local.test"])
        ident = raw.data(FULL + BODY).ident.encode()
    world.receiver.wait(1, "carol@example.org")
    world.arrived(b"".join([ident]).decode())
    def got():
        return sorted(r for t in world.receiver.messages() if ident in t.data for r in t.recipients)
    wait_until(lambda: len(got()) >= 2)
    assert got() == ["bob@local.test", "carol@example.org"]


def test_received_names_what_the_client_said(world):
    """RFC 5321 4.4: `for` has the path of the RCPT command; several are not told at all."""
    for recipients, want in ((["postmaster@local.test"], b"for <postmaster@local.test>"),
                             (["team@local.test"], b"for <team@local.test>"), (["bob@local.test"] * 2, b"for <bob@local.test>"),
                             (["postmaster@local.test", "bob@local.test"], None)):
        with world.open("mx") as raw:
            raw.envelope("x@elsewhere.test", recipients)
            answer = raw.data(FULL + BODY)
        received, _ = fields_of(world, answer)
        assert (want in received) if want else (b"for <" not in received), (recipients, received)


@pytest.mark.parametrize("command,code", [("MAIL FROM:<alice@client.test.>", 501), ("RCPT TO:<bob@example.org.>", 501)])
def test_no_dot_at_the_end_of_a_domain(world, command, code):
    with world.open(login="alice") as raw:
        if command.startswith("RCPT"):
            raw.expect("MAIL FROM:<alice@client.test>", 250)
        raw.expect(command, code)


def test_local_unknown(world):
    with world.open("mx") as raw:
        raw.expect("MAIL FROM:<x@elsewhere.test>", 250)
        answer = raw.expect("RCPT TO:<nobody@local.test>", 550)
        assert answer.enhanced == "5.1.1" and "nobody@local.test" in answer.text
        assert raw.expect("DATA", 554).enhanced == "5.5.1"


# ---- beyond ASCII

def test_smtputf8(world):
    """An address and a header in UTF-8 arrive as they were sent, and the domain is found by its A-label."""
    head = "From: j\u00fcrgen@b\u00fccher.test\r\nTo: \u7528\u6237@b\u00fccher.example\r\nSubject: gr\u00fc\u00dfe\r\n"
    with world.open(login="alice") as raw:
        assert "SMTPUTF8" in raw.ehlo().lines
        raw.envelope("j\u00fcrgen@b\u00fccher.test", "\u7528\u6237@b\u00fccher.example", " SMTPUTF8 BODY=8BITMIME")
        answer = raw.data(head.encode() + BODY)
    received, rest = fields_of(world, answer)
    assert b"\r\n".join(rest).startswith(head.encode().rstrip()) and b"with UTF8SMTPA id" in received
    transaction = world.arrived(answer.ident)
    assert transaction.mail_from == "j\u00fcrgen@b\u00fccher.test"
    assert transaction.recipients[0].startswith("\u7528\u6237@") and "SMTPUTF8" in transaction.mail_parameters


def test_idn_a_label(world):
    """An IDN domain in its ASCII form needs no SMTPUTF8."""
    with world.open(login="alice") as raw:
        raw.envelope("a@xn--bcher-kva.test", "b@xn--bcher-kva.example")
        answer = raw.data(b"From: a@xn--bcher-kva.test\r\n" + BODY)
    assert world.arrived(answer.ident).recipients == ["b@xn--bcher-kva.example"]


def test_utf8_needs_the_parameter(world):
    with world.open(login="alice") as raw:
        answer = raw.expect("MAIL FROM:<j\u00fcrgen@client.test>", 553)
        assert answer.enhanced == "5.6.7"
        raw.expect("MAIL FROM:<alice@client.test>", 250)
        assert raw.expect("RCPT TO:<\u7528@example.org>", 553).enhanced == "5.6.7"


# ---- what the log says of it

def refused(world, source):
    """The lines about refused commands of that client, each as a dict."""
    lines = [line.partition(" info command refused ")[2] for line in world.relay.log().splitlines() if f" client={source}:" in line]
    return [dict(re.findall(r'(\w+)=("(?:[^"\\]|\\.)*"|\S*)', line)) for line in lines if line]


def test_refused_commands_are_logged(world):
    """A line for each refused MAIL, RCPT, DATA and BDAT, whoever refuses it; bytes from outside are escaped."""
    source = world.source()
    with world.open(login="alice", source=source) as raw:
        raw.expect("MAIL FROM:<x@other.test>", 550)
        raw.expect("MAIL FROM:<a@client.test> SIZE=999999999", 552)
        raw.expect("RCPT TO:<bob@example.org>", 503)
        raw.expect("MAIL FROM:<a@client.test>", 250)
        raw.expect("RCPT TO:<who@nowhere.test>", 550)
        raw.expect('RCPT TO:<b@x.test> "level=error', 555)
        raw.expect("RCPT TO:<b\u00fc@x.test>", 553)
        raw.expect("DATA", 554)
        raw.expect("RCPT TO:<bob@example.org>", 250)
        assert raw.data(FULL + b"\r\n" + b"x" * 70 + b"\r\n" + b"0123456789abcde\r\n" * 5000).code == 552
        raw.envelope("a@client.test", "bob@example.org")
        assert raw.data(b"From: x@other.test\r\n" + BODY).code == 550  # has a line of its own: `message refused`
    with world.open("mx", source=source) as raw:
        raw.expect("MAIL FROM:<>", 250)
        raw.expect("RCPT TO:<who@example.org>", 550)
    want = [("MAIL", 550, "SENDER_NOT_OWNED"), ("MAIL", 552, "TOO_LARGE"), ("RCPT", 503, "SEQUENCE"), ("RCPT", 550, "UNKNOWN_DOMAIN"),
            ("RCPT", 555, "PARAM_UNKNOWN"), ("RCPT", 553, "ADDRESS_UTF8"), ("DATA", 554, "NO_RECIPIENTS"), ("DATA", 552, "TOO_LARGE"),
            ("RCPT", 550, "RELAY_DENIED")]
    wait_until(lambda: len(refused(world, source)) == len(want), 10, "the lines")
    lines = refused(world, source)
    assert [(line["command"], int(line["code"]), line["reply"]) for line in lines] == want
    assert list(lines[0]) == ["command", "argument", "from", "code", "reply", "detail", "login", "client", "listener"]
    first, unknown, quoted, large, relayed = lines[0], lines[3], lines[4], lines[7], lines[8]
    assert (first["argument"], first["detail"], first["login"], first["listener"]) == ("FROM:<x@other.test>", "other.test", "alice", "plain")
    assert (unknown["argument"], unknown["from"], unknown["detail"]) == ("TO:<who@nowhere.test>", "a@client.test", "nowhere.test")
    assert quoted["argument"] == r'"TO:<b@x.test> \"level=error"', quoted
    assert large["from"] == "a@client.test" and (relayed["login"], relayed["listener"]) == ('""', "mx")


def test_refused_commands_fill_no_log(world):
    """At most 60 lines a minute of one client; how many were not logged is told with the next line."""
    source, other = world.source(), world.source()
    with world.open(login="alice", source=source) as raw:
        raw.expect("MAIL FROM:<a@client.test>", 250)
        raw.send(b"RCPT TO:<who@nowhere.test>\r\n" * 300)
        assert {raw.reply().code for _ in range(300)} == {550}
    wait_until(lambda: len(refused(world, source)) >= 60, 10, "the lines")
    assert 60 <= len(refused(world, source)) <= 120  # a minute may have ended meanwhile

    def told():
        """Another client's refusal, until it meets the worker that has kept quiet."""
        with world.open(login="alice", source=other) as raw:
            raw.expect("MAIL FROM:<x@other.test>", 550)
        counts = re.findall(r" info refused commands not logged count=(\d+)\n", world.relay.log())
        return len(refused(world, source)) + sum(map(int, counts)) >= 300
    wait_until(told, 20, "how many were not logged")
    assert refused(world, other)
