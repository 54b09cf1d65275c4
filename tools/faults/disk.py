# SPDX-License-Identifier: MIT
"""disk - failing flushes and writes, a full disk"""
import collections
import contextlib
import os
import socket
import time

import lab
from faults.trial import MIB, Injection, check_codes, say


LONG_RATE = 200  # messages a second on a disk that is full for MINUTES
# What fails, where: the journal's writes and flushes; the files and folders of large bodies, and segments made ahead.
Case = collections.namedtuple("Case", "call error thread")
CASES = [Case("fdatasync", "EIO", "spool"), Case("pwritev", "ENOSPC", "spool"), Case("pwritev", "EIO", "spool"),
         Case("fsync", "EIO", "offload-disk"), Case("openat", "ENOSPC", "offload-disk")]
POOL = 4  # threads of that name, of which each gets its share of the calls


def run_eio(trial):
    lab.private_mounts()
    trial.mount_memory(2000)
    trial.open()
    trial.start()
    failed, refused = collections.Counter(), collections.Counter()
    for n in range(1, trial.rounds + 1):
        for case in CASES:
            name = f"{case.call} {case.error}"
            hit, reports = failing_round(trial, case, n)
            failed[name] += hit
            refused[name] += sum(report["refused"] for report in reports)
            if not hit:
                trial.troubles.append(f"{name} n={n}: no call failed")
    trial.facts["failed"] = failed
    # One failure may hit a flush that nobody waits for; not all of them do.
    for name in [name for name in failed if not refused[name]]:
        trial.troubles.append(f"{name}: {failed[name]} calls failed, and no mail was refused")
    check_codes(trial)
    trial.drain()
    trial.books.crashed(*trial.service.kill())
    say(f"eio: all out, killed, {trial.in_flight()} in flight")
    trial.start()
    trial.drain()


def failing_round(trial, case, n):
    """(how many calls failed, the loads' reports): the n-th call fails, or five from there on, and then mail is taken again."""
    name, pool = f"{CASES.index(case)}n{n}", case.thread != "spool"
    first = -(-n // POOL) if pool else n
    times = f"{first}..{first + 4}" if n % 2 else str(first)
    injection = Injection(trial, case.call, f"error={case.error}:when={times}", threads=(case.thread,))
    large = trial.load(f"{name}x", n + 8 if pool else 2, 4 if pool else 1, 270000)
    reports = [] if pool else [trial.finish(trial.load(name, 20 * (n + 8), 20, 2000))]
    reports.append(trial.finish(large))
    # A kill while the last refusals are fresh: what was refused must not come back.
    crash = (n + CASES.index(case)) % 5 == 0 and trial.random.random() < 0.5
    if crash:
        trial.books.crashed(*trial.service.kill())
    injection.stop()
    hit = injection.hits()
    killed = f", killed, {trial.in_flight()} in flight" if crash else ""
    if crash:
        trial.start()
    trial.probe(name, 5)
    accepted, refused = (sum(r[key] for r in reports) for key in ("accepted", "refused"))
    say(f"eio {case.call} {case.error} n={n}: {hit} failed, {accepted} accepted, {refused} refused{killed}")
    return hit, reports


def fill(path, leave=0):
    """Another program takes all of the disk but `leave` bytes."""
    with open(path, "wb", buffering=0) as out:
        with contextlib.suppress(OSError):
            while os.statvfs(path).f_bavail * os.statvfs(path).f_frsize > leave:
                out.write(bytes(MIB))


def run_full(trial):
    lab.private_mounts()
    trial.mount_memory(600, inodes=20000)
    trial.open()
    trial.start()
    ballast = trial.data / "ballast"
    for number in range(trial.rounds):
        if number:
            small_spool(trial)
        foreign_disk_full(trial, number, ballast)
        no_inodes(trial, number)
        full_then_killed(trial, number, ballast)
        own_disk_full(trial, number)
    check_codes(trial)
    trial.drain()


def small_spool(trial):
    """Once it had the whole disk, a spool keeps it as free segments, and would not notice what others take."""
    trial.drain()
    trial.service.stop()
    trial.umount()
    trial.mount_memory(600, inodes=20000)
    trial.service.add_account()
    trial.start()


def foreign_disk_full(trial, number, ballast):
    """The disk is full of something else, from one moment to the next; deliveries go on from the reserve."""
    load = trial.load(f"f{number}", 1000000, 20, 4096)
    time.sleep(0.5)
    fill(ballast)
    refuses = refused_within(trial, 20)
    trial.arrive()
    ballast.unlink()
    trial.probe(f"f{number}", 5)
    report = trial.finish(load, stop=True)
    say(f"full {number + 1}/{trial.rounds}: by something else: {report['accepted']} accepted, "
        f"{report['refused']} refused")
    if not refuses and "452" not in report["replies"]:
        trial.troubles.append("a full disk, and mail is not answered 452")


def refused_within(trial, seconds):
    """A MAIL of our own is answered 452 4.3.1 in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if mail_reply(trial).startswith("452 4.3.1"):
            return True
        time.sleep(0.1)
    return False


def mail_reply(trial):
    with socket.create_connection(("127.0.0.1", trial.service.port()), 10) as conn:
        replies = conn.makefile("r", newline="\n")
        replies.readline()
        for command in ("HELO client.test", "MAIL FROM:<load@load.example>"):
            conn.sendall(command.encode() + b"\r\n")
            reply = replies.readline()
        return reply


def no_inodes(trial, number):
    """Another program takes all inodes under load; what was taken goes out, and it ends by itself."""
    load = trial.load(f"i{number}", 1000000, 20, 4096)
    large = trial.load(f"il{number}", 1000000, 2, 400000, "--rate", 20)
    time.sleep(0.5)
    many = trial.data / "many"
    many.mkdir()
    with contextlib.suppress(OSError):
        for n in range(1 << 20):
            (many / str(n)).touch()
    refuses = refused_within(trial, 20)
    trial.arrive()  # not all: there is always some mail under way, as segments are used again
    for one in many.iterdir():
        one.unlink()
    many.rmdir()
    trial.probe(f"i{number}", 5)
    reports = [trial.finish(one, stop=True) for one in (load, large)]
    say(f"full {number + 1}/{trial.rounds}: no inodes: {sum(r['accepted'] for r in reports)} accepted, "
        f"{sum(r['refused'] for r in reports)} refused")
    if not refuses and not any("452" in report["replies"] for report in reports):
        trial.troubles.append("no inode is left, and mail is not answered 452")


def full_then_killed(trial, number, ballast):
    """A full disk under load, for seconds or, at a pace, for MINUTES, then kill -9; it starts while the disk is still full."""
    pace = ["--rate", LONG_RATE] if trial.minutes else []
    load = trial.load(f"k{number}", 1000000, 20, 4096, *pace)
    time.sleep(0.3)
    fill(ballast)
    end = time.monotonic() + (trial.minutes * 60 or trial.random.uniform(1, 3))
    while time.monotonic() < end:
        if trial.minutes and not mail_reply(trial).startswith(("250", "452 4.3.1")):
            trial.troubles.append("on a full disk MAIL is answered neither 250 nor 452")
        time.sleep(min(10, max(end - time.monotonic(), 0)))
    trial.books.crashed(*trial.service.kill())
    report = trial.finish(load, stop=True)
    in_flight = trial.in_flight()
    trial.start()
    trial.drain()
    ballast.unlink()
    trial.probe(f"k{number}", 10)
    say(f"full {number + 1}/{trial.rounds}: then killed: {report['accepted']} accepted, {report['refused']} refused, "
        f"{in_flight} in flight")


def own_disk_full(trial, number):
    """The receiver is away: mail piles up until there is no room. Then it comes back."""
    trial.sink.stop()
    load = trial.load(f"o{number}", 60000, 20, 60000)
    refuses = False
    end = time.monotonic() + 60
    while not refuses and time.monotonic() < end and load.process.poll() is None:
        refuses = mail_reply(trial).startswith("452 4.3.1")
        time.sleep(0.05)
    report = trial.finish(load, stop=True)
    free = os.statvfs(trial.data).f_bavail * os.statvfs(trial.data).f_frsize
    trial.sink.start()
    trial.drain()
    trial.probe(f"o{number}", 10)
    say(f"full {number + 1}/{trial.rounds}: by mail: {report['accepted']} accepted, {report['refused']} refused, "
        f"{free // MIB} MiB left")
    if not refuses:
        trial.troubles.append("the disk filled with mail, and MAIL is not answered 452")
