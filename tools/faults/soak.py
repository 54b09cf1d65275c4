# SPDX-License-Identifier: MIT
"""soak - faults of all kinds, one after the other, under a load that never ends; memory, descriptors, threads flat

In the first half the faults replace the relay, too. The second half is one life of it, so that what grows slowly
shows: much mail first, which fills what is kept in memory up to a limit, then rounds of the same load and the same
faults; what the relay takes when it has nothing to do is read after each. The last quarter of these rounds is held
against the second, as the first belongs to the warming up.
"""
import contextlib
import os
import pathlib
import shutil
import signal
import statistics
import time

import lab
from faults import crowd
from faults.trial import Injection, say

SETTLE_S = 6  # connections to the receiver are closed after 5
ROUNDS_MIN = 8  # of all faults, in the one life
# Dialogues fill their share; 100,000 recipients fill the history's page cache and seal its index once, which is the
# most that it ever takes at a time.
CACHES = "limits: {trace_memory: 1MiB}\n"
WARM_UP = (10000, 10, 1000, "--recipients", 10)
# What is freed is given back at once (mimalloc 2.0, and 2.1): else the allocator's own stock, of up to 60 %, would be seen.
ALLOCATOR = {"MIMALLOC_PAGE_RESET": "1", "MIMALLOC_RESET_DELAY": "0", "MIMALLOC_DECOMMIT_DELAY": "0", "MIMALLOC_PURGE_DELAY": "0"}
# The means of two quarters: single readings of a relay with nothing to do differ by 2 %, and by a descriptor.
MEMORY_MORE, DESCRIPTORS_MORE = 0.05, 1


def kill(trial):
    trial.books.crashed(*trial.service.kill())
    trial.start()


def reload(trial):
    for _ in range(5):
        trial.service.process.send_signal(signal.SIGHUP)
        time.sleep(0.2)


def upgrade(trial):
    trial.books.crashed(time.time())
    trial.service.cli("upgrade")
    trial.books.crashed(time.time())


def receiver_away(trial):
    trial.books.crashed(time.time())  # what it took and did not answer comes again, as after a crash
    trial.sink.stop()
    trial.books.crashed(time.time())
    time.sleep(2)
    trial.sink.start()


def slow_clients(trial):
    guests = crowd.Crowd(trial.service.port(), 300)
    time.sleep(2)
    guests.leave()


def failing_disk(trial):
    if os.geteuid() != 0 or not shutil.which("strace"):
        return
    call, error = trial.random.choice([("fdatasync", "EIO"), ("pwritev", "ENOSPC")])
    first = trial.random.randint(1, 20)
    injection = Injection(trial, call, f"error={error}:when={first}..{first + 4}")
    time.sleep(1)
    injection.stop()


REPLACING = [kill, upgrade]
STAYING = [reload, receiver_away, slow_clients, failing_disk]
FAULTS = [*REPLACING, *STAYING]


# ---- what the relay takes --------------------------------------------------------------------------------

def count_descriptors(pid):
    """But the journal's files, whose number has a bound of its own (docs/SPOOL.md), reached after a gigabyte of mail."""
    count = 0
    for one in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            count += "/spool/segments/" not in os.readlink(one)
    return count


COLUMNS = {"memory": lab.anonymous, "descriptors": count_descriptors,
           "threads": lambda pid: lab.status(pid, "Threads")}


class Table:
    """What the relay takes, read whenever it has nothing to do."""

    def __init__(self):
        self.rows = []

    def read(self, trial, what):
        pid = trial.service.relay_pid()
        self.rows.append((time.monotonic(), what, pid, {name: ask(pid) for name, ask in COLUMNS.items()}))
        return self.rows[-1]

    def show(self):
        say("minute  after              relay      KiB  descriptors  threads")
        for at, what, pid, taken in self.rows:
            say(f"{(at - self.rows[0][0]) / 60:6.1f}  {what:<17} {pid:>6} {taken['memory'] >> 10:8} "
                f"{taken['descriptors']:>12} {taken['threads']:>8}")


def under_load(trial, name, faults, sessions, seconds):
    """One fault after the other, before and after each some seconds of load; then until there is nothing to do."""
    loads = [trial.load(f"{name}a", 1000000, sessions, 4096, "--rate", 500),
             trial.load(f"{name}b", 1000000, 2, 400000, "--rate", 5)]
    time.sleep(seconds())
    for fault in faults:
        fault(trial)
        time.sleep(seconds())
    for load in loads:
        trial.finish(load, stop=True)
    trial.drain()
    time.sleep(SETTLE_S)


def mixed(trial, table, end):
    number = 0
    while number < len(FAULTS) or time.monotonic() < end:
        fault = trial.random.choice(FAULTS) if number >= len(FAULTS) else FAULTS[number]
        under_load(trial, f"s{number}", [fault], trial.random.randint(2, 20), lambda: trial.random.uniform(0.5, 3))
        table.read(trial, fault.__name__)
        number += 1
    return number


def one_life(trial, table, end):
    """Rounds of all faults that leave the relay alone; the readings after each."""
    trial.finish(trial.load("warm", *WARM_UP))
    trial.drain()
    rounds = []
    while len(rounds) < ROUNDS_MIN or time.monotonic() < end:
        faults = trial.random.sample(STAYING, len(STAYING))
        under_load(trial, f"r{len(rounds)}", faults, 10, lambda: 1.5)
        rounds.append(table.read(trial, "all that leave it"))
    return rounds


def run_soak(trial):
    """MINUTES of faults (default 20)."""
    minutes = trial.minutes or 20
    os.environ.update(ALLOCATOR)
    trial.open()
    crowd.offer_tls(trial)
    with open(trial.service.config_file, "a") as config:
        config.write(CACHES)
    trial.start()
    table, began = Table(), time.monotonic()
    number = mixed(trial, table, began + 30 * minutes)
    rounds = one_life(trial, table, began + 60 * minutes)
    table.show()
    trial.rounds = number + len(STAYING) * len(rounds)
    trial.facts["minutes"] = minutes
    check_flat(trial, rounds)


def check_flat(trial, rounds):
    quarter = len(rounds) // 4
    second, last = rounds[quarter:2 * quarter], rounds[-quarter:]
    if len({pid for _, _, pid, _ in rounds}) > 1:
        trial.troubles.append("the relay has ended by itself")
    for name in COLUMNS:
        before, after = (statistics.mean(taken[name] for _, _, _, taken in rows) for rows in (second, last))
        trial.facts[f"{name}_growth"] = round(after / before, 3)
        limit = before * (1 + MEMORY_MORE) if name == "memory" else before + DESCRIPTORS_MORE * (name == "descriptors")
        if after > limit:
            trial.troubles.append(f"{name} grew from {before:.1f} to {after:.1f}, in one life of the relay")
