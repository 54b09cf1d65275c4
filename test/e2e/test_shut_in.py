# SPDX-License-Identifier: MIT
"""The relay process of a running service is shut in: no privilege, no file but its own, no other program."""
import os
import pathlib
import pwd
import re
import signal
import smtplib
import ssl
import stat

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from lib.certs import Authority
from lib.message import text_message
from lib.process import wait_until
from lib.relay import submit

SENDER, RECIPIENT = "alice@client.test", "bob@example.org"
O_CLOEXEC = 0o2000000


def status_of(thread):
    lines = (thread / "status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def threads(relay, pid=None):
    return [status_of(path) for path in pathlib.Path(f"/proc/{pid or relay.relay_pid()}/task").iterdir()]


def check_shut_in(relay, pid=None):
    for status in threads(relay, pid):
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
    assert relay_.http("/readyz")[0] == 200
    assert {"main", "spool", "dns", "worker0"} <= {status["Name"] for status in threads(relay_)}
    assert "could not be set up" not in relay_.log() and "Landlock" not in relay_.log()


def test_m_no_process_leaves_a_core(relay_):
    """Not the guard either, which has the certificates' keys: soft and hard limit."""
    pids = relay_.pids()
    assert len(pids) == 3
    for pid in pids:
        limits = pathlib.Path(f"/proc/{pid}/limits").read_text()
        assert [line.split()[4:6] for line in limits.splitlines() if line.startswith("Max core file size")] == [["0", "0"]], pid


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
    questions = sockets_of(relay_.relay_pid(), ("udp", 9), ("udp6", 9), ("tcp", 9), ("tcp6", 9))
    open_ones = {}
    for pid in (relay_.ready["pid"], relay_.relay_pid()):
        for fd in pathlib.Path(f"/proc/{pid}/fdinfo").iterdir():
            try:
                flags = next(line for line in fd.read_text().splitlines() if line.startswith("flags:"))
                target = os.readlink(f"/proc/{pid}/fd/{fd.name}")
            except FileNotFoundError:  # closed meanwhile
                continue
            if int(fd.name) > 2 and not int(flags.split()[1], 8) & O_CLOEXEC and target not in questions:
                open_ones[(pid, int(fd.name))] = target
    assert not [target for (pid, _), target in open_ones.items() if pid != relay_.relay_pid()]
    assert len(open_ones) <= 4 and all(t.startswith("socket:") for t in open_ones.values()), open_ones


def test_m_files_are_private(relay_, receiver_):
    """Nobody else reads the spool, the accounts or the history."""
    relay_.wait_state(send(relay_), "delivered")
    for key in ("spool", "state"):
        root = pathlib.Path(relay_.config[key])
        for path in (root, *root.rglob("*")):
            try:
                mode = path.lstat().st_mode
            except FileNotFoundError:  # removed meanwhile
                continue
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


def wait_for_log(relay, text):
    wait_until(lambda: text in relay.log(), what=f"{text} is logged")


# ---- private keys ----------------------------------------------------------------------------------

def secrets_of(key):
    """What no other process may hold: the private numbers in both byte orders, and the file's own text."""
    numbers = key.private_numbers()
    wanted = [numbers.private_value] if isinstance(key, ec.EllipticCurvePrivateKey) else [numbers.p, numbers.q, numbers.d]
    found = []
    for number in wanted:
        size = (number.bit_length() + 7) // 8
        found += [number.to_bytes(size, "big")[:32], number.to_bytes(size, "little")[:32]]
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return found + [pem.splitlines()[2]]


def holds(pid, secrets):
    """The secrets that stand anywhere in a process's memory."""
    found = set()
    with open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for line in pathlib.Path(f"/proc/{pid}/maps").read_text().splitlines():
            first, last = (int(part, 16) for part in re.match(r"([0-9a-f]+)-([0-9a-f]+) r", line).groups()) \
                if re.match(r"[0-9a-f]+-[0-9a-f]+ rw", line) else (0, 0)
            if first == last:
                continue
            memory.seek(first)
            try:
                data = memory.read(last - first)
            except OSError:
                continue
            found |= {i for i, secret in enumerate(secrets) if secret in data}
    return found


def shake_hands(relay, version):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = context.maximum_version = version
    with smtplib.SMTP_SSL("127.0.0.1", relay.listener("submissions")[1], context=context, timeout=60) as client:
        assert client.noop()[0] == 250
        return client.sock.getpeercert(True)


def test_m_signer_is_shut_in(relay_):
    """The process with the private keys has no privilege, no socket of the network and no file."""
    shake_hands(relay_, ssl.TLSVersion.TLSv1_3)  # it serves
    signer, = relay_.children()["signer"]
    check_shut_in(relay_, signer)
    assert len(threads(relay_, signer)) >= min(os.cpu_count(), 2)
    fds = {os.readlink(fd) for fd in pathlib.Path(f"/proc/{signer}/fd").iterdir() if int(fd.name) > 2}
    assert all(fd.startswith(("socket:", "anon_inode:[eventpoll]")) for fd in fds), fds
    assert not fds & sockets_of(signer, ("udp", 9), ("udp6", 9), ("tcp", 9), ("tcp6", 9))


def test_signer_is_restarted(relay_, receiver_):
    """Who asks for a signature meanwhile waits a moment."""
    shake_hands(relay_, ssl.TLSVersion.TLSv1_3)
    for _ in range(3):
        signer, = relay_.children()["signer"]
        os.kill(signer, signal.SIGKILL)
        shake_hands(relay_, ssl.TLSVersion.TLSv1_3)
        wait_until(lambda before=signer: relay_.children()["signer"] not in ([before], []), what="another signer")
    check_shut_in(relay_, relay_.children()["signer"][0])
    relay_.wait_state(send(relay_), "delivered")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can read another process's memory")
@pytest.mark.parametrize("kind", ["ec", "rsa"])
def test_m_private_key_stays_in_the_guard(make_relay, tmp_path, kind):
    """The relay, who talks to the network, never has the key: not at the start, not after a reload, not as a
    relay that is started again. (The guard does have it: the search finds what is there.)"""
    authority = Authority(tmp_path / "ca")
    keys = [ec.generate_private_key(ec.SECP256R1()) if kind == "ec" else rsa.generate_private_key(65537, 2048)
            for _ in range(2)]
    pair = authority.issue("relay.test", stem="own", key=keys[0])
    relay = make_relay({"tls": {"certificate": str(pair.certificate), "key": str(pair.key)}})
    secrets = [secret for key in keys for secret in secrets_of(key)]
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        before = shake_hands(relay, version)
    assert not holds(relay.relay_pid(), secrets)
    assert holds(relay.ready["pid"], secrets)
    authority.issue("relay.test", stem="own", key=keys[1])
    relay.reload()
    assert shake_hands(relay, ssl.TLSVersion.TLSv1_3) != before
    assert not holds(relay.relay_pid(), secrets)
    first = relay.relay_pid()
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: relay.log().count(" ready ") >= 2, what="another relay")
    assert relay.relay_pid() != first
    shake_hands(relay, ssl.TLSVersion.TLSv1_3)
    assert not holds(relay.relay_pid(), secrets)
