# SPDX-License-Identifier: MIT
"""`make install` into a folder: what is there, that it works from there, and the unit (judges: systemd-analyze,
systemd-sysusers, systemd-tmpfiles)."""
import functools
import os
import pathlib
import re
import signal
import smtplib
import subprocess

import pytest
from lib.process import wait_until
from lib.relay import Relay

TOP = pathlib.Path(__file__).parents[2]
EXPOSURE_MAX = 2.0
# By name, where there is one of each; manual pages stand in test_packaging.
WANTED = {
    "bin/posthaste",
    "lib/systemd/system/posthaste.service",
    "lib/sysusers.d/posthaste.conf",
    "lib/tmpfiles.d/posthaste.conf",
    "share/bash-completion/completions/posthaste.bash",
    "share/zsh/site-functions/_posthaste",
    "share/fish/vendor_completions.d/posthaste.fish",
    "share/doc/posthaste/examples/posthaste.yaml",
    "share/doc/posthaste/examples/posthaste.rules.yml",
    "share/doc/posthaste/examples/posthaste.json",
    "share/man/man5/posthaste.yaml.5",
}


def run(*command, **options):
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=120, **options)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """What `make install DESTDIR=...` does once all is built."""
    root = tmp_path_factory.mktemp("root")
    done = run("meson", "install", "-C", TOP / "build", "--no-rebuild", "--destdir", root)
    assert done.returncode == 0, done.stdout + done.stderr
    return root


@pytest.fixture(scope="module")
def prefix(root):
    (program,) = root.glob("**/bin/posthaste")
    return program.parent.parent


@pytest.fixture
def unit(prefix, tmp_path):
    """The unit as it would stand on a host where this is installed."""
    text = (prefix / "lib/systemd/system/posthaste.service").read_text()
    path = tmp_path / "posthaste.service"
    path.write_text(re.sub(r"(?m)^ExecStart=\S+", f"ExecStart={prefix}/bin/posthaste", text))
    return path


def test_files(root, prefix):
    have = {str(path.relative_to(prefix)) for path in prefix.rglob("*") if path.is_file()}
    pages = {f"share/man/man1/{path.name}" for path in (TOP / "build/src/cli/man1").iterdir()}
    assert len(pages) > 50
    assert have == WANTED | pages
    assert not [path for path in root.rglob("*") if path.is_file() and not path.is_relative_to(prefix)]


def test_make_install_passes_on_where():
    said = run("make", "-n", "install", "prefix=/opt/mail", "DESTDIR=/tmp/elsewhere", cwd=TOP).stdout
    assert "meson configure build --prefix /opt/mail\n" in said and "--destdir /tmp/elsewhere\n" in said


def test_installed_program_serves(prefix, monkeypatch, tmp_path):
    monkeypatch.setattr("lib.relay.BINARY", prefix / "bin/posthaste")
    relay = Relay(tmp_path / "relay", {"tls": {"self_signed": True}}).start()
    assert relay.run("version").stdout.startswith("posthaste ")
    assert relay.stop() == 0


def on_host(name):
    """What to put before a command so that it runs on a host of that name."""
    root = [] if os.geteuid() == 0 else ["--map-root-user"]
    return ["unshare", *root, "--uts", "sh", "-ec", 'hostname "$1"; shift; exec "$@"', "sh", name]


def test_example_configuration(prefix, tmp_path):
    """As it comes it is right on a host with a full name; on others it says what is missing, and is right with that."""
    example = (prefix / "share/doc/posthaste/examples/posthaste.yaml").read_text()
    path = tmp_path / "posthaste.yaml"
    check = (prefix / "bin/posthaste", "check-config", "--config", path)
    path.write_text(example)
    said = run(*on_host("relay.example.org"), *check)
    assert said.returncode == 0, said.stderr
    refused = run(*on_host("nameless-relay"), *check)
    assert refused.returncode == 78 and "hostname" in refused.stderr
    path.write_text(example.replace("#hostname:", "hostname:"))
    said = run(*on_host("nameless-relay"), *check)
    assert said.returncode == 0, said.stderr


def test_own_name_is_used(tmp_path):
    """Guard and relay agree on it, before and after a reload."""
    relay = Relay(tmp_path / "relay", {"hostname": None, "tls": {"self_signed": True}})
    relay.start(wrapper=on_host("own.example.org"))
    for changes in ({"log": {"format": "json"}}, {}):
        with smtplib.SMTP(*relay.listener("trusted")) as client:
            assert client.ehlo()[1].startswith(b"own.example.org")
        relay.reload(changes)
    assert "reload refused" not in relay.log()
    assert relay.stop() == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: renames the host of the relay")
def test_own_name_goes_away(tmp_path):
    """The start had it; a reload gives another, and a relay that follows one that died goes by that."""
    relay = Relay(tmp_path / "relay", {"hostname": None, "tls": {"self_signed": True}})
    relay.start(wrapper=on_host("own.example.org"))
    subprocess.run(["nsenter", "--uts", "--target", str(relay.ready["pid"]), "hostname", "nameless-relay"], check=True, timeout=60)
    relay.reload({"hostname": "given.example.org"})
    os.kill(relay.relay_pid(), signal.SIGKILL)
    wait_until(lambda: relay.log().count("ready pid=") == 2, 60, "another relay serves")
    with smtplib.SMTP(*relay.listener("trusted")) as client:
        assert client.ehlo()[1].startswith(b"given.example.org")
    assert relay.stop() == 0


# ---- the unit ------------------------------------------------------------------------------------------

def test_j_unit_is_right(unit):
    said = run("systemd-analyze", "verify", "--man=no", "--recursive-errors=no", unit)
    assert (said.returncode, said.stdout, said.stderr) == (0, "", "")


def test_j_unit_is_shut_in(unit):
    said = run("systemd-analyze", "security", "--offline=true", "--no-pager", unit)
    level = re.search(r"Overall exposure level for posthaste.service: ([0-9.]+)", said.stdout)
    assert level and float(level.group(1)) <= EXPOSURE_MAX, said.stdout + said.stderr


@functools.lru_cache(maxsize=None)
def calls(name):
    """The system calls of a set of systemd's, or of a name."""
    if not name.startswith("@"):
        return frozenset([name])
    said = run("systemd-analyze", "syscall-filter", "--no-pager", name)
    assert said.returncode == 0, said.stderr
    words = [line.strip() for line in said.stdout.splitlines()[1:] if not line.strip().startswith("#")]
    return frozenset().union(*(calls(word) for word in words if word))


def test_unit_allows_what_the_service_calls(unit, tmp_path):
    """What the guard, the relay and the signer call from start to stop, with a reload, is what the unit lets them."""
    allowed = set()
    for words in re.findall(r"(?m)^SystemCallFilter=(.*)$", unit.read_text()):
        named = frozenset().union(*(calls(word) for word in words.lstrip("~").split()))
        allowed = allowed - named if words.startswith("~") else allowed | named
    trace = tmp_path / "trace"
    relay = Relay(tmp_path / "relay", {"tls": {"self_signed": True}})
    relay.start(wrapper=("strace", "-f", "-qq", "-o", trace), seconds=60)
    os.kill(relay.ready["pid"], signal.SIGHUP)
    wait_until(lambda: "reloaded" in relay.log(), 60, "the reload's end")
    os.kill(relay.ready["pid"], signal.SIGTERM)
    relay.process.wait(60)
    used = set(re.findall(r"(?m)^\d+ +([a-z_0-9]+)\(", trace.read_text()))
    assert {"seccomp", "listen", "sendmsg"} <= used
    assert used <= allowed, used - allowed


def test_j_user_and_spool(prefix, tmp_path):
    """systemd-sysusers and systemd-tmpfiles make the user and the folder from what is installed."""
    (tmp_path / "etc").mkdir()
    made = run("systemd-sysusers", f"--root={tmp_path}", "-", input=(prefix / "lib/sysusers.d/posthaste.conf").read_text())
    assert made.returncode == 0, made.stderr
    entry = re.search(r"(?m)^posthaste:.*$", (tmp_path / "etc/passwd").read_text()).group(0).split(":")
    assert entry[5:] == ["/var/lib/posthaste", "/usr/sbin/nologin"]
    made = run("systemd-tmpfiles", f"--root={tmp_path}", "--create", "-",
               input=(prefix / "lib/tmpfiles.d/posthaste.conf").read_text())
    assert made.returncode == 0, made.stderr
    spool = (tmp_path / "var/spool/posthaste").stat()
    assert (spool.st_uid, spool.st_mode & 0o7777) == (int(entry[2]), 0o700)
