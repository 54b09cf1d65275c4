# SPDX-License-Identifier: MIT
"""crowd - thousands of slow clients, floods of connections, dictionaries; an honest client beside them

What counts: the honest client's latency, that the relay's memory grows by no more than a stated sum for each guest,
and that nothing stays open once they are gone.
"""
import base64
import contextlib
import functools
import multiprocessing
import resource
import socket
import ssl
import threading
import time

import lab
from faults.trial import say

P99_S, TRIES = 1.0, 3
BYTES_A_CLIENT, BYTES_MORE = 48 << 10, 32 << 20
ADDRESSES = 50  # of the crowd; 100 connections from one are the default limit


def raise_own_limit(count):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    want = count + 1000
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, want), max(hard, want)))


def connect(port, number):
    conn = socket.socket()
    conn.settimeout(20)
    conn.bind((f"127.7.{number // 200}.{1 + number % 200}", 0))
    conn.connect(("127.0.0.1", port))
    return conn


def ask(conn, *commands):
    """The code of the last reply; the connection's first one if nothing is asked."""
    reply = conn.recv(4096)
    for command in commands:
        conn.sendall(command + b"\r\n")
        reply = conn.recv(4096)
    return reply[:3]


# ---- slow in every phase -----------------------------------------------------------------------------

def reach(conn, code, *commands):
    """The reply to the last command has this code: the phase is reached."""
    if (got := ask(conn, *commands)) != code:
        raise lab.Trouble(f"{commands[-1:]} is answered {got}, not {code}")


EHLO, MAIL = b"EHLO client.test", b"MAIL FROM:<load@load.example>"
RCPT, OCTETS = b"RCPT TO:<user0@load.example>", b"Subject: slow\r\n\r\nno"


def silent(conn):
    pass


def half_command(conn):
    ask(conn)
    conn.sendall(b"EHLO cli")


def after_ehlo(conn):
    reach(conn, b"250", EHLO)


@functools.cache
def client_hello():
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    out = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), out).do_handshake()
    return out.read()


def half_hello(conn):
    reach(conn, b"220", EHLO, b"STARTTLS")
    conn.sendall(client_hello()[:100])


def in_handshake(conn):
    """It has all that the relay has to say, and does not go on."""
    reach(conn, b"220", EHLO, b"STARTTLS")
    conn.sendall(client_hello())


def in_auth(conn):
    reach(conn, b"334", EHLO, b"AUTH LOGIN")


def after_mail(conn):
    reach(conn, b"250", EHLO, MAIL)


def after_rcpt(conn):
    reach(conn, b"250", EHLO, MAIL, RCPT)


def in_data(conn):
    reach(conn, b"354", EHLO, MAIL, RCPT, b"DATA")
    conn.sendall(OCTETS)


def in_bdat(conn):
    reach(conn, b"250", EHLO, MAIL, RCPT)
    conn.sendall(b"BDAT 1000000 LAST\r\n" + OCTETS)


def deaf(conn):
    """After 200 commands without a message it would be told 421 and be gone."""
    ask(conn, EHLO)
    conn.sendall(b"HELP\r\n" * 100)


PHASES = [silent, half_command, after_ehlo, half_hello, in_handshake, in_auth, after_mail, after_rcpt, in_data, in_bdat,
          deaf]
DRIPPING = (in_data, in_bdat)


def offer_tls(trial):
    file = trial.service.config_file
    file.write_text(file.read_text().replace("tls: none", "tls: starttls") + "tls: {self_signed: yes}\n")


class Crowd:
    """Its connections, one every now and then sending a byte."""

    def __init__(self, port, count):
        self.conns, self.over = [], threading.Event()
        for number in range(count):
            conn = connect(port, number % ADDRESSES)
            PHASES[number % len(PHASES)](conn)
            self.conns.append(conn)
        self.dripper = threading.Thread(target=self.drip, daemon=True)
        self.dripper.start()

    def drip(self):
        while not self.over.wait(1.0):
            for number, conn in enumerate(self.conns):
                if PHASES[number % len(PHASES)] in DRIPPING:
                    with contextlib.suppress(OSError):
                        conn.send(b"x")

    def leave(self):
        self.over.set()
        self.dripper.join()
        for conn in self.conns:
            conn.close()


# ---- measuring -----------------------------------------------------------------------------------------

class Watch:
    """The relay's descriptors and memory before the crowd came, and the honest client's latencies."""

    def __init__(self, trial):
        self.trial, self.pid = trial, trial.service.relay_pid()
        self.honest("h0")
        self.fds, self.rss = lab.descriptors(self.pid), lab.rss(self.pid)

    def honest(self, name, count=200):
        """p99 in seconds, and how slow the machine itself was meanwhile."""
        report = self.trial.finish(self.trial.load(name, count, 4, 2000, "--rate", 50))
        if report["accepted"] < count:
            self.trial.troubles.append(f"{name}: {report['accepted']} of {count} accepted: {report['replies']} "
                                       f"{report['errors']}")
        return report["latency_ms"]["p99"] / 1000

    def check_honest(self, name, count=200):
        """Again, up to TRIES times, if it was slow: a crowd would slow all of them down, what else the machine does does not."""
        for number in range(TRIES):
            p99 = self.honest(f"{name}t{number}", count)
            late = self.trial.books.pulse.slowest(time.time(), count / 50 + 1)
            if p99 <= P99_S + 3 * late:
                break
        else:
            self.trial.troubles.append(f"{name}: the honest client's p99 is {p99:.2f} s (machine late by {late:.2f} s)")
        return p99

    def check_memory(self, what, clients):
        grown = lab.rss(self.pid) - self.rss
        self.trial.facts["rss_grown_bytes"] = max(grown, self.trial.facts.get("rss_grown_bytes", 0))
        if grown > clients * BYTES_A_CLIENT + BYTES_MORE:
            self.trial.troubles.append(f"{what}: {clients} clients take {grown >> 20} MiB")
        return f"{self.rss >> 20} -> {(self.rss + grown) >> 20} MiB"

    def check_flat(self, what):
        flat = self.fds + 40  # connections to the receiver come and go
        with contextlib.suppress(lab.Trouble):
            lab.wait_until(lambda: lab.descriptors(self.pid) <= flat, 60, "descriptors closed", every=0.1)
            return
        self.trial.troubles.append(f"{what}: {lab.descriptors(self.pid)} descriptors are open, {self.fds} were before")


def run_slow(trial):
    """ROUNDS: hundreds of clients."""
    clients = 100 * trial.rounds
    raise_own_limit(clients)
    trial.open()
    offer_tls(trial)
    # Who takes no replies has the time of a command for it.
    with open(trial.service.config_file, "a") as config:
        config.write("limits: {command_timeout: 40s}\n")
    trial.start()
    watch = Watch(trial)
    crowd = Crowd(trial.service.port(), clients)
    if (there := lab.descriptors(watch.pid)) < clients:
        trial.troubles.append(f"{there} descriptors are open, there are {clients} slow clients")
    p99 = watch.check_honest("h1")
    memory = watch.check_memory("slow", clients)
    crowd.leave()
    watch.check_flat("slow")
    say(f"slow: {clients} clients in {len(PHASES)} phases: p99 {1000 * p99:.0f} ms, memory {memory}")
    trial.facts["p99_ms"] = round(1000 * p99, 1)
    watch.check_honest("h2")
    trial.drain()


# ---- floods ----------------------------------------------------------------------------------------------

def hold_connections(port, numbers, pipe):
    """In a process of its own, as one may not have that many: the replies, then all open until told."""
    conns, codes = [connect(port, number % ADDRESSES) for number in numbers], {}
    for conn in conns:
        with contextlib.suppress(OSError):
            code = ask(conn).decode() or "closed"
            codes[code] = codes.get(code, 0) + 1
    pipe.send(codes)
    pipe.recv()


class Flood:
    """Connections as fast as they go, all kept until leave()."""
    EACH = 5000

    def __init__(self, port, count):
        self.holders, self.codes, fork = [], {}, multiprocessing.get_context("fork")
        for first in range(0, count, self.EACH):
            pipe, theirs = fork.Pipe()
            numbers = range(first, min(first + self.EACH, count))
            holder = fork.Process(target=hold_connections, args=(port, numbers, theirs), daemon=True)
            holder.start()
            self.holders.append((holder, pipe))
        for _, pipe in self.holders:
            for code, n in pipe.recv().items():
                self.codes[code] = self.codes.get(code, 0) + n

    def leave(self):
        for holder, pipe in self.holders:
            pipe.send("leave")
            holder.join()


class Dictionary:
    """Connections that guess, one after the other from each address, until stopped; what they were answered."""

    def __init__(self, port, guess, addresses=20):
        self.port, self.guess, self.codes, self.over = port, guess, {}, threading.Event()
        self.threads = [threading.Thread(target=self.run, args=(n,), daemon=True) for n in range(addresses)]
        for thread in self.threads:
            thread.start()

    def run(self, number):
        tries = 0
        while not self.over.is_set():
            with contextlib.suppress(OSError), contextlib.closing(connect(self.port, 100 + number)) as conn:
                ask(conn, b"EHLO client.test")
                code = b"1"
                while not self.over.is_set() and code[:1] not in (b"", b"4"):
                    tries += 1
                    code = self.guess(conn, number * 1000000 + tries)
                    word = code.decode() or "closed"
                    self.codes[word] = self.codes.get(word, 0) + 1
            self.over.wait(0.05)

    def stop(self):
        self.over.set()
        for thread in self.threads:
            thread.join()


def guess_password(conn, number):
    word = base64.b64encode(f"\0lab\0password{number}".encode())
    conn.sendall(b"AUTH PLAIN " + word + b"\r\n")
    return conn.recv(4096)[:3]


def guess_recipient(conn, number):
    conn.sendall(b"RSET\r\n")
    conn.recv(4096)
    conn.sendall(b"MAIL FROM:<load@load.example>\r\n")
    if not conn.recv(4096).startswith(b"250"):
        return b""
    conn.sendall(f"RCPT TO:<word{number}@dictionary.example>\r\n".encode())
    return conn.recv(4096)[:3]


def configure_flood(trial):
    recipients = trial.folder / "recipients"
    recipients.write_text("".join(f"known{n}@dictionary.example\n" for n in range(100)))
    text = trial.service.config_file.read_text()
    route = f'  - {{match: {{recipient: dictionary.example}}, via: discard, recipients: {recipients}}}\n'
    text = text.replace("routes:\n", "routes:\n" + route)
    # Those who are trusted have no limit of their own: the honest client, and who guesses (he may log in without TLS).
    text = text.replace('["127.0.0.0/8"]', '["127.0.0.1/32", "127.7.0.96/27"]')
    trial.service.config_file.write_text(text)


def run_flood(trial):
    """ROUNDS: thousands of connections."""
    count = 1000 * trial.rounds
    raise_own_limit(min(count, Flood.EACH))
    trial.open()
    configure_flood(trial)
    trial.service.cli("credential", "add", "lab", "--login", "lab", "--generate")
    trial.start()
    watch = Watch(trial)
    flood = Flood(trial.service.port(), count)
    p99 = {"connections": watch.check_honest("h1")}
    memory = watch.check_memory("connections", count)
    flood.leave()
    watch.check_flat("connections")
    say(f"flood: {count} connections: {flood.codes}; p99 {1000 * p99['connections']:.0f} ms, memory {memory}")
    for name, guess in (("AUTH", guess_password), ("RCPT", guess_recipient)):
        guests = Dictionary(trial.service.port(), guess)
        p99[name] = watch.check_honest(f"h{name.lower()}")
        guests.stop()
        memory = watch.check_memory(name, 200)
        watch.check_flat(name)
        say(f"flood: {name} dictionary: {guests.codes}; p99 {1000 * p99[name]:.0f} ms, memory {memory}")
        if guests.codes.get("235" if name == "AUTH" else "250"):
            trial.troubles.append(f"{name}: a guess was right: {guests.codes}")
    trial.facts["p99_ms"] = {name: round(1000 * value, 1) for name, value in p99.items()}
    trial.drain()
