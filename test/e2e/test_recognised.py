# SPDX-License-Identifier: MIT
"""From nothing to a domain whose mail is recognised, and whose bounces and complaints come home: with the records that
`domain add` prints and no others, judged by foreign programs."""
import email
import json
import re
import smtplib
import types

import dkim
import dns.resolver
import pytest
from lib import judges, network, peers
from lib.process import wait_until
from lib.relay import Refused, submit

DOMAIN, SERVICE = "shop.test", "service.test"
READERS = [f"reader{n}@example.org" for n in (1, 2, 3, 4)]
BOUNCED, COMPLAINED, UNSUBSCRIBED, CONTENT = READERS


def record_line(record):
    """A record of `domain add` as a line of a zone file."""
    value = record["value"] + "." if record["type"] != "TXT" else " ".join(
        json.dumps(record["value"][i:i + 255]) for i in range(0, len(record["value"]), 255))
    return f"{record['name']}. 1 {record['type']} {value}\n"


class Scene:
    """The service, its own zone, the customer's zone, and a receiver that readers have their mailboxes at."""

    def __init__(self, start_peer, make_relay, make_receiver):
        self.address, self.bounces = "203.0.113.5", network.new_address()  # where mail leaves from, where it comes back to
        self.receiver = make_receiver(capabilities=["8BITMIME"])
        backward = ".".join(reversed(self.address.split("."))) + ".in-addr.arpa"
        self.knot = start_peer(peers.Knot, zones={
            # What the customer has already: a mail domain.
            DOMAIN: "@ 1 MX 10 mx\nmx 1 A 127.0.0.9\n",
            # What the operator of the service has published once.
            SERVICE: f"_spf 1 TXT \"v=spf1 ip4:{self.address} -all\"\nbounce 1 A {self.bounces}\nbounce 1 MX 10 bounce\n"
                     f"bounce 1 TXT \"v=spf1 ip4:{self.address} -all\"\n",
            "relay.test": f"@ 1 A {self.address}\n",
            "in-addr.arpa": f"{backward}. 1 PTR relay.test.\n",
            "example.org": f"@ 1 MX 10 mx\nmx 1 A {self.receiver.address}\n",
        })
        self.relay = make_relay({
            "listeners": [{"name": "submission", "address": "127.0.0.1:0", "tls": "starttls", "auth": "required"},
                          {"name": "bounces", "address": f"{self.bounces}:{network.smtp_port()}", "tls": "starttls", "role": "bounces"}],
            "dns": {"servers": [self.knot.server]},
            "dkim": {"check_every": "1s", "keys": "both"},
            "domains": {"spf_include": f"_spf.{SERVICE}", "bounce_host": f"bounce.{SERVICE}", "addresses": [self.address]},
            "bounce": {"cfbl": True},
            "unsubscribe": {"url": f"https://mail.{SERVICE}/u/", "address": "127.0.0.1:0"},
        })
        self.resolver = dns.resolver.Resolver(configure=False)
        self.resolver.nameservers = [self.knot.address]

    def publish(self, records):
        self.knot.change(DOMAIN, "@ 1 MX 10 mx\nmx 1 A 127.0.0.9\n" + "".join(map(record_line, records)))

    def send(self, *recipients, subject="News of the week"):
        data = (f"From: Shop <news@{DOMAIN}>\r\nTo: readers@{DOMAIN}\r\nSubject: {subject}\r\nX-Posthaste-Tag: weekly\r\n"
                f"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\nGr\u00fc\u00dfe!\r\n").encode()
        with self.relay.client("submission", "shop") as client:
            return submit(client, f"news@{DOMAIN}", list(recipients), data, ["BODY=8BITMIME"])

    def arrived(self, ident):
        """{recipient: transaction}."""
        self.relay.wait_state(ident, "delivered")
        return {t.recipients[0]: t for t in self.receiver.transactions if f"id {ident}".encode() in t.data and len(t.recipients) == 1}

    def resolve(self, name, kind):
        """The records, past CNAMEs: an authoritative server does not follow them into another zone."""
        for _ in range(8):
            try:
                return list(self.resolver.resolve(name, kind))
            except dns.resolver.NXDOMAIN:
                return []
            except dns.resolver.NoAnswer as nothing:
                try:
                    name = self.resolver.resolve(name, "CNAME")[0].target
                except dns.resolver.NoAnswer:
                    raise nothing from None
        raise AssertionError(f"CNAMEs without an end: {name}")

    def text_of(self, name):
        """A TXT record as a verifier sees it."""
        found = self.resolve(name, "TXT")
        return b"".join(found[0].strings) if found else None

    def come_back(self, address, content):
        """A server of somebody's sends that where the DNS says."""
        host = self.resolve(address.rpartition("@")[2], "MX")[0].exchange
        where = self.resolve(host, "A")[0].address
        with smtplib.SMTP(where, network.smtp_port(), "mx.example.org", timeout=60) as server:
            server.ehlo()
            for code, text in (server.mail("<>"), server.rcpt(f"<{address}>"), server.data(content)):
                assert code == 250, (code, text)

    def refusal(self, recipient):
        """Why the next message to that address is refused; None if it is not."""
        try:
            self.send(recipient, subject="Once more")
        except Refused as refused:
            assert refused.code == 550 and refused.text.startswith(b"5.7.1 "), refused
            return refused.text.decode()
        return None

    def feedback(self, ident, recipient):
        return next(r for r in self.relay.message(ident)["recipients"] if r["address"] == recipient).get("feedback", [])


@pytest.fixture
def scene(start_peer, make_relay, make_receiver):
    return Scene(start_peer, make_relay, make_receiver)


def dsn(recipient, returned):
    """As Postfix writes it."""
    return (f"From: MAILER-DAEMON@mx.example.org (Mail Delivery System)\r\nSubject: Undelivered Mail Returned to Sender\r\n"
            f"Auto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\nContent-Type: multipart/report; report-type=delivery-status;\r\n"
            f"\tboundary=\"B\"\r\n\r\n--B\r\nContent-Description: Notification\r\n\r\nI'm sorry to have to inform you.\r\n\r\n"
            f"--B\r\nContent-Description: Delivery report\r\nContent-Type: message/delivery-status\r\n\r\n"
            f"Reporting-MTA: dns; mx.example.org\r\n\r\nFinal-Recipient: rfc822; {recipient}\r\nAction: failed\r\nStatus: 5.1.1\r\n"
            f"Remote-MTA: dns; store.example.org\r\nDiagnostic-Code: smtp; 550 5.1.1 <{recipient}>: Recipient address rejected:\r\n"
            f"    User unknown in virtual mailbox table\r\n\r\n--B\r\nContent-Type: text/rfc822-headers\r\n\r\n").encode() + \
        returned.split(b"\r\n\r\n")[0] + b"\r\n\r\n--B--\r\n"


def arf(recipient, returned):
    """RFC 5965, with the whole message returned."""
    return (f"From: complaints@example.org\r\nSubject: Abuse report\r\nMIME-Version: 1.0\r\n"
            f"Content-Type: multipart/report; report-type=feedback-report; boundary=\"B\"\r\n\r\n--B\r\nContent-Type: text/plain\r\n\r\n"
            f"This is an email abuse report.\r\n--B\r\nContent-Type: message/feedback-report\r\n\r\nFeedback-Type: abuse\r\n"
            f"User-Agent: Example/1.0\r\nVersion: 1\r\n\r\n--B\r\nContent-Type: message/rfc822\r\n\r\n").encode() + returned + b"\r\n--B--\r\n"


def set_up(scene):
    """The five minutes of docs/SENDING-DOMAIN.md."""
    relay = scene.relay
    relay.cli("account", "add", "shop", "--class", "bulk")
    relay.cli("credential", "add", "shop", "--login", "shop", "--password-stdin", stdin="correct horse battery\n")
    relay.cli("account", "set", "shop", "unsubscribe", "bulk")
    def printed():
        records = relay.cli("domain", "add", "shop", DOMAIN)["records"]
        return any(record["purpose"] == "dkim" for record in records) and records
    scene.publish(wait_until(printed, 60, "the keys are among the records", every=0.3))

    def not_ok():
        return {one["id"]: one for one in relay.cli("domain", "check", DOMAIN)["checks"] if one["state"] != "ok"}
    wait_until(lambda: not not_ok(), 30, "every check is ok", every=0.5)
    wait_until(lambda: {key["state"] for key in relay.cli_list("dkim", "list")} == {"active"}, 60, "the keys sign", every=0.3)


def judge(scene, transaction):
    """python3-dkim and mailauth pass each signature, of the From domain; the link is covered; SPF is aligned."""
    message = transaction.data
    header = email.message_from_bytes(message)
    signatures = header.get_all("DKIM-Signature")
    assert len(signatures) == 2, signatures
    for index, value in enumerate(signatures):
        tags = dict(part.split("=", 1) for part in re.sub(r"\s", "", value).rstrip(";").split(";"))
        assert tags["d"] == DOMAIN
        assert {"from", "list-unsubscribe", "list-unsubscribe-post"} <= set(tags["h"].lower().split(":"))
        assert dkim.DKIM(message).verify(idx=index, dnsfunc=lambda name, timeout=5: scene.text_of(name.decode()))
    assert header["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    domain = transaction.mail_from.rpartition("@")[2]
    assert domain == f"bounces.{DOMAIN}" and f"ip4:{scene.address}".encode() in scene.text_of(domain)
    if judges.npm_root():
        names = [f"{re.search(r's=([^;]+)', re.sub(chr(92) + 's', '', value)).group(1)}._domainkey.{DOMAIN}" for value in signatures]
        mailauth = judges.MailAuth(types.SimpleNamespace(records={name: scene.text_of(name).decode() for name in names}), None)
        results = mailauth._ask(message, what="verify")
        mailauth.close()
        assert [one["result"] for one in results] == ["pass"] * len(signatures), results


def test_from_printed_records_to_refused_addresses(scene):
    set_up(scene)
    ident = scene.send(*READERS)
    came = scene.arrived(ident)
    assert sorted(came) == READERS
    for transaction in came.values():
        judge(scene, transaction)

    scene.come_back(came[BOUNCED].mail_from, dsn(BOUNCED, came[BOUNCED].data))
    found = scene.feedback(ident, BOUNCED)
    assert [(one["kind"], one["reason"], one["hard"]) for one in found] == [("bounce", "user-unknown", True)]

    complaints = email.message_from_bytes(came[COMPLAINED].data)["CFBL-Address"].partition(";")[0].strip()
    scene.come_back(complaints, arf(COMPLAINED, came[COMPLAINED].data))
    assert [one["kind"] for one in scene.feedback(ident, COMPLAINED)] == ["complaint"]

    for reader, reason in ((BOUNCED, "hard-bounce"), (COMPLAINED, "complaint")):
        assert reason in wait_until(lambda reader=reader: scene.refusal(reader), 20, f"{reader} is refused", every=0.3)
    assert scene.refusal(CONTENT) is None and scene.feedback(ident, CONTENT) == []
