# SPDX-License-Identifier: MIT
"""scarce - descriptors, memory and threads run out, by limits put on the running relay and lifted again"""
import contextlib
import json
import os
import pathlib
import resource
import signal
import time

import lab
from faults.crowd import connect
from faults.trial import say

CGROUPS = pathlib.Path("/sys/fs/cgroup")
HOLD_S, CPU_MAX = 2.0, 0.9
BACK_S = 1.0  # from the moment the shortage ends
ROOM = 1 << 40  # bytes: no limit
LIMIT_MIN = 64 << 20  # bytes: of limits.memory


class Cgroup:
    """A group with one limit, of version 1 or 2; the relay is moved into it."""
    FILES = {"memory": ("memory.limit_in_bytes", "memory.max"), "pids": ("pids.max", "pids.max")}

    def __init__(self, controller, name):
        one = CGROUPS / controller
        self.folder = (one if one.is_dir() else CGROUPS) / name
        self.limit = self.FILES[controller][0 if one.is_dir() else 1]

    def __enter__(self):
        self.folder.mkdir()
        if not (self.folder / self.limit).exists():
            self.folder.rmdir()
            raise lab.Trouble(f"no {self.limit} here")
        return self

    def take(self, *pids):
        for pid in pids:
            (self.folder / "cgroup.procs").write_text(str(pid))

    def set(self, value):
        (self.folder / self.limit).write_text(str(value))

    def __exit__(self, *_):
        parent = self.folder.parent / "cgroup.procs"
        for pid in (self.folder / "cgroup.procs").read_text().split():
            with contextlib.suppress(OSError):
                parent.write_text(pid)
        lab.wait_until(self.remove, 10, "the group removed", every=0.1)

    def remove(self):
        with contextlib.suppress(OSError):
            self.folder.rmdir()
            return True
        return False


def hold(trial, what, pid):
    """While it is short: no spin. The share of a core it took."""
    cpu, began = lab.cpu_seconds(pid), time.monotonic()
    time.sleep(HOLD_S)
    share = (lab.cpu_seconds(pid) - cpu) / (time.monotonic() - began)
    if share > CPU_MAX:
        trial.troubles.append(f"{what}: it takes {100 * share:.0f} % of a core")
    return share


def check_greeted(trial, waiting, since):
    """Who came while it was short is greeted."""
    greeted = 0
    for conn in waiting:
        conn.settimeout(max(since + BACK_S + trial.late(BACK_S) - time.monotonic(), 0.001))
        with contextlib.suppress(OSError):
            greeted += conn.recv(4096).startswith(b"220")
        conn.close()
    if greeted < len(waiting):
        trial.troubles.append(f"descriptors: {greeted} of {len(waiting)} who waited are greeted within {BACK_S} s")


def back_since(trial, over):
    """Seconds from the end of the shortage until a client is served, less what the relay waited for a processor."""
    return trial.answered(time.time() - (time.monotonic() - over))


def no_descriptors(trial, number):
    """None left: who has a connection is served or told 4xx; who comes waits, and is served as soon as it is over."""
    relay = trial.service.relay_pid()
    load = trial.load(f"d{number}", 1000000, 10, 4000)
    time.sleep(0.5)
    soft, hard = resource.prlimit(relay, resource.RLIMIT_NOFILE)
    resource.prlimit(relay, resource.RLIMIT_NOFILE, (lab.descriptors(relay) + trial.random.randrange(8), hard))
    waiting = [connect(trial.service.port(), 0) for _ in range(60)]
    report = trial.finish(load, stop=True)
    share = hold(trial, "descriptors", relay)
    resource.prlimit(relay, resource.RLIMIT_NOFILE, (soft, hard))
    over = time.monotonic()
    back = back_since(trial, over)
    check_greeted(trial, waiting, over)
    say(f"scarce {number + 1}: descriptors: {report['replies']}; {100 * share:.0f} % of a core; back in {back:.2f} s")
    return back


def no_memory(trial, number):
    """The kernel kills the relay (memory is promised before it is there); the guard starts another."""
    relay = trial.service.relay_pid()
    with Cgroup("memory", f"posthaste-fault-{os.getpid()}") as group:
        group.take(relay)
        trial.service.ready_file.unlink()
        trial.sink.stop()  # so that mail stays, and a kill that comes late repeats nothing
        group.set(lab.rss(relay) + (8 << 20))
        load = trial.load(f"m{number}", 1000000, 50, 200000)
        began = time.monotonic()
        while lab.children(trial.service.process.pid)[:1] == [relay] and time.monotonic() < began + 15:
            time.sleep(0.005)
        # The next relay is not in the group: for it the shortage is over when the one in it is dead.
        over, died = time.monotonic(), time.time()
        killed = lab.children(trial.service.process.pid)[:1] != [relay]
        if killed:
            back = back_since(trial, over)
        report = trial.finish(load, stop=True)
        group.set(ROOM)
        if killed:
            trial.books.crashed(died)
            trial.service.wait_ready(over)
        else:
            back = back_since(trial, time.monotonic())
            trial.service.ready_file.write_text(json.dumps(trial.service.ready))
        trial.sink.start()
    say(f"scarce {number + 1}: memory: {'killed, started again' if killed else 'went on'}; {report['replies']}; "
        f"back in {back:.2f} s")
    return back


def little_memory(trial, number):
    """Its own limit is reached: new mail is refused with 452, the kernel has nobody to kill, and what was taken goes out."""
    relay, text = trial.service.relay_pid(), trial.service.config_file.read_text()
    limit = max(LIMIT_MIN, lab.anonymous(relay) + (16 << 20))
    trial.sink.stop()  # so that mail stays
    reload(trial, text + f"limits: {{memory: {limit}}}\n")
    load = trial.load(f"l{number}", 1000000, 50, 200000)
    lab.wait_until(lambda: refused_by_memory(trial), 30, "memory is short", every=0.01)
    time.sleep(0.5)
    report = trial.finish(load, stop=True)
    share = hold(trial, "little memory", relay)
    if not report["replies"].get("452"):
        trial.troubles.append(f"little memory: nothing was refused: {report['replies']}")
    reload(trial, text)
    over = time.monotonic()
    back = back_since(trial, over)
    trial.sink.start()
    if lab.children(trial.service.process.pid)[:1] != [relay]:
        trial.troubles.append("little memory: the relay was killed")
    say(f"scarce {number + 1}: little memory ({limit >> 20} MiB): {report['replies']}; {100 * share:.0f} % of a core; "
        f"back in {back:.2f} s")
    return back


def no_threads(trial, number):
    """No process can be made: a relay that dies is not replaced until there is room, and the guard does not spin."""
    guard, relay = trial.service.process.pid, trial.service.relay_pid()
    with Cgroup("pids", f"posthaste-fault-{os.getpid()}") as group:
        group.take(guard, relay)
        load = trial.load(f"t{number}", 1000000, 10, 4000)
        group.set(lab.status(relay, "Threads") + lab.status(guard, "Threads"))
        time.sleep(0.5)
        group.set(1)
        trial.service.ready_file.unlink()
        trial.books.crashed(*trial.service.kill(relay_only=True))
        report = trial.finish(load, stop=True)
        share = hold(trial, "threads", guard)
        group.set("max")
        over = time.monotonic()
        back = back_since(trial, over)
        trial.service.wait_ready(over)
    say(f"scarce {number + 1}: threads: {report['replies']}; guard {100 * share:.0f} % of a core; back in {back:.2f} s")
    return back


def reload(trial, text):
    log, count = trial.service.log_file, trial.service.log_file.read_text().count(" reloaded")
    trial.service.config_file.write_text(text)
    trial.service.process.send_signal(signal.SIGHUP)
    lab.wait_until(lambda: log.read_text().count(" reloaded") > count, 60, "reloaded")


def refused_by_memory(trial):
    log = trial.service.log_file.read_text()
    return log.count(" memory is short") > log.count(" memory is there again")


def check_cgroup(trial, controller):
    """Whether there is one to run out of; else that is told as skipped."""
    try:
        with Cgroup(controller, f"posthaste-fault-{os.getpid()}"):
            return True
    except (OSError, lab.Trouble) as trouble:
        trial.skipped[controller] = f"no cgroup: {trouble}"
        return False


def run_scarce(trial):
    trial.open(log="info")
    trial.watch()
    trial.start()
    shortages = {"descriptors": no_descriptors, "little memory": little_memory}
    for controller, run in (("memory", no_memory), ("pids", no_threads)):
        if check_cgroup(trial, controller):
            shortages[controller] = run
    back = {name: [] for name in shortages}
    for number in range(trial.rounds):
        for name, run in shortages.items():
            back[name].append(run(trial, number))
    trial.facts["back_s_max"] = {name: round(max(times), 2) for name, times in back.items()}
    trial.check_pauses(BACK_S)
    for code in sorted(set(trial.codes) - {"250", "451", "452", "421"}):
        trial.troubles.append(f"{trial.codes[code]} replies {code}")
    trial.drain()
    ends = [line for line in trial.service.log_file.read_text().splitlines() if " the relay process ended" in line]
    if len(ends) != len(trial.books.crashes):
        trial.troubles.append(f"the relay ended {len(ends)} times, not {len(trial.books.crashes)}: {ends}")
