# SPDX-License-Identifier: MIT
"""crash - kill -9 and power cuts under load"""
import contextlib
import os
import pathlib
import time

import lab
from faults.trial import Injection, say

READY_S = 2.0

HELD = "held.example"


def crash_loads(trial, number):
    """Small messages over many sessions, and a few with a body in a file of its own."""
    sessions = trial.random.randint(10, 50)
    size = trial.random.choice([500, 4096, 4096, 30000])
    return [trial.load(f"r{number}a", 1000000, sessions, size),
            trial.load(f"r{number}b", 1000000, 2, 400000, "--recipients", 3, "--rate", 20)]


def stay_under_load(trial):
    """Until the moment of the crash."""
    time.sleep(trial.random.uniform(0.1, 0.9) * trial.service.patience)


def run_kill(trial):
    trial.open()
    trial.watch()
    trial.start()
    for number in range(trial.rounds):
        loads = crash_loads(trial, number)
        stay_under_load(trial)
        relay_only = trial.random.random() < 0.3 and not trial.peer
        began = time.time()
        trial.books.crashed(*trial.service.kill(relay_only))
        if relay_only:
            back = answered_after(trial, began)
        reports = [trial.finish(load, stop=True) for load in loads]
        in_flight = trial.in_flight()
        if not relay_only:
            trial.start()
            back = trial.answered(time.time() - trial.ready[-1])
        say(f"kill {number + 1}/{trial.rounds}: {'relay' if relay_only else 'all'}, "
            f"{sum(r['accepted'] for r in reports)} accepted, {in_flight} in flight, back in {back:.2f} s")
    trial.drain()
    trial.check_pauses(READY_S)


def answered_after(trial, began):
    """The guard starts another relay; connections wait for it meanwhile. Seconds until mail is taken."""
    monotonic = time.monotonic() - (time.time() - began)
    back = trial.answered(began)
    trial.ready.append(trial.service.wait_ready(monotonic))
    return back


# What the relay does to its disk and to its peers; with the large bodies of the load (a flush of extents/ each) and a
# Maildir (a rename each) it does all of it under load.
CALLS = {"write": "pwritev", "fdatasync": "fdatasync", "fsync": "fsync", "rename": "?rename,?renameat,?renameat2",
         "unlink": "?unlink,unlinkat", "send": "write,writev,sendto,sendmsg"}
BOX = "box.example"


def run_calls(trial):
    """The relay is killed at the k-th call of each kind; the guard starts another. A kind not met by then gets more rounds."""
    trial.open(maildir=BOX)
    trial.watch()
    trial.start()
    trial.facts["hits"] = hits = dict.fromkeys(CALLS, 0)
    for number in range(trial.rounds + 2 * len(CALLS)):
        kind = list(CALLS)[number % len(CALLS)]
        if number < trial.rounds or not hits[kind]:
            hits[kind] += call_round(trial, number, kind)
    trial.drain()
    for kind in [kind for kind in CALLS if not hits[kind]]:
        trial.troubles.append(f"never killed at {kind}")
    trial.check_pauses(READY_S)


def call_round(trial, number, kind):
    """True if it was killed at such a call."""
    k = 1 + number // len(CALLS)
    loads = crash_loads(trial, number)
    loads.append(trial.load(f"r{number}c", 1000000, 2, 4096, "--rcpt", f"box@{BOX}", "--rate", 40))
    time.sleep(trial.random.uniform(0.05, 0.3))
    relay = trial.service.relay_pid()
    trial.service.ready_file.unlink(missing_ok=True)
    injection = Injection(trial, CALLS[kind], f"signal=KILL:when={k}", threads=("",))
    died = wait_for_death(trial, relay, 20.0)
    began = time.time()
    trial.books.crashed(*((began,) if died else trial.service.kill(relay_only=True)))
    injection.stop()
    back = answered_after(trial, began)
    reports = [trial.finish(load, stop=True) for load in loads]
    on = injection.reached(k) if died else ""
    where = f"on {pathlib.Path(on).relative_to(trial.data)}" if on.startswith(f"{trial.data}/") else f"on {on}"
    say(f"calls {number + 1}/{trial.rounds}: {kind} number {k}: {f'killed {where}' if died else 'no such call, killed by hand'}, "
        f"{sum(r['accepted'] for r in reports)} accepted, {trial.in_flight()} in flight, back in {back:.2f} s")
    # A write to what is no peer is no send.
    return bool(on) and (kind != "send" or on.startswith("socket"))


def wait_for_death(trial, relay, seconds):
    with contextlib.suppress(lab.Trouble):
        lab.wait_until(lambda: lab.is_gone(relay), seconds, "the relay died", every=0.001)
        return True
    return False


def run_power(trial):
    lab.private_mounts()
    trial.mount_image()
    trial.open()
    os.sync()
    if not trial.peer:
        leave_survivors(trial)
    number = refusing = compacting = 0
    while number < trial.rounds:
        trial.start()
        loads = crash_loads(trial, number)
        if trial.peer or trial.random.random() < 0.6:
            stay_under_load(trial)
        else:
            compacting += wait_for_compaction(trial, 1 if compacting else 20)
        trial.books.crashed(*trial.cut_power())
        reports = [trial.finish(load, stop=True) for load in loads]
        remount(trial)
        number += 1
        accepted, refused = (sum(r[key] for r in reports) for key in ("accepted", "refused"))
        say(f"power {number}/{trial.rounds}: {accepted} accepted, {trial.in_flight()} in flight")
        refusing += refused > accepted
        if trial.random.random() < 0.25 and number < trial.rounds:
            cut_recovery(trial)
            number += 1
            say(f"power {number}/{trial.rounds}: cut again while it recovers, {trial.in_flight()} in flight")
    if not trial.peer:
        trial.facts["cut_while_compacting"] = compacting
        check_cuts(trial, number, refusing, compacting)
    trial.start()
    if not trial.peer:
        trial.service.cli("queue", "release", "--domain", HELD)
    trial.drain()


def leave_survivors(trial):
    """Mail on hold, which compaction has to carry along from segment to segment."""
    trial.start()
    trial.service.cli("queue", "hold", "--domain", HELD)
    trial.finish(trial.load("held", 3000, 50, 4096, "--rcpt", f"user%n@{HELD}"))
    trial.service.stop()


def wait_for_compaction(trial, seconds):
    """True as soon as a copy has been made, that is, in the midst of it; False if there is nothing to do for so long."""
    with contextlib.suppress(lab.Trouble):
        lab.wait_until(lambda: trial.service.metrics()["spool_compacted_bytes_total"], seconds, "compaction", every=0.005)
        return True
    return False


def check_cuts(trial, number, refusing, compacting):
    """A cut of a relay that refuses mail, say because its disk is full of what the cuts left, proves nothing."""
    if refusing > number / 10:
        trial.troubles.append(f"{refusing} of {number} cuts hit a relay that refused mail")
    if number >= 20 and not compacting:
        trial.troubles.append("no cut hit a compaction")


def remount(trial):
    lab.wait_until(trial.umount, 60, "the disk can be unmounted", every=0.02)
    lab.wait_until(lambda: not trial.is_attached(), 60, "the disk is let go of", every=0.02)
    trial.mount_image()


def cut_recovery(trial):
    """A second cut a few milliseconds into the start after the first."""
    trial.service.launch()
    time.sleep(trial.random.uniform(0.005, 0.15))
    trial.books.crashed(*trial.cut_power())
    remount(trial)
