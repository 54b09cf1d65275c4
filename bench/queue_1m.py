# SPDX-License-Identifier: MIT
"""queue_1m - a million deferred messages: memory, restart, new mail beside them

fill-spool writes the spools, once a run, as a kill -9 leaves them: DEEP (over 10,000 domains), WIDE (a domain each)
and PAIRS (two recipients a message, over 10,000 domains). Each round starts the service on copies.
"""
import contextlib
import shutil
import statistics
import subprocess
import time

import lab

import machine
from cases import Plain, through
from machine import TOP
from relays import Posthaste, posthaste
from tools import our_sink

FILL = TOP / "build" / "fill-spool"
MESSAGES, DEEP_DOMAINS, DUE = 1000000, 10000, 20
NEXT_IN_S = 3600  # none but the due ones is tried while we look; less than the longest pause, retry.max
# name: messages, domains, recipients a message
SHAPES = {"deep": (MESSAGES, DEEP_DOMAINS, 1), "wide": (MESSAGES, MESSAGES, 1), "pairs": (MESSAGES // 2, DEEP_DOMAINS, 2)}


def fill(folder, messages, domains, recipients, due=0):
    """A spool and state to copy; also kept for later rounds of this run."""
    service = Posthaste(folder)
    service.add_account()
    run = subprocess.run([FILL, "--spool", folder / "spool", "--state", folder / "state", "--messages", str(messages),
                          "--domains", str(domains), "--recipients-per-message", str(recipients), "--next-in",
                          str(NEXT_IN_S), "--due", str(due), "--size", "512", "--crash"], capture_output=True, text=True)
    if run.returncode:
        raise lab.Trouble(f"fill-spool: {run.stdout}{run.stderr}")


def source(run, shape):
    folder = run.lasting(f"queue-{shape}")
    if not (folder / "full").exists():
        messages, domains, recipients = SHAPES[shape]
        run.say(f"filling a spool: {run.scaled(messages)} messages over {run.scaled(domains)} domains")
        fill(folder, run.scaled(messages), run.scaled(domains), recipients, DUE)
        (folder / "full").touch()
    return folder


@contextlib.contextmanager
def copy_of(run, shape):
    """A stopped service on a copy of the spool."""
    folder, origin = run.fresh("queue"), source(run, shape)
    for part in ("spool", "state"):
        subprocess.run(["cp", "-a", "--reflink=auto", origin / part, folder / part], check=True)
    subprocess.run(["sync", "-f", folder], check=True)  # the copy's pages are not the restart's to write
    service = Posthaste(folder)
    try:
        yield service
    finally:
        service.close()
        shutil.rmtree(folder, ignore_errors=True)


def wait_queue(service, recipients):
    lab.wait_until(lambda: service.metrics()["queue_recipients{state=\"queued\"}"] + service.metrics().get(
        "queue_recipients{state=\"scheduled\"}", 0) >= recipients - DUE, 120, "the queue is rebuilt", every=0.02)


# ---- memory ----------------------------------------------------------------------------------------

def empty_bytes(run):
    with contextlib.closing(Posthaste(run.fresh("queue-empty"))) as service:
        service.add_account()
        service.start()
        time.sleep(1)
        return machine.status_bytes(service.relay_pid(), "VmRSS")


def grown_bytes(run, shape, empty):
    messages, _, recipients = SHAPES[shape]
    with copy_of(run, shape) as service:
        service.start()
        wait_queue(service, run.scaled(messages) * recipients)
        time.sleep(1)
        pid, metrics = service.relay_pid(), service.metrics()
        counted = {kind: metrics[f'queue_bytes{{kind="{kind}"}}'] for kind in ("message", "recipient", "domain")}
        return machine.status_bytes(pid, "VmRSS") - empty, counted, machine.status_bytes(pid, "VmHWM")


def queue_1m_memory(run):
    """What the service counts for each, at its worst, and how the sum compares with what the process grew."""
    empty = empty_bytes(run)
    grown = {shape: grown_bytes(run, shape, empty) for shape in SHAPES}
    each = {"message": [], "recipient": [], "domain": []}
    for shape, (messages, domains, recipients) in SHAPES.items():
        n = run.scaled(messages)
        for kind, number in (("message", n), ("recipient", n * recipients), ("domain", run.scaled(domains))):
            each[kind].append(grown[shape][1][kind] / number)
    shares = [sum(counted.values()) / rss for rss, counted, _ in grown.values() if rss > 0]
    return {"posthaste": grown["wide"][0] / run.scaled(MESSAGES), "deep": grown["deep"][0] / run.scaled(MESSAGES),
            **{kind: max(values) for kind, values in each.items()},
            "counted_of_grown": max(shares), "counted_of_grown_min": min(shares),
            "rss_peak_bytes": max(peak for _, _, peak in grown.values())}


# ---- restart ---------------------------------------------------------------------------------------

def restart(run, shape):
    """ms until it listens, ms until the first delivery; then the same after a kill -9 of the service itself."""
    with copy_of(run, shape) as service, our_sink(service.folder, count=1) as receiver:
        began = time.monotonic()
        listening = 1000 * service.start(120)
        if machine.wait_looking(receiver.process, 120) is None:
            raise lab.Trouble("no delivery after the restart")
        first = 1000 * (time.monotonic() - began)
        wait_queue(service, run.scaled(SHAPES[shape][0]))
        service.kill()
        return {"listening": listening, "first": first, "again": 1000 * service.start(120),
                "rss_peak_bytes": machine.status_bytes(service.relay_pid(), "VmHWM")}


def queue_1m_restart(run):
    got = {shape: restart(run, shape) for shape in ("deep", "wide")}
    return {"posthaste": max(max(one["listening"], one["again"]) for one in got.values()),
            "first": max(one["first"] for one in got.values()),
            **{f"{shape}_{key}": one[key] for shape, one in got.items() for key in ("listening", "first", "again")},
            "rss_peak_bytes": max(one["rss_peak_bytes"] for one in got.values())}


# ---- new mail beside them --------------------------------------------------------------------------

def accept(run, shape):
    with copy_of(run, shape) as service:
        return through(service, run.scaled(20000), Plain(), due=DUE)


def beside_nothing(run):
    with posthaste(run.fresh("queue_1m_none")) as service:
        return through(service, run.scaled(20000), Plain())["posthaste"]


def queue_1m_accept(run):
    """Each between two measurements with nothing else in the queue, as hosts change their speed; the worse of both."""
    none, shapes = [beside_nothing(run)], {}
    for shape in ("deep", "wide"):
        one = accept(run, shape)
        none.append(beside_nothing(run))
        shapes[shape] = {**one, "relay_4k": statistics.mean(none[-2:])}
    worse = min(shapes.values(), key=lambda one: one["posthaste"] / one["relay_4k"])
    return {**worse, **{shape: one["posthaste"] for shape, one in shapes.items()}}
