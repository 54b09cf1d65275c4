# SPDX-License-Identifier: MIT
"""change - a new program or configuration under load"""
import json
import os
import shutil
import signal
import time

import lab
from faults.trial import check_codes, say

PAUSE_S = 3.0


def gentle_load(trial, number):
    """Sessions that log how they were turned away; a few are slow, in the middle of a message at any time."""
    loads = [trial.load(f"g{number}a", 1000000, 20, 4096), trial.load(f"g{number}b", 1000000, 4, 400000, "--rate", 30)]
    lab.wait_until(trial.books.accepted_at, 60, "mail is taken", every=0.05)
    return loads


def check_gentle(trial, reports):
    """Nobody was refused a connection or left without an answer."""
    check_codes(trial)
    for report in reports:
        if report["connections_failed"] or report["broken"]:
            trial.troubles.append(f"{report['connections_failed']} connections failed, {report['broken']} messages "
                                  f"without an answer: {report['errors']}")


def run_upgrade(trial):
    program = trial.folder / "posthaste"
    shutil.copy(lab.BINARY, program)
    lab.BINARY, built = program, lab.BINARY
    trial.open()
    trial.start()
    trial.watch()
    loads = gentle_load(trial, 0)
    for number in range(trial.rounds):
        time.sleep(trial.random.uniform(0.1, 0.6))
        shutil.copy(built, trial.folder / "next")
        os.rename(trial.folder / "next", program)
        # What it cuts may come twice; it is not a crash, but the books ask the same of it.
        trial.books.crashed(began := time.time())
        took = json.loads(trial.service.cli("upgrade", "--json"))["took_ms"] / 1000
        trial.books.crashed(ended := time.time())
        say(f"upgrade {number + 1}/{trial.rounds}: took {took:.2f} s, a pause of {pause_in(trial, began, ended):.2f} s")
    check_gentle(trial, [trial.finish(load, stop=True) for load in loads])
    trial.drain()
    trial.check_pauses(PAUSE_S)


def pause_in(trial, began, ended):
    """The longest between two 250s to the load while it went on."""
    lab.wait_until(lambda: trial.books.accepted_at()[-1] > ended, 60, "mail is taken after it", every=0.05)
    at = trial.books.accepted_at()
    return max(trial.paused(a, b) for a, b in zip(at, at[1:]) if a < ended and b > began)


def run_reload(trial):
    trial.open(log="info")
    trial.start()
    trial.watch()
    text = trial.service.config_file.read_text()
    loads = gentle_load(trial, 0)
    for number in range(trial.rounds):
        time.sleep(trial.random.uniform(0.1, 0.4))
        trial.service.config_file.write_text(text + f"lanes: [{{match: '*', connections: {5 + number % 7}}}]\n")
        began = time.time()
        trial.service.process.send_signal(signal.SIGHUP)
        lab.wait_until(lambda: trial.service.log_file.read_text().count(" reloaded") > number, 60, "reloaded")
        say(f"reload {number + 1}/{trial.rounds}: a pause of {pause_in(trial, began, time.time()):.2f} s")
    check_gentle(trial, [trial.finish(load, stop=True) for load in loads])
    trial.drain()
    trial.check_pauses(PAUSE_S)
