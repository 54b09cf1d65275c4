# SPDX-License-Identifier: MIT
"""soak - faults of all kinds, one after the other, under a load that never ends; memory, descriptors, threads flat"""
import os
import shutil
import signal
import time

import lab
from faults import crowd
from faults.trial import Injection, say

GROWTH_MAX = 1.5  # of what is taken, second half of the samples to the first
SETTLE_S = 3


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


FAULTS = [kill, reload, upgrade, receiver_away, slow_clients, failing_disk]


class Table:
    """What the relay takes, sampled whenever the queue is empty; one row for each life of a relay process."""

    def __init__(self):
        self.rows = []

    def sample(self, trial, what):
        pid = trial.service.relay_pid()
        self.rows.append((time.monotonic(), what, pid, lab.rss(pid), lab.descriptors(pid), lab.status(pid, "Threads")))

    def show(self):
        say("minute  after          relay  MiB  descriptors  threads")
        for at, what, pid, rss, fds, threads in self.rows:
            say(f"{(at - self.rows[0][0]) / 60:6.1f}  {what:<13} {pid:>6} {rss / (1 << 20):4.0f} {fds:>12} {threads:>8}")

    def growth(self, column):
        """The most of the second half to the most of the first: a fresh process has yet to fill its caches."""
        half = max(1, len(self.rows) // 2)
        return max(row[column] for row in self.rows[half:]) / max(row[column] for row in self.rows[:half])


def run_soak(trial):
    """MINUTES of faults (default 20)."""
    minutes = trial.minutes or 20
    trial.open()
    crowd.offer_tls(trial)
    trial.start()
    table, number, end = Table(), 0, time.monotonic() + 60 * minutes
    while time.monotonic() < end:
        fault = trial.random.choice(FAULTS) if number >= len(FAULTS) else FAULTS[number]
        loads = [trial.load(f"s{number}a", 1000000, trial.random.randint(2, 20), 4096, "--rate", 500),
                 trial.load(f"s{number}b", 1000000, 2, 400000, "--rate", 5)]
        time.sleep(trial.random.uniform(0.5, 3))
        fault(trial)
        time.sleep(trial.random.uniform(0.5, 3))
        for load in loads:
            trial.finish(load, stop=True)
        trial.drain()
        time.sleep(SETTLE_S)
        table.sample(trial, fault.__name__)
        number += 1
    table.show()
    trial.rounds = number
    trial.facts["minutes"] = minutes
    for name, column in (("memory", 3), ("descriptors", 4), ("threads", 5)):
        growth = table.growth(column)
        trial.facts[f"{name}_growth"] = round(growth, 2)
        if growth > GROWTH_MAX:
            trial.troubles.append(f"{name} grew to {growth:.2f} times what it was")
