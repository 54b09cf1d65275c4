# SPDX-License-Identifier: MIT
"""posthaste itself, run by a test: `posthaste serve` with a configuration of the test's own."""
import contextlib
import copy
import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import smtplib
import socket
import ssl
import subprocess

import yaml

from . import network
from .process import PATIENCE_S, TOP, Process, wait_until

BINARY = pathlib.Path(os.environ.get("POSTHASTE_BINARY", TOP / "build" / "posthaste"))
QUEUED = re.compile(rb"2\.0\.0 Ok: queued as ([0-9A-Za-z]{12,26})")


class CliError(AssertionError):
    def __init__(self, command, result):
        self.code, self.stderr, self.stdout = result.returncode, result.stderr, result.stdout
        super().__init__(f"{' '.join(map(str, command))}: exit {self.code}\n{self.stderr}{self.stdout}")


class Refused(AssertionError):
    """The relay's answer to a submission was not a 250; .code and .text (bytes) tell."""

    def __init__(self, step, code, text):
        self.step, self.code, self.text = step, code, text
        super().__init__(f"{step}: {code} {text!r}")


def merge(base, changes):
    """`base` with `changes` laid over it: mappings are merged, everything else is replaced; None removes."""
    out = copy.deepcopy(base)
    for key, value in (changes or {}).items():
        if value is None:
            out.pop(key, None)
        elif isinstance(value, dict) and isinstance(out.get(key), dict):
            out[key] = merge(out[key], value)
        else:
            out[key] = value
    return out


def is_alive(pid):
    """Not dead, nor only waiting for its parent to look."""
    with contextlib.suppress(OSError):
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


class Relay:
    """One relay in a folder. Its default configuration has the listeners `submission` (STARTTLS, login
    required), `submissions` (implicit TLS, login required) and `trusted` (plain, no login, 127.0.0.0/8)."""

    def __init__(self, folder, config=None, dns=None, pair=None, authority=None, env=None):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.config_file = self.folder / "posthaste.yaml"
        self.ready_file = self.folder / "ready.json"
        self.authority, self.env = authority, env or {}
        self.process = self.ready = None
        self.config = merge(self._default(dns, pair, authority), config)
        self.write_config()

    def _default(self, dns, pair, authority):
        port = network.smtp_port()
        config = {
            "hostname": "relay.test",
            "spool": str(self.folder / "spool"),
            "state": str(self.folder / "state"),
            "listeners": [
                {"name": "submission", "address": "127.0.0.1:0", "tls": "starttls", "auth": "required"},
                {"name": "submissions", "address": "127.0.0.1:0", "tls": "implicit", "auth": "required"},
                {"name": "trusted", "address": "127.0.0.1:0", "tls": "none", "auth": "optional",
                 "trusted": ["127.0.0.0/8"], "account": "trusted"},
            ],
            "routes": [{"match": {}, "via": "mx" if port == 25 else f"mx:{port}"}],
            "retry": {"first": "1s", "factor": 2, "max": "4s", "lifetime": "60s", "warn_after": "30s"},
            "http": {"address": "127.0.0.1:0"},
            "dns": {"loopback": True},
            "dkim": {"keys": "ed25519"},  # RSA keys take their time to be made
            "limits": {"spool_segment": "4MiB"},  # not 256 MiB on the disk for each of a thousand relays
        }
        if pair:
            config["tls"] = {"certificate": str(pair.certificate), "key": str(pair.key)}
            if authority:
                config["tls"]["authorities"] = str(authority.file)
        if dns:
            config["dns"].update(servers=[dns.server], trust_anchor="none")
        return config

    def write_config(self, changes=None):
        """Writes the configuration, changed for good by `changes`; start() or reload() makes it hold."""
        self.config = merge(self.config, changes)
        self.config_file.write_text(yaml.safe_dump(json.loads(json.dumps(self.config)), sort_keys=False, allow_unicode=True))

    # ---- its life

    def start(self, *arguments, seconds=20.0, wrapper=()):
        """Starts it and waits for the ready file. wrapper: a command to run it under (strace, ...)."""
        self.ready_file.unlink(missing_ok=True)
        self.process = Process([*wrapper, BINARY, "serve", "--config", self.config_file, "--ready-file", self.ready_file,
                                *arguments], self.folder / "relay.log", env=self.env, cwd=self.folder)
        wait_until(lambda: self.process.check_running() and self.ready_file.exists(), seconds,
                   f"ready file; log: {self.process.log()[-3000:]}")
        self.ready = json.loads(self.ready_file.read_text())
        return self

    def stop(self, seconds=40.0):
        """SIGTERM and wait; the exit code."""
        if self.process is None:
            return 0
        self.process.signal(signal.SIGTERM)
        return self.process.wait(seconds)

    def kill(self):
        """kill -9 of every process of it, and none is left then; what a crash leaves is left."""
        pids = self.pids()
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        code = self.process.popen.wait(PATIENCE_S)
        wait_until(lambda: not any(map(is_alive, pids)), PATIENCE_S, "all processes are gone")
        return code

    def close(self):
        """The end of the test: however it stands, it is gone afterwards, and its spool (hundreds of MB) with it."""
        if self.process is not None and self.process.running():
            self.kill()
        shutil.rmtree(self.config["spool"], ignore_errors=True)

    def restart(self, **kwargs):
        self.stop()
        return self.start(**kwargs)

    def reload(self, changes=None):
        """Writes the changes, sends SIGHUP and waits until the service took them over or refused them."""
        answers = len(re.findall(r"\b(?:reloaded|reload refused)\b", self.log()))
        self.write_config(changes)
        self.process.signal(signal.SIGHUP)
        wait_until(lambda: len(re.findall(r"\b(?:reloaded|reload refused)\b", self.log())) > answers, 20, "the reload's end")

    def children(self):
        """The guard's relay processes and its signers: {"relay": [pid...], "signer": [pid...]}."""
        found = {"relay": [], "signer": []}
        guard = self.ready["pid"]
        for pid in pathlib.Path(f"/proc/{guard}/task/{guard}/children").read_text().split():
            with contextlib.suppress(OSError):
                name = pathlib.Path(f"/proc/{pid}/comm").read_text().strip()
                found["signer" if name == "signer" else "relay"].append(int(pid))
        return found

    def relay_pid(self):
        return self.children()["relay"][0]

    def pids(self):
        """The started process and all its descendants, youngest last."""
        children = {}
        for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                fields = stat.read_text().rpartition(")")[2].split()
                children.setdefault(int(fields[1]), []).append(int(stat.parent.name))
        found = [self.process.pid]
        for pid in found:
            found += children.get(pid, [])
        return found

    def log(self):
        return self.process.log() if self.process else ""

    # ---- its interface

    def run(self, *arguments, stdin="", check=True, timeout=120):
        """A command of the CLI; the finished process (text). CliError on any other exit than 0 if check."""
        command = [str(BINARY), *map(str, arguments)]
        result = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=timeout,
                                env={**os.environ, **self.env, "POSTHASTE_CONFIG": str(self.config_file)})
        if check and result.returncode != 0:
            raise CliError(command, result)
        return result

    def cli(self, *arguments, stdin="", timeout=120):
        """A command with --json: its one object, or the list of its objects for a list."""
        out = self.run(*arguments, "--json", stdin=stdin, timeout=timeout).stdout
        values = [json.loads(line) for line in out.splitlines() if line.strip()]
        return values[0] if len(values) == 1 else values

    def cli_list(self, *arguments, timeout=120):
        values = self.cli(*arguments, timeout=timeout)
        return values if isinstance(values, list) else [values]

    def listener(self, name="submission"):
        for one in self.ready["listeners"]:
            if one["name"] == name:
                address = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(one["address"], one["address"])
                return address, one["port"]
        raise KeyError(f"no listener {name} in {self.ready}")

    def http(self, path):
        """(status, text) of GET path."""
        where = self.ready["http"]
        connection = http.client.HTTPConnection(where["address"], where["port"], timeout=PATIENCE_S)
        with contextlib.closing(connection):
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()

    def control(self, method, path, body=None):
        """A request to the control socket: its JSON object."""
        connection = http.client.HTTPConnection("control", timeout=PATIENCE_S)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(f"{self.config['state']}/control.sock")
        with contextlib.closing(connection):
            connection.request(method, path, json.dumps(body) if body is not None else None)
            answer = connection.getresponse()
            text = answer.read().decode()
            assert answer.status == 200, text
            return json.loads(text)

    def metrics(self):
        """{'name{label="x"}': number} of /metrics."""
        status, text = self.http("/metrics")
        assert status == 200, text
        lines = [line for line in text.splitlines() if line and not line.startswith("#")]
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}

    # ---- accounts and mail

    def add_account(self, name, login=None, password="correct horse battery", domains=(), options=()):
        """An account with one login (its name unless given) and trusted sender domains."""
        self.cli("account", "add", name, *options)
        self.cli("credential", "add", name, "--login", login or name, "--password-stdin", stdin=password + "\n")
        for domain in domains:
            self.cli("domain", "add", name, domain, "--trust")
        return login or name, password

    def tls_context(self):
        if self.authority:
            context = self.authority.client_context()
        else:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return context

    def client(self, listener="submission", login=None, password="correct horse battery", tls=True, timeout=PATIENCE_S):
        """A connected smtplib client, TLS on (unless the listener has none) and logged in if asked."""
        address, port = self.listener(listener)
        kind = next(one for one in self.config["listeners"] if one["name"] == listener).get("tls", "none")
        if kind == "implicit":
            client = smtplib.SMTP_SSL(address, port, "client.test", timeout=timeout, context=self.tls_context())
        else:
            client = smtplib.SMTP(address, port, "client.test", timeout=timeout)
        if kind == "starttls" and tls:
            client.starttls(context=self.tls_context())
        client.ehlo()
        if login:
            client.login(login, password)
        return client

    def message(self, ident):
        return self.cli("message", "show", ident)

    def states(self, ident):
        """{address: state} of a message's recipients."""
        return {r["address"]: r["state"] for r in self.message(ident)["recipients"]}

    def wait_state(self, ident, state, recipient=None, seconds=20.0):
        """Waits until the recipient (all of them unless named) is in that state; the message."""
        def reached():
            states = self.states(ident)
            chosen = [states[recipient]] if recipient else list(states.values())
            return chosen and all(s == state for s in chosen)
        wait_until(reached, seconds, f"{ident} {recipient or ''} {state}; is {self.states(ident)}", every=0.1)
        return self.message(ident)


def submit(client, sender, recipients, data, mail_options=(), rcpt_options=()):
    """One transaction on a smtplib client; the message's ID. Refused tells where it was not taken."""
    recipients = [recipients] if isinstance(recipients, str) else list(recipients)
    steps = [("MAIL", lambda: client.mail(sender, mail_options))]
    steps += [("RCPT", lambda r=r: client.rcpt(r, rcpt_options)) for r in recipients]
    for step, call in steps:
        code, text = call()
        if code != 250:
            client.rset()
            raise Refused(step, code, text)
    code, text = client.data(data)
    found = QUEUED.fullmatch(text)
    if code != 250 or not found:
        raise Refused("DATA", code, text)
    return found.group(1).decode()

