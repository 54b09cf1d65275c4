# SPDX-License-Identifier: MIT
"""tools - what sends and what receives: Postfix's smtp-source and smtp-sink, `posthaste load` and `sink`"""
import contextlib
import json
import subprocess
import time

import lab
from lib import network, peers

from machine import Busy, wait_looking

SENDER, DOMAIN = "bench@load.example", "load.example"
SINK = ("127.0.0.1", 2525)
LONGEST_S = 180


def in_root(*words, log):
    return lab.spawn(["chroot", peers.root(), "env", "LC_ALL=C", *map(str, words)], log)


class Receiver:
    """A sink that takes mail until closed; count: it ends by itself after so many (messages or recipients)."""

    def __init__(self, folder, process):
        self.folder, self.process = folder, process
        lab.wait_until(lambda: process.poll() is None and network.accepts(*SINK), 10, "the sink listens")

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


@contextlib.contextmanager
def smtp_sink(folder, count):
    one = Receiver(folder, in_root("smtp-sink", "-u", "nobody", "-M", count, f"{SINK[0]}:{SINK[1]}", 2000,
                                   log=folder / "smtp-sink.log"))
    try:
        yield one
    finally:
        one.close()


@contextlib.contextmanager
def our_sink(folder, count=None, tls=False, log=False):
    words = [lab.BINARY, "sink", "--listen", f"{SINK[0]}:{SINK[1]}", "--quiet"]
    words += ["--count", count] if count else []
    words += ["--tls", "starttls"] if tls else []
    words += ["--log", folder / "sink.jsonl"] if log else []
    one = Receiver(folder, lab.spawn(words, folder / "sink.log"))
    try:
        yield one
    finally:
        one.close()


class Sending:
    """A run of a load generator: `seconds` it took, `watch` its use of the CPU."""

    def __init__(self, process, log, *others):
        self.watch, began = Busy([process.pid]), time.monotonic()
        code = wait_looking(process, LONGEST_S, self.watch, *others)
        self.seconds = time.monotonic() - began
        if code != 0:
            process.kill()
            process.wait()
            raise lab.Trouble(f"the load {'took too long' if code is None else f'failed ({code})'}: "
                              f"{log.read_text(errors='replace')[-800:]}")


def smtp_source(folder, to, count, *others, sessions=50, size=4096, recipients=1):
    log = folder / "smtp-source.log"
    process = in_root("smtp-source", "-d", "-s", min(sessions, count), "-l", size, "-m", count, "-r", recipients,
                      "-f", SENDER, "-t", f"user@{DOMAIN}", f"{to[0]}:{to[1]}", log=log)
    return Sending(process, log, *others)


def load_words(to, *options):
    return [lab.BINARY, "load", "--to", f"{to[0]}:{to[1]}", "--from", SENDER, "--rcpt", f"user%n@{DOMAIN}", *options]


def our_load(folder, to, count, *others, options=(), sessions=50, size=4096):
    """`report` is what it says itself."""
    out = folder / "load.json"
    with open(out, "wb") as report:
        process = lab.spawn(load_words(to, "--count", count, "--sessions", sessions, "--size", size, "--json", *options),
                            folder / "load.log", stdout=report)
        sending = Sending(process, out, *others)
    sending.report = json.loads(out.read_text())
    return sending


@contextlib.contextmanager
def idle_sessions(folder, to, count, tls):
    """Holds that many sessions open."""
    out = folder / "idle.json"
    with open(out, "wb") as report:
        process = lab.spawn(load_words(to, "--idle", "--sessions", count, "--tls", "starttls" if tls else "none"),
                            folder / "load.log", stdout=report)
    try:
        lab.wait_until(lambda: process.poll() is not None or out.read_text().endswith("\n"), LONGEST_S,
                       f"{count} sessions are open", every=0.1)
        if process.poll() is not None:
            raise lab.Trouble(f"idle sessions: {(folder / 'load.log').read_text(errors='replace')[-500:]}")
        yield
    finally:
        process.kill()
        process.wait()


def make_certificate(folder):
    """A P-256 key and a certificate, for Postfix; ours makes its own."""
    certificate, key = folder / "bench.crt", folder / "bench.key"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days",
                    "2", "-subj", "/CN=postfix.test", "-keyout", key, "-out", certificate], check=True, capture_output=True)
    return certificate, key
