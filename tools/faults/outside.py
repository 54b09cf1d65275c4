# SPDX-License-Identifier: MIT
"""outside - a resolver that dies for a while, a clock that jumps"""
import re
import socket
import subprocess
import threading
import time

import dns.message
import dns.rdatatype
import dns.rrset
import lab
from faults.trial import say

class Resolver:
    """Every name has one MX, whose address is 127.0.0.1; or it says nothing, or is not there."""

    def __init__(self):
        self.socket, self.port, self.silent, self.asked = None, 0, False, 0
        self.open()

    def open(self):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", self.port))
        self.port = self.socket.getsockname()[1]
        self.thread = threading.Thread(target=self.run, args=(self.socket,), daemon=True)
        self.thread.start()

    def close(self):
        self.socket.close()
        self.thread.join()

    def run(self, conn):
        conn.settimeout(0.5)
        while conn.fileno() != -1:
            try:
                query, whom = conn.recvfrom(4096)
            except TimeoutError:
                continue
            except OSError:
                return
            self.asked += 1
            if self.silent:
                continue
            answer = dns.message.make_response(dns.message.from_wire(query), recursion_available=True)
            question = answer.question[0]
            kind = dns.rdatatype.to_text(question.rdtype)
            data = {"MX": f"10 mail.{question.name}", "A": "127.0.0.1"}.get(kind)
            if data:
                answer.answer.append(dns.rrset.from_text(question.name, 1, "IN", kind, data))
            conn.sendto(answer.to_wire(), whom)


FIRST_S = 12  # to the first delivery after the resolver's return


def send(trial, name, seconds):
    return trial.load(name, int(50 * seconds), 4, 2000, "--rate", 50, "--rcpt", f"user%m@{name}d%m.example")


def run_dns(trial):
    """ROUNDS: seconds that it is dead, half of them silent and half refusing; retries are after a second."""
    resolver = Resolver()
    trial.open()
    text = trial.service.config_file.read_text()
    text = re.sub(r'via: "[^"]*"', f'via: "mx:{trial.sink.port}"', text)
    trial.service.config_file.write_text(text + f"dns: {{loopback: yes, servers: [\"127.0.0.1@{resolver.port}\"]}}\n")
    trial.start()
    trial.finish(send(trial, "a", 2))
    trial.drain()
    resolver.silent = True
    loads = [send(trial, "b", trial.rounds / 2)]
    time.sleep(trial.rounds / 2)
    asked = resolver.asked
    resolver.close()
    loads.append(send(trial, "c", trial.rounds / 2))
    time.sleep(trial.rounds / 2)
    reports = [trial.finish(load) for load in loads]
    queued = trial.service.metrics()["queue_messages"]
    resolver.open()
    resolver.silent = False
    began = time.monotonic()
    while trial.service.queued() >= queued and time.monotonic() - began < 60:
        time.sleep(0.2)
    first = time.monotonic() - began
    trial.drain()
    back = time.monotonic() - began
    metrics = trial.service.metrics()
    failed = sum(metrics.get(f'recipients_total{{outcome="{what}"}}', 0) for what in ("failed", "expired"))
    say(f"dns: dead for {trial.rounds} s: {sum(r['accepted'] for r in reports)} accepted meanwhile, {queued:.0f} queued, "
        f"{asked} questions without an answer; the first delivered {first:.1f} s, all {back:.1f} s after it came back")
    trial.facts.update(queued=int(queued), first_s=round(first, 1), back_s=round(back, 1))
    if first > FIRST_S + trial.late(60):
        trial.troubles.append(f"the first delivery was {first:.1f} s after the resolver's return, {FIRST_S} s is the limit")
    if failed:
        trial.troubles.append(f"{failed:.0f} recipients failed because of DNS")
    if not queued:
        trial.troubles.append("nothing was queued: DNS was not dead")
    if any(r["refused"] for r in reports):
        trial.troubles.append(f"mail was refused because of DNS: {[r['replies'] for r in reports]}")


def run_clock(trial):
    """ROUNDS: seeds of each scenario. The machine's own clock is everybody's, so it is the simulator's that jumps."""
    passed = 0
    for path in sorted((lab.TOP / "test" / "scenario").glob("wall_clock*.scn")):
        for seed in range(trial.seed % 1000000, trial.seed % 1000000 + trial.rounds):
            done = subprocess.run([lab.TOP / "build" / "sim", "--seed0", str(seed + 1), path], capture_output=True, text=True)
            passed += done.returncode == 0
            if done.returncode:
                trial.troubles.append(f"{path.name} with seed {seed + 1}: {done.stdout[-500:]}")
    say(f"clock: {passed} runs of the simulator with jumps of days, restarts among them")
    trial.facts["runs"] = passed
    if not passed:
        trial.troubles.append("no scenario was run")
