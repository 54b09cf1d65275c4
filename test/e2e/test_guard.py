# SPDX-License-Identifier: MIT
"""Two processes: the guard keeps a relay running; the relay never outlives the guard."""
import os
import pathlib
import signal
import time

from lib.message import text_message
from lib.relay import submit

SENDER, RECIPIENT = "alice@client.test", "bob@example.org"


def relay_pid(relay):
    """The guard's child."""
    guard = relay.ready["pid"]
    return int(pathlib.Path(f"/proc/{guard}/task/{guard}/children").read_text().split()[0])


def wait_for(condition, seconds=15.0):
    end = time.monotonic() + seconds
    while not (answer := condition()):
        assert time.monotonic() < end, "too slow"
        time.sleep(0.05)
    return answer


def send(relay):
    with relay.client(login="alice") as client:
        return submit(client, SENDER, RECIPIENT, text_message(SENDER, RECIPIENT))


def test_guard_restarts_the_relay(relay_, receiver_):
    receiver_.script("rcpt", "451 4.7.1 come back later", times=1)
    before = send(relay_)
    relay_.wait_state(before, "queued")
    first = relay_pid(relay_)
    os.kill(first, signal.SIGKILL)

    def another():
        children = pathlib.Path(f"/proc/{relay_.ready['pid']}/task/{relay_.ready['pid']}/children").read_text().split()
        return children and int(children[0]) != first

    wait_for(another)
    wait_for(lambda: relay_.log().count("ready pid=") >= 2 or relay_.log().count('"ready"') >= 2)
    after = send(relay_)
    for ident in (before, after):  # what was kept is delivered as well as what came later
        relay_.wait_state(ident, "delivered")


def test_relay_ends_with_the_guard(relay_):
    relay = relay_pid(relay_)
    os.kill(relay_.ready["pid"], signal.SIGKILL)

    def gone():
        status = pathlib.Path(f"/proc/{relay}/stat")
        return not status.exists() or status.read_text().rpartition(")")[2].split()[0] == "Z"

    wait_for(gone, 5)
