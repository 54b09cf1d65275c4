# SPDX-License-Identifier: MIT
"""`posthaste doctor`: a host on which all is well, then each thing broken in turn, and that id named."""
import contextlib
import datetime
import fcntl
import grp
import http.server
import json
import os
import pathlib
import pty
import pwd
import re
import socket
import socketserver
import struct
import subprocess
import termios
import threading

import pytest
from lib import network, peers
from lib.process import wait_until
from lib.relay import BINARY

ADDRESS = "203.0.113.5"
REVERSE = "5.113.0.203.in-addr.arpa"
# What a test's host may lack without anybody's fault: time service, anchor, Landlock, a user of its own.
HOSTS_OWN = {"clock_sync", "dnssec", "user", "sandbox_files", "sandbox_relay", "sandbox_signer", "disk_flush", "disk_kind",
             "disk_space", "descriptors"}


@pytest.fixture
def world(make_relay, dns):
    """make(changes, start=): a relay on a host on which all is well, but for the changes."""
    def make(changes=None, start=False, **kwargs):
        dns.a("relay.test", ADDRESS)
        dns.mx("relay.test", "mx.elsewhere.test")
        dns.add(REVERSE, "PTR", "relay.test.")
        listeners = [{"name": "submission", "address": f"127.0.0.1:{network.free_port()}", "tls": "starttls"}]
        config = {"domains": {"addresses": [ADDRESS]}, "retry": {"lifetime": "5d", "warn_after": "4h"}, "listeners": listeners,
                  **(changes or {})}
        return make_relay(config, start=start, **kwargs)
    return make


def doctor(relay, *arguments, code=None, wrapper=()):
    """{(id, subject): finding}; the answer is well-formed, and the exit code what it says."""
    result = subprocess.run([*wrapper, str(BINARY), "doctor", "--config", str(relay.config_file), "--json", *arguments],
                            capture_output=True, text=True, timeout=120)
    answer = json.loads(result.stdout)
    findings = answer["findings"]
    for one in findings:
        assert set(one) == {"id", "subject", "state", "found", "fix"}, one
        assert one["state"] in ("ok", "warn", "fail") and one["found"] and (one["fix"] is None) == (one["state"] == "ok"), one
    for state in ("ok", "warn", "fail"):
        assert answer[state] == sum(one["state"] == state for one in findings)
    assert result.returncode == (65 if answer["fail"] else 0), result.stderr
    assert code in (None, result.returncode), [one for one in findings if one["state"] == "fail"]
    return {(one["id"], one["subject"]): one for one in findings}


def not_ok(findings):
    return {ident: one["state"] for (ident, _), one in findings.items() if one["state"] != "ok" and ident not in HOSTS_OWN}


def states(findings, ident):
    return [one["state"] for (name, _), one in findings.items() if name == ident]


# ---- a good host -----------------------------------------------------------------------------------------

def test_all_is_well(world):
    """Stopped and running; the doctor leaves nothing behind, and every finding is documented."""
    relay = world({"events": {"keep": "30d"}})
    findings = doctor(relay, code=0)
    assert not_ok(findings) == {"service": "warn"}
    assert not pathlib.Path(relay.config["state"]).exists()  # looking makes nothing
    seen = {ident for ident, _ in findings}
    relay.start()
    relay.add_account("alice", domains=["client.test"])
    before = sorted(p.name for p in pathlib.Path(relay.config["spool"]).iterdir())
    findings = doctor(relay, code=0)
    assert not_ok(findings) == {}
    assert {"service", "sandbox_relay", "sandbox_signer", "sandbox_files", "clock_agree", "descriptors", "folder", "disk_space",
            "disk_inodes", "disk_flush", "dns", "hostname", "source_ptr", "source_fcrdns", "postmaster", "certificate_key",
            "certificate_chain", "certificate_names", "certificate_days", "port", "retry_lifetime", "master_key",
            "verified_domain"} <= {ident for ident, _ in findings}
    assert sorted(p.name for p in pathlib.Path(relay.config["spool"]).iterdir()) == before
    text = (pathlib.Path(__file__).parents[2] / "docs" / "DOCTOR.md").read_text().partition("## Alerts")[0]
    documented = set(re.findall(r"^\| `([a-z0-9_]+)` \|", text, re.M))
    assert seen | {ident for ident, _ in findings} <= documented
    sources = "".join(p.read_text() for p in (pathlib.Path(__file__).parents[2] / "src" / "cli").glob("doctor*.c"))
    written = set(re.findall(r'doctor_(?:ok|warn|fail|add)\(\s*d,\s*"([a-z0-9_]+)"', sources)) | {"sandbox_relay", "sandbox_signer", "listener_account", "user_account"}
    assert written == documented


def test_for_people(world):
    """Lines fit the terminal, colours are for terminals only; 78 for a configuration that is none."""
    relay = world()
    plain = relay.run("doctor").stdout
    assert "\x1b" not in plain and re.search(r"^ok    hostname relay.test: has the address", plain, re.M)
    assert re.search(r"^warn  service: .*\n      -> start it", plain, re.M)
    assert re.search(r"^\d+ ok, \d+ warn, 0 fail$", plain.splitlines()[-1])

    def on_terminal(**env):
        leader, follower = pty.openpty()
        fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 60, 0, 0))
        with subprocess.Popen([BINARY, "doctor", "--config", relay.config_file], stdout=follower,
                              env={**os.environ, **env}) as process:
            os.close(follower)
            out = b""
            with contextlib.suppress(OSError):
                while part := os.read(leader, 4096):
                    out += part
            process.wait(60)
        os.close(leader)
        return out.decode()

    shown = on_terminal()
    assert "\x1b[33mwarn\x1b[0m" in shown
    lines = re.sub(r"\x1b\[[0-9;]*m", "", shown).splitlines()
    assert all(len(line) <= 60 for line in lines if "/" not in line)  # a path is one word
    assert "\x1b" not in on_terminal(NO_COLOR="1")
    relay.config_file.write_text("hostname: [")
    assert relay.run("doctor", check=False).returncode == 78


# ---- DNS -------------------------------------------------------------------------------------------------

def test_dns_of_this_host(world, dns):
    relay = world()
    base = {"service": "warn"}
    dns.remove("relay.test")
    dns.mx("relay.test", "mx.elsewhere.test")
    assert not_ok(doctor(relay)) == {**base, "hostname": "fail", "source_fcrdns": "fail"}
    dns.a("relay.test", ADDRESS)
    dns.remove(REVERSE)
    assert not_ok(doctor(relay)) == {**base, "source_ptr": "fail"}
    dns.add(REVERSE, "PTR", "other.test.")
    assert not_ok(doctor(relay)) == {**base, "source_fcrdns": "fail"}
    dns.a("other.test", ADDRESS)
    assert not_ok(doctor(relay)) == {**base, "source_fcrdns": "warn"}  # confirmed, but EHLO says another
    dns.add(REVERSE, "PTR", "relay.test.")
    assert not_ok(doctor(relay)) == base
    dns.servfail(REVERSE)
    assert not_ok(doctor(relay)) == {**base, "source_ptr": "warn"}
    dns.rcode(REVERSE, None)
    dns.servfail("relay.test")
    assert not_ok(doctor(relay))["hostname"] == "fail"
    dns.rcode("relay.test", None)
    relay.write_config({"domains": {"addresses": ["10.0.0.1"]}})
    assert not_ok(doctor(relay)) == {**base, "source_ptr": "warn"}
    relay.write_config({"hostname": "mailer.local", "domains": {"addresses": [ADDRESS]}, "tls": None,
                        "listeners": [{"name": "a", "address": "127.0.0.1:0", "tls": "none", "trusted": ["127.0.0.0/8"],
                                       "auth": "optional"}]})
    assert not_ok(doctor(relay))["hostname"] == "fail"


def test_source_address_of_ip6(world, dns):
    relay = world({"domains": {"addresses": ["2a00:1450::5"]}})
    name = ".".join("5" + "0" * 23 + "05410 0a2".replace(" ", "")) + ".ip6.arpa"
    assert name.count(".") == 33
    dns.add(name, "PTR", "relay.test.")
    assert not_ok(doctor(relay)) == {"service": "warn", "source_fcrdns": "fail"}
    dns.a("relay.test", "2a00:1450::5")
    assert not_ok(doctor(relay)) == {"service": "warn"}


def test_dead_resolver(world, dns):
    """One finding, not ten."""
    relay = world()
    dns.servfail("")
    assert not_ok(doctor(relay)) == {"service": "warn", "dns": "fail"}
    relay.write_config({"dns": {"servers": ["127.0.0.1@9"]}})
    assert not_ok(doctor(relay)) == {"service": "warn", "dns": "fail"}


def test_dnssec(world, start_peer):
    """Knot's signatures are validated; an anchor of another zone's keys is told; so is a server without signatures."""
    knot = start_peer(peers.Knot, zones={"good.test": "@ 60 TXT hello\n", "bad.test": "@ 60 TXT hello\n", "plain.test": ""},
                      signed=["good.test", "bad.test"])
    anchor = knot.anchor_file("good.test")
    relay = world({"dns": {"servers": [knot.server], "trust_anchor": str(anchor)}})
    assert states(doctor(relay), "dnssec") == ["ok"]
    other = knot.folder / "other"
    other.write_text(anchor.read_text().replace("good.test.", "bad.test."))
    relay.write_config({"dns": {"trust_anchor": str(other)}})
    assert states(doctor(relay), "dnssec") == ["fail"]
    other.write_text("; nothing\n")
    relay.write_config()
    assert "fail" in states(doctor(relay), "dnssec") + states(doctor(relay), "dns")
    relay.write_config({"dns": {"trust_anchor": "none"}})
    assert states(doctor(relay), "dnssec") == ["warn"]


def test_postmaster(world, dns, tmp_path):
    relay = world()
    dns.remove("relay.test")
    dns.a("relay.test", ADDRESS)
    assert not_ok(doctor(relay)) == {"service": "warn", "postmaster": "warn"}
    table = tmp_path / "recipients"
    table.write_text("anna@relay.test\n")
    local = {"match": {"recipient": "relay.test"}, "via": f"maildir:{tmp_path}/m/%u", "recipients": str(table)}
    relay.write_config({"routes": [local]})
    assert not_ok(doctor(relay)) == {"service": "warn", "postmaster": "warn"}
    table.write_text("anna@relay.test\npostmaster@relay.test: anna@relay.test\n")
    assert not_ok(doctor(relay)) == {"service": "warn"}
    relay.write_config({"routes": [{"match": {"recipient": "postmaster@relay.test"}, "via": "discard"}]})
    assert not_ok(doctor(relay)) == {"service": "warn", "postmaster": "warn"}
    relay.write_config({"routes": [{**local, "recipients": str(tmp_path / "absent")}]})
    assert not_ok(doctor(relay)) == {"service": "warn", "routes": "fail"}


# ---- certificates ----------------------------------------------------------------------------------------

def test_certificates(world, authority, tmp_path):
    relay = world()

    def use(pair, **more):
        relay.write_config({"tls": {"certificate": str(pair.certificate), "key": str(pair.key), **more}})
        found = not_ok(doctor(relay))
        found.pop("service")
        return found

    assert use(authority.issue("relay.test", stem="good")) == {}
    assert use(authority.issue("relay.test", stem="old", from_days=-90, to_days=-2)) == {"certificate_days": "fail"}
    assert use(authority.issue("relay.test", stem="young", from_days=1, to_days=90)) == {"certificate_days": "fail"}
    assert use(authority.issue("relay.test", stem="soon", from_days=-85, to_days=5)) == {"certificate_days": "warn"}
    assert use(authority.issue("relay.test", stem="short", from_days=-1, to_days=5)) == {}  # renewed every six days
    assert use(authority.issue("other.test", stem="other")) == {"certificate_names": "warn"}
    good, other = authority.issue("relay.test", stem="a"), authority.issue("relay.test", stem="b")
    good.key.write_bytes(other.key.read_bytes())
    assert use(good) == {"certificate_key": "fail"}
    good.key.write_text("nothing")
    assert use(good) == {"certificate_key": "fail"}
    other.key.chmod(0o644)
    assert use(other) == {"certificate_key": "warn"}
    stranger = type(authority)(tmp_path / "stranger", name="somebody else")
    assert use(stranger.issue("relay.test", stem="strange")) == {"certificate_chain": "warn"}
    other.certificate.write_text("nothing")
    assert use(other) == {"certificate": "fail"}
    other.certificate.unlink()
    assert use(other) == {"certificate": "fail"}


# ---- ports -----------------------------------------------------------------------------------------------

def test_ports(world):
    relay = world()
    address, port = relay.config["listeners"][0]["address"].split(":")
    with socket.create_server((address, int(port))):
        found = doctor(relay, code=65)
        assert not_ok(found) == {"service": "warn", "port": "fail"}
        assert f"process {os.getpid()}" in found["port", "submission"]["found"]
    assert not_ok(doctor(relay)) == {"service": "warn"}
    relay.start()
    assert not_ok(doctor(relay)) == {"accounts": "warn"}
    listener = relay.config["listeners"][0]
    relay.write_config({"listeners": [{**listener, "address": f"127.0.0.1:{network.free_port()}"}]})
    found = doctor(relay)  # changed, and not reloaded
    assert found["port", "submission"]["state"] == "fail" and "config reload" in found["port", "submission"]["fix"]
    relay.stop()
    relay.write_config({"listeners": [{**listener, "address": "198.51.100.77:587"}]})
    assert doctor(relay)["port", "submission"]["state"] == "fail"


def test_port_of_another_address(world):
    """Who listens at the same port of another address is innocent: none but who is in the way is named."""
    relay = world()
    port = int(relay.config["listeners"][0]["address"].split(":")[1])
    relay.start()
    with socket.create_server(("127.0.0.2", port)):
        found = doctor(relay)["port", "submission"]
        assert found["state"] == "ok" and "posthaste listens" in found["found"], found
    relay.stop()
    with socket.create_server(("0.0.0.0", port)):
        assert f"process {os.getpid()}" in doctor(relay, code=65)["port", "submission"]["found"]


def test_outgoing(world, make_receiver, dns):
    """Only when asked for: a mail server that answers, one that does not, what is none."""
    relay = world()
    receiver = make_receiver()
    dns.a("mx.good.test", receiver.address)
    target = f"mx.good.test:{receiver.port}"
    assert ("outgoing", target) not in doctor(relay) and not receiver.connections
    assert doctor(relay, "--outgoing", target)["outgoing", target]["state"] == "ok"
    assert doctor(relay, "--outgoing", "nowhere.test", code=65)["outgoing", "nowhere.test"]["state"] == "fail"
    closed = f"127.0.0.1:{network.free_port()}"
    found = doctor(relay, "--outgoing", closed, code=65)["outgoing", closed]
    assert "port 25" in found["fix"] and "refused" in found["found"]
    with Http(lambda path: {}) as (_, port):
        pass
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=lambda: server.accept()[0].sendall(b"SSH-2.0-x\r\n"), daemon=True).start()
        other = f"127.0.0.1:{server.getsockname()[1]}"
        assert doctor(relay, "--outgoing", other, code=65)["outgoing", other]["state"] == "fail"


# ---- disk ------------------------------------------------------------------------------------------------

@contextlib.contextmanager
def tmpfs(folder, options):
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")


@needs_root
def test_disks(world, tmp_path):
    relay = world()
    with tmpfs(tmp_path / "small", "size=64m,mode=0700") as disk:
        relay.write_config({"spool": str(disk)})
        found = doctor(relay)
        assert found["disk_kind", str(disk)]["state"] == "warn" and found["disk_space", str(disk)]["state"] == "ok"
        (disk / "fill").write_bytes(bytes(60 << 20))
        assert doctor(relay, code=65)["disk_space", str(disk)]["state"] == "fail"
        (disk / "fill").write_bytes(bytes(50 << 20))
        relay.write_config({"limits": {"spool_segment": "4MiB"}})
        assert doctor(relay)["disk_space", str(disk)]["state"] == "ok"
        (disk / "fill").write_bytes(bytes((64 << 20) - 4096))
        found = doctor(relay, code=65)
        assert found["disk_flush", str(disk)]["state"] == "fail" and "No space" in found["disk_flush", str(disk)]["found"]
    with tmpfs(tmp_path / "inodes", "size=640m,nr_inodes=60,mode=0700") as disk:
        relay.write_config({"spool": str(disk)})
        assert doctor(relay, code=65)["disk_inodes", str(disk)]["state"] == "fail"
    with tmpfs(tmp_path / "fewer", "size=640m,nr_inodes=2000,mode=0700") as disk:
        relay.write_config({"spool": str(disk)})
        assert doctor(relay)["disk_inodes", str(disk)]["state"] == "warn"


def test_flushes(world):
    """A disk that is slow, and one that fails."""
    relay = world()
    pathlib.Path(relay.config["spool"]).mkdir(mode=0o700)
    where = ("disk_flush", relay.config["spool"])

    def under(*injection):
        return doctor(relay, wrapper=["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync,adjtimex,clock_adjtime",
                                      *(word for one in injection for word in ("-e", f"inject={one}"))])

    found = under("fdatasync:delay_enter=30000")
    assert found[where]["state"] == "warn" and float(re.search(r"takes ([0-9.]+) ms", found[where]["found"]).group(1)) >= 30
    assert under("fdatasync:error=EIO:when=3+")[where]["state"] == "fail"
    # the clock, by the way
    for call, state in (("retval=0", ["ok"]), ("retval=5", ["warn"]), ("error=EPERM", ["warn"])):
        assert states(under(f"adjtimex:{call}", f"clock_adjtime:{call}"), "clock_sync") == state


def test_folders_and_keys(world):
    relay = world(start=True)
    relay.stop()
    spool, key = pathlib.Path(relay.config["spool"]), pathlib.Path(relay.config["state"] + ".key")
    spool.chmod(0o755)
    assert not_ok(doctor(relay)) == {"service": "warn", "accounts": "warn", "folder": "warn"}
    spool.chmod(0o700)
    key.chmod(0o640)
    assert not_ok(doctor(relay)) == {"service": "warn", "accounts": "warn", "master_key": "fail"}
    key.chmod(0o600)
    key.rename(pathlib.Path(relay.config["state"]) / ".key")  # where older programs make it for a state with "/" at its end
    assert not_ok(doctor(relay)) == {"service": "warn", "accounts": "warn", "master_key": "fail"}
    relay.start()
    assert "no master key: DKIM can't be signed" in relay.log() and "but .key in the state folder is: move that here" in relay.log()
    assert relay.stop() == 0 and not key.exists()
    (pathlib.Path(relay.config["state"]) / ".key").rename(key)
    spool.rename(spool.with_name("away"))
    spool.write_text("")
    assert not_ok(doctor(relay))["folder"] == "fail"
    spool.unlink()


@needs_root
def test_folders_that_cannot_be_made(world, tmp_path):
    """What is not there yet is ok only where a start can make it: not below a file, in a folder that is missing, on a disk that
    is read-only, or where the service's user may not write. The start agrees."""
    (tmp_path / "file").write_text("")
    relay = world()
    plain = {**relay.config, "spool": str(tmp_path / "spool"), "state": str(tmp_path / "state"), "dkim": {"master_key": str(tmp_path / "key")}}
    keys = {
        "spool": lambda path: {"spool": path},
        "state": lambda path: {"state": path, "control": str(tmp_path / "control.sock")},
        "pickup": lambda path: {"sendmail": {"socket": str(tmp_path / "s"), "pickup": path, "accounts": [{"user": "*", "account": "a"}]}},
        "master_key": lambda path: {"dkim": {"master_key": path}},
        "maildir": lambda path: {"routes": [{"match": {"recipient": "l.test"}, "via": f"maildir:{path}/%u"}]},
    }

    def look(key, path, **changes):
        relay.config = {**plain, **keys[key](str(path)), **changes}
        relay.write_config()
        return doctor(relay).get((key if key in ("maildir", "master_key") else "folder", str(path)))

    with tmpfs(tmp_path / "read-only", "size=1m,mode=0777,ro"):
        for key in keys:
            found = look(key, tmp_path / "fresh")
            assert found is None if key == "master_key" else found["state"] == "ok", (key, found)
            for parent, why in (("missing", "there is no folder"), ("file", "older"), ("read-only", "Read-only file system")):
                found = look(key, tmp_path / parent / "below")
                if (key, parent) == ("maildir", "missing"):  # the folders above it are made with it
                    assert found["state"] == "ok"
                    continue
                assert found["state"] == "fail" and (why in found["found"] or "Not a directory" in found["found"]), (key, parent, found)
                if key in ("spool", "state", "pickup"):
                    assert relay.run("serve", check=False).returncode != 0, (key, parent)
    nobody = pwd.getpwnam("nobody")
    (tmp_path / "state").mkdir(mode=0o700, exist_ok=True)
    os.chown(tmp_path / "state", nobody.pw_uid, nobody.pw_gid)
    for key in ("spool", "pickup", "maildir"):
        open_the_way(tmp_path)
        tmp_path.chmod(0o755)
        found = look(key, tmp_path / f"new-{key}")
        assert found["state"] == "fail" and f"nobody may not write to {tmp_path}" in found["found"], (key, found)
        assert key == "maildir" or look(key, tmp_path / f"new-{key}", user="nobody")["state"] == "ok"  # root makes it
        tmp_path.chmod(0o777)
        assert look(key, tmp_path / f"new-{key}")["state"] == "ok"


@needs_root
def test_history_outgrows_the_disk(world, tmp_path):
    relay = world({"events": {"keep": "3650d"}})
    with tmpfs(tmp_path / "state", "size=200m,mode=0700") as disk:
        relay.write_config({"state": str(disk)})
        (disk / "events").mkdir()
        (disk / "events" / "2026-01-01.db").write_bytes(bytes(1 << 20))
        assert not_ok(doctor(relay)) == {"service": "warn", "history_space": "warn"}
        relay.write_config({"events": {"keep": "30d"}})
        assert not_ok(doctor(relay)) == {"service": "warn"}


# ---- the service -----------------------------------------------------------------------------------------

class Http:
    """A control socket that says what the test wants: answer(path) -> object."""

    def __init__(self, answer, path=None):
        self.answer, self.path = answer, path

    def __enter__(self):
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                body = json.dumps(outer.answer(self.path)).encode()
                self.send_response(200 if body != b"{}" else 404)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def address_string(self):
                return "unix"

            def log_message(self, *_):
                pass

        if not self.path:
            self.server = socketserver.TCPServer(("127.0.0.1", 0), Handler)
            return self.server, self.server.server_address[1]
        self.server = socketserver.ThreadingUnixStreamServer(self.path, Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        return self.server, None

    def __exit__(self, *_):
        if self.path:
            self.server.shutdown()
        self.server.server_close()


def test_sandbox_and_clocks(world, tmp_path):
    """A relay that is not shut in (this test's own process says it is one), and clocks that went apart."""
    relay = world({"control": str(tmp_path / "c")})
    now = datetime.datetime.utcnow()

    def service(path, **changes):
        at = {"pid": os.getpid(), "relay_pid": os.getpid(), "version": "0", "uptime_ms": 60000,
              "started_at": (now - datetime.timedelta(seconds=60)).isoformat(timespec="milliseconds") + "Z",
              "now": now.isoformat(timespec="milliseconds") + "Z", "sandbox": {"landlock": 6}}
        return {**at, **changes} if path == "/v1/service" else {}

    def asked(**changes):
        with Http(lambda path: service(path, **changes), str(tmp_path / "c")):
            found = doctor(relay)
        (tmp_path / "c").unlink()
        return found

    found = asked()
    assert states(found, "sandbox_relay") == ["fail"] and states(found, "sandbox_signer") == ["warn"]
    assert states(found, "sandbox_files") == ["ok"] and states(found, "clock_agree") == ["ok"]
    assert states(asked(sandbox={"landlock": 0}), "sandbox_files") == ["warn"]
    assert states(asked(uptime_ms=50000), "clock_agree") == ["warn"]
    assert states(asked(relay_pid=2 ** 22 + 1), "sandbox_relay") == ["warn"]


def test_descriptors(world):
    relay = world({"limits": {"sessions": 500, "connections": 100}})
    assert states(doctor(relay, wrapper=["prlimit", "--nofile=2000:2000"]), "descriptors") == ["ok"]
    assert states(doctor(relay, wrapper=["prlimit", "--nofile=500:500"]), "descriptors") == ["warn"]
    relay.start(wrapper=["prlimit", "--nofile=600:600"])
    found = doctor(relay)
    assert states(found, "descriptors") == ["warn"] and "LimitNOFILE=856" in found["descriptors", None]["fix"]


@needs_root
def test_user(world, tmp_path):
    open_the_way(tmp_path)  # to its spool and its sockets
    relay = world({"user": "nobody"})
    assert states(doctor(relay), "user") == ["ok"]
    relay.start()
    assert states(doctor(relay), "sandbox_relay") == ["ok"] and states(doctor(relay), "sandbox_signer") == ["ok"]
    relay.stop()
    relay.write_config({"user": "no-such-user"})
    assert not_ok(doctor(relay, code=65)).keys() >= {"service"} and states(doctor(relay), "user") == ["fail"]


def open_the_way(tmp_path):
    """Everybody may pass to a test's own folder."""
    for folder in (tmp_path, *tmp_path.parents):
        if folder != pathlib.Path("/tmp") and str(folder).startswith("/tmp") and folder.stat().st_uid == 0:
            folder.chmod(folder.stat().st_mode | 0o055)


@needs_root
def test_access(world, tmp_path):
    """A service that is started as a user of its own: what root can read and that user can't; who reaches the sockets."""
    open_the_way(tmp_path)
    nobody = pwd.getpwnam("nobody")
    secret, maildirs, closed = tmp_path / "password", tmp_path / "mail", tmp_path / "closed"
    secret.write_text("s3cret\n")
    secret.chmod(0o600)
    closed.mkdir(mode=0o700)
    relay = world({"user": "none", "routes": [
        {"match": {"recipient": "local.test"}, "via": f"maildir:{maildirs}/%d/%u"},
        {"match": {}, "via": "smtp://192.0.2.1:25", "login": "u", "password_file": str(secret), "tls": "encrypt"}],
        "sendmail": {"socket": str(closed / "submit.sock"), "accounts": [{"user": "*", "account": "local"}]},
        "roles": {"readers": "daemon"}})
    state = pathlib.Path(relay.config["state"])
    state.mkdir(mode=0o700)
    os.chown(state, nobody.pw_uid, nobody.pw_gid)
    relay.config_file.chmod(0o600)
    findings = doctor(relay, code=65)
    failed = {ident for ident, one in findings.items() if one["state"] == "fail"}
    assert {("file_access", str(secret)), ("file_access", str(relay.config_file)), ("maildir", str(maildirs)),
            ("socket_access", str(closed / "submit.sock"))} <= failed
    assert f"chgrp {grp.getgrgid(nobody.pw_gid).gr_name} {secret}; chmod 640" in findings["file_access", str(secret)]["fix"] and f"may not pass {closed}" in \
        findings["socket_access", str(closed / "submit.sock")]["found"]
    assert findings["socket_access", str(relay.config_file)]["state"] == "warn"
    assert findings["user", "nobody"]["state"] == "ok"
    for file in (secret, relay.config_file):
        os.chown(file, -1, nobody.pw_gid)
        file.chmod(0o644 if file == relay.config_file else 0o640)
    maildirs.mkdir()
    os.chown(maildirs, nobody.pw_uid, -1)
    closed.chmod(0o711)
    findings = doctor(relay)
    assert not {("file_access", str(secret)), ("file_access", str(relay.config_file))} & findings.keys()
    assert findings["maildir", str(maildirs)]["state"] == "ok"
    assert findings["socket_access", str(closed / "submit.sock")]["state"] == "ok"


def test_service_that_does_not_answer(world, tmp_path):
    relay = world({"control": str(tmp_path / "c")})
    with Http(lambda path: {}, str(tmp_path / "c")):
        assert states(doctor(relay), "service") == ["fail"]


# ---- configuration and accounts --------------------------------------------------------------------------

def test_smells(world):
    relay = world()
    listener = relay.config["listeners"][0]
    base = {"service": "warn"}
    for changes, wanted in (
            ({"retry": {"lifetime": "1h", "warn_after": "30m"}}, {"retry_lifetime": "warn"}),
            ({"retry": {"lifetime": "20d", "warn_after": "4h"}}, {"retry_lifetime": "warn"}),
            ({"retry": {"lifetime": "5d", "warn_after": "4h"}, "listeners": [{**listener, "trusted": ["8.0.0.0/8"]}]},
             {"trusted_network": "warn"}),
            ({"listeners": [{**listener, "trusted": ["10.0.0.0/8", "198.51.100.0/24", "fd00::/8"]}]}, {}),
            ({"listeners": [{**listener, "trusted": ["2000::/4"]}]}, {"trusted_network": "warn"}),
            ({"listeners": [listener], "http": {"address": "0.0.0.0:0"}}, {"http_public": "warn"}),
            ({"http": {"address": "127.0.0.1:0"}, "tls": {"certificate": None, "key": None, "self_signed": True}}, {}),
            ({"listeners": [{**listener, "address": "0.0.0.0:0"}]}, {"self_signed": "warn"})):
        relay.write_config(changes)
        assert not_ok(doctor(relay)) == {**base, **wanted}, changes


def test_named_accounts(world, tmp_path):
    """An account that a listener or sendmail.accounts names: it may come later, so the start and a reload warn, and the doctor fails."""
    relay = world({"listeners": [{"name": "local", "address": "127.0.0.1:0", "tls": "none", "auth": "none", "trusted": ["127.0.0.0/8"], "account": "printer"}],
                   "sendmail": {"socket": str(tmp_path / "s"), "accounts": [{"user": "daemon", "account": "cron"}, {"user": "*", "account": "printer"}]}})
    assert relay.run("check-config").returncode == 0
    assert not states(doctor(relay), "listener_account")  # no store yet: looking makes none
    relay.start()
    warning = "warn mail without a login is refused: listeners[].account names no account listener=local account="
    assert f'{warning}printer because="it does not exist: see posthaste account add"' in relay.log()
    assert "sendmail.accounts names no account user=daemon account=cron" in relay.log()

    def found():
        return [(*key, one["state"]) for key, one in doctor(relay).items() if key[0] in ("listener_account", "user_account")]
    assert found() == [("listener_account", "local", "fail"), ("user_account", "daemon", "fail"), ("user_account", "*", "fail")]
    assert "there is no account printer" in doctor(relay, code=65)["listener_account", "local"]["found"]
    relay.cli("account", "add", "printer")
    relay.cli("account", "add", "cron")
    assert {state for _, _, state in found()} == {"ok"}
    said = relay.log().count("names no account")
    relay.reload({})
    assert relay.log().count("names no account") == said
    relay.cli("account", "suspend", "printer")
    one = doctor(relay)["listener_account", "local"]
    assert one["state"] == "fail" and one["found"].endswith("the account printer is suspended") and "account activate" in one["fix"]
    relay.reload({})
    assert relay.log().count("names no account") == said  # somebody wanted it so
    relay.cli("account", "close", "cron")
    relay.reload({})
    assert 'user=daemon account=cron because="it is closed"' in relay.log()
    one = doctor(relay)["user_account", "daemon"]
    assert one["state"] == "fail" and one["found"].endswith("cron is closed") and "account add" not in one["fix"]


def test_accounts(world):
    relay = world(start=True)
    assert not_ok(doctor(relay)) == {"accounts": "warn"}
    relay.add_account("alice")
    assert not_ok(doctor(relay)) == {"verified_domain": "warn"}
    relay.cli("domain", "add", "alice", "client.test")
    assert not_ok(doctor(relay)) == {"verified_domain": "warn"}
    relay.cli("domain", "add", "alice", "client.test", "--trust")
    assert not_ok(doctor(relay)) == {}
    relay.cli("account", "set", "alice", "preflight", "off")
    assert not_ok(doctor(relay)) == {"preflight_off": "warn"}
    relay.stop()
    assert not_ok(doctor(relay)) == {"service": "warn", "preflight_off": "warn"}  # from the files
    relay.cli("account", "suspend", "alice")
    assert not_ok(doctor(relay)) == {"service": "warn", "accounts": "warn"}


def test_relay_that_died_is_not_the_doctors_fault(world):
    """A control socket that nobody serves is a service that does not run."""
    relay = world(start=True)
    relay.kill()
    wait_until(lambda: not relay.process.running(), 10)
    found = doctor(relay)
    assert found["service", None]["state"] == "warn"
