# SPDX-License-Identifier: MIT
"""hang - destinations that hang at every step, trickle, never end a reply or reset; others must not notice

Each bad destination is a route of its own to a socket of a process of ours. Messages for them stand in the queue in
numbers that would take every connection there is. Another service has none of them. Messages to a good receiver go
through the one and the other in turns, one at a time, so that whatever else the machine does hits both alike; what
each needs from its last byte to its delivery is compared, the median and the p90. Both services and the measuring are
in memory and have real-time priority: without, the disk and who else computes would cost ten times more than what is
measured. How far two halves of the other service's own messages lie apart is the noise that is left: there are more
messages until it is small, and it is allowed for.
"""
import contextlib
import multiprocessing
import os
import queue
import selectors
import socket
import statistics
import struct
import threading
import time
import types

import lab
from faults.trial import say

EACH = 40  # messages for a destination
HOW = ["connect", "greeting", "EHLO", "MAIL", "RCPT", "DATA", "final", "trickle", "minute", "endless", "reset"]
TRICKLE_S = {"trickle": 1, "minute": 60}  # a byte
REPLIES = {b"EHLO": b"250-bad.test\r\n250 8BITMIME\r\n", b"HELO": b"250 bad.test\r\n", b"MAIL": b"250 ok\r\n",
           b"RCPT": b"250 ok\r\n", b"DATA": b"354 go on\r\n", b"QUIT": b"221 bye\r\n", b"RSET": b"250 ok\r\n"}
RATIO_MAX, NOISE = 1.10, 0.05
TURNS, MEASURE_S = 200, 20  # of both; at least so many, and no more once it has taken so long
LONG_TURNS = 2000  # over MINUTES
SPLITS, CERTAIN = 400, 0.99
PAUSE_S = 0.01  # before each message: the last one's outcome is flushed meanwhile
MEMORY_MIB = 1024


class Peer:
    """One connection of a bad destination."""

    def __init__(self, conn, how):
        self.conn, self.how, self.buffer, self.in_content, self.trickle = conn, how, b"", False, b""
        self.seconds = 0
        conn.setblocking(False)
        if how != "greeting":
            self.say(b"220 bad.test\r\n")

    def say(self, words):
        if self.how in TRICKLE_S:
            self.trickle += words
            return
        with contextlib.suppress(BlockingIOError):
            self.conn.send(words)

    def tick(self):
        """Once a second."""
        if self.how in TRICKLE_S:
            if self.seconds % TRICKLE_S[self.how] == 0 and self.trickle:
                self.conn.send(self.trickle[:1])
                self.trickle = self.trickle[1:]
            self.seconds += 1
        elif self.how == "endless" and self.buffer:
            with contextlib.suppress(BlockingIOError):
                self.conn.send(b"250-and so on\r\n" * 500)

    def read(self):
        data = self.conn.recv(65536)
        if not data:
            raise OSError("gone")
        self.buffer += data
        if self.in_content:
            if b"\r\n.\r\n" in self.buffer:
                self.end_content()
            return
        while b"\r\n" in self.buffer and not self.in_content:
            line, _, self.buffer = self.buffer.partition(b"\r\n")
            word = line[:4].upper()
            if self.how == word.decode(errors="replace"):
                continue
            if self.how == "endless" and word == b"EHLO":
                self.buffer = b"x"  # from now on tick() speaks
                return
            self.say(REPLIES.get(word, b"250 ok\r\n"))
            self.in_content = word == b"DATA"

    def end_content(self):
        if self.how == "reset":
            self.conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            raise OSError("reset")
        self.buffer, self.in_content = b"", False
        if self.how != "final":
            self.say(b"250 ok\r\n")


class Hangers:
    """All bad destinations, in a process of their own."""

    def __init__(self, count):
        fork = multiprocessing.get_context("fork")
        self.open, self.ports = fork.Value("i", 0), []
        listeners = []
        for number in range(count):
            how = HOW[number % len(HOW)]
            listener = socket.create_server((f"127.9.0.{number + 1}", 0), backlog=0 if how == "connect" else 100)
            listeners.append((how, listener))
            self.ports.append(listener.getsockname()[1])
        self.process = fork.Process(target=self.run, args=(listeners,), daemon=True)
        self.process.start()
        for _, listener in listeners:
            listener.close()

    def run(self, listeners):
        self.selector, self.peers, fillers = selectors.DefaultSelector(), set(), []
        for how, listener in listeners:
            if how == "connect":  # a full backlog: the kernel lets no connection come about
                for _ in range(2):
                    filler = socket.socket()
                    filler.setblocking(False)
                    filler.connect_ex(listener.getsockname())
                    fillers.append(filler)
            else:
                listener.setblocking(False)
                self.selector.register(listener, selectors.EVENT_READ, how)
        next_tick = time.monotonic()
        while True:
            for key, _ in self.selector.select(0.2):
                if isinstance(key.data, Peer):
                    self.attempt(key.data, key.data.read)
                else:
                    self.take(key.fileobj, key.data)
            if time.monotonic() >= next_tick:
                next_tick += 1.0
                for peer in list(self.peers):
                    self.attempt(peer, peer.tick)
            self.open.value = len(self.peers)

    def take(self, listener, how):
        with contextlib.suppress(OSError):
            conn, _ = listener.accept()
            peer = Peer(conn, how)
            self.peers.add(peer)
            self.selector.register(conn, selectors.EVENT_READ, peer)

    def attempt(self, peer, what):
        try:
            what()
        except BlockingIOError:
            pass
        except OSError:
            self.selector.unregister(peer.conn)
            self.peers.discard(peer)
            peer.conn.close()

    def stop(self):
        self.process.terminate()
        self.process.join()


# ---- measuring -----------------------------------------------------------------------------------------

class Meter:
    """A good receiver, which notes when each message is there."""

    def __init__(self):
        self.listener, self.arrived = socket.create_server(("127.0.0.1", 0)), queue.Queue()
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.take, daemon=True).start()

    def take(self):
        while True:
            conn, _ = self.listener.accept()
            threading.Thread(target=self.serve, args=(conn,), daemon=True).start()

    def serve(self, conn):
        with contextlib.suppress(OSError), conn.makefile("rb") as lines:
            conn.sendall(b"220 good.test\r\n")
            for line in lines:
                word = line[:4].upper()
                conn.sendall(REPLIES.get(word, b"250 ok\r\n"))
                if word == b"DATA":
                    content = b"".join(iter(lines.readline, b".\r\n"))
                    self.arrived.put((time.monotonic(), content))
                    conn.sendall(b"250 ok\r\n")


class Sender:
    """One session with a service, a message at a time."""

    def __init__(self, service):
        self.conn = socket.create_connection(("127.0.0.1", service.port()), 60)
        self.conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.lines = self.conn.makefile("rb")
        self.expect(b"220")
        self.ask(b"250", b"EHLO client.test\r\n")

    def expect(self, code):
        while (line := self.lines.readline())[3:4] == b"-":
            pass
        if line[:3] != code:
            raise lab.Trouble(f"the measuring client is answered {line!r}, not {code!r}")

    def ask(self, code, words):
        self.conn.sendall(words)
        self.expect(code)

    def latency(self, meter, name):
        """Seconds from the message's last byte to its delivery."""
        self.ask(b"250", b"MAIL FROM:<load@load.example>\r\n")
        self.ask(b"250", b"RCPT TO:<user@good.example>\r\n")
        self.ask(b"354", b"DATA\r\n")
        began = time.monotonic()
        self.ask(b"250", b"From: <load@load.example>\r\nSubject: " + name + b"\r\n\r\n" + 30 * (64 * b"x" + b"\r\n") + b".\r\n")
        at, content = meter.arrived.get(timeout=60)
        if name not in content:
            raise lab.Trouble(f"{name!r} was to arrive next, not {content[:200]!r}")
        return at - began


def quantiles(seconds):
    """Median and p90."""
    tenths = statistics.quantiles(seconds, n=10, method="inclusive")
    return tenths[4], tenths[8]


def ratios(some, others):
    return [a / b for a, b in zip(quantiles(some), quantiles(others))]


def noise(seconds, random):
    """Of median and p90: two random halves differ by no more than this, almost certainly."""
    found = []
    for _ in range(SPLITS):
        mixed = random.sample(seconds, len(seconds))
        half = len(mixed) // 2
        found.append([abs(ratio - 1) for ratio in ratios(mixed[:half], mixed[half:])])
    return [sorted(one)[int(CERTAIN * SPLITS)] for one in zip(*found)]


def schedule(pids, policy, priority):
    for pid in pids:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a thread that ends
            for task in os.listdir(f"/proc/{pid}/task"):
                os.sched_setscheduler(int(task), policy, os.sched_param(priority))


@contextlib.contextmanager
def real_time(services):
    """Nobody else computes while one of these threads has something to do."""
    pids = [os.getpid(), *(service.relay_pid() for service in services)]
    schedule(pids, os.SCHED_RR, 1)
    try:
        yield
    finally:
        schedule(pids, os.SCHED_OTHER, 0)


def measure(trial, meter, services):
    """For each service its latencies."""
    senders, took = [Sender(service) for service in services], [[] for _ in services]
    pause = 60 * trial.minutes / LONG_TURNS / len(services) or PAUSE_S
    end, number = time.monotonic() + (60 * trial.minutes or MEASURE_S), 0
    while number < TURNS or time.monotonic() < end:
        for which in trial.random.sample(range(len(services)), len(services)):
            time.sleep(pause)
            took[which].append(senders[which].latency(meter, f"m{which}-{number}.".encode()))
        number += 1
        if number % TURNS == 0 and not trial.minutes and max(noise(took[0], trial.random)) <= NOISE:
            break
    return took


# ---- the test ------------------------------------------------------------------------------------------

def is_empty_after_delete(trial):
    """What is under way at that moment is not deleted, but comes back to the queue."""
    trial.service.cli("queue", "delete", "--all")
    return trial.service.metrics()["queue_messages"] == 0


def route(service, domains):
    lines = "".join(f'  - {{match: {{recipient: {domain}}}, via: "smtp://{to}"}}\n' for domain, to in domains.items())
    text = service.config_file.read_text()
    service.config_file.write_text(text.replace("routes:\n", "routes:\n" + lines))


def open_both(trial, hangers, meter):
    """The service that will have mail for bad destinations, and the one that will not."""
    if os.geteuid() == 0:
        lab.private_mounts()
        trial.mount_memory(MEMORY_MIB)
    trial.open()
    folder, data = trial.folder / "without", trial.data / "without"
    folder.mkdir()
    data.mkdir()
    without = lab.Service(folder, trial.sink.port, data, "log: {level: warn}\n")
    without.add_account()
    bad = {f"bad{n}.example": f"127.9.0.{n + 1}:{port}" for n, port in enumerate(hangers.ports)}
    for service in (without, trial.service):
        route(service, {**bad, "good.example": f"127.0.0.1:{meter.port}"})
    return without


def load_bad(trial):
    """Not in the books: their destinations take none, so all of them must still be queued in the end. How many they are."""
    count = 0
    (trial.folder / "bad").mkdir()
    where = types.SimpleNamespace(folder=trial.folder / "bad", port=trial.service.port)
    for n in range(trial.rounds):
        count += lab.Load(where, f"bad{n}", EACH, 4, 2000, "--rcpt", f"user%m@bad{n}.example").wait()["accepted"]
    return count


def run_hang(trial):
    """ROUNDS: bad destinations. With MINUTES it is measured for so long."""
    hangers, meter = Hangers(trial.rounds), Meter()
    without = open_both(trial, hangers, meter)
    with contextlib.closing(without):
        without.start()
        trial.start()
        bad_count = load_bad(trial)
        trial.finish(trial.load("h", 500, 4, 2000))  # in the books
        try:
            with real_time((without, trial.service)):
                check_latency(trial, measure(trial, meter, (without, trial.service)))
        except PermissionError as trouble:
            trial.skipped["latency"] = f"no real-time priority: {trouble}"
        without.stop()
    queued = trial.service.metrics()["queue_messages"]
    connections, relay = hangers.open.value, trial.service.relay_pid()
    cpu, began = lab.cpu_seconds(relay), time.monotonic()
    time.sleep(2)
    cpu = (lab.cpu_seconds(relay) - cpu) / (time.monotonic() - began)
    hangers.stop()
    lab.wait_until(lambda: is_empty_after_delete(trial), 60, "what was queued is deleted", every=0.5)
    trial.drain()
    say(f"hang: {trial.rounds} destinations, {bad_count} messages for them, {connections} connections open; "
        f"{100 * cpu:.0f} % of a core")
    trial.facts.update(connections=connections, cpu=round(cpu, 2))
    # At a byte a second a message is delivered in a minute or two.
    may_go = EACH * sum(HOW[n % len(HOW)] == "trickle" for n in range(trial.rounds))
    if not bad_count - may_go <= queued <= bad_count:
        trial.troubles.append(f"{bad_count} messages for bad destinations, {queued} are queued")
    if cpu > 0.9:
        trial.troubles.append(f"{100 * cpu:.0f} % of a core while others hang")


def check_latency(trial, took):
    trial.facts["samples"] = len(took[1])
    apart = noise(took[0], trial.random)
    for index, name in enumerate(("median", "p90")):
        without, beside = (1000 * quantiles(seconds)[index] for seconds in took)
        ratio, limit = beside / without, RATIO_MAX + apart[index]
        for fact, value in (("latency_ms", [round(without, 3), round(beside, 3)]), ("ratio", round(ratio, 3)),
                            ("noise", round(apart[index], 3))):
            trial.facts.setdefault(fact, {})[name] = value
        what = (f"{name} of {len(took[1])} messages: {without:.2f} ms without, {beside:.2f} beside hanging "
                f"destinations: {ratio:.3f} times, noise {apart[index]:.3f}")
        say(f"hang: {what}")
        if ratio > limit:
            trial.troubles.append(f"{what}: over {limit:.3f}")
