# SPDX-License-Identifier: MIT
"""The whole way once: login over TLS, 250, DNS, the receiver, the recorded outcome, the end."""
import pytest
from lib.message import same_but_added, text_message
from lib.relay import Refused, submit
from lib.receiver import CLOSE


@pytest.mark.parametrize("listener", ["submission", "submissions"])
def test_delivers(relay_, receiver_, listener):
    data = text_message("alice@client.test", "bob@example.org", body="one\n.two\n")
    with relay_.client(listener, login="alice") as client:
        ident = submit(client, "alice@client.test", "bob@example.org", data)
    got = receiver_.wait_one("bob@example.org")
    assert same_but_added(data, got.data) is None
    assert f"id {ident}".encode() in got.data
    message = relay_.wait_state(ident, "delivered")
    assert message["recipients"][0]["address"] == "bob@example.org"
    assert message["recipients"][0]["attempts"] == 1
    assert relay_.stop() == 0


def test_tries_again(relay_, receiver_):
    receiver_.script("rcpt", "451 4.7.1 come back later", times=1)
    receiver_.script("mail", "421 4.3.2 closing", CLOSE, times=1)
    with relay_.client(login="alice") as client:
        ident = submit(client, "alice@client.test", "bob@example.org", text_message("alice@client.test", "bob@example.org"))
    receiver_.wait_one("bob@example.org")
    assert relay_.wait_state(ident, "delivered")["recipients"][0]["attempts"] == 3


def test_needs_a_login(relay_):
    with relay_.client() as client:
        with pytest.raises(Refused) as refused:
            submit(client, "alice@client.test", "bob@example.org", b"x\r\n")
    assert refused.value.step == "MAIL" and refused.value.code == 530
