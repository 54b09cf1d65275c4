# SPDX-License-Identifier: MIT
"""cases - the cases with the service as it is: throughput, TLS, many recipients, latency, idle sessions, slow disk

A case takes the round and returns {"posthaste": its number, "postfix": the same of Postfix, ...}; what else a target
asks about stands beside them.
"""
import contextlib
import json
import socket
import statistics
import subprocess
import threading
import time

import lab
from lib import network

import machine
from machine import Busy
from relays import SETTLE_S, WIDE, Cost, posthaste
from tools import LONGEST_S, SINK, idle_sessions, our_load, our_sink, smtp_sink, smtp_source, DOMAIN, SENDER

WARM = 20  # a twentieth of a run goes before it: caches, lanes, segments


# ---- throughput ------------------------------------------------------------------------------------

class Plain:
    """smtp-source and smtp-sink."""
    certificate = None

    def __init__(self, size=4096, sessions=50):
        self.size, self.sessions = size, sessions

    def receiver(self, folder, count):
        return smtp_sink(folder, count)

    def send(self, folder, to, count, *watches):
        return smtp_source(folder, to, count, *watches, sessions=self.sessions, size=self.size)


class Ours(Plain):
    """`posthaste load` and `sink`; options: of the load."""

    def __init__(self, size=4096, sessions=50, tls=False, options=()):
        super().__init__(size, sessions)
        self.tls, self.options = tls, [*options, "--tls", "starttls" if tls else "none"]

    def receiver(self, folder, count):
        return our_sink(folder, count, tls=self.tls)

    def send(self, folder, to, count, *watches):
        sending = our_load(folder, to, count, *watches, options=self.options, sessions=self.sessions, size=self.size)
        if "--resume" in self.options and sending.report["resumed"] < (count - 2 * self.sessions) // 2:
            raise lab.Trouble("TLS sessions were not resumed")
        return sending


def recycle(relay, count, kind):
    """A relay at work writes into segments that it has used before; so twice as much goes before as will be measured: those
    that are kept in reserve count, too."""
    kind.send(relay.folder, relay.to(), 2 * count)
    relay.wait_delivered(2 * count)
    relay.wait_recycled()


def through(relay, count, kind, due=0, before=0):
    """Messages a second from the first byte until the sink has the last one, as the round's numbers.

    One sink stays for all: `due` messages that the queue has already, what recycle() sends for `before`, the warming up,
    then what is measured. One that went away meanwhile could meet a connection that begins, and the lane would wait."""
    warm = max(count // WARM, 1)
    with kind.receiver(relay.folder, due + 2 * before + warm + count) as receiver:
        relay.begin()
        if before:
            recycle(relay, before, kind)
        kind.send(relay.folder, relay.to(), warm)
        relay.wait_delivered(due + warm)
        sink, cost = Busy([receiver.process.pid]), Cost(relay)
        began = time.monotonic()
        sending = kind.send(relay.folder, relay.to(), count, sink, cost)
        if machine.wait_looking(receiver.process, LONGEST_S, sink, cost) is None:
            raise lab.Trouble(f"the sink did not get all\n{relay.log_tail()}")
        rate = count / (time.monotonic() - began)
    return {relay.name: rate, **cost.end(count, sending.watch, sink)}


def into(relay, count, kind):
    """Messages a second into a queue on hold."""
    relay.begin()
    kind.send(relay.folder, relay.to(), max(count // WARM, 1))
    time.sleep(SETTLE_S)
    cost = Cost(relay)
    sending = kind.send(relay.folder, relay.to(), count, cost)
    return {relay.name: count / sending.seconds, **cost.end(count, sending.watch)}


def side_by_side(name, count, kind, way=through, tls=False, postfix_share=8, **options):
    def case(run):
        hold = way is into

        def ours():
            messages = run.scaled(count)
            with posthaste(run.fresh(f"{name}-posthaste"), tls=tls, **options) as service:
                if not hold:
                    return through(service, messages, kind, before=messages)
                with kind.receiver(service.folder, 3 * messages):  # it leaves with the last one, before its reply
                    recycle(service, messages, kind)
                service.hold()
                return into(service, messages, kind)

        def theirs():
            return way(run.postfix(hold=hold, tls=tls), run.scaled(count // postfix_share), kind)
        return run.both(ours, theirs)
    return case


def straight(folder, count, kind):
    """The load to the sink with nothing between: messages a second. The sink would leave before its last reply."""
    with kind.receiver(folder, 10 * count) as receiver:
        kind.send(folder, SINK, max(count // WARM, 1))
        return count / kind.send(folder, SINK, count, Busy([receiver.process.pid])).seconds


def direct(run):
    return {"posthaste": straight(run.fresh("direct"), run.scaled(30000), Plain())}


def with_direct(case, count, kind):
    """Adds "direct": what load and sink of this kind do alone, right before and right after; hosts change their speed."""
    def whole(run):
        def rate():
            return straight(run.fresh("direct"), run.scaled(count), kind)
        before = rate()
        result = case(run)
        return {**result, "direct": statistics.mean([before, rate()])}
    return whole


relay_4k = with_direct(side_by_side("relay_4k", 20000, Plain()), 20000, Plain())
accept_4k = with_direct(side_by_side("accept_4k", 20000, Plain(), into), 20000, Plain())
_relay_100k = with_direct(side_by_side("relay_100k", 4000, Ours(100000)), 6000, Ours(100000))
_tls_reuse = side_by_side("tls_reuse", 12000, Ours(tls=True), tls=True)


def signed(keys, speed):
    """relay_4k with DKIM; relay and signer count together."""
    def case(run):
        before = machine.signature_us(speed)
        with posthaste(run.fresh(f"relay_4k_{keys}"), extra=f"dkim: {{keys: {keys}}}\n") as service:
            service.sign(SENDER.partition("@")[2])
            count = run.scaled(20000)
            result = through(service, count, Plain(), before=count)
        if result["signed"] < count:
            raise lab.Trouble(f"{result['signed']} of {count} messages were signed")
        signature = (before + machine.signature_us(speed)) / 2
        unsigned = run.value("relay_4k")["cpu_us_per_msg"]
        return {**result, "signature_us": signature, "unsigned_us": unsigned, "unsigned_and_signature_us": unsigned + signature,
                "beyond_us": result["cpu_us_per_msg"] - unsigned - signature}
    return case


relay_4k_rsa = signed("rsa", "rsa2048")
relay_4k_ed25519 = signed("ed25519", "ed25519")


def relay_100k(run):
    return {**_relay_100k(run), "disk_mb_per_s": machine.disk_mb_per_s()}


def tls_reuse(run):
    return {**_tls_reuse(run), "relay_4k_cpu_us_per_msg": run.value("relay_4k")["cpu_us_per_msg"]}


def tls_new(run):
    """Tickets off, then on; the number is that without."""
    result = {}
    for tickets in (False, True):
        name = "tls_new_tickets" if tickets else "tls_new"
        kind = Ours(tls=True, options=["--messages-per-connection", 1, *(["--resume"] if tickets else [])])
        one = with_direct(side_by_side(name, 2500, kind, into, tls=True), 2500, kind)(run)
        result.update({f"tickets_{key}": value for key, value in one.items()} if tickets else one)
    result["bound_by_load"] = result["bound_by_load"] or result["tickets_bound_by_load"]
    return result


# ---- one message, many recipients ------------------------------------------------------------------

RECIPIENTS = 1000


def fanout(relay, count, recipients):
    """Messages of so many recipients: into the queue, then, released, out of it; recipients a second, as the round's."""
    relay.begin()
    cost = Cost(relay)
    sending = smtp_source(relay.folder, relay.to(), count, cost, size=65536, recipients=recipients)
    with our_sink(relay.folder, count * recipients) as receiver:
        began = time.monotonic()
        relay.release()
        sink = Busy([receiver.process.pid])
        if machine.wait_looking(receiver.process, LONGEST_S, sink, cost) is None:
            raise lab.Trouble(f"the sink did not get all\n{relay.log_tail()}")
        delivered = count * recipients / (time.monotonic() - began)
    accept = "accept" if relay.name == "posthaste" else "postfix_accept"
    return {relay.name: delivered, accept: count * recipients / sending.seconds, **cost.end(count, sink)}


def fanout_1000(run):
    def ours():
        with posthaste(run.fresh("fanout-posthaste"), hold=True) as service:
            return fanout(service, run.scaled(100), RECIPIENTS)

    def theirs():
        return fanout(run.postfix(hold=True), run.scaled(10), RECIPIENTS)
    return run.both(ours, theirs)


# ---- a signature -----------------------------------------------------------------------------------

def dkim_verify(run):
    """bench/dkim_bench.c: without the way to DNS and back, which a cached answer shortens to two posts."""
    done = subprocess.run([machine.TOP / "build" / "dkim_bench", str(max(run.scaled(2000), 100))], check=True, capture_output=True, text=True)
    took = json.loads(done.stdout)
    return {"posthaste": took["verify_rsa_us"], "ed25519": took["verify_ed25519_us"], "body_hash_us": took["body_hash_us"],
            "rss_peak_bytes": took["rss_peak_bytes"]}


# ---- the suppression list --------------------------------------------------------------------------

def suppress_10m(run):
    """bench/suppress_bench.c: the list is filled once, as an import does it; each round loads it and looks up."""
    count = run.scaled(10_000_000)
    done = subprocess.run([machine.TOP / "build" / "suppress_bench", run.lasting(f"suppress-{count}"), str(count)],
                          check=True, capture_output=True, text=True)
    got = json.loads(done.stdout)
    return {"posthaste": got["ns_per_lookup"], "rss_peak_bytes": int(got["resident_bytes_per_address"] * count), **{name: got[name] for name in
            ("bytes_per_address", "resident_bytes_per_address", "load_s", "import_per_s")}}


# ---- the history -----------------------------------------------------------------------------------

def history_10m(run):
    """bench/history_bench.c: the day files are filled once; each round asks each kind of question."""
    count = max(run.scaled(10_000_000), 20_000)
    done = subprocess.run([machine.TOP / "build" / "history_bench", run.lasting(f"history-{count}"), str(count)],
                          check=True, capture_output=True, text=True)
    got = json.loads(done.stdout)
    return {"posthaste": got["worst_ms"], **{name: got[name] for name in
            ("fill_us_per_event", "index_bytes_per_event", "bytes_per_event", "worst_cold_ms", "worst_cpu_ms", "rss_peak_bytes")}}


# ---- one message at a time -------------------------------------------------------------------------

class Stopwatch:
    """A receiver of our own that notes when each message was whole."""

    def __init__(self):
        self.arrived = threading.Semaphore(0)
        self.at = 0.0
        self.listener = socket.create_server(SINK)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                threading.Thread(target=self.serve, args=[client], daemon=True).start()

    def serve(self, client):
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(OSError), client, client.makefile("rb") as lines:
            client.sendall(b"220 sink.test ESMTP\r\n")
            while line := lines.readline():
                verb = line[:4].upper()
                client.sendall(b"354 go on\r\n" if verb == b"DATA" else b"250 sink.test\r\n")
                if verb == b"DATA":
                    while lines.readline() != b".\r\n":
                        pass
                    self.at = time.monotonic()
                    client.sendall(b"250 taken\r\n")
                    self.arrived.release()

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)  # ends the accept() of the other thread, too
        self.listener.close()


def one_by_one(to, count):
    """(median ms from the end of the data to the 250, from there to the receiver having all of it)."""
    watch = Stopwatch()
    text = b"From: <%s>\r\nSubject: one\r\n\r\n%s\r\n.\r\n" % (SENDER.encode(), b"\r\n".join([b"x" * 70] * 14))
    accepted, delivered = [], []
    with contextlib.closing(watch), socket.create_connection(to, 10) as client, client.makefile("rb") as replies:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def ask(data):
            client.sendall(data)
            while (reply := replies.readline())[3:4] == b"-":
                pass
            if reply[:1] not in b"23":
                raise lab.Trouble(f"{data[:40]!r}: {reply!r}")
        ask(b"")
        ask(b"EHLO bench.test\r\n")
        for number in range(count + 5):
            ask(b"MAIL FROM:<%s>\r\n" % SENDER.encode())
            ask(b"RCPT TO:<user@%s>\r\n" % DOMAIN.encode())
            ask(b"DATA\r\n")
            began = time.monotonic()
            ask(text)
            took = time.monotonic() - began
            if not watch.arrived.acquire(timeout=30):
                raise lab.Trouble("a message did not arrive within 30 s")
            if number >= 5:  # the first ones open connections
                accepted.append(1000 * took)
                delivered.append(1000 * (watch.at - began))
            time.sleep(0.02)
    return statistics.median(accepted), statistics.median(delivered)


def latency_idle(run):
    def ours():
        with posthaste(run.fresh("latency-posthaste")) as service:
            accepted, delivered = one_by_one(service.to(), run.scaled(100))
            return {"posthaste": delivered, "accepted_ms": accepted, "rss_peak_bytes": machine.status_bytes(
                service.relay_pid(), "VmHWM")}

    def theirs():
        return {"postfix": one_by_one(run.postfix().to(), run.scaled(100))[1]}
    return {**run.both(ours, theirs), "fdatasync_us": run.flush_us()}


# ---- start -----------------------------------------------------------------------------------------

def start(run):
    """A service that was stopped in order starts again and again, nothing in its spool."""
    took = []
    with posthaste(run.fresh("start-posthaste")) as service:
        for _ in range(5):
            peak = machine.status_bytes(service.relay_pid(), "VmHWM")
            service.stop()
            took.append(1000 * service.start())
    return {"posthaste": statistics.median(took), "slowest": max(took), "rss_peak_bytes": peak}


# ---- idle sessions ---------------------------------------------------------------------------------

def idle_bytes(run, count, tls):
    with posthaste(run.fresh(f"idle-posthaste-{tls}"), extra=WIDE, tls=tls) as service:
        pid = service.relay_pid()
        with idle_sessions(service.folder, service.to(), 50, tls):
            before = machine.status_bytes(pid, "VmRSS")
            with idle_sessions(service.folder, service.to(), count, tls):
                grown = machine.status_bytes(pid, "VmRSS") - before
        return grown / count, machine.status_bytes(pid, "VmHWM")


def idle_bytes_postfix(run, count, tls):
    peer = run.postfix(tls=tls)
    before = peer.resident_bytes()
    with idle_sessions(peer.folder, peer.to(), count, tls):
        return (peer.resident_bytes() - before) / count


def idle_10k(run):
    count, few = run.scaled(10000), run.scaled(80)
    plain, _ = idle_bytes(run, count, False)
    tls, peak = idle_bytes(run, count, True)
    return {"posthaste": plain, "tls": tls, "postfix": idle_bytes_postfix(run, few, False),
            "postfix_tls": idle_bytes_postfix(run, few, True), "rss_peak_bytes": peak}


# ---- a slow disk -----------------------------------------------------------------------------------

SLOW_S = 0.010
SLOW_SESSIONS = {50: 10000, 200: 20000, 1000: 20000}  # sessions: messages


def slow_disk(run):
    """The worst share of what is possible: min(the fast disk, sessions / 2 flushes). Fast before and after: hosts change.
    The costs are those of the fewest sessions."""
    flush_s = SLOW_S + run.flush_us() / 1e6
    result, costs = {}, {}
    for sessions, count in SLOW_SESSIONS.items():
        def measured(slow):
            with posthaste(run.fresh(f"slow-{sessions}-{slow}"), extra=WIDE, slow_flush=slow) as service:
                return through(service, run.scaled(count), Plain(sessions=sessions))
        before, one, after = measured(False), measured(True), measured(False)
        for name, of in (("posthaste", ""), ("flushes_per_msg", "_flushes_per_msg")):
            result[f"fast_{sessions}{of}"] = statistics.mean([before[name], after[name]])
            result[f"slow_{sessions}{of}"] = one[name]
        possible = min(result[f"fast_{sessions}"], sessions / (2 * flush_s))
        result[f"share_{sessions}"] = result[f"slow_{sessions}"] / possible
        result[f"bound_by_load_{sessions}"] = one["bound_by_load"]
        costs = costs or {key: one[key] for key in ("cpu_us_per_msg", "flushes_per_msg", "rss_peak_bytes")}
    worst = min(SLOW_SESSIONS, key=lambda sessions: result[f"share_{sessions}"])
    theirs = through(run.postfix(slow_flush=True), run.scaled(1000), Plain())
    return {"posthaste": result["slow_50"], "share": result[f"share_{worst}"], **theirs, **result, **costs,
            "bound_by_load": result[f"bound_by_load_{worst}"]}
