# SPDX-License-Identifier: MIT
"""trial - what the fault tests share: a service with its books, disks of its own, failing system calls"""
import collections
import fcntl
import hashlib
import json
import os
import pathlib
import random
import re
import shutil
import signal
import smtplib
import struct
import subprocess
import time

import lab
from faults import journal, peer
from lab import Trouble

DRAIN_S, HURRY_S = 60, 10
# The mail of a client that asks whether the service is back.
BACK, BACK_RCPT = "back", "back@back.example"
BACK_MAIL = ("X-Load-Id: {0}\r\nMessage-ID: <{0}@load.invalid>\r\nFrom: <load@load.example>\r\nTo: <back@back.example>\r\n"
             "Date: Thu, 1 Jan 2026 00:00:00 +0000\r\nSubject: back?\r\n\r\nIs anybody there?\r\n")
SHUTDOWN = 0x8004587D  # _IOR('X', 125, __u32), of ext4 and xfs
NO_LOG_FLUSH = struct.pack("I", 2)
MIB = 1 << 20


def say(text):
    print(f"# {text}", flush=True)


class Trial:
    """One test's folder, sink, service and books."""

    def __init__(self, name, options):
        self.name, self.rounds = name, int(options["ROUNDS"])
        self.seed = int(options.get("SEED", random.SystemRandom().randrange(1 << 32)))
        self.random = random.Random(self.seed)
        self.minutes = float(options.get("MINUTES", 0))
        self.fs = options.get("FS", "ext4")
        self.peer = options.get("PEER")
        self.folder = lab.TOP / "build" / "fault" / name
        self.data = self.folder / "data"
        self.ready, self.pauses, self.codes, self.troubles, self.facts = [], [], {}, [], {}
        self.lost = 0  # that the books don't know of
        self.skipped = {}  # parts of the test that can't run here, and why
        shutil.rmtree(self.folder, ignore_errors=True)
        self.data.mkdir(parents=True)
        self.books = lab.Books(self.folder)
        self.sink = lab.Sink(self.folder)
        self.service = None

    def open(self, log="warn", maildir=None):
        """`maildir`: a domain whose mail goes to a Maildir."""
        if self.peer:
            peer.Service.enter_network()
        self.sink.start()
        if self.peer:
            self.service = peer.Service(self.peer, self.folder, self.sink.port, self.data)
            self.facts["peer"] = f"{self.peer} {self.service.version()}"
        else:
            routes = ""
            if maildir:
                self.books.maildir = self.data / "mail"
                self.books.maildir.mkdir()
                routes = f'  - {{match: {{recipient: {maildir}}}, via: "maildir:{self.books.maildir}/%d/%u"}}\n'
            self.service = lab.Service(self.folder, self.sink.port, self.data, f"log: {{level: {log}}}\n", routes=routes)
        self.service.add_account()

    def close(self):
        if self.service:
            self.service.close()
        self.sink.stop()
        lab.wait_until(lambda: not self.is_mounted() or self.umount(), 60, "the disk can be unmounted", every=0.1)
        shutil.rmtree(self.data, ignore_errors=True)
        (self.folder / "disk.img").unlink(missing_ok=True)

    def start(self):
        self.ready.append(self.service.start())

    def load(self, name, count, sessions, size, *more):
        return self.books.load(lab.Load(self.service, name, count, sessions, size, *more))

    def finish(self, load, stop=False):
        report = load.stop() if stop else load.wait()
        for code, count in report["replies"].items():
            self.codes[code] = self.codes.get(code, 0) + count
        return report

    def drain(self):
        """Until everything acknowledged has arrived and the queue is empty, or nothing moves any more."""
        best, end, hurry = None, 0.0, 0.0
        while (missing := len(self.books.missing())) or self.service.queued():
            now = time.monotonic()
            if best is None or missing < best:
                best, end = missing, now + DRAIN_S
            if now > end:
                self.troubles.append(f"nothing more came in {DRAIN_S} s: {missing} have not arrived, "
                                     f"{self.service.queued()} are queued")
                return
            if now > hurry:
                self.service.hurry()
                hurry = now + HURRY_S
            time.sleep(0.2 + missing / 2000)  # to ask is work too

    def late(self, window_s):
        """Seconds that what is timed is to be forgiven: three times what a small write was late at worst."""
        return 3 * self.books.pulse.slowest(time.time(), window_s)

    def in_flight(self):
        """At the last crash, as the journal has it; for a peer, which keeps it elsewhere, all that was taken just before."""
        def read(since):
            return ({}, {}) if self.peer else journal.read(self.data / "spool" / "segments", since)
        return self.books.in_flight(read)

    def watch(self):
        """What paused() tells needs somebody who looks all the time."""
        self.starving = lab.Starving(self.service)

    def answered(self, began):
        """Until a client that tries again and again has its message answered 250: it was without service from `began` on."""
        for number in range(1000000):
            ident = f"{BACK}-{number + self.books.sent.get(BACK, 0)}"
            content = BACK_MAIL.format(ident).encode()
            try:
                with smtplib.SMTP("127.0.0.1", self.service.port(), "client.test", 30) as client:
                    client.sendmail("load@load.example", [BACK_RCPT], content)
                    ended = time.time()
                break
            except (OSError, smtplib.SMTPException):
                if time.time() > began + 60:
                    raise Trouble("no message is taken in 60 s") from None
                time.sleep(0.005)
        self.books.sent[BACK] = self.books.sent.get(BACK, 0) + number + 1
        line = {"at": lab.at_text(ended), "load_id": ident, "recipients": [BACK_RCPT], "sha256": hashlib.sha256(content).hexdigest()}
        with open(self.folder / "ids.jsonl", "a") as ids:
            ids.write(json.dumps(line) + "\n")
        return self.paused(began, ended)

    def paused(self, began, ended):
        """A client was not served for so long (time.time()); the seconds of it, less what the relay waited for a processor."""
        own = ended - began - self.starving.between(began, ended)
        self.pauses.append((own, ended - began, 3 * self.books.pulse.slowest(ended, ended - began)))
        return own

    def check_pauses(self, limit):
        """The longest of them. A peer's is told only: how long it waited for a processor is not known."""
        self.facts["pause_s_max"] = round(max(whole for _, whole, _ in self.pauses), 3)
        self.facts["pause_own_s_max"] = round(max(own for own, _, _ in self.pauses), 3)
        for own, whole, late in self.pauses:
            if own > limit + late and not self.peer:
                self.troubles.append(f"no service for {whole:.2f} s, {whole - own:.2f} s of it for want of a processor; "
                                     f"{late:.2f} s are forgiven for the disk")

    def arrive(self):
        """Until what is acknowledged by now has arrived, whatever else comes meanwhile, or nothing moves any more."""
        due, end = self.books.missing(), time.monotonic() + DRAIN_S
        while left := set(due).intersection(self.books.missing()):
            if len(left) < len(due):
                due, end = left, time.monotonic() + DRAIN_S
            if time.monotonic() > end:
                self.troubles.append(f"nothing more came in {DRAIN_S} s: {len(left)} have not arrived")
                return
            time.sleep(0.5)

    def probe(self, name, seconds, since=None):
        """The service takes a message again, by itself, within so many seconds; after how many it did."""
        since = time.monotonic() if since is None else since
        for attempt in range(1000):
            load = self.load(f"{name}p{attempt}", 1, 1, 100)
            accepted, took = self.finish(load)["accepted"] == 1, time.monotonic() - since
            if took > seconds + self.late(took):
                self.troubles.append(f"{name}: takes no mail within {seconds} s after the fault was over")
            elif not accepted:
                time.sleep(min(0.2, seconds / 20))
                continue
            return took

    # ---- a disk of its own

    def is_mounted(self):
        return os.path.ismount(self.data)

    def mount_image(self):
        image = self.folder / "disk.img"
        if not image.exists():
            with open(image, "wb") as out:
                out.truncate(2048 * MIB)
            force = "-F" if self.fs.startswith("ext") else "-f"
            subprocess.run([f"mkfs.{self.fs}", "-q", force, str(image)], check=True, capture_output=True)
        options = "loop" + (",nouuid" if self.fs == "xfs" else "")
        subprocess.run(["mount", "-t", self.fs, "-o", options, str(image), str(self.data)], check=True)

    def is_attached(self):
        """Whether a mount in some namespace, perhaps of a process that has not quite gone, has the disk yet."""
        return subprocess.run(["losetup", "-j", str(self.folder / "disk.img")], capture_output=True).stdout != b""

    def mount_memory(self, mib, inodes=0):
        options = f"size={mib}m" + (f",nr_inodes={inodes}" if inodes else "")
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "fault", str(self.data)], check=True)

    def umount(self):
        return subprocess.run(["umount", str(self.data)], capture_output=True).returncode == 0

    def cut_power(self):
        """The processes get their kill, and at once the filesystem stops dead. As service.kill().

        In this order, because an fdatasync under way when ext4 is shut down may still say that it worked (seen:
        20 messages lost that were acknowledged 9 ms after the cut): after a real cut nobody is told anything.
        """
        disk = os.open(self.data, os.O_RDONLY)
        when = self.service.kill(at_once=lambda: fcntl.ioctl(disk, SHUTDOWN, NO_LOG_FLUSH))
        os.close(disk)
        return when


def check_codes(trial):
    # 421 ends a session with too many errors.
    for code in sorted(set(trial.codes) - {"250", "451", "452", "421"}):
        trial.troubles.append(f"{trial.codes[code]} replies {code}")


class Injection:
    """strace on some of the relay's threads: calls fail as `what` says, until stop()."""

    def __init__(self, trial, call, what, threads=("spool",)):
        pid = trial.service.relay_pid()
        ids = lab.threads(pid, threads)
        if not ids:
            raise Trouble(f"the relay has no thread {threads}")
        self.out, self.log = trial.folder / "strace.out", trial.folder / "strace.log"
        self.log.write_bytes(b"")
        words = [word for one in ids for word in ("-p", one)]
        self.process = lab.spawn(["strace", "-q", "-e", f"trace={call}", "-e", f"inject={call}:{what}",
                                  "-y", "-o", self.out, "-e", "signal=none", *words], self.log)
        tracer = str(self.process.pid)
        try:
            lab.wait_until(lambda: all(self.is_traced(pid, one, tracer) for one in ids), 60, "strace is attached")
        except Trouble as trouble:
            raise Trouble(f"{trouble}\n{self.log.read_text()}") from None

    @staticmethod
    def is_traced(pid, thread, tracer):
        try:
            return f"TracerPid:\t{tracer}\n" in pathlib.Path(f"/proc/{pid}/task/{thread}/status").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return True  # an injected signal has ended it already

    def hits(self):
        return self.out.read_text(errors="replace").count("(INJECTED)")

    def reached(self, k):
        """What the first call that was its thread's k-th was made on: a path, "socket:[..]". One that kills has no mark."""
        calls = collections.Counter()
        for thread, on in re.findall(r'^(\d+) +\w+\((?:\w+<|")([^">]*)', self.out.read_text(errors="replace"), re.M):
            calls[thread] += 1
            if calls[thread] == k:
                return on
        return ""

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(2)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
