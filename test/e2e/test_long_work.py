# SPDX-License-Identifier: MIT
"""Long work says how far it is, and ^C ends it at a safe place: nothing is half done, and it says how to go on."""
import contextlib
import os
import pathlib
import pwd
import pty
import re
import shutil
import signal
import subprocess

import pytest
from lib.message import text_message
from lib.process import die_with_parent, wait_until
from lib.relay import BINARY, submit

pytestmark = pytest.mark.skipif(not shutil.which("strace"), reason="needs strace, which makes things slow")


@pytest.fixture
def relay(make_relay, dns):
    dns.mx("nowhere.test", "mx.nowhere.test")
    dns.a("mx.nowhere.test", "127.0.0.77")
    relay = make_relay({"retry": {"first": "30s", "max": "60s", "lifetime": "1h", "warn_after": "none"}})
    relay.add_account("trusted", domains=["client.test"])
    return relay


def fill(relay, count):
    with relay.client("trusted") as client:
        for _ in range(count):
            submit(client, "a@client.test", "b@nowhere.test", text_message("a@client.test", "b@nowhere.test"))


@contextlib.contextmanager
def slow(pid, calls, us, whole=True):
    """Each of these system calls of the process (or one thread) takes so much longer."""
    tracer = subprocess.Popen(["strace", *(["-f"] if whole else []), "-p", str(pid), "-e", f"trace={calls}", "-e", "signal=none",
                               "-e", f"inject={calls}:delay_enter={us}", "-o", "/dev/null"], stderr=subprocess.PIPE, preexec_fn=die_with_parent)
    try:
        assert b"attached" in tracer.stderr.readline()
        yield
    finally:
        tracer.terminate()
        tracer.communicate()


def spool_thread(relay):
    for task in pathlib.Path(f"/proc/{relay.relay_pid()}/task").iterdir():
        if (task / "comm").read_text().strip() == "spool":
            return task.name
    raise AssertionError("no thread named spool")


def begin(relay, *arguments, wrapper=()):
    return subprocess.Popen([*wrapper, str(BINARY), *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            preexec_fn=die_with_parent, env={**os.environ, "POSTHASTE_CONFIG": str(relay.config_file)})


def last(relay, action):
    return relay.cli_list("audit", "--action", action)[0]


def queued(relay):
    return sum(row["recipients"] for row in relay.cli_list("queue", "list")) if relay.run("queue", "list", "--json").stdout else 0


def test_bulk_action(relay):
    """^C ends it between two messages; it says how many were done, so does the audit log; the same command does the rest."""
    relay.cli("queue", "hold", "--all")
    fill(relay, 400)
    with slow(spool_thread(relay), "fdatasync", 800000, whole=False):
        process = begin(relay, "queue", "delete", "--all", "--progress")
        line = process.stderr.readline()
        assert re.fullmatch(r"\d+ messages \(\d+%\), \d+/s(, \d+ s left)?\n", line), line
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    done = int(re.search(r"interrupted: matched (\d+), changed \1; the rest is as it was", err).group(1))
    row = last(relay, "queue")
    assert row["outcome"] == "stopped" and row["detail"] == f"matched {done}, changed {done}"
    assert 0 < done < 400 and queued(relay) == 400 - done
    assert relay.cli("queue", "delete", "--all")["changed"] == 400 - done and queued(relay) == 0


def test_bulk_action_of_a_client_that_died(relay):
    """Nobody is there any more who wanted it: it stops by itself."""
    relay.cli("queue", "hold", "--all")
    fill(relay, 400)
    with slow(spool_thread(relay), "fdatasync", 800000, whole=False):
        process = begin(relay, "queue", "delete", "--all", "--progress")
        process.stderr.readline()
        process.kill()
        process.communicate()
        wait_until(lambda: last(relay, "queue")["outcome"], 30, "the end of the action", every=0.2)
    assert last(relay, "queue")["outcome"] == "stopped" and 0 < queued(relay) < 400


def test_mail_flows_meanwhile(relay, receiver_):
    """A bulk action takes turns with everything else."""
    fill(relay, 300)
    with slow(spool_thread(relay), "fdatasync", 200000, whole=False):
        process = begin(relay, "queue", "delete", "--domain", "nowhere.test")
        with relay.client("trusted") as client:
            ident = submit(client, "a@client.test", "bob@example.org", text_message("a@client.test", "bob@example.org"))
        receiver_.wait_one("bob@example.org")
        assert process.wait(60) == 0
    relay.wait_state(ident, "delivered")


def test_backup(relay, tmp_path):
    """Interrupted, it leaves nothing in its folder nor in STATE, and the service is told."""
    fill(relay, 3)
    state = pathlib.Path(relay.config["state"])
    folder = tmp_path / "backup"
    with slow(relay.relay_pid(), "fdatasync,fsync", 700000):
        process = begin(relay, "backup", folder, "--progress")
        wait_until(lambda: list(state.glob("backup.*/spool/hold")), 30, "a copy has begun")
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "nothing of it is left" in err, err
    assert not folder.exists() and not list(state.glob("backup.*"))
    assert last(relay, "backup")["outcome"] == "stopped"
    (state / "backup.999999999").mkdir()  # of a command that was killed
    (state / "backup.999999999" / "accounts.db").write_text("x")
    relay.run("backup", folder)
    assert not list(state.glob("backup.*")) and (folder / "accounts.db").exists()


def test_new_folders_are_flushed(relay, make_relay, tmp_path):
    """That of a backup, and STATE where a restore makes it: with the folder that they stand in, or a power cut takes them."""
    def flushed(relay, *arguments):
        trace = tmp_path / "trace"
        process = begin(relay, *arguments, wrapper=("strace", "-qq", "-y", "-e", "trace=fsync", "-e", "signal=none", "-o", trace))
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        return set(re.findall(r"<(.+?)>", trace.read_text()))
    for name in ("to", "back"):
        (tmp_path / name).mkdir()
    assert str(tmp_path / "to") in flushed(relay, "backup", f"{tmp_path}/to/backup/")
    relay.stop()
    other = make_relay(relay.config | {"spool": str(tmp_path / "spool2"), "state": str(tmp_path / "back" / "state2")}, start=False)
    assert {str(tmp_path), str(tmp_path / "back")} <= flushed(other, "restore", tmp_path / "to" / "backup")


def test_restore(relay, make_relay, tmp_path):
    """All or nothing: interrupted it leaves nothing; killed, the service waits until it has been run again."""
    fill(relay, 3)
    relay.run("backup", tmp_path / "backup")
    relay.stop()
    other = make_relay(relay.config | {"spool": str(tmp_path / "spool2"), "state": str(tmp_path / "state2")}, start=False)
    state, spool = tmp_path / "state2", tmp_path / "spool2"
    for number in (signal.SIGINT, signal.SIGKILL):
        tracer = begin(other, "restore", tmp_path / "backup",
                       wrapper=("strace", "-qq", "-o", "/dev/null", "-e", "trace=fsync", "-e", "inject=fsync:delay_enter=500000"))
        wait_until(lambda: list(state.glob("accounts.db.restoring")), 30, "the copy of the accounts")
        child = int(pathlib.Path(f"/proc/{tracer.pid}/task/{tracer.pid}/children").read_text().split()[0])
        os.kill(child, number)
        _, err = tracer.communicate(timeout=60)
        if number == signal.SIGINT:
            assert tracer.returncode == 130 and "nothing is restored" in err, err
            assert not state.exists() and not spool.exists()
    assert (state / "restore-incomplete").exists()
    result = subprocess.run([BINARY, "serve", "--config", other.config_file], capture_output=True, text=True, timeout=60)
    assert result.returncode == 75 and "run `posthaste restore` again" in result.stderr
    assert other.run("account", "list", check=False).returncode == 65
    assert other.cli("restore", tmp_path / "backup")["files"] > 3
    assert not list(state.glob("*restor*")) and not list(tmp_path.glob("spool2.*"))
    assert last(other, "restore")["args"] == {"from": str(tmp_path / "backup")}
    other.start()
    assert queued(other) == 3


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files to another user, mounts")
def test_restore_for_the_service_of_a_package(relay, make_relay, tmp_path):
    """Where the folder around STATE is another user's, the service is that user's, who gets all that is made; a disk's
    own folder can't be replaced, which is told before anything is copied."""
    nobody = pwd.getpwnam("nobody")
    fill(relay, 1)
    relay.run("backup", tmp_path / "backup")
    relay.stop()
    lib, disk = tmp_path / "lib", tmp_path / "disk"
    for folder in (lib, disk):
        folder.mkdir()
    os.chown(lib, nobody.pw_uid, nobody.pw_gid)
    other = make_relay(relay.config | {"user": "none", "spool": str(disk), "state": str(lib / "state")}, start=False)
    mounted = subprocess.run(["unshare", "--mount", "sh", "-ec", 'mount -t tmpfs none "$1"; exec "$2" restore "$3" --config "$4"', "sh",
                              disk, BINARY, tmp_path / "backup", other.config_file], capture_output=True, text=True, timeout=120)
    assert mounted.returncode == 65 and "set spool to a folder below it" in mounted.stderr, mounted.stderr
    assert not (lib / "state").exists()
    other.run("restore", tmp_path / "backup")
    made = [p for folder in (lib / "state", disk) for p in (folder, *folder.rglob("*"))]
    assert len(made) > 5 and {p.stat().st_uid for p in made} == {nobody.pw_uid}


def test_progress_on_a_terminal(relay, tmp_path):
    """One line, drawn again and again, and gone at the end."""
    source = tmp_path / "many"
    source.write_text("".join(f"user{n}@example.net\n" for n in range(300000)))
    leader, follower = pty.openpty()
    process = subprocess.Popen([BINARY, "suppress", "import", source, "--config", relay.config_file], stdout=subprocess.PIPE, stderr=follower)
    os.close(follower)
    drawn = b""
    with contextlib.suppress(OSError):
        while part := os.read(leader, 4096):
            drawn += part
    assert process.wait(60) == 0 and b"300000 added" in process.stdout.read()
    os.close(leader)
    assert re.search(rb"\r\d+ lines, \d+/s\x1b\[K", drawn) and drawn.endswith(b"\r\x1b[K") and b"\n" not in drawn
