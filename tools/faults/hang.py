# SPDX-License-Identifier: MIT
"""hang - destinations that hang at every step, trickle, never end a reply or reset; others must not notice

Each bad destination is a route of its own to a socket of this process. Messages for them stand in the queue in
numbers that would take every connection there is. What the others' messages need from acceptance to delivery is
measured before, beside and after them, in one run; beside them again, up to TRIES times, if it took longer.
"""
import contextlib
import selectors
import socket
import statistics
import struct
import threading
import time
import types

import lab
from faults.trial import say

HOW = ["connect", "greeting", "EHLO", "MAIL", "RCPT", "DATA", "final", "trickle", "endless", "reset"]
REPLIES = {b"EHLO": b"250-bad.test\r\n250 8BITMIME\r\n", b"HELO": b"250 bad.test\r\n", b"MAIL": b"250 ok\r\n",
           b"RCPT": b"250 ok\r\n", b"DATA": b"354 go on\r\n", b"QUIT": b"221 bye\r\n", b"RSET": b"250 ok\r\n"}
RATIO, MORE_MS = 1.10, 3.0
TRIES = 5  # what else the machine does may disturb one measurement; destinations that hang would disturb all of them


class Peer:
    """One connection of a bad destination."""

    def __init__(self, conn, how):
        self.conn, self.how, self.buffer, self.in_content, self.trickle = conn, how, b"", False, b""
        conn.setblocking(False)
        if how != "greeting":
            self.say(b"220 bad.test\r\n")

    def say(self, words):
        if self.how == "trickle":
            self.trickle += words
            return
        with contextlib.suppress(BlockingIOError):
            self.conn.send(words)

    def tick(self):
        """Once a second."""
        if self.how == "trickle" and self.trickle:
            self.conn.send(self.trickle[:1])
            self.trickle = self.trickle[1:]
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
    """All bad destinations, on one thread."""

    def __init__(self, count):
        self.selector, self.over, self.accepted = selectors.DefaultSelector(), threading.Event(), 0
        self.listeners, self.fillers, self.peers = [], [], set()
        for number in range(count):
            how = HOW[number % len(HOW)]
            listener = socket.create_server((f"127.9.0.{number + 1}", 0), backlog=0 if how == "connect" else 100)
            self.listeners.append((how, listener))
            if how == "connect":  # a full backlog: the kernel lets no connection come about
                for _ in range(2):
                    filler = socket.socket()
                    filler.setblocking(False)
                    filler.connect_ex(listener.getsockname())
                    self.fillers.append(filler)
            else:
                listener.setblocking(False)
                self.selector.register(listener, selectors.EVENT_READ, how)
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        next_tick = time.monotonic()
        while not self.over.is_set():
            for key, _ in self.selector.select(0.2):
                if isinstance(key.data, Peer):
                    self.attempt(key.data, key.data.read)
                else:
                    self.take(key.fileobj, key.data)
            if time.monotonic() >= next_tick:
                next_tick += 1.0
                for peer in list(self.peers):
                    self.attempt(peer, peer.tick)

    def take(self, listener, how):
        with contextlib.suppress(OSError):
            conn, _ = listener.accept()
            self.accepted += 1
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
        self.over.set()
        self.thread.join()
        for conn in [*self.fillers, *(peer.conn for peer in self.peers), *(one for _, one in self.listeners)]:
            conn.close()


def latency_ms(trial, name, count):
    """From acceptance to delivery of `count` messages to good receivers: the mean of the middle 80 %."""
    trial.finish(trial.load(name, count, 4, 2000, "--rate", 100))
    lab.wait_until(lambda: not trial.books.missing(), 60, "the good ones delivered", every=0.1)
    accepted = {line["load_id"]: lab.seconds_of(line["at"]) for line in lab.json_lines(trial.folder / "ids.jsonl")}
    took = sorted(lab.seconds_of(copies[0]["at"]) - accepted[key[0]]
                  for key, copies in trial.books.deliveries.items() if key[0].startswith(name + "-"))
    return 1000 * statistics.mean(took[count // 10:-count // 10])


def is_empty_after_delete(trial):
    """What is under way at that moment is not deleted, but comes back to the queue."""
    trial.service.cli("queue", "delete", "--all")
    return trial.service.metrics()["queue_messages"] == 0


def run_hang(trial):
    """ROUNDS: bad destinations."""
    hangers = Hangers(trial.rounds)
    trial.open()
    text = trial.service.config_file.read_text()
    routes = "".join(f'  - {{match: {{recipient: bad{n}.example}}, via: "smtp://127.9.0.{n + 1}:{one.getsockname()[1]}"}}\n'
                     for n, (_, one) in enumerate(hangers.listeners))
    trial.service.config_file.write_text(text.replace("routes:\n", "routes:\n" + routes))
    trial.start()
    before = latency_ms(trial, "b", 300)
    # Not in the books: their destinations take none, so all of them must still be queued in the end.
    (trial.folder / "bad").mkdir()
    bad_count = 0
    for n in range(trial.rounds):
        where = types.SimpleNamespace(folder=trial.folder / "bad", port=trial.service.port)
        load = lab.Load(where, f"bad{n}", 40, 4, 2000, "--rcpt", f"user%m@bad{n}.example")
        bad_count += load.wait()["accepted"]
    time.sleep(2)
    beside = latency_ms(trial, "h0", 500)
    for number in range(1, TRIES):
        if beside > RATIO * before + MORE_MS:
            beside = min(beside, latency_ms(trial, f"h{number}", 500))
    queued = trial.service.metrics()["queue_messages"]
    connections, relay = len(hangers.peers), trial.service.relay_pid()
    cpu, began = lab.cpu_seconds(relay), time.monotonic()
    time.sleep(2)
    cpu = (lab.cpu_seconds(relay) - cpu) / (time.monotonic() - began)
    hangers.stop()
    lab.wait_until(lambda: is_empty_after_delete(trial), 60, "what was queued is deleted", every=0.5)
    trial.drain()
    after = latency_ms(trial, "a", 300)
    ratio = beside / max(before, after, 0.1)
    say(f"hang: {trial.rounds} destinations, {bad_count} messages for them, {connections} connections open: "
        f"latency {before:.1f} ms before, {beside:.1f} beside, {after:.1f} after; {100 * cpu:.0f} % of a core")
    trial.facts.update(latency_ms=[round(ms, 2) for ms in (before, beside, after)], ratio=round(ratio, 3),
                       connections=connections, cpu=round(cpu, 2))
    if queued != bad_count:
        trial.troubles.append(f"{bad_count} messages for bad destinations, {queued} are queued")
    if beside > RATIO * max(before, after) + MORE_MS:
        trial.troubles.append(f"latency {beside:.1f} ms beside hanging destinations, {before:.1f} and {after:.1f} without")
    if cpu > 0.9:
        trial.troubles.append(f"{100 * cpu:.0f} % of a core while others hang")
