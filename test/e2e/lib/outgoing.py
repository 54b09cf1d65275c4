# SPDX-License-Identifier: MIT
"""What the tests of everything behind the 250 share: a relay that takes anything, and one-line submissions."""
import datetime

from . import relay as relay_module
from .message import text_message
from .process import wait_until

SENDER = "alice@client.test"


def sending_relay(make_relay, config=None, **kwargs):
    """A running relay whose listener `trusted` takes mail of any sender without a login, for the account `trusted`."""
    one = make_relay(config, **kwargs)
    one.cli("account", "add", "trusted", "--any-sender")
    return one


def send(relay, recipients, data=None, sender=SENDER, mail_options=(), rcpt_options=(), client=None, **headers):
    """One message by the trusted listener; its ID. A message of text_message() unless data is given."""
    first = recipients if isinstance(recipients, str) else recipients[0]
    if data is None:
        data = text_message(sender or "nobody@client.test", first, **headers)
    if client is not None:
        return relay_module.submit(client, sender, recipients, data, mail_options, rcpt_options)
    with relay.client("trusted") as client:
        client.ehlo()
        return relay_module.submit(client, sender, recipients, data, mail_options, rcpt_options)


def last_of(message, recipient=None):
    """The last answer of a message's (only) recipient."""
    rows = [r for r in message["recipients"] if recipient in (None, r["address"])]
    assert len(rows) == 1, rows
    return rows[0]["last"]


def attempts_of(message, recipient=None):
    rows = [r for r in message["recipients"] if recipient in (None, r["address"])]
    assert len(rows) == 1, rows
    return rows[0]["attempts"]


def seconds_of(at):
    """A time of the interface as a number."""
    return datetime.datetime.fromisoformat(at.replace("Z", "+00:00")).timestamp()


def wait_empty(relay, seconds=20.0):
    """Waits until nothing is queued any more."""
    wait_until(lambda: relay.cli("queue", "list") == [], seconds, "empty queue", every=0.2)


def wait_attempts(relay, ident, count, seconds=20.0):
    """Waits until the (only) recipient was attempted `count` times; the message."""
    return wait_until(lambda: (m := relay.message(ident)) and attempts_of(m) >= count and m, seconds,
                      f"{count} attempts of {ident}; is {relay.message(ident)}", every=0.1)


def wait_event(relay, ident, kind, seconds=20.0, count=1):
    """Waits for `count` events of that type about a message; the events."""
    def found():
        events = [e for e in relay.cli_list("events") if e["id"] == ident and e["type"] == kind]
        return events if len(events) >= count else None
    return wait_until(found, seconds, f"{count} {kind} of {ident}", every=0.1)
