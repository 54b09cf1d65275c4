# SPDX-License-Identifier: MIT
"""Every command, with what should not be: a clear sentence and an exit code that is documented, never a crash, never silence."""
import fcntl
import json
import os
import re
import resource
import socket
import subprocess
import threading

import pytest
from lib.relay import BINARY

EXITS = {0, 64, 65, 66, 69, 75, 77, 78}
MAIL = "From: a@client.test\r\nTo: b@example.org\r\nSubject: x\r\n\r\nhello\r\n"
ID = "0HZX3M8T5K0G000100AB"

# Of each command arguments that are right as far as one can tell, and standard input. What runs for ever, or needs no arguments
# to do harm to the test itself, is told by None.
COMMANDS = {
    "serve": None, "check-config": ([], ""), "config show": ([], ""), "config schema": ([], ""), "config reload": ([], ""),
    "import postfix": (["/dev/null"], ""), "doctor": None, "account add": (["acme"], ""), "account list": ([], ""),
    "account show": (["alice"], ""), "account set": (["alice", "preflight", "warn"], ""), "account suspend": (["alice"], ""),
    "account activate": (["alice"], ""), "account close": (["zed"], ""), "credential add": (["alice", "--login", "x", "--generate"], ""),
    "credential list": ([], ""), "credential remove": (["alice", "--login", "x"], ""), "domain add": (["alice", "example.net"], ""),
    "domain list": ([], ""), "domain verify": (["alice", "example.net"], ""), "domain check": (["example.net"], ""),
    "domain remove": (["alice", "example.net"], ""), "dkim list": ([], ""), "dkim rotate": (["alice", "client.test"], ""),
    "dkim import": (["alice", "client.test", "--selector", "s"], "no key"), "dkim zone": ([], ""),
    "dkim sign": (["--domain", "client.test", "--selector", "s", "--key", "/dev/null"], MAIL), "dkim verify": (["--zone", "/dev/null"], MAIL),
    "suppress add": (["a@example.org"], ""), "suppress remove": (["a@example.org"], ""), "suppress check": (["a@example.org"], ""),
    "suppress list": ([], ""), "suppress import": (["-"], "x@example.org\n"), "suppress export": ([], ""),
    "message show": ([ID], ""), "message find": (["--tag", "x"], ""), "message why": ([ID], ""), "message check": ([], MAIL),
    "message trace": ([ID], ""), "trace add": (["a@example.org"], ""), "trace list": ([], ""), "trace remove": (["a@example.org"], ""),
    "queue list": ([], ""), "queue lanes": ([], ""), "queue holds": ([], ""), "queue hold": (["--domain", "x.test"], ""), "queue release": (["--domain", "x.test"], ""),
    "queue retry": (["--domain", "x.test"], ""), "queue bounce": (["--domain", "x.test"], ""), "queue delete": (["--domain", "x.test"], ""),
    "top": (["--once"], ""), "events": ([], ""), "history": ([], ""), "audit": ([], ""), "backup": None, "restore": (["/nonexistent"], ""),
    "upgrade": None, "bounce classify": (["--reply", "550 5.1.1 no such user"], ""), "sendmail": None, "mailq": ([], ""),
    "newaliases": ([], ""), "sink": None, "load": None, "help": ([], ""), "version": ([], ""),
}
RUN = {name: row for name, row in COMMANDS.items() if row}
OWN_OPTIONS = {"mailq", "newaliases"}  # they know no --config


def environment(config):
    return {**os.environ, "POSTHASTE_CONFIG": str(config), "COLUMNS": "100"}


def run(config, name, arguments=None, stdin=None, **kwargs):
    known, text = RUN[name]
    kwargs = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "timeout": 60, **kwargs}
    data = text if stdin is None else stdin
    return subprocess.run([BINARY, *name.split(), *(known if arguments is None else arguments)], check=False,
                          input=data if isinstance(data, bytes) else data.encode(), env=environment(config), **kwargs)


def check(name, done, what, exits=EXITS):
    said = done.stderr.decode(errors="replace")
    assert done.returncode in exits, (name, what, done.returncode, said[-800:])
    assert done.returncode == 0 or said.strip(), (name, what, done.returncode, "silence")
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", said), (name, what, said[:300])


def test_all_commands_are_here():
    """A new command comes with its row."""
    listing = subprocess.run([BINARY, "help"], capture_output=True, text=True, check=True).stdout
    names = re.findall(r"^  ([a-z-]+(?: [a-z]+)?)(?= [A-Z\[-]| {2,})", listing.split("commands:")[1].split("options of")[0], re.M)
    assert set(names) == set(COMMANDS), set(names) ^ set(COMMANDS)


def plain(*arguments):
    return subprocess.run([BINARY, *arguments], capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL)


def test_help_is_everywhere():
    """Of each command and each group, the same by three ways, on standard output, exit 0; what is none is a usage error that names it."""
    groups = {name.split()[0] for name in COMMANDS if " " in name}
    assert len(groups) > 10 and not groups & set(COMMANDS)
    for name in [*COMMANDS, *groups]:
        words = name.split()
        ways = [plain("help", *words), plain(*words, "--help"), plain(*words, "-h")]
        for done in ways:
            assert done.returncode == 0 and done.stderr == "" and done.stdout == ways[0].stdout, (name, done)
        assert f"usage: posthaste {name}" in ways[0].stdout
        if name in groups:
            assert set(re.findall(rf"^  ({name} [a-z]+)", ways[0].stdout, re.M)) == {one for one in COMMANDS if one.startswith(name + " ")}
            for arguments, said in (((), ""), (("nosuch",), f"no command '{name} nosuch'"), (("nosuch", "--help"), f"no command '{name} nosuch'"), (("--json",), "")):
                done = plain(name, *arguments)
                assert done.returncode == 64 and done.stdout == "" and said in done.stderr and f"usage: posthaste {name} COMMAND" in done.stderr, (name, done)
        else:
            done = plain("help", *words, "nosuch")
            assert done.returncode == 64 and (f"no command '{name} nosuch'" in done.stderr or name == "help" and "no command 'help nosuch'" in done.stderr), done
    for done in (plain("help"), plain("--help"), plain("-h")):
        assert done.returncode == 0 and done.stdout == plain("help").stdout and not done.stderr
    for arguments in ((), ("nosuch",), ("nosuch", "--help"), ("help", "nosuch"), ("--json",)):
        assert plain(*arguments).returncode == 64 and not plain(*arguments).stdout, arguments


def test_help_of_the_configuration():
    """All keys, a section, or one key."""
    every = plain("help", "configuration")
    assert every.returncode == 0 and "\nlimits.sessions\n" in every.stdout
    one = plain("help", "configuration", "listeners.tls")
    assert one.returncode == 0 and one.stdout.startswith("listeners[].tls\n    none (trusted") and one.stdout.count("default: ") == 1
    section = plain("help", "configuration", "dkim")
    assert re.findall(r"^\S+", section.stdout, re.M) == re.findall(r"^dkim\S*", every.stdout, re.M) and len(section.stdout) < len(every.stdout)
    none = plain("help", "configuration", "limits.nosuch")
    assert none.returncode == 64 and none.stdout == "" and "there is no key 'limits.nosuch'" in none.stderr


@pytest.fixture
def running(make_relay):
    relay = make_relay()
    for name in ("alice", "zed"):
        relay.add_account(name, domains=["client.test"] if name == "alice" else [])
    relay.cli("suppress", "add", "first@example.org")
    return relay


def test_output_that_cannot_be_written(running):
    """A full disk, a descriptor that is closed: told, with an exit code. A reader who has seen enough is no failure."""
    for name in RUN:
        wrote = run(running.config_file, name)
        with open("/dev/full", "w", encoding="ascii") as full:
            done = run(running.config_file, name, stdout=full)
        check(name, done, "full")
        if wrote.stdout and wrote.returncode == 0:
            assert done.returncode != 0, (name, "said nothing to nobody")
            assert done.returncode in (65, 66) or b"cannot write" in done.stderr, (name, done.returncode, done.stderr)
        known, text = RUN[name]
        done = subprocess.run(["sh", "-c", 'exec "$0" "$@" >&-', BINARY, *name.split(), *known], check=False, input=text.encode(),
                              env=environment(running.config_file), stderr=subprocess.PIPE, timeout=60)
        check(name, done, "closed")
        reader, writer = os.pipe()
        os.close(reader)
        done = run(running.config_file, name, stdout=writer)
        os.close(writer)
        check(name, done, "nobody reads")
    assert running.cli("account", "show", "alice")["state"] == "active"  # nothing went into its files


def is_json(text):
    """An object, or one a line."""
    try:
        return bool(text) and all(isinstance(json.loads(one), dict) for one in ([text] if text.startswith("{\n") else text.splitlines()))
    except ValueError:
        return False


def test_json_is_what_is_offered(running):
    """Whose help has --json prints objects with it, and nothing else; to the others it is unknown."""
    offering = set()
    for name in RUN:
        offers = re.search(r"^  --json ", plain("help", *name.split()).stdout, re.M)
        done = run(running.config_file, name, [*RUN[name][0], "--json"])
        said = done.stdout.decode()
        if not offers:
            assert name in OWN_OPTIONS or done.returncode == 64 and b"unknown option --json" in done.stderr and not said, (name, done)
            continue
        offering.add(name)
        assert done.returncode != 64 and (is_json(said) or not said and (done.returncode or name.endswith((" list", " holds", " lanes", " find")) or name in ("events", "history"))), (name, done)
    assert set(RUN) - offering == {"config show", "dkim zone", "help", "import postfix", "mailq", "newaliases", "suppress export"}


BAD = [b"x" * 100_000, b"", b"\xff\xfe\x80", b"\x1b[31mred\x07", b"a\nb", b"' OR 1=1 --", b"../../etc/passwd", b"%s%n%d", b"-1", b"99999999999999999999",
       "ä@bücher.example".encode(), b"--"]


def test_bad_arguments(running):
    """Arguments and values of options, in turn, replaced by rubbish."""
    for turn, (name, (known, _)) in enumerate(RUN.items()):
        if name == "restore":
            continue
        options = re.findall(r"^  --([a-z-]+) [A-Z]", subprocess.run([BINARY, "help", *name.split()], capture_output=True, text=True, check=True).stdout, re.M)
        if name in OWN_OPTIONS:
            options = []
        for number in range(turn, turn + 5):  # five of them for each, all of them for all
            rubbish = BAD[number % len(BAD)]
            places = [i for i, word in enumerate(known) if not word.startswith("--")]
            if places:
                place = places[number % len(places)]
                check(name, run(running.config_file, name, [*known[:place], rubbish, *known[place + 1:]]), rubbish[:40])
            if options:
                option = options[number % len(options)].encode()
                check(name, run(running.config_file, name, [*known, b"--" + option + b"=" + rubbish]), (option, rubbish[:40]))
        for arguments in ([*known, "--nosuchoption"], [*known, *["more"] * 30], [*known, "--json=yes"]):
            if name not in OWN_OPTIONS and not (name == "help" and arguments[-1] == "more"):
                done = run(running.config_file, name, arguments)
                assert done.returncode == 64 and b"usage: " in done.stderr, (name, arguments[-1], done.returncode, done.stderr)
    assert running.run("account", "list").stdout


def test_bad_input(running):
    """Those that read standard input, given what is none of it."""
    for name in ("dkim import", "dkim sign", "dkim verify", "message check", "suppress import", "bounce classify"):
        known = [] if name == "bounce classify" else RUN[name][0]
        for text in (b"", b"\0" * 1000, b"\xff" * 100_000, b"\r\r\r", b"a" * 2_000_000, b"\n" * 5000):
            check(name, run(running.config_file, name, known, stdin=text), text[:10])


@pytest.mark.parametrize("what", ["absent", "folder", "binary", "unreadable", "empty"])
def test_bad_configuration(tmp_path, what):
    path = tmp_path / "posthaste.yaml"
    if what == "folder":
        path.mkdir()
    elif what in ("binary", "empty"):
        path.write_bytes(bytes(range(256)) if what == "binary" else b"")
    elif what == "unreadable":
        path.symlink_to("/proc/self/mem")
    for name in RUN:
        if name in ("help", "version", "config schema", "import postfix", "newaliases") or what == "empty" and name in ("check-config", "config show"):
            continue
        done = run(path, name)
        check(name, done, what, EXITS - {0} if what != "empty" and not name.startswith(("bounce", "dkim")) else EXITS)


def ok(body):
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(body), body)


NAMES = ("accounts", "credentials", "domains", "entries", "keys", "account", "login", "id", "lane", "at", "recipients", "work", "alerts",
         "records", "checks", "matched", "address", "text", "cursor", "options", "state", "queue", "events")
CUT = {"nothing": b"", "half a header": b"HTTP/1.1 200 OK\r\nContent-Le", "no HTTP": b"220 mail.example.org ESMTP\r\n",
       "half a body": b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{\"account\":", "no length": b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",
       "no JSON": ok(b"<html>\x1b[2J</html>\n"), "500": b"HTTP/1.1 500 No\r\nContent-Length: 5\r\nConnection: close\r\n\r\noops\n"}
WRONG = {"a string": ok(b"\"x\"\n"), "a list": ok(b"[1,2,3]\n"), "null": ok(b"null\n"), "an empty object": ok(b"{}\n"), "nothing in it": ok(b""),
         "wrong types": ok(json.dumps({key: {"x": [1]} for key in NAMES}).encode() + b"\n"),
         "lists of wrong types": ok(json.dumps({key: [1, None, "x", [], {}] for key in NAMES}).encode() + b"\n"),
         "an error of no text": b"HTTP/1.1 400 No\r\nContent-Length: 13\r\nConnection: close\r\n\r\n{\"error\":{}}\n"}


A_FEW = {"account list", "account add", "queue list", "queue delete", "message show", "events", "top", "config reload"}  # one of each way to ask


class Impostor:
    """Answers everything at a control socket with the same bytes, then hangs up."""

    def __init__(self, path):
        self.answer = b""
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(str(path))
        self.socket.listen(64)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                one, _ = self.socket.accept()
                one.settimeout(5)
                one.recv(65536)
                one.sendall(self.answer)
                one.close()
            except OSError:
                if self.socket.fileno() == -1:
                    return


def test_bad_answers(make_relay):
    """A service that dies in the middle of its answer, or something else at the socket. The store is locked, so all has to be asked."""
    relay = make_relay(start=False)
    relay.run("account", "add", "alice")
    impostor = Impostor(f"{relay.config['state']}/control.sock")
    lock = open(f"{relay.config['state']}/lock", "w", encoding="ascii")
    fcntl.flock(lock, fcntl.LOCK_EX)
    asks = [name for name in RUN if name.split()[0] in ("account", "credential", "domain", "suppress", "message", "queue", "top", "events", "history", "audit", "trace")
            or name in ("dkim list", "dkim rotate", "dkim zone", "config reload", "mailq")]
    for what, impostor.answer in {**CUT, **WRONG}.items():
        for name in asks:
            if name == "message check" or what in CUT and name not in A_FEW:
                continue
            done = run(relay.config_file, name)
            check(name, done, what)
            if what in CUT:
                assert done.returncode in (69, 75), (name, what, done.returncode, done.stderr)
    impostor.socket.close()


@pytest.mark.skipif(os.path.exists("/etc/posthaste/posthaste.yaml"), reason="this host has a configuration")
def test_no_configuration_is_told(tmp_path):
    """Whoever forgot --config sees that the account is not where the service looks; once, and not with a file."""
    env = {name: value for name, value in os.environ.items() if name != "POSTHASTE_CONFIG"}

    def run(*arguments):
        return subprocess.run([str(BINARY), *arguments], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120, check=True)
    for command in (["account", "add", "ghost"], ["credential", "list", "ghost"], ["check-config"]):
        told = run(*command).stderr
        assert told.count("no configuration file") == 1 and f"its data in {tmp_path}/posthaste-data/state" in told, told
    file = tmp_path / "posthaste.yaml"
    file.write_text("hostname: relay.example\nspool: spool\nstate: state\n")
    assert run("account", "add", "ghost", "--config", str(file)).stderr == ""


def test_few_descriptors(running):
    """Few descriptors: told, no crash."""
    for name in ("account list", "queue list", "suppress list", "check-config"):
        done = run(running.config_file, name, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (4, 4)))
        check(name, done, "few descriptors")


def test_without_a_service(make_relay):
    """What needs one says so: 69."""
    relay = make_relay(start=False)
    relay.run("account", "add", "alice")
    for name in RUN:
        if name.split()[0] in ("queue", "message", "events", "history", "top", "mailq", "trace") and name != "message check" or name == "config reload":
            done = run(relay.config_file, name)
            assert done.returncode == 69 and b"not running" in done.stderr, (name, done.returncode, done.stderr)
        else:
            check(name, run(relay.config_file, name), "no service")
