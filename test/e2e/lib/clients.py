# SPDX-License-Identifier: MIT
"""Foreign mail clients, one way to call them all.

    to = clients.To(address, port, tls="starttls", login="alice", password="...", authority=authority.file)
    clients.swaks(to, "a@client.test", ["b@example.org"], data)

Each sends one message (bytes with CRLF) and returns what the client printed; Failed if it did not exit 0.
curl, msmtp and nodemailer check the server's certificate against `authority`.
"""
import dataclasses
import json
import os
import pathlib
import subprocess
import tempfile


@dataclasses.dataclass
class To:
    address: str
    port: int
    tls: str = "none"  # none, starttls, implicit
    login: str = ""
    password: str = ""
    mechanism: str = "PLAIN"
    authority: object = None

    @classmethod
    def relay(cls, relay, listener="submission", login="", password="correct horse battery", mechanism="PLAIN"):
        """To a listener of a lib.relay.Relay."""
        address, port = relay.listener(listener)
        tls = next(one for one in relay.config["listeners"] if one["name"] == listener).get("tls", "none")
        return cls(address, port, tls, login, password, mechanism, relay.authority.file if relay.authority else None)

    @property
    def host(self):
        return f"[{self.address}]" if ":" in self.address else self.address


class Failed(AssertionError):
    def __init__(self, command, result):
        self.code, self.output = result.returncode, result.stdout + result.stderr
        super().__init__(f"{command[0]}: exit {self.code}\n{self.output}")


def _run(command, stdin=b"", env=None, timeout=120):
    result = subprocess.run([str(word) for word in command], input=stdin, capture_output=True, timeout=timeout,
                            env={**os.environ, "LC_ALL": "C.UTF-8", **(env or {})})
    result.stdout, result.stderr = (out.decode(errors="replace") for out in (result.stdout, result.stderr))
    if result.returncode != 0:
        raise Failed(command, result)
    return result.stdout + result.stderr


def _file(data, folder):
    path = pathlib.Path(folder) / "message"
    path.write_bytes(data)
    return path


def swaks(to, sender, recipients, data, *options):
    """LOGIN and PLAIN. It adds the last line end itself."""
    with tempfile.TemporaryDirectory() as folder:
        path = _file(data.removesuffix(b"\r\n"), folder)
        command = ["swaks", "--server", to.host, "--port", to.port, "--helo", "client.test", "--from", sender,
                   "--to", ",".join(recipients), "--data", f"@{path}", "--timeout", "30"]
        command += {"none": [], "starttls": ["--tls"], "implicit": ["--tls-on-connect"]}[to.tls]
        if to.login:
            command += ["--auth", to.mechanism, "--auth-user", to.login, "--auth-password", to.password]
        return _run([*command, *options])


def msmtp(to, sender, recipients, data, *options):
    """PLAIN, LOGIN, SCRAM-SHA-256."""
    on = {True: "on", False: "off"}
    command = ["msmtp", "-C", "/dev/null", f"--host={to.address}", f"--port={to.port}", f"--tls={on[to.tls != 'none']}",
               f"--tls-starttls={on[to.tls == 'starttls']}", f"--from={sender}", "--domain=client.test", "--timeout=30"]
    if to.tls != "none":
        command += [f"--tls-trust-file={to.authority}"] if to.authority else ["--tls-certcheck=off"]
    if to.login:
        command += [f"--auth={to.mechanism.lower()}", f"--user={to.login}", "--passwordeval=printenv MSMTP_TEST_PASSWORD"]
    return _run([*command, "--debug", *options, "--", *recipients], data.replace(b"\r\n", b"\n"),
                {"MSMTP_TEST_PASSWORD": to.password})


def curl(to, sender, recipients, data, *options):
    """PLAIN and LOGIN."""
    with tempfile.TemporaryDirectory() as folder:
        scheme = "smtps" if to.tls == "implicit" else "smtp"
        command = ["curl", "-q", "--silent", "--show-error", "--verbose", "--max-time", "100",
                   f"{scheme}://{to.host}:{to.port}/client.test", "--mail-from", sender, "--upload-file", _file(data, folder)]
        command += [word for recipient in recipients for word in ("--mail-rcpt", recipient)]
        command += ["--ssl-reqd"] if to.tls == "starttls" else []
        command += ["--cacert", to.authority] if to.authority else ["--insecure"]
        if to.login:
            command += ["--user", f"{to.login}:{to.password}", "--login-options", f"AUTH={to.mechanism}"]
        return _run([*command, *options])


NODEMAILER = r"""
const nodemailer = require('nodemailer');
const fs = require('fs');
const job = JSON.parse(process.env.JOB);
nodemailer.createTransport(job.transport).sendMail({envelope: job.envelope, raw: fs.readFileSync(0)})
    .then(info => console.log(JSON.stringify(info)))
    .catch(error => { console.error(error.message); process.exit(1); });
"""


def nodemailer(to, sender, recipients, data):
    """PLAIN and LOGIN. The printed object has `response`, `accepted`, `rejected`."""
    transport = {"host": to.address, "port": to.port, "secure": to.tls == "implicit", "ignoreTLS": to.tls == "none",
                 "requireTLS": to.tls == "starttls", "name": "client.test", "authMethod": to.mechanism}
    if to.login:
        transport["auth"] = {"user": to.login, "pass": to.password}
    env = {"JOB": json.dumps({"transport": transport, "envelope": {"from": sender, "to": recipients}}),
           "NODE_PATH": "/usr/share/nodejs"}
    if to.authority:
        env["NODE_EXTRA_CA_CERTS"] = str(to.authority)
    return _run(["node", "-e", NODEMAILER], data, env)


ALL = {"swaks": swaks, "msmtp": msmtp, "curl": curl, "nodemailer": nodemailer}
