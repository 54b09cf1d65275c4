# SPDX-License-Identifier: MIT
"""Accounts, credentials, domains and check-config on the command line: docs/INTERFACE.md, with the service
stopped and with it running."""
import os
import pathlib
import re
import shutil
import smtplib
import sqlite3
import subprocess
import tempfile

import pytest
from lib.relay import BINARY, Refused, submit
from lib.message import text_message

TIME = re.compile(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
PASSWORD = re.compile(r"[a-z2-7]{32}")


@pytest.fixture(params=["stopped", "running"])
def either(request, make_relay):
    """A relay that runs, or one that never ran."""
    return make_relay(start=request.param == "running")


def exit_of(relay, *arguments, stdin=""):
    result = relay.run(*arguments, stdin=stdin, check=False)
    assert result.returncode == 0 or result.stderr.startswith("posthaste: ") or "error: " in result.stderr
    assert result.returncode == 0 or result.stdout == ""
    return result.returncode


def test_accounts(either):
    added = either.cli("account", "add", "Acme", "--class", "bulk", "--any-sender")
    assert TIME.fullmatch(added.pop("created_at"))
    assert added == {"account": "acme", "number": 1, "class": "bulk", "any_sender": True, "state": "active"}
    assert either.cli("account", "add", "acme", "--class=bulk", "--any-sender")["number"] == 1
    assert either.cli("account", "add", "beta")["class"] == "transactional"
    assert [one["account"] for one in either.cli_list("account", "list")] == ["acme", "beta"]
    assert either.cli("account", "suspend", "acme")["state"] == "suspended"
    assert either.cli("account", "activate", "acme")["state"] == "active"
    assert either.cli("account", "close", "acme")["state"] == "closed"
    assert "acme" in either.run("account", "list").stdout
    assert exit_of(either, "account", "activate", "acme") == 65
    assert exit_of(either, "account", "add", "acme") == 65
    assert exit_of(either, "account", "add", "no good") == 65
    assert exit_of(either, "account", "add", "x", "--class", "junk") == 65
    assert exit_of(either, "account", "close", "nobody") == 66
    assert exit_of(either, "account", "add") == 64
    assert exit_of(either, "account", "add", "a", "b") == 64
    assert exit_of(either, "account", "add", "a", "--clas", "bulk") == 64


def test_account_options(either):
    """account set and account show: every option with its value, at once and for ever."""
    either.cli("account", "add", "acme")
    shown = either.cli("account", "show", "acme")
    assert shown["options"] == {"preflight": "warn", "unsubscribe": "off", "return_path": "message", "suppressed": "refuse", "priority": "any"}
    changed = either.cli("account", "set", "acme", "preflight", "refuse")
    assert changed["options"]["preflight"] == "refuse" and changed["account"] == "acme"
    assert either.cli("account", "show", "ACME") == changed
    text = either.run("account", "show", "acme").stdout
    assert re.search(r"^preflight +refuse +off, warn, hold or refuse +", text, re.M)
    assert exit_of(either, "account", "set", "acme", "preflight", "maybe") == 65
    assert exit_of(either, "account", "set", "acme", "colour", "red") == 65
    assert exit_of(either, "account", "set", "nobody", "preflight", "off") == 66
    assert exit_of(either, "account", "set", "acme", "preflight") == 64
    either.cli("account", "close", "acme")
    assert exit_of(either, "account", "set", "acme", "preflight", "off") == 65


def test_credentials(either):
    either.cli("account", "add", "acme")
    made = either.cli("credential", "add", "acme", "--login", "joe@acme.test", "--generate")
    assert PASSWORD.fullmatch(made.pop("password"))
    assert made == {"account": "acme", "login": "joe@acme.test"}
    given = either.cli("credential", "add", "acme", "--login", "ann", "--password-stdin", stdin="correct horse\n")
    assert given == {"account": "acme", "login": "ann", "password": None}
    listed = either.cli_list("credential", "list", "acme")
    assert [(one["login"], one["password"], one["scram"]) for one in listed] == [
        ("ann", "chosen", True), ("joe@acme.test", "generated", True)]
    assert exit_of(either, "credential", "add", "acme", "--login", "ann", "--generate") == 65
    assert exit_of(either, "credential", "add", "acme", "--login", "x", "--password-stdin", stdin="short\n") == 65
    assert exit_of(either, "credential", "add", "acme", "--login", "x", "--password-stdin", stdin="") == 65
    assert exit_of(either, "credential", "add", "nobody", "--login", "x", "--generate") == 66
    assert exit_of(either, "credential", "add", "acme", "--login", "x") == 64
    assert exit_of(either, "credential", "add", "acme", "--generate") == 64
    assert exit_of(either, "credential", "add", "acme", "--login", "x", "--generate", "--password-stdin") == 64
    assert either.cli("credential", "remove", "acme", "--login", "ann") == {"account": "acme", "login": "ann"}
    assert exit_of(either, "credential", "remove", "acme", "--login", "ann") == 66


def test_domains(either, dns):
    either.cli("account", "add", "acme")
    added = either.cli("domain", "add", "acme", "Shop.Test")
    proof = added["records"][0]
    assert added["domain"] == "shop.test" and added["verified"] is False
    assert proof["name"] == "_posthaste.shop.test" and proof["type"] == "TXT" and proof["purpose"] == "verification"
    assert re.fullmatch(r"posthaste-verification=[a-z2-7]{32}", proof["value"])
    assert either.cli("domain", "add", "acme", "shop.test") == added

    verify = ("domain", "verify", "acme", "shop.test")
    assert exit_of(either, *verify) == 75
    dns.txt("_posthaste.shop.test", "posthaste-verification=guess")
    assert exit_of(either, *verify) == 75
    dns.servfail("_posthaste.shop.test")
    assert exit_of(either, *verify) == 75
    assert either.cli_list("domain", "list")[0]["verified"] is False
    dns.rcode("_posthaste.shop.test", None)
    dns.txt("_posthaste.shop.test", proof["value"])
    assert either.cli(*verify) == {**added, "verified": True}
    dns.remove("_posthaste.shop.test")
    assert either.cli(*verify)["verified"] is True  # once is enough

    assert either.cli("domain", "add", "acme", "bücher.test", "--trust")["domain"] == "xn--bcher-kva.test"
    assert [one["verified"] for one in either.cli_list("domain", "list", "acme")] == [True, True]
    assert either.cli("domain", "remove", "acme", "bücher.test") == {"account": "acme", "domain": "xn--bcher-kva.test"}
    assert exit_of(either, "domain", "remove", "acme", "bücher.test") == 66
    assert exit_of(either, "domain", "verify", "acme", "other.test") == 66
    assert exit_of(either, "domain", "add", "acme", "no domain") == 65


def test_changes_hold_at_once(relay_, receiver_):
    """What the commands change holds for the next session, and outlives a restart."""
    data = text_message("alice@client.test", "bob@example.org")
    made = relay_.cli("credential", "add", "alice", "--login", "second", "--generate")
    with relay_.client(login="second", password=made["password"]) as client:
        submit(client, "alice@client.test", "bob@example.org", data)
        with pytest.raises(Refused) as refused:
            submit(client, "alice@other.test", "bob@example.org", text_message("alice@other.test", "bob@example.org"))
    assert refused.value.code == 550 and b"5.7.1" in refused.value.text and b"other.test" in refused.value.text
    relay_.cli("domain", "add", "alice", "other.test", "--trust")
    with relay_.client(login="second", password=made["password"]) as client:
        submit(client, "alice@other.test", "bob@example.org", text_message("alice@other.test", "bob@example.org"))
    relay_.cli("credential", "remove", "alice", "--login", "second")
    with pytest.raises(smtplib.SMTPAuthenticationError):
        relay_.client(login="second", password=made["password"])
    relay_.cli("account", "suspend", "alice")
    with pytest.raises(smtplib.SMTPAuthenticationError):
        relay_.client(login="alice")
    relay_.restart()
    with pytest.raises(smtplib.SMTPAuthenticationError):
        relay_.client(login="alice")
    relay_.cli("account", "activate", "alice")
    with relay_.client(login="alice") as client:
        submit(client, "alice@client.test", "bob@example.org", data)


def test_audit_log(make_relay):
    """Who did what and what became of it, whichever way it went; no verifier in it."""
    relay = make_relay(start=False)
    relay.cli("account", "add", "acme")
    relay.start()
    relay.cli("account", "add", "acme")
    relay.cli("credential", "add", "acme", "--login", "joe", "--generate")
    assert relay.stop() == 0
    with sqlite3.connect(relay.folder / "state" / "accounts.db") as db:
        rows = db.execute("SELECT op, outcome, via, args, actor FROM audit ORDER BY sequence").fetchall()
    assert [row[:3] for row in rows] == [
        ("account.add", "done", "files"), ("account.add", "unchanged", "control"), ("credential.add", "done", "control")]
    assert rows[2][3] == '{"account":"acme","login":"joe"}'
    assert rows[0][4] == "cli:root" and rows[1][4]


def test_a_row_that_can_not_be(make_relay):
    """Damage that SQLite does not see: the service does not start, and says which file it is."""
    relay = make_relay(start=False)
    relay.cli("account", "add", "acme")
    with sqlite3.connect(relay.folder / "state" / "accounts.db") as db:
        db.execute("PRAGMA ignore_check_constraints = ON")
        db.execute("UPDATE account SET state = 'actiwe'")
    for command in (["serve"], ["suppress", "list"]):
        result = relay.run(*command, check=False)
        assert result.returncode in (65, 75) and "state/accounts.db is damaged" in result.stderr, (command, result)


def test_a_newer_store_is_refused(make_relay):
    relay = make_relay(start=False)
    relay.cli("account", "add", "acme")
    with sqlite3.connect(relay.folder / "state" / "accounts.db") as db:
        db.execute("PRAGMA user_version = 99")
    result = relay.run("account", "list", check=False)
    assert result.returncode == 65 and "newer release" in result.stderr


# ---- configuration ----------------------------------------------------------------------------------

def check(path, text):
    path.write_text(text)
    return subprocess.run([BINARY, "check-config", "--config", path], capture_output=True, text=True)


def test_check_config_tells_all_errors(tmp_path):
    path = tmp_path / "c.yaml"
    result = check(path, "hostnme: a.test\nretry: {first: 5parsec}\nlimits:\n  recipients: 7\nlog: {level: loud}\n")
    assert result.returncode == 78 and result.stdout == ""
    assert result.stderr == (
        f"{path}:1:1: error: unknown key 'hostnme'; did you mean 'hostname'?\n"
        "    hostnme: a.test\n"
        "    ^~~~~~~\n"
        f"{path}:2:16: error: invalid value '5parsec' for first; expected a duration from 1s to 1d, such as 10s, 1h30m or 5d\n"
        "    retry: {first: 5parsec}\n"
        "                   ^~~~~~~\n"
        f"{path}:4:15: error: out of range: '7' for recipients; expected a whole number from 100 to 50000\n"
        "      recipients: 7\n"
        "                  ^\n"
        f"{path}:5:14: error: invalid value 'loud' for level; expected error, warn, info or debug\n"
        "    log: {level: loud}\n"
        "                 ^~~~\n")


def test_check_config_tries_the_files(tmp_path):
    result = check(tmp_path / "c.yaml", "hostname: a.test\ntls: {certificate: c.pem, key: /nonexistent/k.pem}\n")
    assert result.returncode == 78
    assert f"tls.certificate: {tmp_path}/c.pem: no such file" in result.stderr
    assert "tls.key: /nonexistent/k.pem: no such file" in result.stderr


def test_check_config_looks_for_users_and_groups(tmp_path):
    """They are told with their place, and with what else is wrong."""
    path = tmp_path / "c.yaml"
    result = check(path, "hostname: a.test\nuser: nosuchuser\nroles:\n  operators: nosuchgroup\n  readers: root\ndns: {trust_anchor: /nonexistent}\n")
    assert result.returncode == 78
    user = (f"{path}:2:7: error: user: there is no user nosuchuser\n"
            "    user: nosuchuser\n"
            "          ^~~~~~~~~~\n")
    assert result.stderr == (user if os.geteuid() == 0 else "") + (
        f"{path}:4:14: error: roles.operators: there is no group nosuchgroup\n"
        "      operators: nosuchgroup\n"
        "                 ^~~~~~~~~~~\n"
        f"{path}:6:21: error: dns.trust_anchor: /nonexistent: no such file\n"
        "    dns: {trust_anchor: /nonexistent}\n"
        "                        ^~~~~~~~~~~~\n")
    assert check(path, "hostname: a.test\nuser: nobody\n").returncode == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
def test_check_config_needs_no_user_that_the_service_does_not():
    """Started as another than root it stays who it is, and starts; so check-config, which an upgrade asks, agrees."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        program, path = pathlib.Path(folder, "posthaste"), pathlib.Path(folder, "c.yaml")
        shutil.copy(BINARY, program)
        path.write_text("hostname: a.test\nuser: nosuchuser\n")
        for switch, code in (["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"], 0), ([], 78):
            result = subprocess.run([*switch, program, "check-config", "--config", path], capture_output=True, text=True, timeout=60, check=False)
            assert result.returncode == code, result.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
def test_reload_refuses_a_user_that_is_not_there(make_relay):
    """It would hold after a restart, which then failed: the old configuration goes on, and so it does not start either."""
    relay = make_relay()
    relay.write_config({"user": "nosuchuser"})
    result = relay.run("config", "reload", check=False)
    assert result.returncode == 78 and "user: there is no user nosuchuser" in result.stderr
    relay.stop()
    run = subprocess.run([BINARY, "serve", "--config", relay.config_file], capture_output=True, text=True, timeout=120)
    assert run.returncode == 78 and "error: user: there is no user nosuchuser\n    user: nosuchuser\n" in run.stderr


def test_configuration_comes_from_option_or_environment(tmp_path):
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text("hostname: a.test\n")
    bad.write_text("hostname: [\n")
    environment = {"POSTHASTE_CONFIG": str(bad)}
    run = subprocess.run([BINARY, "check-config"], env=environment, capture_output=True, text=True)
    assert run.returncode == 78 and run.stderr.startswith(f"{bad}:")
    run = subprocess.run([BINARY, "check-config", f"--config={good}", "--json"], env=environment, capture_output=True)
    assert run.returncode == 0 and run.stdout.decode() == f'{{"file":"{good}","ok":true}}\n'
    run = subprocess.run([BINARY, "check-config", "--config", tmp_path / "none.yaml"], capture_output=True, text=True)
    assert run.returncode == 78 and "no such file" in run.stderr


def test_a_bad_configuration_does_not_start(make_relay):
    relay = make_relay({"retry": {"first": "2h", "max": "1h"}}, start=False)
    run = subprocess.run([BINARY, "serve", "--config", relay.config_file], capture_output=True, text=True, timeout=120)
    assert run.returncode == 78 and "longer than retry.max" in run.stderr


def test_help_and_version():
    for words in (["--help"], ["help"], ["help", "account"], ["help", "account", "add"], ["account", "add", "--help"],
                  ["help", "configuration"], ["--version"]):
        run = subprocess.run([BINARY, *words], capture_output=True, text=True)
        assert run.returncode == 0 and run.stdout and run.stderr == "", words
    for words in ([], ["account"], ["nonsense"], ["--nonsense"], ["help", "nonsense"]):
        run = subprocess.run([BINARY, *words], capture_output=True, text=True)
        assert run.returncode == 64 and run.stdout == "" and run.stderr, words


def test_every_command_is_documented():
    """docs/INTERFACE.md names each command that `posthaste help` lists."""
    listed = subprocess.run([BINARY, "help"], capture_output=True, text=True).stdout
    commands = re.findall(r"^  ([a-z-]+(?: [a-z][a-z-]*)?)(?= |$)", listed.split("options of every")[0], re.M)
    text = (pathlib.Path(__file__).parents[2] / "docs" / "INTERFACE.md").read_text()
    assert len(commands) > 10
    assert [name for name in commands if name.strip() not in text] == []
