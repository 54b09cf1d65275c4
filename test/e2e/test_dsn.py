# SPDX-License-Identifier: MIT
"""Notifications about what became of a message: to whom, when, in which form, and what they may not carry."""
import email
import email.policy

import pytest
from lib.message import text_message
from lib.outgoing import SENDER, attempts_of, send, sending_relay, wait_empty, wait_event
from lib.process import wait_until
from lib.rawserver import RawServer
from lib.relay import Refused

QUICK = {"retry": {"first": "1s", "factor": 1, "max": "1s", "lifetime": "6s", "warn_after": "2s"}}


class Report:
    """A notification, taken apart by Python's email package."""

    def __init__(self, data):
        self.data = data
        self.message = email.message_from_bytes(data, policy=email.policy.default)
        assert not self.message.defects, self.message.defects
        assert self.message.get_content_type() == "multipart/report"
        assert self.message["Auto-Submitted"].startswith("auto-")
        parts = list(self.message.iter_parts())
        assert len(parts) == 3, [p.get_content_type() for p in parts]
        self.text, status, self.returned = parts
        assert self.text.get_content_type() == "text/plain"
        self.words = self.text.get_content()
        self.kind = status.get_content_type()
        assert self.kind.split("/")[1] == self.message["Content-Type"].params["report-type"]
        if self.kind == "message/delivery-status":
            blocks = status.get_payload()
        else:  # Python does not know message/global-delivery-status
            text = status.get_payload()
            text = text if isinstance(text, str) else text[0].as_bytes(policy=email.policy.SMTPUTF8).decode()
            raw = data[data.index(b"message/global-delivery-status"):]
            raw = raw[raw.index(b"\r\n\r\n") + 4:raw.index(b"\r\n--" + self.message.get_boundary().encode())]
            blocks = [email.message_from_bytes(b, policy=email.policy.SMTPUTF8) for b in raw.split(b"\r\n\r\n") if b.strip()]
        self.status, self.recipients = blocks[0], [b for b in blocks[1:] if b.keys()]

    def only(self):
        assert len(self.recipients) == 1, self.recipients
        return self.recipients[0]


@pytest.fixture
def box(make_receiver, dns):
    """The sender's own mail server."""
    one = make_receiver()
    dns.domain("client.test", one)
    return one


@pytest.fixture
def relay(make_relay):
    return sending_relay(make_relay)


def report_at(box, count=1):
    box.wait(count)
    got = box.messages()[count - 1]
    assert got.mail_from in ("", "<>", None), "a notification has the null sender"
    return Report(got.data)


def nothing_came(relay, box):
    wait_empty(relay)
    assert not box.transactions


def test_failed(relay, receiver_, box):
    receiver_.script("rcpt", "550-5.1.1 there is nobody\r\n550 5.1.1 of that name")
    data = text_message(SENDER, "bob@example.org", subject="an offer")
    ident = send(relay, "bob@example.org", data, mail_options=["ENVID=env+2B1"], rcpt_options=["ORCPT=rfc822;Bob+2Bx@example.org"])
    report = report_at(box)
    assert box.messages()[0].recipients == [SENDER]
    block = report.only()
    assert report.status["Reporting-MTA"] == "dns; relay.test" and report.status["Original-Envelope-Id"] == "env+1"
    assert report.status["Arrival-Date"]
    assert block["Final-Recipient"] == "rfc822; bob@example.org" and block["Original-Recipient"] == "rfc822; Bob+x@example.org"
    assert block["Action"] == "failed" and block["Status"] == "5.1.1"
    assert block["Remote-MTA"] == "dns; mx1.example.org"
    assert block["Diagnostic-Code"].startswith("smtp; 550") and "nobody" in block["Diagnostic-Code"]
    assert "bob@example.org" in report.words and "does not exist" in report.words and ident in report.words
    assert "of that name" in report.words
    assert report.message["To"] == SENDER and "MAILER-DAEMON@relay.test" in report.message["From"]
    assert report.returned.get_content_type() == "text/rfc822-headers"
    assert "Subject: an offer" in report.returned.as_string() and "a line" not in report.returned.as_string()
    relay.wait_state(ident, "failed")
    assert wait_event(relay, ident, "dsn")


@pytest.mark.parametrize("ret,kind", [("FULL", "message/rfc822"), ("HDRS", "text/rfc822-headers")])
def test_ret(relay, receiver_, box, ret, kind):
    receiver_.script("rcpt", "550 5.1.1 no")
    data = text_message(SENDER, "bob@example.org", body="the whole text\n")
    send(relay, "bob@example.org", data, mail_options=[f"RET={ret}"])
    report = report_at(box)
    assert report.returned.get_content_type() == kind
    assert (b"the whole text" in report.data) == (ret == "FULL")
    if ret == "FULL":
        inner = report.returned.get_payload()[0]
        assert inner["Message-ID"] == email.message_from_bytes(data, policy=email.policy.default)["Message-ID"]


def test_header_that_leaves_no_room(relay, receiver_, box):
    """With header and body the report would be larger than what the spool takes: it comes with the header only, and what
    became of each recipient is recorded."""
    receiver_.script("rcpt", "550 5.1.1 no", when="bad")
    field = "x" * 900
    fields = "".join(f"X-Long-{n}: {field}\r\n" for n in range(230)).encode()
    data = fields + text_message(SENDER, "good@example.org", body="the whole text\n" * 4000)
    ident = send(relay, ["good@example.org", "bad@example.org"], data, mail_options=["RET=FULL"])
    report = report_at(box)
    assert report.only()["Final-Recipient"] == "rfc822; bad@example.org"
    assert report.returned.get_content_type() == "text/rfc822-headers" and b"X-Long-229: " in report.data
    assert b"the whole text" not in report.data
    wait_empty(relay)
    relay.restart()
    relay.wait_state(ident, "delivered", "good@example.org")
    relay.wait_state(ident, "failed", "bad@example.org")
    wait_empty(relay)
    assert len(receiver_.messages()) == 1 and len(box.messages()) == 1


@pytest.mark.parametrize("notify,told", [("NEVER", False), ("SUCCESS,DELAY", False), ("FAILURE", True)])
def test_notify_of_failures(relay, receiver_, box, notify, told):
    receiver_.script("rcpt", "550 5.1.1 no")
    ident = send(relay, "bob@example.org", rcpt_options=[f"NOTIFY={notify}"])
    relay.wait_state(ident, "failed")
    if told:
        assert report_at(box).only()["Action"] == "failed"
    else:
        nothing_came(relay, box)


def test_l_never_to_the_null_sender(relay, receiver_, box):
    receiver_.script("rcpt", "550 5.1.1 no")
    ident = send(relay, "bob@example.org", text_message(SENDER, "bob@example.org"), sender="")
    relay.wait_state(ident, "failed")
    nothing_came(relay, box)


def test_l_no_notification_about_a_notification(relay, receiver_, box):
    """The sender's server refuses the report: it fails, and that is the end of it."""
    receiver_.script("rcpt", "550 5.1.1 no")
    box.script("rcpt", "550 5.1.1 not here either")
    send(relay, "bob@example.org")
    wait_until(lambda: [c for c in box.commands if c.startswith("RCPT")], 10)
    wait_empty(relay)
    bounced = [e for e in relay.cli_list("events") if e["type"] == "bounced"]
    assert sorted(e["recipient"] for e in bounced) == [SENDER, "bob@example.org"]
    assert len([e for e in relay.cli_list("events") if e["type"] == "dsn"]) == 1
    assert len(relay.cli_list("message", "find", "--recipient", SENDER)) == 1


def test_one_report_for_several_recipients(relay, receiver_, box):
    receiver_.script("rcpt", "550 5.1.1 no", when="bad")
    ident = send(relay, ["bad1@example.org", "good@example.org", "bad2@example.org"])
    relay.wait_state(ident, "delivered", "good@example.org")
    report = report_at(box)
    assert sorted(b["Final-Recipient"] for b in report.recipients) == ["rfc822; bad1@example.org", "rfc822; bad2@example.org"]
    assert "good@example.org" not in report.words
    wait_empty(relay)
    assert len(box.messages()) == 1


def test_relayed(relay, receiver_, box):
    """RFC 3461 5.2.2: success was asked for, and the next server will not tell: so we do, as relayed."""
    send(relay, ["bob@example.org", "eve@example.org"], rcpt_options=["NOTIFY=SUCCESS"])
    report = report_at(box)
    assert {b["Action"] for b in report.recipients} == {"relayed"} and {b["Status"][0] for b in report.recipients} == {"2"}
    assert "mx1.example.org" in report.words
    assert report.returned.get_content_type() == "text/rfc822-headers"


def test_success_is_left_to_a_server_that_tells(relay, dns, make_receiver, box):
    knows = make_receiver(capabilities=["DSN"])
    dns.domain("dsn.test", knows)
    ident = send(relay, "bob@dsn.test", rcpt_options=["NOTIFY=SUCCESS"])
    assert "NOTIFY=SUCCESS" in knows.wait_one().recipient_parameters["bob@dsn.test"]
    relay.wait_state(ident, "delivered")
    nothing_came(relay, box)


def test_success_is_left_to_a_mailbox_server_that_tells(make_relay, make_receiver, box, tmp_path):
    """RFC 3461 5.2.1: it was given NOTIFY, so two would tell; RFC 2852: of a mailbox's server no relaying is told either."""
    knows = make_receiver(capabilities=["DSN"])
    table = tmp_path / "recipients"
    table.write_text("bob@local.test\n")
    relay = sending_relay(make_relay, {"routes": [
        {"match": {"recipient": "local.test"}, "recipients": str(table), "via": f"smtp://{knows.address}:{knows.port}"},
        {"match": {}, "via": f"mx:{box.port}"}]})
    ident = send(relay, "bob@local.test", mail_options=["BY=3600;NT"], rcpt_options=["NOTIFY=SUCCESS"])
    assert "NOTIFY=SUCCESS" in knows.wait_one().recipient_parameters["bob@local.test"]
    relay.wait_state(ident, "delivered")
    nothing_came(relay, box)


def test_delivered(make_relay, dns, box, tmp_path):
    """Final delivery of ours, success asked for: delivered."""
    dns.a("local.test", "127.9.9.9")
    routes = [{"match": {"recipient": "local.test"}, "via": f"maildir:{tmp_path}/mail/%d/%u"},
              {"match": {}, "via": f"mx:{box.port}"}]
    relay = sending_relay(make_relay, {"routes": routes})
    send(relay, "bob@local.test", rcpt_options=["NOTIFY=SUCCESS"])
    block = report_at(box).only()
    assert block["Action"] == "delivered" and block["Status"] == "2.0.0" or block["Status"].startswith("2.")


def test_delivered_and_relayed_at_one_host(make_relay, make_receiver, dns, box, tmp_path):
    """Two routes to one host share its lane: what is final for the domain with recipients of ours is not for the other."""
    host = make_receiver()
    table = tmp_path / "recipients"
    table.write_text("bob@own.test\n")
    for domain in ("own.test", "other.test"):
        dns.a(domain, "127.9.9.9")
    via = f"smtp://{host.address}:{host.port}"
    routes = [{"match": {"recipient": "own.test"}, "via": via, "recipients": str(table)},
              {"match": {"recipient": "other.test"}, "via": via}, {"match": {}, "via": f"mx:{box.port}"}]
    relay = sending_relay(make_relay, {"routes": routes})
    for first, second in (("own", "other"), ("other", "own")):
        for domain in (first, second):
            ident = send(relay, f"bob@{domain}.test", rcpt_options=["NOTIFY=SUCCESS"])
            relay.wait_state(ident, "delivered")
    box.wait(4)
    actions = {(b["Final-Recipient"], b["Action"]) for b in (Report(m.data).only() for m in box.messages())}
    assert actions == {("rfc822; bob@own.test", "delivered"), ("rfc822; bob@other.test", "relayed")}


def test_delayed_then_failed(make_relay, receiver_, box):
    """Told once of the delay, with the time until which it is tried; at the end of the lifetime, of the failure."""
    relay = sending_relay(make_relay, QUICK)
    receiver_.script("rcpt", "451 4.2.2 mailbox full")
    ident = send(relay, "bob@example.org")
    report = report_at(box)
    block = report.only()
    assert block["Action"] == "delayed" and block["Status"].startswith("4.") and block["Will-Retry-Until"]
    assert "WARNING" in report.words and "mailbox full" in report.words
    assert relay.states(ident) == {"bob@example.org": "queued"}
    report = report_at(box, 2)
    assert report.only()["Action"] == "failed" and report.only()["Status"] == "5.4.7"
    assert "mailbox full" in report.words
    message = relay.wait_state(ident, "expired")
    assert attempts_of(message) >= 4
    wait_empty(relay)
    assert len(box.messages()) == 2
    assert [e["type"] for e in relay.cli_list("events") if e["id"] == ident].count("expired") == 1


def test_no_warning_unless_wanted(make_relay, receiver_, box):
    relay = sending_relay(make_relay, QUICK)
    receiver_.script("rcpt", "451 4.2.2 mailbox full")
    ident = send(relay, "bob@example.org", rcpt_options=["NOTIFY=FAILURE"])
    relay.wait_state(ident, "expired")
    assert report_at(box).only()["Action"] == "failed"
    wait_empty(relay)
    assert len(box.messages()) == 1


def test_unreachable_site(make_relay, make_receiver, dns, box):
    """Nobody ever answered: the report says so in our own words, not as the words of a server."""
    dead = make_receiver()
    dns.domain("dead.test", dead)
    dead.close()
    relay = sending_relay(make_relay, {"retry": {**QUICK["retry"], "lifetime": "3s", "warn_after": "none"}})
    send(relay, "bob@dead.test")
    block = report_at(box).only()
    assert block["Action"] == "failed" and block["Status"].startswith("5.4")
    assert not (block["Diagnostic-Code"] or "").startswith("smtp")


# ---- RFC 6533

@pytest.mark.parametrize("sender,recipient", [("älice@client.test", "bob@example.org"), (SENDER, "böb@example.org"),
                                              ("älice@client.test", "böb@example.org")])
def test_internationalised(relay, receiver_, box, sender, recipient):
    receiver_.script("rcpt", "550 5.1.1 no")
    with relay.client("trusted") as client:
        client.ehlo()
        client.command_encoding = "utf-8"
        send(relay, recipient, text_message(SENDER, "bob@example.org"), sender, ["SMTPUTF8"], client=client)
    report = report_at(box)
    got = box.messages()[0]
    assert got.recipients == [sender]
    assert report.kind == "message/global-delivery-status"
    assert ("SMTPUTF8" in got.mail_parameters) == (not sender.isascii()), "needed for the address, not for the content"
    final = str(report.only()["Final-Recipient"])
    assert final == f"{'rfc822' if recipient.isascii() else 'utf-8'}; {recipient}"
    assert recipient in report.words


def test_seven_bit_mail_gets_the_plain_form(relay, receiver_, box):
    receiver_.script("rcpt", "550 5.1.1 no")
    send(relay, "bob@example.org")
    assert report_at(box).kind == "message/delivery-status"
    assert "SMTPUTF8" not in box.messages()[0].mail_parameters


# ---- what others say must stay harmless

EVIL = [b"550 5.1.1 \x1b[2J\x1b]0;owned\x07 bell\r\n",
        b"550 5.1.1 a\0b\rX-Injected: yes\r\n",
        b"550 5.1.1 \xff\xfe\xc3( not utf-8 \xc3\xa4\r\n",
        b"550-5.1.1 " + b"x" * 400 + b"\r\n550 5.1.1 Final-Recipient: rfc822; victim@example.org\r\n",
        b"".join(b"550-5.1.1 line %d of a very long answer\r\n" % n for n in range(90)) + b"550 5.1.1 end\r\n",
        b"550 5.1.1 --=_boundary--\r\n"]


@pytest.mark.parametrize("evil", EVIL, ids=["escapes", "nul and cr", "not utf-8", "fields", "many lines", "boundary"])
def test_f_hostile_words(make_relay, dns, box, evil):
    """Whatever the remote says: the report parses, has one recipient, no control bytes, and no field is forged."""
    hostile_round(make_relay, dns, box, evil)


def hostile_round(make_relay, dns, box, evil):
    def serve(connection):
        connection.sendall(b"220 evil.test\r\n")
        while True:
            heard = connection.recv(65536)
            if not heard:
                return
            connection.sendall(evil if heard.startswith(b"RCPT") else b"250 fine\r\n")
    server = RawServer(serve)
    dns.domain("evil.test", server)
    relay = sending_relay(make_relay, {"retry": {**QUICK["retry"], "lifetime": "3s", "warn_after": "none"}})
    ident = send(relay, "bob@evil.test")
    report = report_at(box)
    assert len(report.recipients) == 1 and report.only()["Final-Recipient"] == "rfc822; bob@evil.test"
    assert report.only()["Action"] == "failed" and not report.only()["X-Injected"] and not report.message["X-Injected"]
    assert not any(b < 32 and b not in b"\r\n\t" for b in report.data) and b"\x7f" not in report.data
    assert b"\r" not in report.data.replace(b"\r\n", b"") and b"\n" not in report.data.replace(b"\r\n", b"")
    assert max(map(len, report.data.split(b"\r\n"))) <= 998 and len(report.data) < 20000
    for text in (relay.log(), str(relay.message(ident))):
        assert "\x1b" not in text and "\0" not in text
    server.close()


def test_g_megabyte_of_words(make_relay, dns, box):
    """A reply without end is no reply: the session is given up, and the report stays short."""
    hostile_round(make_relay, dns, box, b"550 5.1.1 " + b"w" * (1 << 20) + b"\r\n")


@pytest.mark.parametrize("options", [{"mail_options": ["ENVID=a+0D+0AX-Injected:+20yes"]},
                                     {"rcpt_options": ["ORCPT=rfc822;x+0D+0AX-Injected:+20yes"]}], ids=["envid", "orcpt"])
def test_f_hostile_envelope_ids(relay, receiver_, box, options):
    """ENVID and ORCPT come from clients, encoded: decoded, they may not end a line."""
    receiver_.script("rcpt", "550 5.1.1 no")
    try:
        send(relay, "bob@example.org", **options)
    except Refused as refused:
        assert refused.code == 501
        return
    report = report_at(box)
    assert report.only()["Final-Recipient"] == "rfc822; bob@example.org"
    assert not report.status["X-Injected"] and b"\r\nX-Injected" not in report.data
