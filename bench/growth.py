# SPDX-License-Identifier: MIT
"""growth - how cost grows with how many there are of a thing: three sizes of each, nine or more times apart

`power` is that of the size that the cost grows with: 1 is linear, 0 means that it does not depend on it. Where what is
measured is the cost of one of them (EACH), the power is that of the cost of all.
"""
import contextlib
import math
import os
import time

import machine
from cases import Ours, Plain, fanout, idle_bytes, through
from queue_1m import empty_bytes, fill, wait_queue
from relays import WIDE, Posthaste, posthaste
from report import number, tidy

EACH = {"us to load a message after a restart", "RSS bytes a message", "us of CPU a recipient", "bytes a session",
        "us of CPU a KB"}
TABLE = []  # (what grows, what is measured, sizes, function of run and size: the costs in that order)


def row(what, units, *sizes):
    def add(function):
        TABLE.append((what, [units] if isinstance(units, str) else units, sizes, function))
        return function
    return add


def relayed_cpu_us(run, count, kind, extra=""):
    with posthaste(run.fresh("growth"), extra=extra) as service:
        return through(service, run.scaled(count), kind)["cpu_us_per_msg"]


def rss(service):
    return machine.status_bytes(service.relay_pid(), "VmRSS")


@contextlib.contextmanager
def loaded(run, messages, domains):
    """A service that has read a queue of so many messages: (it, seconds it took, bytes it grew by)."""
    empty, folder = empty_bytes(run), run.fresh("growth")
    fill(folder, messages, domains, 1)
    with contextlib.closing(Posthaste(folder)) as service:
        began = time.monotonic()
        service.start(120)
        wait_queue(service, messages)
        took = time.monotonic() - began
        time.sleep(1)
        yield service, took, rss(service) - empty


@row("messages in the queue, over 1,000 domains",
     ["us to load a message after a restart", "RSS bytes a message", "us of CPU to relay one more"], 100000, 300000, 900000)
def queue_length(run, messages):
    with loaded(run, run.scaled(messages), run.scaled(1000)) as (service, took, grown):
        relayed = through(service, run.scaled(10000), Plain())["cpu_us_per_msg"]
        return 1e6 * took / run.scaled(messages), grown / run.scaled(messages), relayed


@row("domains, 300,000 messages over them", ["RSS bytes for each of the messages", "us of CPU to relay one more"], 3000, 30000, 300000)
def domains(run, count):
    with loaded(run, run.scaled(300000), run.scaled(count)) as (service, _, grown):
        return grown / run.scaled(300000), through(service, run.scaled(10000), Plain())["cpu_us_per_msg"]


@row("recipients of a message", "us of CPU a recipient", 10, 100, 1000)
def recipients(run, count):
    with posthaste(run.fresh("growth"), hold=True) as service:
        return [fanout(service, run.scaled(30000 // count), count)["cpu_us_per_msg"] / count]


@row("sessions that send", "us of CPU a message", 10, 100, 1000)
def sessions(run, count):
    return [relayed_cpu_us(run, 15000, Plain(sessions=count), WIDE)]


@row("idle sessions", "bytes a session", 500, 3000, 10000)
def idle(run, count):
    return [idle_bytes(run, run.scaled(count), False)[0]]


@row("KB of a message", "us of CPU a KB", 10, 100, 1000)
def size(run, kilobytes):
    return [relayed_cpu_us(run, 100000 // (kilobytes + 10), Ours(1000 * kilobytes)) / kilobytes]


@row("workers", "us of CPU a message", 1, 2, 4)
def workers(run, count):
    return [relayed_cpu_us(run, 15000, Plain(), f"workers: {count}\n")]


def power(unit, sizes, costs):
    """From the first size to the last."""
    if min(costs) <= 0:
        return None
    return (unit in EACH) + math.log(costs[-1] / costs[0]) / math.log(sizes[-1] / sizes[0])


def measure(run):
    rows = []
    for what, units, sizes, function in TABLE:
        costs = []
        for one in sizes:
            began = time.monotonic()
            costs.append(function(run, one))
            run.say(f"{what} {one:,}: " + ", ".join(f"{number(cost)} {unit}" for cost, unit in zip(costs[-1], units))
                    + f" in {time.monotonic() - began:.0f} s")
        rows += [{"what": what, "unit": unit, "sizes": list(sizes), "costs": [tidy(cost) for cost in of_unit],
                  "power": tidy(power(unit, sizes, of_unit))} for unit, of_unit in zip(units, zip(*costs))]
    host = f"{os.cpu_count()} cores ({machine.cpu_model()})"
    return {"scale": run.scale, "date": time.strftime("%Y-%m-%d", time.gmtime()), "host": host, "rows": rows}


def print_table(what):
    for one in what["rows"]:
        costs = ", ".join(f"{size:,}: {number(cost)}" for size, cost in zip(one["sizes"], one["costs"]))
        print(f"{one['what']:<42} {one['unit']:<28} {costs:<44} power {number(one['power'])}")
