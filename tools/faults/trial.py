# SPDX-License-Identifier: MIT
"""trial - what the fault tests share: a service with its books, disks of its own, failing system calls"""
import contextlib
import fcntl
import os
import pathlib
import random
import shutil
import signal
import struct
import subprocess
import time

import lab
from lab import Trouble

DRAIN_S = 60
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
        self.minutes = float(options.get("MINUTES", 20))
        self.fs = options.get("FS", "ext4")
        self.folder = lab.TOP / "build" / "fault" / name
        self.data = self.folder / "data"
        self.ready, self.codes, self.troubles, self.facts = [0.0], {}, [], {}
        shutil.rmtree(self.folder, ignore_errors=True)
        self.data.mkdir(parents=True)
        self.books = lab.Books(self.folder)
        self.sink = lab.Sink(self.folder)
        self.service = None

    def open(self, log="warn"):
        self.sink.start()
        self.service = lab.Service(self.folder, self.sink.port, self.data, f"log: {{level: {log}}}\n")
        self.service.add_account()

    def close(self):
        if self.service:
            self.service.close()
        self.sink.stop()
        lab.wait_until(lambda: not self.is_mounted() or self.umount(), 10, "the disk can be unmounted", every=0.1)
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
        """Until everything acknowledged has arrived and the queue is empty."""
        def empty():
            return self.service.metrics().get("queue_messages") == 0 and not self.books.missing()
        with contextlib.suppress(Trouble):
            lab.wait_until(empty, DRAIN_S, "drained", every=0.2)
            return
        left = self.service.metrics()
        queue = {k: v for k, v in left.items() if k.startswith("queue_") and v}
        self.troubles.append(f"not drained after {DRAIN_S} s: {len(self.books.missing())} have not arrived; {queue}")

    def probe(self, name, seconds):
        """The service takes a message again, by itself."""
        end = time.monotonic() + seconds
        for attempt in range(1000):
            load = self.load(f"{name}p{attempt}", 1, 1, 100)
            if self.finish(load)["accepted"] == 1:
                return
            if time.monotonic() > end:
                self.troubles.append(f"{name}: refuses mail {seconds} s after the fault was over")
                return
            time.sleep(0.2)

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

    def mount_memory(self, mib, inodes=0):
        options = f"size={mib}m" + (f",nr_inodes={inodes}" if inodes else "")
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "fault", str(self.data)], check=True)

    def umount(self):
        return subprocess.run(["umount", str(self.data)], capture_output=True).returncode == 0

    def cut_power(self):
        """The processes get their kill, and at once the filesystem stops dead. When that was.

        In this order, because an fdatasync under way when ext4 is shut down may still say that it worked (seen:
        20 messages lost that were acknowledged 9 ms after the cut): after a real cut nobody is told anything.
        """
        disk = os.open(self.data, os.O_RDONLY)
        at = self.service.kill(at_once=lambda: fcntl.ioctl(disk, SHUTDOWN, NO_LOG_FLUSH))
        os.close(disk)
        return at


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
        self.log = trial.folder / "strace.log"
        self.log.write_bytes(b"")
        words = [word for one in ids for word in ("-p", one)]
        self.process = lab.spawn(["strace", "-q", "-e", f"trace={call}", "-e", f"inject={call}:{what}",
                                  "-o", trial.folder / "strace.out", "-e", "signal=none", *words], self.log)
        tracer = str(self.process.pid)
        try:
            lab.wait_until(lambda: all(self.is_traced(pid, one, tracer) for one in ids), 10, "strace is attached")
        except Trouble as trouble:
            raise Trouble(f"{trouble}\n{self.log.read_text()}") from None

    @staticmethod
    def is_traced(pid, thread, tracer):
        try:
            return f"TracerPid:\t{tracer}\n" in pathlib.Path(f"/proc/{pid}/task/{thread}/status").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return True  # an injected signal has ended it already

    def hits(self, trial):
        return (trial.folder / "strace.out").read_text(errors="replace").count("(INJECTED)")

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(2)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
