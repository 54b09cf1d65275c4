# SPDX-License-Identifier: MIT
"""growth - how the cost of one thing grows with how many there are: three sizes of each, nine or more times apart

The cost is that of one (message, recipient, session, octet), so a cost that is linear in all stays the same; `order` is
the power of the size that the whole grows with: 1 is linear.
"""
import contextlib
import math
import time

import machine
from cases import Ours, Plain, fanout, idle_bytes, through
from queue_1m import empty_bytes, fill, wait_queue
from relays import WIDE, Posthaste, posthaste
from report import number, tidy

TABLE = []  # (what grows, what is measured, sizes, function of run and size)


def row(what, unit, *sizes):
    def add(function):
        TABLE.append((what, unit, sizes, function))
        return function
    return add


def relayed_cpu_us(run, count, kind, extra=""):
    with posthaste(run.fresh("growth"), extra=extra) as service:
        return through(service, run.scaled(count), kind)["cpu_us_per_msg"]


@contextlib.contextmanager
def filled(run, messages, domains):
    folder = run.fresh("growth")
    fill(folder, run.scaled(messages), run.scaled(domains), 1)
    with contextlib.closing(Posthaste(folder)) as service:
        yield service


@row("messages in the queue, over 1,000 domains", "us of start a message", 30000, 100000, 300000)
def restart(run, messages):
    with filled(run, messages, 1000) as service:
        return 1e6 * service.start(120) / run.scaled(messages)


@row("messages in the queue, over 1,000 domains", "RSS bytes a message", 30000, 100000, 300000)
def memory(run, messages):
    return queue_bytes(run, messages, 1000, messages)


@row("domains, 300,000 messages over them", "RSS bytes a message", 1000, 30000, 300000)
def memory_of_domains(run, domains):
    return queue_bytes(run, 300000, domains, 300000)


def queue_bytes(run, messages, domains, per):
    empty = empty_bytes(run)
    with filled(run, messages, domains) as service:
        service.start(120)
        wait_queue(service, run.scaled(messages))
        time.sleep(1)
        return (machine.status_bytes(service.relay_pid(), "VmRSS") - empty) / run.scaled(per)


@row("messages in the queue, over 1,000 domains", "us of CPU to relay one more", 1000, 30000, 300000)
def relay_beside(run, messages):
    with filled(run, messages, 1000) as service:
        return through(service, run.scaled(10000), Plain())["cpu_us_per_msg"]


@row("recipients of a message", "us of CPU a recipient", 10, 100, 1000)
def recipients(run, count):
    with posthaste(run.fresh("growth"), hold=True) as service:
        return fanout(service, run.scaled(30000 // count), count)["cpu_us_per_msg"] / count


@row("sessions that send", "us of CPU a message", 10, 100, 1000)
def sessions(run, count):
    return relayed_cpu_us(run, 15000, Plain(sessions=count), WIDE)


@row("idle sessions", "bytes a session", 500, 3000, 10000)
def idle(run, count):
    return idle_bytes(run, run.scaled(count), False)[0]


@row("KB of a message", "us of CPU a KB", 10, 100, 1000)
def size(run, kilobytes):
    return relayed_cpu_us(run, 100000 // (kilobytes + 10), Ours(1000 * kilobytes)) / kilobytes


@row("workers", "us of CPU a message", 1, 2, 4)
def workers(run, count):
    return relayed_cpu_us(run, 15000, Plain(), f"workers: {count}\n")


def order(sizes, costs):
    """The power of the size that the whole cost grows with, from the first size to the last."""
    if min(costs) <= 0:
        return None
    return 1 + math.log(costs[-1] / costs[0]) / math.log(sizes[-1] / sizes[0])


def measure(run):
    rows = []
    for what, unit, sizes, function in TABLE:
        costs = []
        for one in sizes:
            began = time.monotonic()
            costs.append(function(run, one))
            run.say(f"{what} {one:,}: {number(costs[-1])} {unit} in {time.monotonic() - began:.0f} s")
        rows.append({"what": what, "unit": unit, "sizes": list(sizes), "costs": [tidy(cost) for cost in costs],
                     "order": tidy(order(sizes, costs))})
    return {"rows": rows}


def print_table(what):
    for one in what["rows"]:
        costs = ", ".join(f"{size:,}: {number(cost)}" for size, cost in zip(one["sizes"], one["costs"]))
        print(f"{one['what']:<42} {one['unit']:<28} {costs:<44} order {number(one['order'])}")
