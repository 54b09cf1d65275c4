# SPDX-License-Identifier: MIT
"""Outgoing mail is signed with DKIM: judged by python3-dkim with the records that the service said to publish."""
import re

import dkim
import pytest

from lib.message import field_name, same_but_added, split, text_message
from lib.process import wait_until
from lib.relay import submit

DOMAIN = "client.test"
SENDER, RECIPIENT = "alice@client.test", "bob@example.org"
QUICK = {"dkim": {"check_every": "1s"}}
ADDED = {b"received", b"date", b"message-id", b"dkim-signature"}


def keys_of(relay, domain=DOMAIN, state=None):
    return [key for key in relay.cli_list("dkim", "list") if key["domain"] == domain and state in (None, key["state"])]


def name_of(key):
    return f"{key['selector']}._domainkey.{key['domain']}"


def publish(dns, key):
    dns.remove(name_of(key))
    dns.txt(name_of(key), key["record"])


def made(relay, count=2, domain=DOMAIN, state="new"):
    """The keys that the service has made."""
    return wait_until(lambda: len(keys := keys_of(relay, domain, state)) == count and keys, 30,
                      f"{count} {state} keys of {domain}", every=0.2)


def set_up(relay, dns, account="alice", domain=DOMAIN, count=2):
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
    one = make_relay(QUICK)
    one.add_account("alice", domains=[DOMAIN])
    return one


def test_signed_with_both(relay, dns, receiver_):
    """RSA and Ed25519 on one message, aligned with From; nothing else is changed."""
    before, _ = send(relay)
    assert not signatures(receiver_.wait_one().data)  # nothing is published yet
    set_up(relay, dns)
    ident, sent = send(relay)
    relay.wait_state(ident, "delivered")
    got = receiver_.messages()[-1].data
    found = verify_all(relay, got)
    assert [(one["a"], one["d"], one["c"]) for one in found] == [
        ("ed25519-sha256", DOMAIN, "relaxed/relaxed"), ("rsa-sha256", DOMAIN, "relaxed/relaxed")]
    assert not any("l" in one for one in found)
    for one in found:
        names = one["h"].lower().split(":")
        assert all(names.count(name) > 1 for name in ("from", "to", "subject", "date", "message-id"))
    assert same_but_added(sent, got, ADDED) is None
    relay.wait_state(before, "delivered")
