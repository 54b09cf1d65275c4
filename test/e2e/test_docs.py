# SPDX-License-Identifier: MIT
"""Every command of README.md and docs/*.md is run, as it stands.

A page's ```sh blocks are run one after the other by one shell that ends at the first command that fails. A block's fence says
more where it has to:

    ```sh                       every command ends with 0
    ```sh exits 0 or 65         the last one may end with 65 too
    ```sh not-run: REASON       not run; that its commands, options and make targets exist is checked
    ```yaml FILE                written to FILE, for the blocks behind it

The world that they run in: a service that runs, with the page's first account of none; a host of its own as far as paths go:
PLACES below are folders of the test. `ID` is the id of a message that waits. `systemctl` starts, stops and reloads that
service. Everything else is the real program.
"""
import contextlib
import functools
import json
import os
import pathlib
import re
import signal
import subprocess

import pytest
from lib.message import text_message
from lib.process import TOP, die_with_parent
from lib.relay import BINARY, submit

PAGES = sorted([TOP / "README.md", TOP / "CONTRIBUTING.md", *(TOP / "docs").glob("*.md")])
ELSEWHERE = {"SENDING-DOMAIN.md": "test_sending_domain.py"}  # pages that need a world of their own
PLACES = ("/etc/posthaste", "/etc/postfix", "/var/lib/posthaste", "/var/spool/posthaste", "/var/backups")
FENCE = re.compile(r"^```(\w*)[ ]?(.*?)\n(.*?)^```", re.M | re.S)
SHELL = ("sh", "bash", "shell", "console")

SYSTEMCTL = r"""#!/bin/sh
# systemctl ACTION posthaste, for the service of this test
set -eu
[ "$2" = posthaste ] || { echo "only posthaste is here" >&2; exit 5; }
pid() { sed 's/.*"pid":\([0-9]*\).*/\1/' "$WORLD/ready.json"; }
until_gone() { n=0; while kill -0 "$1" 2>/dev/null && [ $n -lt 600 ]; do sleep 0.05; n=$((n + 1)); done; }
until_there() { n=0; while [ ! -e "$WORLD/ready.json" ] && [ $n -lt 600 ]; do sleep 0.05; n=$((n + 1)); done; }
case $1 in
start) posthaste serve --ready-file "$WORLD/ready.json" </dev/null >>"$WORLD/relay.log" 2>&1 & until_there; [ -e "$WORLD/ready.json" ] ;;
stop) p=$(pid); kill "$p"; until_gone "$p" ;;
reload) p=$(pid); rm "$WORLD/ready.json"; kill -HUP "$p"; until_there; [ -e "$WORLD/ready.json" ] ;;
*) echo "unknown: $1" >&2; exit 1 ;;
esac
"""

POSTFIX = {
    "main.cf": "myhostname = relay.example.org\nmydestination =\nmynetworks = 127.0.0.0/8\nrelayhost =\n"
               "smtpd_tls_security_level = may\nsmtpd_tls_cert_file = @PAIR@.pem\nsmtpd_tls_key_file = @PAIR@.key\n"
               "smtp_tls_security_level = may\nmaximal_queue_lifetime = 3d\n",
    "master.cf": "submission inet n - y - - smtpd\n  -o smtpd_sasl_auth_enable=yes -o smtpd_tls_security_level=encrypt\n",
}


def blocks(page, languages):
    """(fence's words, text, line) of the blocks in these languages."""
    text = page.read_text()
    for match in FENCE.finditer(text):
        if match.group(1) in languages:
            yield match.group(2).strip(), match.group(3), text[:match.start()].count("\n") + 2


# ---- what no block may hide ------------------------------------------------------------------------------

def test_commands_stand_in_fences():
    """An indented block is no place for a command: it would not be run."""
    for page in PAGES:
        look_for_hidden(page)


def look_for_hidden(page):
    outside = FENCE.sub("", page.read_text())
    for line in re.findall(r"^    (\S.*)$", outside, re.M):
        assert not re.match(r"(sudo )?((build/)?posthaste|make|tools/\w+|bench/\w+|systemctl|apt|docker|kubectl) ?\b", line), f"{page.name}: {line}"
    for words, _, line in blocks(page, SHELL):
        assert words == "" or re.fullmatch(r"exits 0 or \d+|not-run: \S.*", words), f"{page.name}:{line}: {words}"
    languages = {match.group(1) for match in FENCE.finditer(page.read_text())}
    assert not languages & set(SHELL[1:]), "write ```sh"


# ---- those that are not run ------------------------------------------------------------------------------

def help_of(*command):
    return subprocess.run([BINARY, "help", *command], capture_output=True, text=True, timeout=120, check=True).stdout


@functools.cache
def options_of_commands():
    """{"queue hold": its help} of every command."""
    listed = help_of().split("commands:\n")[1].split("\n\n")[0]
    names = re.findall(r"^  ([a-z-]+(?: [a-z-]+)*?)(?=  | [-A-Z\[])", listed, re.M)
    return {name: help_of(*name.split()) for name in names}


def check_words(words, where):
    """`posthaste queue hold --id X`: the command and its options exist."""
    while words and re.fullmatch(r"sudo|\w+=\S*", words[0]):
        words = words[1:]
    if not words or words[0].rpartition("/")[2] != "posthaste":
        return
    known = options_of_commands()
    command = next((name for name in (" ".join(words[1:3]), words[1]) if name in known), None)
    assert command, f"{where}: no such command: {' '.join(words)}"
    for option in re.findall(r"^--[a-z-]+", "\n".join(words), re.M):
        assert re.search(rf"^ +{option}\b", known[command], re.M), f"{where}: {command} has no {option}"


def check_exists(text, where):
    targets = set(re.findall(r"^([a-z-]+):", (TOP / "Makefile").read_text(), re.M))
    for line in text.replace("\\\n", " ").splitlines():
        for command in re.split(r"&&|\|\||;|\|", re.sub(r"\s#.*", "", line)):
            words = command.split()
            check_words(words, where)
            if words[:1] == ["make"]:
                assert {word for word in words[1:] if "=" not in word} <= targets, f"{where}: {command}"
            if words and re.match(r"(tools|bench)/\w", words[0]):
                assert (TOP / words[0]).is_file(), f"{where}: {command}"


def test_what_is_not_run_exists():
    for page in PAGES:
        for words, text, line in blocks(page, SHELL):
            if words.startswith("not-run"):
                check_exists(text, f"{page.name}:{line}")


def test_checks_of_the_others_bite():
    for text in ("posthaste quue list", "posthaste queue lst", "posthaste queue list --dmain x", "make chck", "tools/nothing", "a && posthaste dcotor"):
        with pytest.raises(AssertionError):
            check_exists(text, "here")
    check_exists("posthaste queue list --domain x --json && make check # posthaste nothing", "here")


# ---- the world they run in -------------------------------------------------------------------------------

class World:
    """One page's."""

    def __init__(self, folder, relay, pair):
        self.folder, self.relay = folder, relay
        self.ready_file = relay.ready_file
        for place in PLACES:
            pathlib.Path(self.moved(place)).mkdir(parents=True, exist_ok=True)
        bin_ = folder / "bin"
        bin_.mkdir()
        (folder / "build").mkdir()
        for link in (bin_ / "posthaste", folder / "build" / "posthaste"):
            link.symlink_to(BINARY)
        (bin_ / "systemctl").write_text(SYSTEMCTL)
        (bin_ / "systemctl").chmod(0o755)
        etc = pathlib.Path(self.moved("/etc/posthaste"))
        for ending, file in (("pem", pair.certificate), ("key", pair.key)):
            (etc / f"relay.{ending}").write_bytes(file.read_bytes())
        for name, text in POSTFIX.items():
            (pathlib.Path(self.moved("/etc/postfix")) / name).write_text(text.replace("@PAIR@", str(etc / "relay")))
        (folder / "message.eml").write_bytes(text_message("alice@client.test", "bob@example.net"))
        (folder / "FILE").write_text("address\nann@example.net\n")

    def moved(self, text):
        """Paths of the host are those of the test."""
        for place in PLACES:
            text = text.replace(place, f"{self.folder}/host{place}")
        return text

    def environment(self):
        return {"PATH": f"{self.folder}/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(self.folder), "LC_ALL": "C.UTF-8",
                "POSTHASTE_CONFIG": str(self.relay.config_file), "WORLD": str(self.relay.folder)}

    def run(self, text):
        return subprocess.run(["sh", "-euc", text], cwd=self.folder, env=self.environment(), stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=120, preexec_fn=die_with_parent)

    def close(self):
        """What systemctl started is no child of the test's."""
        with contextlib.suppress(OSError, ValueError):
            os.kill(json.loads(self.ready_file.read_text())["pid"], signal.SIGKILL)


@pytest.fixture
def world(tmp_path, make_relay, pair, dns, make_receiver):
    receiver = make_receiver()
    for domain in ("example.com", "example.net", "example.org"):
        dns.domain(domain, receiver)
    host = tmp_path / "host"
    relay = make_relay({"spool": f"{host}/var/spool/posthaste", "state": f"{host}/var/lib/posthaste/state",
                        "control": f"{tmp_path}/control.sock"}, start=False)
    one = World(tmp_path, relay, pair)
    started = one.run("systemctl start posthaste")
    assert started.returncode == 0, started.stderr + (relay.folder / "relay.log").read_text()
    yield one
    one.close()


def waiting_message(world):
    """The id of a message that waits: its domain is held."""
    relay = world.relay
    relay.ready = json.loads(relay.ready_file.read_text())
    relay.add_account("alice", domains=["client.test"])
    relay.cli("queue", "hold", "--domain", "example.com")
    with relay.client(login="alice") as client:
        return submit(client, "alice@client.test", "bob@example.com", text_message("alice@client.test", "bob@example.com"))


PAGES_RUN = [page for page in PAGES if page.name not in ELSEWHERE and
             any(not words.startswith("not-run") for words, _, _ in blocks(page, SHELL))]


@pytest.mark.parametrize("page", PAGES_RUN, ids=lambda page: page.name)
def test_page(page, world):
    ident = waiting_message(world) if re.search(r"\bID\b", page.read_text()) else ""
    for words, text, line in blocks(page, ("sh", "yaml")):
        where = f"{page.name}:{line}"
        if words and re.fullmatch(r"[\w./-]+\.yaml", words):
            (world.folder / words).write_text(world.moved(text))
            continue
        if words.startswith("not-run") or not re.match("```sh", page.read_text().splitlines()[line - 2]):
            continue
        ran = world.run(re.sub(r"\bID\b", ident, world.moved(text)))
        allowed = {0, *map(int, re.findall(r"exits 0 or (\d+)", words))}
        assert ran.returncode in allowed, f"{where}: exit {ran.returncode}\n{ran.stdout}{ran.stderr}"
        assert "unknown option" not in ran.stderr, f"{where}: {ran.stderr}"


def test_pages_run_elsewhere_are():
    for page, test in ELSEWHERE.items():
        assert page in (TOP / "test" / "e2e" / test).read_text()
    assert len(PAGES_RUN) >= 5


# ---- how to read the code --------------------------------------------------------------------------------

def test_tour_names_what_is_there():
    """Files of READING.md exist; its functions are in the files that their line names, or somewhere in src."""
    page = (TOP / "docs" / "READING.md").read_text()
    sources = {path: path.read_text() for path in (TOP / "src").rglob("*.[ch]")}
    for line in page.splitlines():
        files = [TOP / name for name in re.findall(r"`((?:src|test|data|packaging)/[\w./-]*)`", line)]
        for file in files:
            assert file.exists(), f"{file.relative_to(TOP)} is gone"
        for name in re.findall(r"`(\w+)\(\)`", line):
            called = re.compile(rf"\b{name}\(")
            near = [text for path, text in sources.items() if path in files] or sources.values()
            assert any(called.search(text) for text in near), f"{name}(): not in {[str(f.relative_to(TOP)) for f in files]}"
    assert "LAYERS" in page and (TOP / "LAYERS").exists()


# ---- links -----------------------------------------------------------------------------------------------

def anchors(page):
    """Of a page's headings, as those who show Markdown make them."""
    return {re.sub(r"[^\w\- ]", "", line).strip().lower().replace(" ", "-") for line in re.findall(r"^#+ (.*)", page.read_text(), re.M)}


def test_links_lead_somewhere():
    for page in PAGES:
        for link in re.findall(r"\]\((?!https?:)([^)]+)\)", FENCE.sub("", page.read_text())):
            file, _, anchor = link.partition("#")
            target = (page.parent / file).resolve() if file else page
            assert target.exists(), f"{page.name}: {link}"
            assert not anchor or anchor in anchors(target), f"{page.name}: {link}"
