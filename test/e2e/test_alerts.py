# SPDX-License-Identifier: MIT
"""Alerts: what goes wrong while the service runs is logged, shown as a metric, told to a command; and is over again."""
import contextlib
import json
import os
import pathlib
import socket
import time

import pytest
from lib import network
from lib.message import text_message
from lib.process import json_lines, wait_until
from lib.relay import submit

NAMES = {"certificate", "disk", "spool", "resolver", "deferrals", "lane"}


@pytest.fixture
def told(tmp_path):
    """The alerts that the command was told of, each an object."""
    def read():
        path = tmp_path / "told"
        return json_lines(path) if path.exists() else []
    return read


def alerts(relay):
    """{name: raised} as the metrics say; the control socket says the same."""
    shown = {name.split('"')[1]: bool(value) for name, value in relay.metrics().items() if name.startswith("posthaste_alert{")}
    assert set(shown) == NAMES
    listed = relay.control("GET", "/v1/alerts")["alerts"]
    assert [one["alert"] for one in listed] == [name for name in ("certificate", "disk", "spool", "resolver", "deferrals", "lane")]
    for one in listed:
        assert set(one) == {"alert", "raised", "since", "text"} and (one["since"] is None) == (one["text"] is None) == (not one["raised"])
    return {one["alert"] for one in listed if one["raised"]}


def config(tmp_path, **changes):
    return {"alerts": {"command": f"cat >> {tmp_path}/told", "look_every": "1s", **changes}}


def test_certificate(make_relay, authority, tmp_path, told):
    """Raised, logged, told, found by the doctor; over once the certificate is renewed."""
    pair = authority.issue("relay.test", stem="own", to_days=3)
    relay = make_relay({**config(tmp_path), "tls": {"certificate": str(pair.certificate), "key": str(pair.key)}})
    wait_until(lambda: alerts(relay) == {"certificate"}, 20)
    wait_until(told, 10)
    one, = told()
    assert set(one) == {"at", "hostname", "alert", "state", "text"}
    assert (one["hostname"], one["alert"], one["state"]) == ("relay.test", "certificate", "raised") and "71 hours" in one["text"]
    wait_until(lambda: "error alert alert=certificate" in relay.log())  # lines are written at the end of a turn
    assert relay.log().count("error alert alert=certificate") == 1
    found = json.loads(relay.run("doctor", "--json", check=False).stdout)
    assert [(f["subject"], f["state"]) for f in found["findings"] if f["id"] == "alert"] == [("certificate", "fail")]
    time.sleep(3)
    assert len(told()) == 1  # once
    authority.issue("relay.test", stem="own", to_days=90)
    relay.reload()
    wait_until(lambda: alerts(relay) == set(), 20)
    wait_until(lambda: len(told()) == 2, 10)
    assert told()[1]["state"] == "over"
    wait_until(lambda: "alert is over alert=certificate" in relay.log())


def test_resolver(make_relay, dns, tmp_path, told):
    """A DNS that answers nothing, while mail asks it; over with its answers."""
    relay = make_relay({**config(tmp_path), "routes": [{"via": f"mx:{network.smtp_port()}"}]})
    relay.add_account("alice", domains=["client.test"])
    with relay.client(login="alice") as client:
        dns.servfail("")
        for n in range(4):
            submit(client, "a@client.test", f"b@d{n}.example.org", text_message("a@client.test", f"b@d{n}.example.org"))
        wait_until(lambda: "resolver" in alerts(relay), 40)
        dns.rcode("", None)

        def answered():
            client.docmd("MAIL", "FROM:<a@client.test>")
            client.docmd("RCPT", f"TO:<b@{os.urandom(4).hex()}.example.net>")
            client.docmd("RSET")
            time.sleep(0.5)
            return "resolver" not in alerts(relay)
        wait_until(answered, 40)
    wait_until(lambda: [one["state"] for one in told() if one["alert"] == "resolver"] == ["raised", "over"], 10)


def test_lane_stuck(make_relay, dns, tmp_path, told):
    """A site that can't be reached for longer than alerts.stuck_after."""
    dns.mx("dead.test", "mx.dead.test")
    dns.a("mx.dead.test", "127.0.0.77")
    relay = make_relay({**config(tmp_path, stuck_after="2s"), "retry": {"first": "30s", "max": "60s", "lifetime": "1h", "warn_after": "none"}})
    relay.add_account("alice", domains=["client.test"])
    with relay.client(login="alice") as client:
        submit(client, "a@client.test", "b@dead.test", text_message("a@client.test", "b@dead.test"))
    wait_until(lambda: "lane" in alerts(relay), 30)
    wait_until(told, 10)
    assert "mx.dead.test" in told()[0]["text"] and "recipients wait" in told()[0]["text"]
    relay.cli("queue", "delete", "--all")
    wait_until(lambda: alerts(relay) == set(), 30)


def test_lane_stuck_while_it_tries(make_relay, dns, tmp_path):
    """A site that neither takes connections nor refuses them: most of the time an attempt is under way."""
    address = network.new_address()
    dns.mx("hole.test", "mx.hole.test")
    dns.a("mx.hole.test", address)
    relay = make_relay({**config(tmp_path, stuck_after="4s"), "retry": {"first": "1s", "max": "1s", "lifetime": "1h", "warn_after": "none"}})
    relay.add_account("alice", domains=["client.test"])
    with relay.client(login="alice") as client:
        submit(client, "a@client.test", "b@hole.test", text_message("a@client.test", "b@hole.test"))
    wait_until(lambda: any(lane["text"] for lane in relay.cli_list("queue", "lanes")), what="a first failure")
    with contextlib.ExitStack() as stack:
        hole = stack.enter_context(socket.create_server((address, network.smtp_port()), backlog=0))
        for _ in range(3):  # a full backlog: the kernel lets no connection come about
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(hole.getsockname())
        wait_until(lambda: "lane" in alerts(relay))


def test_command(make_relay, authority, tmp_path):
    """It is no root's, gets nothing on its command line, may fail or hang without harm; a reload changes it."""
    pair = authority.issue("relay.test", stem="own", to_days=3)
    changes = {"tls": {"certificate": str(pair.certificate), "key": str(pair.key)},
               "alerts": {"command": f"id -u > {tmp_path}/who; tr '\\0' ' ' < /proc/$$/cmdline > {tmp_path}/line; grep NoNew /proc/self/status > {tmp_path}/status; "
                                     f"env > {tmp_path}/env; ls -l /proc/self/fd > {tmp_path}/fds; exit 3", "look_every": "1s"}}
    relay = make_relay(changes)
    wait_until(lambda: "alerts.command failed exit_code=3" in relay.log(), 20)
    assert "hours" not in (tmp_path / "line").read_text()
    assert (tmp_path / "status").read_text().split()[1] == "1"
    assert "POSTHASTE" not in (tmp_path / "env").read_text()
    assert "socket:" not in (tmp_path / "fds").read_text()
    shown = relay.run("config", "show").stdout
    assert "********" in shown and "id -u" not in shown
    assert relay.http("/readyz")[0] == 200


def test_without_a_command(make_relay, authority, tmp_path):
    pair = authority.issue("relay.test", stem="own", to_days=3)
    relay = make_relay({"tls": {"certificate": str(pair.certificate), "key": str(pair.key)}, "alerts": {"look_every": "1s"}})
    wait_until(lambda: alerts(relay) == {"certificate"}, 20)
    children = pathlib.Path(f"/proc/{relay.ready['pid']}/task/{relay.ready['pid']}/children").read_text().split()
    assert len(children) == 2  # relay and signer
