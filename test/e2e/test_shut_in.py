# SPDX-License-Identifier: MIT
"""The relay process of a running service is shut in: no privilege, no file but its own, no other program."""
import os
import pathlib
import pwd
import stat
import time

import pytest

from lib.message import text_message
from lib.relay import submit

SENDER, RECIPIENT = "alice@client.test", "bob@example.org"
O_CLOEXEC = 0o2000000


def relay_pid(relay):
    """The guard's child."""
    guard = relay.ready["pid"]
    return int(pathlib.Path(f"/proc/{guard}/task/{guard}/children").read_text().split()[0])


def status_of(thread):
    lines = (thread / "status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def threads(relay):
    return [status_of(path) for path in pathlib.Path(f"/proc/{relay_pid(relay)}/task").iterdir()]


def check_shut_in(relay):
    for status in threads(relay):
        assert status["Seccomp"] == "2", status["Name"]
        assert status["NoNewPrivs"] == "1", status["Name"]
        for kind in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
            assert int(status[kind], 16) == 0, (status["Name"], kind)


def send(relay):
    with relay.client(login="alice") as client:
        return submit(client, SENDER, RECIPIENT, text_message(SENDER, RECIPIENT))


def test_m_relay_is_shut_in(relay_, receiver_):
    relay_.wait_state(send(relay_), "delivered")
    check_shut_in(relay_)
    limits = pathlib.Path(f"/proc/{relay_pid(relay_)}/limits").read_text()
    assert [line.split()[4] for line in limits.splitlines() if line.startswith("Max core file size")] == ["0"]
    assert relay_.http("/readyz")[0] == 200
    assert "could not be set up" not in relay_.log() and "Landlock" not in relay_.log()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_m_relay_is_another_user(make_relay, receiver_, tmp_path):
    user = pwd.getpwnam("nobody")
    for folder in (tmp_path, *tmp_path.parents):  # the way to its spool and its sockets
        if folder != pathlib.Path("/tmp") and str(folder).startswith("/tmp") and folder.stat().st_uid == 0:
            folder.chmod(folder.stat().st_mode | 0o055)
    relay = make_relay({"user": "nobody"})
    relay.add_account("alice", domains=["client.test"])
    relay.wait_state(send(relay), "delivered")
    check_shut_in(relay)
    for status in threads(relay):
        assert set(status["Uid"].split()) == {str(user.pw_uid)}
        assert set(status["Gid"].split()) == {str(user.pw_gid)}
    relay.reload()
    relay.wait_state(send(relay), "delivered")


def sockets_of(pid, *kinds):
    """The unnamed sockets of these kinds, as links in /proc/PID/fd call them."""
    found = set()
    for kind, column in kinds:
        for line in pathlib.Path(f"/proc/{pid}/net/{kind}").read_text().splitlines()[1:]:
            found.add(f"socket:[{line.split()[column]}]")
    return found


def test_m_descriptors_are_not_for_others(relay_, receiver_):
    """Every descriptor but the standard streams is closed on exec, should there ever be one. (libunbound opens its
    own, for questions and between its threads, without.)"""
    relay_.wait_state(send(relay_), "delivered")
    questions = sockets_of(relay_pid(relay_), ("udp", 9), ("udp6", 9), ("tcp", 9), ("tcp6", 9))
    open_ones = {}
    for pid in (relay_.ready["pid"], relay_pid(relay_)):
        for fd in pathlib.Path(f"/proc/{pid}/fdinfo").iterdir():
            flags = next(line for line in fd.read_text().splitlines() if line.startswith("flags:"))
            target = os.readlink(f"/proc/{pid}/fd/{fd.name}")
            if int(fd.name) > 2 and not int(flags.split()[1], 8) & O_CLOEXEC and target not in questions:
                open_ones[(pid, int(fd.name))] = target
    assert not [target for (pid, _), target in open_ones.items() if pid != relay_pid(relay_)]
    assert len(open_ones) <= 4 and all(t.startswith("socket:") for t in open_ones.values()), open_ones


def test_m_files_are_private(relay_, receiver_):
    """Nobody else reads the spool, the accounts or the history."""
    relay_.wait_state(send(relay_), "delivered")
    for key in ("spool", "state"):
        root = pathlib.Path(relay_.config[key])
        for path in (root, *root.rglob("*")):
            mode = path.lstat().st_mode
            assert stat.S_ISSOCK(mode) or not mode & 0o077, (path, oct(mode))


def test_new_maildir_needs_a_restart(make_relay, tmp_path):
    """A reload that names a folder the sandbox does not have is refused, and says what to do."""
    relay = make_relay({})
    routes = [{"match": {"recipient": "*"}, "via": f"maildir:{tmp_path}/new/%u"}]
    relay.write_config({"routes": routes})
    os.kill(relay.ready["pid"], 1)
    wait_for_log(relay, "is a new folder: restart")
    relay.add_account("alice", domains=["client.test"])
    relay.restart()
    relay.wait_state(send(relay), "delivered")


def wait_for_log(relay, text, seconds=15.0):
    end = time.monotonic() + seconds
    while text not in relay.log():
        assert time.monotonic() < end, f"{text} is not logged"
        time.sleep(0.05)
