# SPDX-License-Identifier: MIT
"""Three processes: the guard keeps a relay running; the relay never outlives the guard."""
import contextlib
import ctypes
import fcntl
import http.client
import json
import os
import pathlib
import re
import resource
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time

import pytest

from lib import network
from lib.message import text_message
from lib.process import TOP, die_with_parent
from lib.relay import BINARY, submit

SENDER, RECIPIENT = "alice@client.test", "bob@example.org"


def wait_for(condition, seconds=60.0):
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
    wait_for(lambda: [c for c in receiver_.commands if c.startswith("RCPT")])
    first = relay_.relay_pid()
    os.kill(first, signal.SIGKILL)

    def another():
        relays = relay_.children()["relay"]
        return relays and relays[0] != first

    wait_for(another)
    wait_for(lambda: relay_.log().count("ready pid=") >= 2 or relay_.log().count('"ready"') >= 2)
    after = send(relay_)
    for ident in (before, after):  # what was kept is delivered as well as what came later
        relay_.wait_state(ident, "delivered")


@contextlib.contextmanager
def failing_once(pid, call, which):
    """The which-th (N, or N+ for the later ones, too) of these system calls of the process fails. Gives what tells how many did."""
    tracer = subprocess.Popen(["strace", "-p", str(pid), "-e", f"trace={call}", "-e", "signal=none",
                               "-e", f"inject={call}:error=EMFILE:when={which}"], stderr=subprocess.PIPE, text=True, preexec_fn=die_with_parent)
    lines = []
    try:
        assert "attached" in tracer.stderr.readline()
        yield lines
    finally:
        tracer.terminate()
        lines += tracer.communicate()[1].splitlines()


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("strace"), reason="needs root and strace")
def test_a_relay_that_cannot_be_told_is_killed(relay_, receiver_):
    """It has its configuration, but not its certificate: it would wait for that as long as the guard lives."""
    first = relay_.relay_pid()
    with failing_once(relay_.ready["pid"], "memfd_create", 2) as calls:
        os.kill(first, signal.SIGKILL)
        wait_for(lambda: relay_.log().count("ready pid=") >= 2)
    assert sum("(INJECTED)" in line for line in calls) == 1 and len(calls) >= 4, calls
    wait_for(lambda: len(relay_.children()["relay"]) == 1)
    assert relay_.relay_pid() != first
    relay_.wait_state(send(relay_), "delivered")


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("strace"), reason="needs root and strace")
@pytest.mark.parametrize("call,which,command,code", [("memfd_create", "1+", ["config", "reload"], 78), ("sendmsg", "1", ["upgrade"], 65)],
                         ids=["reload", "upgrade"])
def test_who_asked_hears_that_the_relay_cannot_be_told(relay_, receiver_, call, which, command, code):
    """At once, and whoever asks next is served."""
    first = relay_.relay_pid()
    with failing_once(relay_.ready["pid"], call, which) as calls:
        refused = relay_.run(*command, check=False, timeout=30)
    assert any("(INJECTED)" in line for line in calls), calls
    assert refused.returncode == code and "the relay cannot be told" in refused.stderr, refused
    assert relay_.relay_pid() == first
    relay_.run(*command)
    relay_.wait_state(send(relay_), "delivered")


def test_relay_ends_with_the_guard(relay_):
    relay = relay_.relay_pid()
    os.kill(relay_.ready["pid"], signal.SIGKILL)

    def gone():
        status = pathlib.Path(f"/proc/{relay}/stat")
        return not status.exists() or status.read_text().rpartition(")")[2].split()[0] == "Z"

    wait_for(gone)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: gives folders to another user")
def test_only_the_folder_itself_is_given(make_relay):
    """What the service's user puts in the place of its folder, a link to one of root's, stays root's, also where a link of root's
    leads there; the start says why, and does not ask for another one."""
    relay = make_relay({"user": "nobody"}, start=False)
    victim, place, link = (relay.folder / name for name in ("victim", "place", "link"))
    for folder in (victim, place):
        folder.mkdir()
    os.chown(place, 65534, 65534)
    (place / "state").symlink_to(victim)
    os.chown(place / "state", 65534, 65534, follow_symlinks=False)
    link.symlink_to(place / "state")
    for state in (place / "state", link):
        relay.write_config({"state": str(state)})
        served = subprocess.run([str(BINARY), "serve", "--config", str(relay.config_file)], capture_output=True, text=True, timeout=60, check=False)
        assert "cannot give directory to user" in served.stderr and "a symbolic link on the way is not root's" in served.stderr, served.stderr
        assert served.returncode == 77
        assert (victim.stat().st_uid, list(victim.iterdir())) == (0, [])


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: gives folders to another user")
def test_root_that_may_only_give(make_relay):
    """Each start gives the folders that are given already, by a link of root's, too: that takes no right to what is in them."""
    with tempfile.TemporaryDirectory() as open_to_all:
        folder = pathlib.Path(open_to_all)
        folder.chmod(0o755)
        place = folder / "place"
        for made in (place, folder / "elsewhere"):
            made.mkdir()
        os.chown(place, 65534, 65534)
        (place / "state").symlink_to(folder / "elsewhere")
        relay = make_relay({"user": "nobody", "spool": str(folder / "spool"), "state": str(place / "state")}, start=False)
        for _ in range(2):
            relay.start(wrapper=["setpriv", "--bounding-set=-all,+chown,+setuid,+setgid,+kill", "--inh-caps=-all"])
            assert relay.stop() == 0
        assert {(folder / name).stat().st_uid for name in ("spool", "elsewhere")} == {65534}


# ---- upgrade ---------------------------------------------------------------------------------------------

def replace(program, text=None):
    """Another file under the program's name, as a package manager does it."""
    new = program.with_name("posthaste.new")
    if text is None:
        shutil.copy(BINARY, new)
    else:
        new.write_text(text)
    new.chmod(0o755)
    new.rename(program)


def run_own_program(relay, monkeypatch, tmp_path):
    program = tmp_path / "posthaste"
    replace(program)
    monkeypatch.setattr("lib.relay.BINARY", program)
    relay.restart()
    return program


def test_upgrade(relay_, receiver_, monkeypatch, tmp_path):
    """The same guard process becomes the new program; ports, what is kept and who waits stay."""
    program = run_own_program(relay_, monkeypatch, tmp_path)
    receiver_.script("rcpt", "451 4.7.1 come back later", times=1)
    before = send(relay_)
    wait_for(lambda: [c for c in receiver_.commands if c.startswith("RCPT")])
    ready, first = dict(relay_.ready), relay_.relay_pid()
    idle = relay_.client(login="alice")
    replace(program)
    answer = relay_.cli("upgrade")
    assert answer["from"] == answer["to"] == ready["version"] and answer["pid"] == ready["pid"]
    assert relay_.relay_pid() != first
    assert os.readlink(f"/proc/{ready['pid']}/exe") == str(program)
    assert relay_.process.running()
    with idle:
        assert idle.noop()[0] in (250, 421)  # told that it ends, as at a stop
    after = send(relay_)  # at the same ports
    with socket.create_connection((ready["http"]["address"], ready["http"]["port"]), timeout=60):
        pass
    for ident in (before, after):
        relay_.wait_state(ident, "delivered")


def test_upgrade_is_refused(relay_, receiver_, monkeypatch, tmp_path):
    """A program that does not run, or does not take the configuration, never gets to serve."""
    program = run_own_program(relay_, monkeypatch, tmp_path)
    first = relay_.relay_pid()
    monkeypatch.setattr("lib.relay.BINARY", BINARY)
    for text in ("#!/bin/false\n", "no program at all"):
        replace(program, text)
        run = relay_.run("upgrade", check=False)
        assert run.returncode == 65 and "goes on" in run.stderr
    replace(program)
    good = relay_.config_file.read_text()
    relay_.config_file.write_text(good + "nonsense: 1\n")  # for the command, which reads it, too
    run = relay_.run("upgrade", check=False)
    assert run.returncode == 78 and "unknown key 'nonsense'" in run.stderr
    relay_.config_file.write_text(good + "bounce: {rules: /nonexistent}\n")  # for the new program alone
    run = relay_.run("upgrade", check=False)
    assert run.returncode == 65 and "refuses the configuration" in run.stderr
    relay_.config_file.write_text(good)
    assert relay_.relay_pid() == first
    send(relay_)

def kill_relay(relay):
    """kill -9 of the relay process; returns once another one serves."""
    first, before = relay.relay_pid(), relay.log().count("ready pid=")
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: relay.log().count("ready pid=") > before)


def test_upgrade_to_a_program_that_goes_away(relay_, receiver_, monkeypatch, tmp_path):
    """It agrees, and cannot be started: the running program goes on, with a relay and a signer."""
    program = run_own_program(relay_, monkeypatch, tmp_path)
    first = relay_.children()
    monkeypatch.setattr("lib.relay.BINARY", BINARY)
    replace(program, '#!/bin/sh\nrm "$0"\n')
    relay_.run("upgrade", check=False)
    wait_for(lambda: "cannot start the installed program" in relay_.log())
    wait_for(lambda: all(now and now != first[name] for name, now in relay_.children().items()))
    wait_for(lambda: relay_.log().count("ready pid=") >= 2)
    relay_.wait_state(send(relay_), "delivered")  # over STARTTLS: the signer has the key


def test_refused_reload_leaves_what_last_worked(make_relay, receiver_, pair):
    relay = make_relay(start=False)
    certificate, key = relay.folder / "own.pem", relay.folder / "own.key"
    shutil.copy(pair.certificate, certificate)
    shutil.copy(pair.key, key)
    relay.write_config({"tls": {"certificate": str(certificate), "key": str(key)}})
    relay.start()
    relay.add_account("alice", domains=["client.test"])
    listeners, trusted = relay.config["listeners"], relay.listener("trusted")
    # No certificate, and a listener less: the guard can read it, only the relay sees that it can't work.
    certificate.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    relay.reload({"listeners": [one for one in listeners if one["name"] != "trusted"]})
    wait_for(lambda: "reload refused" in relay.log())
    kill_relay(relay)
    ident = send(relay)  # over STARTTLS
    socket.create_connection(trusted, timeout=60).close()
    relay.wait_state(ident, "delivered")
    shutil.copy(pair.certificate, certificate)
    relay.reload()
    kill_relay(relay)
    send(relay)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(trusted, timeout=60)


@pytest.mark.parametrize("signer_dies", [True, False])
def test_refused_reloads_leave_the_key(make_relay, signer_dies):
    """Each brings a key of its own where we sign our certificate ourselves; the one in use is there after any number of them."""
    relay = make_relay({"tls": {"certificate": None, "key": None, "self_signed": True}})
    relay.authority = None  # nobody's certificate
    for _ in range(17):
        relay.reload({"bounce": {"rules": "/nonexistent"}})
    assert relay.log().count("reload refused") == 17
    if signer_dies:
        signer, = relay.children()["signer"]
        os.kill(signer, signal.SIGKILL)
        wait_for(lambda: relay.children()["signer"] not in ([signer], []))
    with relay.client() as client:  # over STARTTLS
        assert client.noop()[0] == 250


@pytest.mark.parametrize("reloaded", [True, False], ids=["reload refused", "no reload"])
def test_files_stay_what_last_worked(make_relay, receiver_, reloaded):
    """A relay that dies after a file was spoiled that the configuration names is followed by one that serves."""
    relay = make_relay(start=False)
    table, rules = relay.folder / "recipients", relay.folder / "rules"
    table.write_text("bob@example.org\n")
    rules.write_text("rules:\n  - {name: house, reason: moved, words: gone fishing}\n")
    via = f"smtp://{receiver_.address}:{receiver_.port}"
    relay.write_config({"routes": [{"match": {"recipient": "example.org"}, "recipients": str(table), "via": via}], "bounce": {"rules": str(rules)}})
    relay.start()
    relay.add_account("alice", domains=["client.test"])
    table.write_text("no address\n")
    rules.unlink()
    if reloaded:
        relay.reload()
        assert "reload refused" in relay.log()
    kill_relay(relay)
    relay.wait_state(send(relay), "delivered")


def test_a_refused_certificate_is_tried_once(make_relay, pair):
    """Another path in the file, or other files at the old one: refused once, and read again when they change again."""
    relay = make_relay(start=False)
    certificate, key = relay.folder / "own.pem", relay.folder / "own.key"
    shutil.copy(pair.certificate, certificate)
    shutil.copy(pair.key, key)
    good = {"tls": {"certificate": str(certificate), "key": str(key)}}
    relay.write_config(good)
    relay.start()
    other = relay.folder / "other.pem"
    shutil.copy(pair.certificate, other)
    relay.reload({"tls": {"certificate": str(other), "key": str(relay.folder / "missing.key")}})
    assert relay.log().count("reload refused") == 1
    time.sleep(5)  # it looks every two seconds
    assert relay.log().count("reloading") == 1, relay.log()
    relay.write_config(good)
    other.write_text("no certificate")
    other.rename(certificate)  # at once: a half written one would be another change
    wait_for(lambda: relay.log().count("reload refused") == 2)
    time.sleep(5)
    assert relay.log().count("reloading") == 2, relay.log()
    shutil.copy(pair.certificate, certificate)
    wait_for(lambda: "reloaded" in relay.log())


@pytest.mark.parametrize("key", ["certificate", "key", "authorities", "client_authorities"])
def test_a_fifo_does_not_hang_the_check(make_relay, pair, key):
    relay = make_relay(start=False)
    os.mkfifo(relay.folder / "fifo")
    relay.write_config({"tls": {"certificate": str(pair.certificate), "key": str(pair.key), key: str(relay.folder / "fifo")}})
    refused = relay.run("check-config", check=False, timeout=20)
    assert refused.returncode == 78 and f"tls.{key}: {relay.folder / 'fifo'}: is a FIFO" in refused.stderr, refused.stderr


@pytest.mark.parametrize("what", ["posthaste.yaml", "own.pem", "own.key"])
def test_a_fifo_does_not_hang_the_guard(make_relay, pair, what):
    """In the place of its configuration, certificate or key: a reload and an upgrade are refused, and SIGTERM is heard."""
    relay = make_relay(start=False)
    certificate, key = relay.folder / "own.pem", relay.folder / "own.key"
    shutil.copy(pair.certificate, certificate)
    shutil.copy(pair.key, key)
    relay.write_config({"tls": {"certificate": str(certificate), "key": str(key)}})
    relay.start()
    (relay.folder / what).unlink()
    os.mkfifo(relay.folder / what)
    relay.process.signal(signal.SIGHUP)
    wait_for(lambda: "reload refused" in relay.log())
    assert 'error="it is a FIFO"' in relay.log()
    checked, upgraded = (relay.run(command, check=False, timeout=60) for command in ("check-config", "upgrade"))
    assert checked.returncode == 78 and "is a FIFO" in checked.stderr
    if what == "posthaste.yaml":  # the command reads it, too
        assert upgraded.returncode == 78 and "is a FIFO" in upgraded.stderr
    else:
        assert upgraded.returncode == 65 and f"{relay.folder / what}: is a FIFO" in relay.log()  # the new program has said it
    assert relay.stop() == 0
    again = subprocess.run([BINARY, "serve", "--config", relay.config_file], capture_output=True, text=True, timeout=60, check=False)
    assert again.returncode == 78 and 'error="it is a FIFO"' in again.stderr


def with_fixed_ports(relay):
    """The configuration with the ports that the kernel chose."""
    listeners = [{**one, "address": "%s:%d" % relay.listener(one["name"])} for one in relay.config["listeners"]]
    relay.write_config({"listeners": listeners, "http": {"address": "127.0.0.1:%d" % relay.ready["http"]["port"]}})


def test_starts_at_once_after_kill(relay_, receiver_):
    with_fixed_ports(relay_)
    for _ in range(8):
        ident = send(relay_)
        # Not waiting for their end: what they hold may still be held when the next one starts.
        for pid in relay_.pids():
            with contextlib.suppress(ProcessLookupError):  # the others die with the guard
                os.kill(pid, signal.SIGKILL)
        old = relay_.process
        relay_.start()
        old.popen.wait(10)
        relay_.wait_state(ident, "delivered")


@pytest.mark.parametrize("which", ["spool", "state"])
def test_waits_for_a_lock_that_is_let_go(relay_, receiver_, which):
    relay_.stop()
    lock, = pathlib.Path(relay_.config[which]).glob("*lock")
    with open(lock, "r+b") as held:
        fcntl.flock(held, fcntl.LOCK_EX)

        def let_go():
            wait_for(lambda: "waiting for a lock" in relay_.log())
            fcntl.flock(held, fcntl.LOCK_UN)

        other = threading.Thread(target=let_go)
        other.start()
        relay_.start()
        other.join()
    relay_.wait_state(send(relay_), "delivered")


def test_a_second_service_is_told_of_the_first(relay_, receiver_):
    second = subprocess.run([BINARY, "serve", "--config", relay_.config_file], capture_output=True, text=True, timeout=120,
                            check=False)
    assert second.returncode == 75, second
    assert f"pid={relay_.ready['pid']}" in second.stderr, second.stderr
    assert "waiting" not in second.stderr
    send(relay_)


def greetings(relay, count):
    """The reply codes that as many connections at once are greeted with."""
    sockets = [socket.create_connection(relay.listener(), timeout=60) for _ in range(count)]
    codes = [one.makefile("rb").readline()[:3] for one in sockets]
    for one in sockets:
        one.close()
    wait_for(lambda: relay.metrics()["posthaste_sessions"] == 0)
    return codes


def test_reload_takes_over_session_limits(relay_):
    assert greetings(relay_, 4) == [b"220"] * 4
    for limits, want in (({"sessions_per_address": 2}, 2), ({"sessions_per_address": 100, "sessions": 3}, 3),
                         ({"sessions_per_address": 100, "sessions": 1000}, 4)):
        relay_.reload({"limits": limits})
        wait_for(lambda want=want: greetings(relay_, 4).count(b"220") == want)


@pytest.mark.parametrize("key", ["control", "sendmail"])
def test_a_file_is_no_abandoned_socket(make_relay, key):
    """A path mistyped, so that it names somebody's file: refused, and the file stays."""
    relay = make_relay(start=False)
    file = relay.folder / "notes.txt"
    file.write_text("somebody's")
    relay.write_config({"control": str(file)} if key == "control" else {"sendmail": {"socket": str(file), "accounts": [{"user": "root", "account": "ops"}]}})
    run = relay.run("serve", check=False, timeout=60)
    assert run.returncode not in (0, -signal.SIGTERM) and str(file) in run.stdout + run.stderr
    assert "something else than a socket" in run.stdout + run.stderr
    assert file.read_text() == "somebody's"


def channel_of(relay):
    """The relay's own end of the line to its guard, as one has it who has taken the relay over."""
    pid = relay.relay_pid()
    pidfd, library = os.pidfd_open(pid), ctypes.CDLL(None, use_errno=True)
    for number in sorted(int(fd) for fd in os.listdir(f"/proc/{pid}/fd")):
        if not os.readlink(f"/proc/{pid}/fd/{number}").startswith("socket:"):
            continue
        fd = library.syscall(438, pidfd, number, 0)  # pidfd_getfd
        one = socket.socket(fileno=fd)
        if one.family == socket.AF_UNIX and one.type == socket.SOCK_SEQPACKET:
            made_by = struct.unpack("=III", one.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
            if made_by == relay.process.pid:  # the lines to the signer are the relay's own
                os.close(pidfd)
                return one
        one.close()
    raise AssertionError("no channel")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: takes a descriptor from another process")
def test_m_guard_outlives_a_relay_that_lies(relay_, receiver_):
    """Answers to what was not asked, and descriptors that nobody wants, from a relay that somebody has taken over."""
    enum = re.search(r"enum channel_kind \{(.*?)\};", (TOP / "src" / "daemon" / "channel.h").read_text(), re.S)[1]
    kinds = [None, *re.findall(r"\bCHANNEL_\w+", enum)]  # from 1 on
    applied, refused, sign = (kinds.index(f"CHANNEL_{name}") for name in ("APPLIED", "REFUSED", "SIGN"))
    guard = relay_.process.pid
    before = len(os.listdir(f"/proc/{guard}/fd"))
    with channel_of(relay_) as channel:
        for kind in (applied, refused, 0, 99):
            channel.send(struct.pack("=I", kind) + b"control\0")
        for _ in range(20):
            socket.send_fds(channel, [struct.pack("=I", sign) + b"\0"], [channel.fileno()] * 2)
    wait_for(lambda: relay_.log().count("the relay sent what it should not") >= 4)
    assert len(os.listdir(f"/proc/{guard}/fd")) == before
    relay_.reload()
    relay_.wait_state(send(relay_), "delivered")
    assert receiver_.messages


@pytest.mark.skipif(os.geteuid() != 0, reason="only root sees the relay's descriptors")
def test_reload_without_descriptors(relay_, receiver_):
    """A relay that has no number for what it is sent refuses the reload; at no limit does a listener go deaf."""
    pid, told = relay_.relay_pid(), set()
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    names = [one["name"] for one in relay_.config["listeners"] if one["tls"] != "implicit"]
    for spare in range(24):
        used = {int(fd) for fd in os.listdir(f"/proc/{pid}/fd")}
        lowest_missing = sorted(set(range(max(used) + spare + 2)) - used)[spare]
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (lowest_missing, before[1]))
        relay_.reload()
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
        told.add(re.findall(r"\b(?:reloaded|reload refused)\b", relay_.log())[-1])
        for name in names:
            with socket.create_connection(relay_.listener(name), timeout=10) as one:
                assert one.makefile("rb").readline().startswith(b"220 "), (spare, name)
        assert relay_.relay_pid() == pid
    assert told == {"reloaded", "reload refused"}
    send(relay_)


def test_reload_takes_over_the_host_name(relay_, receiver_, dns):
    """From then on new sessions, Received, EHLO and notifications have it; a session that runs goes on under the old one."""
    dns.mx("client.test", "mx1.example.org")
    fill = text_message(SENDER, RECIPIENT)
    with relay_.client(login="alice") as old:
        relay_.write_config({"hostname": "renamed.test"})
        assert relay_.cli("config", "reload") == {"reloaded": True, "restart": []}
        assert old.ehlo("client.test")[1].splitlines()[0].startswith(b"relay.test")
        submit(old, SENDER, RECIPIENT, fill)
        assert b" by relay.test " in b" ".join(receiver_.wait_one(RECIPIENT).data.split())

        def greeted():
            with socket.create_connection(relay_.listener(), timeout=60) as one:
                return one.makefile("rb").readline()
        wait_for(lambda: greeted().startswith(b"220 renamed.test "))
    receiver_.script("rcpt", "550 5.1.1 nobody", when="gone@")
    with relay_.client(login="alice") as new:
        assert new.ehlo("client.test")[1].splitlines()[0].startswith(b"renamed.test")
        submit(new, SENDER, "second@example.org", fill)
        submit(new, SENDER, "gone@example.org", text_message(SENDER, "gone@example.org"))
    second = receiver_.wait_one("second@example.org")
    assert b" by renamed.test " in b" ".join(second.data.split()) and second.helo == "renamed.test"
    assert b"Reporting-MTA: dns; renamed.test" in receiver_.wait_one(SENDER).data


def test_http_address_needs_a_restart(relay_):
    """It is told, nothing is half done, and later reloads work; the old address, too."""
    with_fixed_ports(relay_)
    relay_.restart()
    old, port = relay_.config["http"]["address"], network.free_port()
    relay_.write_config({"http": {"address": f"127.0.0.1:{port}"}})
    assert relay_.cli("config", "reload") == {"reloaded": True, "restart": ["http.address"]}
    assert relay_.run("config", "reload").stdout.splitlines() == ["the configuration is read again", "http.address holds after a restart"]
    assert json.loads(relay_.ready_file.read_text())["http"] == relay_.ready["http"]
    assert relay_.http("/metrics")[0] == 200
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=60)
    relay_.write_config({"http": {"address": old}})
    assert relay_.cli("config", "reload") == {"reloaded": True, "restart": []}
    relay_.write_config({"http": {"address": f"*:{port}"}})
    relay_.restart()
    assert relay_.ready["http"]["port"] == port
    for host in ("127.0.0.1", "::1"):  # every address is those of both families
        with contextlib.closing(http.client.HTTPConnection(host, port, timeout=60)) as connection:
            connection.request("GET", "/metrics")
            assert connection.getresponse().status == 200
    relay_.write_config({"http": {"address": f"[::]:{port}"}})
    assert relay_.cli("config", "reload") == {"reloaded": True, "restart": ["http.address"]}


def test_folders_stay_until_a_restart(relay_, receiver_):
    """Changed and read again they are named, and those of the start hold; in a relay that follows one that died, too:
    the mail, the accounts and the keys are there."""
    old = {key: relay_.config.get(key) for key in ("spool", "state", "control")}
    old["dkim"] = {"master_key": None}
    new = {key: str(relay_.folder / f"other-{key}") for key in old}
    new["dkim"] = {"master_key": str(relay_.folder / "other-key")}
    relay_.run("queue", "hold", "--all")
    ident = send(relay_)
    relay_.reload({**new, "limits": {"recipients": 100}})
    wait_for(lambda: "spool, state, control, dkim.master_key" in relay_.log())
    assert json.loads(relay_.ready_file.read_text())["control"] == relay_.ready["control"]
    kill_relay(relay_)
    relay_.write_config(old)  # for the commands
    assert json.loads(relay_.ready_file.read_text())["control"] == relay_.ready["control"]
    relay_.wait_state(ident, "held")
    relay_.run("queue", "release", "--all")
    relay_.wait_state(ident, "delivered")
    relay_.wait_state(send(relay_), "delivered")
    assert not list(relay_.folder.glob("other-*"))
    with relay_.client(login="alice") as client:
        assert "RCPTMAX=100" in client.esmtp_features.get("limits", ""), client.esmtp_features
    relay_.write_config(new)
    relay_.restart()
    assert relay_.ready["control"] == new["control"]
    assert {one.name for one in relay_.folder.glob("other-*")} == {"other-spool", "other-state", "other-control", "other-key"}


def test_listener_is_narrowed_by_a_reload(relay_):
    """*:PORT to 127.0.0.1:PORT or [::]:PORT and back; what another program has is refused, and the command says so."""
    with_fixed_ports(relay_)
    first, *others = relay_.config["listeners"]
    port = relay_.listener(first["name"])[1]

    def is_served():
        with contextlib.suppress(OSError), relay_.client() as client:
            return client.noop()[0] == 250

    for address in (f"*:{port}", f"127.0.0.1:{port}", f"*:{port}", f"[::]:{port}", f"*:{port}"):
        relay_.write_config({"listeners": [{**first, "address": address}, *others]})
        assert relay_.cli("config", "reload") == {"reloaded": True, "restart": ["http.address"]}
        wait_for(lambda want=not address.startswith("["): bool(is_served()) == want)  # the old socket closes a moment later
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        relay_.write_config({"listeners": [{**first, "address": taken}, *others]})
        refused = relay_.run("config", "reload", check=False)
        assert refused.returncode == 78
        assert f"listener {first['name']} cannot listen on {taken}" in refused.stderr and "another program" in refused.stderr
    with relay_.client() as client:
        assert client.noop()[0] == 250


def test_answers_are_sent_to_their_end(relay_):
    """Who has asked before the end hears the whole answer, however slowly it is read: an upgrade's client, too."""
    addresses = "".join(f"{'x' * 50}@{'.'.join(['y' * 60] * 3)}.n{n}.example\n" for n in range(1000))
    relay_.run("suppress", "import", "-", stdin=addresses)
    client = http.client.HTTPConnection("control", timeout=60)
    client.sock = socket.socket(socket.AF_UNIX)
    client.sock.connect(f"{relay_.config['state']}/control.sock")
    client.request("POST", "/v1/suppress", json.dumps({"op": "suppress.list", "service": True}))
    answer = client.getresponse()
    relay_.process.signal(signal.SIGTERM)
    wait_for(lambda: "stopping" in relay_.log())
    time.sleep(0.3)  # it would be gone by now
    assert len(json.loads(answer.read())["entries"]) == 1000
    assert relay_.process.wait(60) == 0
