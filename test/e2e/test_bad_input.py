# SPDX-License-Identifier: MIT
"""A clear error, nothing lost, nothing hung: configuration, sockets, keys, disks, spools, DNS, and very large messages."""
import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import statistics
import subprocess
import time

import pytest
from lib import network
from lib.process import Process, wait_until
from lib.raw import Raw
from lib.relay import BINARY
from lib.world import PLAIN

HEAD = b"From: alice@client.test\r\nTo: bob@example.org\r\nSubject: x\r\n\r\n"
TRUSTED = {**PLAIN, "name": "trusted", "auth": "optional"}


def send(relay, recipient="bob@example.org", body=b"hello\r\n", sender="alice@client.test"):
    with Raw(relay.listener("trusted"), timeout=60) as raw:
        raw.ehlo()
        raw.envelope(sender, recipient)
        return raw.bdat(HEAD + body, 1 << 20)


def ends(relay, seconds=10.0):
    """Starts a relay that can't; (exit code, what it said)."""
    process = Process([BINARY, "serve", "--config", relay.config_file, "--ready-file", relay.ready_file], relay.folder / "relay.log")
    code = process.wait(seconds)
    assert not relay.ready_file.exists()
    return code, process.log()


# ---- configuration

BROKEN = """\
hostname: relay.test
spol: /tmp/x
listeners:
  - {name: a, address: "127.0.0.1:99999", tls: starttls}
  - {name: a, address: "127.0.0.1:0", tls: sometimes}
retry:
  first: 0s
  factr: 2
limits:
  recipients: 5
  message_size: 12XB
routes:
  - via: pigeon
"""


@pytest.mark.parametrize("command", ["check-config", "serve"])
def test_configuration(tmp_path, command):
    """All errors at once, each with its place, a caret, what is accepted and the nearest key; exit 78."""
    path = tmp_path / "bad.yaml"
    path.write_text(BROKEN)
    result = subprocess.run([BINARY, command, "--config", path], capture_output=True, text=True, timeout=120)
    assert result.returncode == 78
    lines = result.stderr.splitlines()
    found = {}
    for number, line in enumerate(lines):
        match = re.match(rf"{re.escape(str(path))}:(\d+):(\d+): error: (.*)", line)
        if match:
            found[int(match.group(1)), int(match.group(2))] = match.group(3)
            source = BROKEN.splitlines()[int(match.group(1)) - 1]
            assert source.strip() in lines[number + 1] and "^" in lines[number + 2], lines[number:number + 3]
            shown = lines[number + 1].index(source.strip()[0]) - source.index(source.strip()[0])
            assert lines[number + 2].index("^") - shown == int(match.group(2)) - 1, lines[number:number + 3]
    text = "\n".join(found.values())
    assert {place[0] for place in found} >= {2, 4, 5, 7, 8, 10, 11, 13}, result.stderr
    for words in ("spool", "factor", "none, starttls or implicit", "from 1s to 1d", "from 100 to 50000", "maildir:"):
        assert words in text, (words, result.stderr)


def test_reload_of_a_bad_file(make_relay):
    """The old configuration goes on, and the log says why."""
    relay = make_relay({"listeners": [TRUSTED]})
    good = relay.config_file.read_text()
    relay.config_file.write_text(BROKEN)
    relay.process.signal(signal.SIGHUP)
    wait_until(lambda: "error: " in relay.log(), 10, "the reason in the log")
    with Raw(relay.listener("trusted")) as raw:
        assert raw.ehlo().code == 250
    relay.config_file.write_text(good)


def test_busy_port(make_relay):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        relay = make_relay({"listeners": [{**TRUSTED, "address": f"127.0.0.1:{port}"}]}, start=False)
        code, said = ends(relay)
    assert code == 75 and f"127.0.0.1:{port}" in said and "in use" in said.lower(), said


@pytest.mark.parametrize("how", ["absent", "folder", "empty", "junk", "of_another"])
def test_unreadable_key(make_relay, authority, how):
    pair = authority.issue("localhost", stem=f"bad-{how}")
    if how in ("absent", "folder"):
        pair.key.unlink()
    if how == "folder":
        pair.key.mkdir()
    elif how in ("empty", "junk"):
        pair.key.write_text("" if how == "empty" else "no key\n")
    elif how == "of_another":
        shutil.copy(authority.issue("other.test", stem="another").key, pair.key)
    code, said = ends(make_relay(start=False, pair=pair))
    assert code in (66, 75, 77, 78) and "key" in said and "ready" not in said, (code, said)
    if how in ("absent", "folder"):
        assert str(pair.key) in said


# ---- disks

@contextlib.contextmanager
def tmpfs(folder, size):
    if not network.PRIVATE:
        pytest.skip("needs root: mounts a disk of its own")
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "disk", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def test_full_disk(make_relay, tmp_path, dns, make_receiver):
    """452 while there is no room, at MAIL; what was accepted is delivered all the same; then mail is taken again."""
    receiver = make_receiver()
    dns.domain("example.org", receiver)
    with tmpfs(tmp_path / "disk", "700m") as disk:
        relay = make_relay({"listeners": [TRUSTED], "spool": str(disk / "spool"), "limits": {"message_size": "200MiB"}})
        receiver.script("rcpt", "451 4.2.1 later", times=3)
        first = send(relay).ident
        filler = disk / "filler"
        with open(filler, "wb") as out, contextlib.suppress(OSError):
            while True:
                out.write(b"x" * (1 << 20))
        answer = None

        def full():
            nonlocal answer
            with Raw(relay.listener("trusted"), timeout=60) as raw:
                raw.ehlo()
                answer = raw.ask("MAIL FROM:<alice@client.test>")
                if answer.code == 250:
                    raw.expect("RCPT TO:<bob@example.org>", 250)
                    answer = raw.bdat(HEAD + b"x" * 70 + b"\r\n" + b"more of it\r\n" * 700_000, 1 << 20)
                return answer.code != 250
        wait_until(full, 60, "452", every=0.01)
        assert answer.code in (451, 452) and answer.enhanced in ("4.3.1", "4.3.0"), answer
        assert relay.process.running()
        receiver.wait_for(f"id {first}".encode(), 30)
        filler.unlink()
        wait_until(lambda: send_quietly(relay), 30, "mail is taken again", every=0.2)
        relay.stop()


def send_quietly(relay):
    try:
        return send(relay).code == 250
    except AssertionError:
        return False


def test_read_only_disk(make_relay, tmp_path, receiver_):
    with tmpfs(tmp_path / "disk", "700m") as disk:
        relay = make_relay({"listeners": [TRUSTED], "spool": str(disk / "spool")})
        send(relay)
        assert relay.stop() == 0
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        code, said = ends(relay)
        assert code in (73, 75, 77) and "spool" in said and str(disk) in said and "ready" not in said.rpartition("stopped")[2], (code, said)
        subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
        relay.start()
        assert send(relay).code == 250
        relay.stop()


def relay_session(relay):
    """A session in the middle of its content."""
    raw = Raw(relay.listener("trusted"), timeout=60)
    raw.ehlo()
    raw.envelope("alice@client.test", "bob@example.org")
    raw.expect("DATA", 354)
    raw.send(HEAD + b"text\r\n")
    return raw


def test_failing_disk_is_told_once(make_relay, receiver_):
    """While no flush succeeds, mail is refused and the log says so once; and once when it is over."""
    relay = make_relay({"listeners": [TRUSTED]})
    send(relay)
    pid = relay.relay_pid()
    writing = [relay_session(relay) for _ in range(5)]  # whoever comes later is told at MAIL FROM
    thread = next(t.name for t in pathlib.Path(f"/proc/{pid}/task").iterdir() if "spool" in (t / "comm").read_text())
    tracer = subprocess.Popen(["strace", "-q", "-e", "trace=fdatasync", "-e", "inject=fdatasync:error=EIO", "-e", "signal=none",
                               "-o", relay.folder / "strace.out", "-p", thread], stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: f"TracerPid:\t{tracer.pid}\n" in pathlib.Path(f"/proc/{pid}/task/{thread}/status").read_text(), 10, "attached")
        for one in writing:
            one.send(b".\r\n")
        assert {one.reply().code for one in writing} <= {451, 452}
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.wait(10)
    wait_until(lambda: send_quietly(relay) and "the spool keeps messages again refused=5" in relay.log(), 60, "mail is taken again", every=0.3)
    assert relay.log().count("messages are refused: the spool can't keep them") == 1
    assert relay.log().count("the spool keeps messages again") == 1


# ---- the spool

def segments(relay):
    return sorted(path for path in pathlib.Path(relay.config["spool"]).rglob("*") if path.is_file() and path.stat().st_size > (1 << 20))


def test_newer_spool(make_relay, receiver_):
    """A spool of a later release is not touched, let alone emptied."""
    relay = make_relay({"listeners": [TRUSTED]})
    send(relay)
    assert relay.stop() == 0
    before = {}
    for path in segments(relay):
        with open(path, "r+b") as file:
            head = file.read(8192)
            if head[:8] == b"\0" * 8:
                continue
            for block in (0, 4096):
                file.seek(block + 8)
                file.write((99).to_bytes(4, "little"))
        before[path] = path.read_bytes()[:1 << 20]
    assert before
    code, said = ends(relay)
    assert code == 78 and "newer release" in said and relay.config["spool"] in said, (code, said)
    assert {path: path.read_bytes()[:1 << 20] for path in before} == before


def test_damaged_segment(make_relay, dns, make_receiver):
    """Damage costs the record it hits; the rest is delivered, and the log says what happened."""
    receiver = make_receiver()
    dns.domain("example.org", receiver)
    receiver.script("connect", "421 4.3.2 not now")
    relay = make_relay({"listeners": [TRUSTED]})
    idents = [send(relay, body=b"mark %d %s\r\n" % (n, b"x" * 500)).ident for n in range(5)]
    relay.kill()
    hit = 0
    for path in segments(relay):
        content = path.read_bytes()
        at = content.find(b"mark 2 xxx")
        if at >= 0:
            hit += 1
            with open(path, "r+b") as file:
                file.seek(at + 20)
                file.write(b"DAMAGE")
    assert hit
    receiver.clear()
    relay.start()
    for number in (0, 1, 3, 4):
        assert b"mark %d xxx" % number in receiver.wait_for(f"id {idents[number]}".encode(), 20).data
    time.sleep(0.5)
    assert not [t for t in receiver.messages() if b"DAMAGE" in t.data]
    assert re.search(r"damage|sound|lost|set aside", relay.log().rpartition("ready")[0][-5000:] + relay.log()[-5000:], re.I), relay.log()[-2000:]
    assert send(relay).code == 250


# ---- DNS

def test_dead_dns(make_relay, dns, make_receiver):
    """Mail is taken, waits, and goes when DNS is back; the relay starts and stops without it, too."""
    receiver = make_receiver()
    dns.domain("example.org", receiver)
    dns.silent("")
    relay = make_relay({"listeners": [TRUSTED], "retry": {"first": "1s", "max": "1s"}, "shutdown_grace": "5m"})
    ident = send(relay).ident
    time.sleep(1)
    assert not receiver.messages()
    dns.speak("")
    receiver.wait_for(f"id {ident}".encode(), 60)
    dns.silent("")
    assert relay.stop(60) == 0  # it would wait for five minutes


# ---- memory and time

def status(pid, field):
    return int(pathlib.Path(f"/proc/{pid}/status").read_text().partition(f"{field}:")[2].split()[0]) * 1024


def test_i_100_mb(make_relay, dns, tmp_path):
    """A message of 100 MB costs at most 2 MB more memory than one of 100 KB, in and out, and arrives whole."""
    address = network.new_address()
    log = tmp_path / "sink.log"
    sink = Process([BINARY, "sink", "--listen", f"{address}:{network.smtp_port()}", "--log", log], tmp_path / "sink.out")
    wait_until(lambda: network.accepts(address, network.smtp_port()), 10, "sink")
    dns.mx("example.org", "mx.example.org")
    dns.a("mx.example.org", address)
    relay = make_relay({"listeners": [TRUSTED], "limits": {"message_size": "200MiB"}})
    pid = relay.relay_pid()
    peaks = []
    line = b"0123456789abcdef" * 4 + b"\r\n"
    for number, size in enumerate([100_000, 100_000, 100_000_000]):  # the first finds caches that are not filled yet
        pathlib.Path(f"/proc/{pid}/clear_refs").write_text("5")
        body = line * (size // len(line))
        assert send(relay, f"r{number}@example.org", body).code == 250
        wait_until(lambda: log.exists() and f"r{number}@example.org" in log.read_text(), 60, "the sink has it", every=0.1)
        time.sleep(0.2)
        peaks.append(status(pid, "VmHWM"))
        row = next(json.loads(text) for text in log.read_text().splitlines() if f"r{number}@" in text)
        assert row["sha256"]
    sink.stop()
    print(f"peak {peaks[1] >> 10} KiB with 100 KB, {peaks[2] >> 10} KiB with 100 MB")
    assert peaks[2] - peaks[1] <= 2 << 20, peaks


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def queueing_seconds(relay):
    """How long threads of the relay were ready to run and waited for a processor."""
    tasks = [path for pid in relay.pids() for path in pathlib.Path(f"/proc/{pid}/task").iterdir()]
    return sum(int((path / "schedstat").read_text().split()[1]) for path in tasks) / 1e9


def test_start_is_quick(make_relay):
    """From exec to every listener accepting, as the ready file says, within 200 ms."""
    relay = make_relay(start=False)
    took, worked, waited = [], [], []
    for _ in range(5):
        relay.ready_file.unlink(missing_ok=True)
        start = time.monotonic()
        relay.process = Process([BINARY, "serve", "--config", relay.config_file, "--ready-file", relay.ready_file], relay.folder / "relay.log")
        while not relay.ready_file.exists():
            relay.process.check_running()
            time.sleep(0.001)
        took.append(time.monotonic() - start)
        worked.append(sum(cpu_seconds(pid) for pid in relay.pids()))
        waited.append(queueing_seconds(relay))
        relay.ready = json.loads(relay.ready_file.read_text())
        assert network.accepts(*relay.listener("submission"))
        assert relay.stop() == 0
    print(f"start to listening: {min(took) * 1000:.0f} ms at best, {statistics.median(took) * 1000:.0f} ms as a rule")
    # Where others keep the processors busy: but for the time that its threads were ready to run and did not.
    assert min(a - b for a, b in zip(took, waited)) < 0.2 and min(worked) < 0.2, (took, waited, worked)


def test_idle_tls_sessions(make_relay, authority):
    """An idle TLS session costs at most 60 KB."""
    relay = make_relay({"limits": {"sessions_per_address": 2000}})
    context = authority.client_context()
    pid = relay.relay_pid()
    crowd = []

    def more(count):
        for _ in range(count):
            raw = Raw(relay.listener("submissions"), context=context, timeout=30)
            raw.ehlo()
            crowd.append(raw)
    more(20)
    before = status(pid, "VmRSS")
    more(500)
    each = (status(pid, "VmRSS") - before) / 500
    print(f"{each / 1024:.1f} KiB an idle TLS session")
    for raw in crowd:
        raw.close()
    assert each <= 60_000
