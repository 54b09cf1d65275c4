# SPDX-License-Identifier: MIT
"""What comes back: only with a token of ours, kept before the 250, told by `message show` and `events`."""
import sqlite3
import time

import pytest
from lib import tokens
from lib.process import wait_until
from lib.raw import Raw
from lib.world import PLAIN, world_fixture

BOUNCES = {"name": "bounces", "address": "127.0.0.1:0", "tls": "starttls", "role": "bounces"}


def config(world):
    world.dns.domain("other.org", world.receiver)
    return {
        "listeners": [PLAIN, BOUNCES],
        "bounce": {"complaints": ["fbl@relay.test"], "message_size": "64KiB", "domain": "bounces.relay.test"},
    }


def fill(world):
    world.relay.add_account("alice", domains=["client.test"], options=["--class", "bulk"])


world = world_fixture(config, fill)


def send(world, *recipients):
    with world.open("plain", "alice") as raw:
        raw.envelope("alice@client.test", list(recipients) or ["reader@example.org"])
        return raw.data(b"From: alice@client.test\r\nTo: reader@example.org\r\nSubject: news\r\nX-Posthaste-Tag: news\r\n\r\nHello\r\n").ident


def dsn(recipient, action="failed", status="5.1.1", text="550 5.1.1 <x> user unknown"):
    return (f"From: MAILER-DAEMON@mx.example.org\r\nTo: x\r\nSubject: Undelivered Mail Returned to Sender\r\nAuto-Submitted: auto-replied\r\n"
            f"MIME-Version: 1.0\r\nContent-Type: multipart/report; report-type=delivery-status; boundary=\"b\"\r\n\r\n"
            f"--b\r\n\r\nIt did not work.\r\n--b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.example.org\r\n\r\n"
            f"Final-Recipient: rfc822; {recipient}\r\nAction: {action}\r\nStatus: {status}\r\nDiagnostic-Code: smtp; {text}\r\n\r\n"
            f"--b--\r\n").encode()


def come_back(world, address, content, sender=""):
    with world.open("bounces", source=world.source()) as raw:
        raw.envelope(sender, [address])
        return raw.data(content)


def feedback(world, ident, recipient="reader@example.org"):
    row = next(r for r in world.relay.message(ident)["recipients"] if r["address"] == recipient)
    return row.get("feedback", [])


def test_no_login_and_no_relaying(world):
    with world.open("bounces", source=world.source()) as raw:
        assert not any(line.startswith("AUTH") for line in raw.ehlo().lines)
        raw.expect("MAIL FROM:<anybody@anywhere.test>", 250)
        for address in ("reader@example.org", "alice@client.test", "postmaster", "b-x@relay.test"):
            answer = raw.ask(f"RCPT TO:<{address}>")
            assert (answer.code, answer.enhanced) == (550, "5.1.1"), answer
        assert raw.ask("DATA").code == 554


def test_strangers_take_no_places(make_relay):
    """Of the 64 reports that one worker takes at a time, none is kept by who has said no more than MAIL, and eight by one client."""
    relay = make_relay({"listeners": [PLAIN, BOUNCES], "workers": 1, "bounce": {"domain": "bounces.relay.test"}})
    good = f"RCPT TO:<{tokens.local_part(tokens.key_of(relay), '0123456789abcdefghjk', 1)}@bounces.relay.test>"
    sessions = []

    def begin(number):
        raw = Raw(relay.listener("bounces"), source=f"127.0.2.{number // 8 + 1}")
        sessions.append(raw)
        raw.ehlo()
        raw.expect("MAIL FROM:<anybody@anywhere.test>", 250)
        return raw
    try:
        for number in range(70):
            stranger = begin(number)
            assert stranger.ask("RCPT TO:<reader@example.org>").code == 550
        for number in range(64):
            begin(104 + number).expect(good, 250)
            if number == 7:
                ninth = begin(104)
                assert str(ninth.ask(good)).startswith("421 4.3.2") and ninth.is_closed()
        last = begin(200)
        assert str(last.ask(good)).startswith("421 4.3.2") and last.is_closed()  # those with a token are counted
        sessions[70].expect("RSET", 250)
        begin(201).expect(good, 250)
    finally:
        for raw in sessions:
            raw.close()


def test_forged_tokens_are_refused_and_counted(world):
    ident = send(world)
    key = tokens.key_of(world.relay)
    good = tokens.local_part(key, ident, 1)
    before = world.relay.metrics()["posthaste_feedback_forged_total"]
    forged = [tokens.local_part(b"x" * 32, ident, 1), good[:-1] + ("0" if good[-1] != "0" else "1"), good.replace("b-", "c-", 1),
              tokens.local_part(key, ident, 2)[:26] + good[26:]]
    with world.open("bounces", source=world.source()) as raw:
        raw.expect("MAIL FROM:<>", 250)
        for local in forged:
            answer = raw.ask(f"RCPT TO:<{local}@bounces.client.test>")
            assert (answer.code, answer.enhanced) == (550, "5.1.1"), answer
        raw.expect(f"RCPT TO:<{good.upper()}@bounces.client.test>", 250)
    assert world.relay.metrics()["posthaste_feedback_forged_total"] - before == len(forged)
    assert feedback(world, ident) == []


def test_a_message_that_comes_back_is_kept(world):
    """The record is there once the 250 is, and over a crash."""
    ident = send(world, "gone@example.org")
    world.relay.wait_state(ident, "delivered")
    local = tokens.local_part(tokens.key_of(world.relay), ident, 1)
    answer = come_back(world, f"{local}@bounces.client.test", dsn("gone@example.org"))
    assert (answer.code, str(answer)) == (250, "250 2.0.0 Ok: noted")
    world.relay.kill()
    world.relay.start()
    shown = feedback(world, ident, "gone@example.org")
    assert len(shown) == 1 and shown[0]["from"].startswith("127."), shown
    assert {key: shown[0][key] for key in ("kind", "reason", "hard", "status", "code")} == {
        "kind": "bounce", "reason": "user-unknown", "hard": True, "status": "5.1.1", "code": 550}
    events = [e for e in world.relay.cli_list("events") if e["id"] == ident and e["type"] == "feedback"]
    assert len(events) == 1 and events[0]["recipient"] == "gone@example.org" and events[0]["feedback"] == shown[0]
    assert world.relay.message(ident)["recipients"][0]["state"] == "delivered"


def test_content_of_any_kind(world):
    ident = send(world, "any@example.org")
    local = tokens.local_part(tokens.key_of(world.relay), ident, 1)
    for content in (b"", b"\r\n", b"no header at all\r\n", b"Content-Type: multipart/report; boundary=x\r\n\r\n--x\r\n" * 50,
                    b"Subject: \xff\xfe\r\n\r\n\x80\x81\r\n", dsn("a" * 400 + "@example.org", text="x" * 900)):
        assert come_back(world, f"{local}@x.test", content, sender="someone@isp.test").code == 250
    assert len(feedback(world, ident, "any@example.org")) == 6


def test_a_history_that_lags_delays_none(world):
    """What is known is not waited for; of what is not, one waits in vain, and then nobody. It is to come again, and then
    it counts."""
    key = tokens.key_of(world.relay)
    old = send(world, "old@example.org")
    world.relay.message(old)
    days = [sqlite3.connect(day) for day in sorted((world.relay.folder / "state" / "events").glob("*.db"))[-1:]]
    try:
        for day in days:
            day.execute("BEGIN IMMEDIATE")
        new = send(world, "new@example.org")
        begun = time.monotonic()
        for _ in range(6):
            assert come_back(world, tokens.local_part(key, old, 1) + "@x.test", dsn("old@example.org")).code == 250
        assert time.monotonic() - begun < 1.9, "waited for what is known"
        for _ in range(4):
            answer = come_back(world, tokens.local_part(key, new, 1) + "@x.test", dsn("new@example.org"))
            assert (answer.code, answer.enhanced) == (451, "4.3.0")
        assert time.monotonic() - begun < 6, "every one waited"
    finally:
        for day in days:
            day.close()
    wait_until(lambda: len(feedback(world, old, "old@example.org")) == 6, 20, "all is told")
    assert come_back(world, tokens.local_part(key, new, 1) + "@x.test", dsn("new@example.org")).code == 250
    assert len(feedback(world, new, "new@example.org")) == 1
    wait_until(lambda: world.relay.cli("suppress", "check", "new@example.org")["suppressed"], 10, "it is suppressed")


def test_size_is_limited(world):
    ident = send(world)
    local = tokens.local_part(tokens.key_of(world.relay), ident, 1)
    answer = come_back(world, f"{local}@x.test", b"Subject: x\r\n\r\n" + b"x" * 70 + b"\r\n" + (b"y" * 70 + b"\r\n") * 1000)
    assert (answer.code, answer.enhanced) == (552, "5.3.4")
    assert feedback(world, ident) == []


def test_complaint_address_needs_a_token_in_the_mail(world):
    before = world.relay.metrics()["posthaste_feedback_unmatched_total"]
    assert come_back(world, "fbl@relay.test", b"Subject: FW: spam\r\n\r\nhe sent me this\r\n").code == 250
    assert world.relay.metrics()["posthaste_feedback_unmatched_total"] == before + 1


@pytest.mark.parametrize("count,form", [(1, (0,)), (3, (0,)), (3, (1, "b", True))], ids=["one", "before there was the bit", "several"])
def test_several_recipients_of_one_return_path(world, count, form):
    recipients = [f"r{n}.of.{count}.{len(form)}@example.org" for n in range(count)]
    ident = send(world, *recipients)
    local = tokens.local_part(tokens.key_of(world.relay), ident, *form)
    assert come_back(world, f"{local}@x.test", dsn(recipients[-1])).code == 250
    assert [one["reason"] for one in feedback(world, ident, recipients[-1])] == ["user-unknown"]
    assert all(not feedback(world, ident, r) for r in recipients[:-1])


def test_who_is_not_named_is_not_guessed(world):
    """The header of the returned mail has all to whom a shared return path belongs: it tells of none of them."""
    ident = send(world, "guess1@example.org", "guess2@example.org")
    local = tokens.local_part(tokens.key_of(world.relay), ident, 1, several=True)
    for to, about in ((b"guess1@example.org, guess2@example.org", None), (b"guess2@example.org", "guess2@example.org")):
        content = (b"From: fbl@isp.test\r\nContent-Type: multipart/report; report-type=feedback-report; boundary=b\r\n\r\n--b\r\n"
                   b"Content-Type: message/feedback-report\r\n\r\nFeedback-Type: abuse\r\n\r\n--b\r\n"
                   b"Content-Type: message/rfc822\r\n\r\nFrom: alice@client.test\r\nTo: " + to + b"\r\n\r\nHello\r\n--b--\r\n")
        assert come_back(world, f"{local}@x.test", content).code == 250
        named = [r for r in ("guess1@example.org", "guess2@example.org") if feedback(world, ident, r)]
        assert named == ([about] if about else [])


def test_what_the_sender_called_them_names_them_too(world):
    """ORCPT of one, where the report says nothing better; Final-Recipient before Original-Recipient."""
    with world.open("plain", "alice") as raw:
        raw.expect("MAIL FROM:<alice@client.test>", 250)
        for name, original in (("orcpt1", "anna@shop.test"), ("orcpt2", "bert@shop.test"), ("orcpt3", "carl@shop.test")):
            raw.expect(f"RCPT TO:<{name}@example.org> ORCPT=rfc822;{original}", 250)
        ident = raw.data(b"From: alice@client.test\r\nTo: anna@shop.test\r\nSubject: x\r\n\r\nHello\r\n").ident
    local = tokens.local_part(tokens.key_of(world.relay), ident, 1, several=True)
    for original, final in (("anna@shop.test", "orcpt2@example.org"), ("carl@shop.test", "forwarded@elsewhere.test")):
        content = dsn(final).replace(b"Final-Recipient", f"Original-Recipient: rfc822; {original}\r\nFinal-Recipient".encode())
        assert come_back(world, f"{local}@x.test", content).code == 250
    assert [len(feedback(world, ident, f"orcpt{n}@example.org")) for n in (1, 2, 3)] == [0, 1, 1]


def test_a_shared_return_path_speaks_of_its_own_domain_only(world):
    """Its receiver sees the others in To; what he says of them is of no account."""
    ident = send(world, "one.seen@example.org", "two.seen@example.org", "seen@other.org")
    shared = return_path(world, ident)["one.seen@example.org", "two.seen@example.org"]
    complaint = (b"From: fbl@isp.test\r\nContent-Type: multipart/report; report-type=feedback-report; boundary=b\r\n\r\n--b\r\n"
                 b"Content-Type: message/feedback-report\r\n\r\nFeedback-Type: abuse\r\nOriginal-Rcpt-To: seen@other.org\r\n\r\n--b--\r\n")
    for content in (dsn("seen@other.org"), complaint):
        before = world.relay.metrics()["posthaste_feedback_unmatched_total"]
        assert come_back(world, shared, content).code == 250
        assert world.relay.metrics()["posthaste_feedback_unmatched_total"] == before + 1
    assert feedback(world, ident, "seen@other.org") == []
    assert come_back(world, shared, dsn("two.seen@example.org")).code == 250
    assert len(feedback(world, ident, "two.seen@example.org")) == 1


def return_path(world, ident):
    """The reverse-paths and recipients of the transactions that brought this message."""
    world.relay.wait_state(ident, "delivered")
    return {tuple(sorted(t.recipients)): t.mail_from for t in world.receiver.transactions if f"id {ident}".encode() in t.data}


def test_mail_goes_out_with_a_return_path_of_its_own(world):
    """One recipient: its own token. What comes back to it is about that one."""
    ident = send(world, "left@example.org")
    paths = return_path(world, ident)
    assert list(paths.values()) == [tokens.local_part(tokens.key_of(world.relay), ident, 1) + "@bounces.relay.test"]
    assert come_back(world, list(paths.values())[0], dsn("left@example.org")).code == 250
    assert len(feedback(world, ident, "left@example.org")) == 1
    assert world.relay.message(ident)["sender"] == "alice@client.test"


def test_transactions_of_several_share_one(world):
    """By default a return path costs no transaction: those that share one share it, others have their own."""
    ident = send(world, "a@example.org", "b@example.org", "c@other.org")
    key = tokens.key_of(world.relay)
    assert return_path(world, ident) == {("a@example.org", "b@example.org"): tokens.local_part(key, ident, 1, several=True) + "@bounces.relay.test",
                                         ("c@other.org",): tokens.local_part(key, ident, 3) + "@bounces.relay.test"}


def test_account_chooses(world):
    key = tokens.key_of(world.relay)
    try:
        world.relay.cli("account", "set", "alice", "return_path", "recipient")
        ident = send(world, "a@example.org", "b@example.org")
        assert return_path(world, ident) == {(f"{c}@example.org",): tokens.local_part(key, ident, n) + "@bounces.relay.test"
                                             for n, c in ((1, "a"), (2, "b"))}
        world.relay.cli("account", "set", "alice", "return_path", "off")
        ident = send(world, "a@example.org", "b@example.org")
        assert return_path(world, ident) == {("a@example.org", "b@example.org"): "alice@client.test"}
    finally:
        world.relay.cli("account", "set", "alice", "return_path", "message")


def test_reports_that_were_asked_for_go_to_who_asked(world):
    with world.open("plain", "alice") as raw:
        raw.ask("MAIL FROM:<alice@client.test> RET=HDRS ENVID=me")
        raw.expect("RCPT TO:<a@example.org> NOTIFY=SUCCESS ORCPT=rfc822;x@y.test", 250)
        ident = raw.data(b"From: alice@client.test\r\nTo: a@example.org\r\nSubject: x\r\n\r\nHello\r\n").ident
    world.relay.wait_state(ident, "delivered")
    assert [t.mail_from for t in world.receiver.transactions if f"id {ident}".encode() in t.data] == ["alice@client.test"]


def test_people_hear_of_their_bounces_themselves(world):
    """Class personal keeps MAIL FROM; so does the null sender."""
    world.relay.add_account("bob", domains=["bob.test"], options=["--class", "personal"])
    for sender in ("bob@bob.test", ""):
        with world.open("plain", "bob") as raw:
            raw.envelope(sender, ["a@example.org"])
            ident = raw.data(b"From: bob@bob.test\r\nTo: a@example.org\r\nSubject: x\r\n\r\nHello\r\n").ident
        assert return_path(world, ident) == {("a@example.org",): sender or "<>"}


def test_published_return_path_is_aligned(world):
    """bounces.SENDERDOMAIN, once it is known to lead here; of a subdomain's mail the domain above will do."""
    world.relay.add_account("carol", domains=["shop.test", "mail.shop.test"], options=["--class", "transactional"])
    store = {"op": "domain.return_path", "args": {"account": "carol", "domain": "shop.test", "published": True}}
    world.relay.control("POST", "/v1/store", store)
    for sender in ("carol@shop.test", "carol@mail.shop.test"):
        with world.open("plain", "carol") as raw:
            raw.envelope(sender, ["a@example.org"])
            ident = raw.data(f"From: {sender}\r\nTo: a@example.org\r\nSubject: x\r\n\r\nHello\r\n".encode()).ident
        assert list(return_path(world, ident).values())[0].endswith("@bounces.shop.test")
