# SPDX-License-Identifier: MIT
"""docs/INTERFACE.md, line by line, on the running program."""
import json
import pathlib

import pytest
from lib.message import text_message
from lib.process import wait_until
from lib.relay import CliError, submit

ALICE = "alice@client.test"


def send(relay, recipients="bob@example.org", **kwargs):
    with relay.client(login="alice") as client:
        return submit(client, ALICE, recipients, text_message(ALICE, recipients if isinstance(recipients, str) else recipients[0]), **kwargs)


def test_backup_and_restore(make_relay, receiver_, tmp_path):
    relay = make_relay({"retry": {"first": "1h", "max": "1h", "lifetime": "1d"}})
    relay.add_account("alice", domains=["client.test"])
    receiver_.script("rcpt", "451 4.7.1 come back later", times=1)
    ident = send(relay)
    wait_until(lambda: relay.message(ident)["recipients"][0]["attempts"] == 1, 10, "the first attempt")
    copy = tmp_path / "copy"
    assert relay.cli("backup", copy) == {"backup": str(copy)}
    assert relay.run("backup", copy, check=False).returncode == 65
    assert relay.run("restore", copy, check=False).returncode == 75
    assert relay.stop() == 0
    assert relay.run("backup", tmp_path / "other", check=False).returncode == 69
    assert relay.run("restore", copy, check=False).returncode == 65
    assert relay.run("restore", tmp_path / "none", check=False).returncode == 66
    restored = make_relay(relay.config | {"spool": str(tmp_path / "spool2"), "state": str(tmp_path / "state2")}, start=False)
    assert restored.cli("restore", copy)["restored"] == str(copy)
    for _ in range(2):  # a restart does not end the hold
        restored.start()
        assert restored.states(ident) == {"bob@example.org": "held"}
        assert restored.cli("message", "why", ident)["limit"] == "hold"
        assert restored.stop() == 0
    restored.start()
    assert [a["account"] for a in restored.cli_list("account", "list")] == ["alice"]
    assert restored.cli("queue", "retry", "--all")["matched"] == 0
    assert restored.states(ident) == {"bob@example.org": "held"}
    assert restored.cli("queue", "release", "--all") == {"matched": 1, "changed": 1, "dry_run": False}
    restored.restart()  # nor does it come back
    restored.wait_state(ident, "delivered")
    receiver_.wait_one("bob@example.org")
