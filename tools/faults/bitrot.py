# SPDX-License-Identifier: MIT
"""bitrot - bits flip and files lose their ends while the service is down; what is not hit is delivered

A queue of messages is prepared once, and its spool and state copied. Each round damages such a copy in a few places
and starts the service on it, with a receiver of its own. What the damage hits is known from the format in
docs/SPOOL.md: no more messages may be missing than records of messages are hit, none may come twice whose outcome
is not. A damaged record is told in the log, and nothing ever crashes. A damaged database costs no mail: the service
delivers, or it refuses to start and says why, and delivers once it has that file of a backup.
"""
import contextlib
import json
import re
import shutil
import sqlite3
import subprocess
import time

import lab
from faults import journal
from faults.journal import BLOCK, HEAD, MESSAGE, OUTCOME
from faults.trial import say
from lab import Trouble

FLIPS_A_ROUND = 10
DRAIN_S, TELL_S = 60, 10
SUPPRESSED = 2000
MAGIC_BYTES = 16  # at the beginning of a database: it is none if they are hit
CRASH = re.compile(r"CHECK|Sanitizer|runtime error|the relay process ended|Segmentation|AddressSan")


class Segment:
    """Where the records of a segment file are."""

    def __init__(self, path):
        self.path, self.records = path, list(journal.records(path.read_bytes()))
        self.end = max([end for _, end, _ in self.records], default=0)

    def hit(self, first, last):
        """Kinds of the records that [first, last) touches."""
        return [kind for at, end, kind in self.records if at < last and end > first]


class Copy:
    """A copy of the prepared folder, to be damaged and served."""

    def __init__(self, trial, number):
        self.trial, self.number = trial, number
        self.folder = trial.data / "rounds" / str(number)
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        for source in (trial.data / "spool", trial.data / "state"):
            subprocess.run(["cp", "-a", "--sparse=always", source, self.folder / source.name], check=True)
        self.sink = lab.Sink(self.folder).start()
        self.service = lab.Service(self.folder, self.sink.port, extra="log: {level: warn}\n")
        self.told = []

    def segments(self):
        return [s for s in map(Segment, sorted((self.folder / "spool" / "segments").iterdir())) if s.records]

    def flip(self, path, at):
        with open(path, "r+b") as file:
            file.seek(at)
            byte = file.read(1)[0]
            file.seek(at)
            file.write(bytes([byte ^ 1 << self.trial.random.randrange(8)]))
        self.told.append(f"{path.relative_to(self.folder)}:{at}")

    def cut(self, path, at):
        with open(path, "r+b") as file:
            file.truncate(at)
        self.told.append(f"{path.relative_to(self.folder)} cut at {at}")

    def close(self):
        self.service.close()
        self.sink.stop()

    def log(self):
        return self.service.log_file.read_text(errors="replace") if self.service.log_file.exists() else ""

    def deliveries(self):
        """Without notifications that a damaged message could not be sent."""
        return [(line["id"], line["recipient"]) for line in lab.json_lines(self.sink.log_file) if line["sender"]]

    def trouble(self, text):
        self.trial.troubles.append(f"round {self.number} ({', '.join(self.told)}): {text}\n{self.log()[-2000:]}")

    def serve(self):
        """Until the queue is empty; False if the service did not start."""
        try:
            self.trial.ready.append(self.service.start())
            lab.wait_until(lambda: self.service.metrics().get("queue_messages") == 0, DRAIN_S, "drained", every=0.05)
            self.metrics = self.service.metrics()
            code = self.service.stop()
            if code:
                self.trouble(f"it ended with {code}")
            return True
        except Trouble as trouble:
            self.trouble(str(trouble))
            return False
        finally:
            self.check_no_crash()

    def check_no_crash(self):
        if CRASH.search(self.log()):
            self.trouble("it crashed")


# ---- the journal -----------------------------------------------------------------------------------

def damage_journal(copy, flips):
    """(messages hit, outcomes hit): upper bounds of what may be missing, and of what may come twice."""
    random, messages, outcomes = copy.trial.random, 0, 0
    segments, extents = copy.segments(), sorted((copy.folder / "spool" / "extents").iterdir())
    cut = random.random() < 0.3
    for number in range(flips):
        if extents and random.random() < 0.2:
            path = extents.pop(random.randrange(len(extents)))
            at = random.randrange(path.stat().st_size)
            copy.cut(path, at) if cut and number == 0 else copy.flip(path, at)
            messages += 1
            continue
        segment = random.choice(segments)
        # One header of two may be hit: block 0.
        at = random.choice([random.randrange(BLOCK), *[random.randrange(2 * BLOCK, segment.end) for _ in range(9)]])
        if random.random() < 0.5:
            at = random.choice(segment.records)[0] + random.randrange(HEAD)  # the heads are few bytes of many
        if cut and number == 0:
            at = random.randrange(2 * BLOCK, segment.end)
            hit = segment.hit(at, 1 << 40)
            copy.cut(segment.path, at)
        else:
            hit = segment.hit(at, at + 1)
            if at < segment.path.stat().st_size:
                copy.flip(segment.path, at)
        messages += hit.count(MESSAGE)
        outcomes += hit.count(OUTCOME)
    return messages, outcomes


def journal_round(trial, number, flips):
    copy = Copy(trial, number)
    with contextlib.closing(copy):
        messages, outcomes = damage_journal(copy, flips)
        copy.serve()
        arrived = copy.deliveries()
        missing = {i for i, _ in trial.queued - set(arrived)}
        again = [one for one in arrived if one in trial.settled]
        double = len(arrived) - len(set(arrived))
        reports = len(re.findall("damaged|is missing|cut short", copy.log()))
        if len(missing) > messages:
            trial.lost += len(missing) - messages
            copy.trouble(f"{len(missing)} messages are missing, {messages} were hit: {sorted(missing)[:10]}")
        if len(missing) > 0 and not reports:
            copy.trouble(f"{len(missing)} messages are missing, and the log does not say why")
        if len(again) > outcomes or double:
            copy.trouble(f"{len(again)} settled ones came again, {outcomes} outcomes were hit; {double} came twice")
        if ghosts := set(arrived) - trial.queued - trial.settled:
            copy.trouble(f"GHOST {sorted(ghosts)[:10]}")
        say(f"bitrot {number + 1}: {flips} in journal and extents: {messages} messages and {outcomes} outcomes hit, "
            f"{len(missing)} missing, {len(again)} again, {reports} reports")
        trial.facts["flips"] += flips
        trial.facts["missing"] += len(missing)
    shutil.rmtree(copy.folder)


# ---- the databases ---------------------------------------------------------------------------------

DATABASES = {"history": lambda state: max((state / "events").glob("*.db")),
             "accounts": lambda state: state / "accounts.db",
             "suppressions": lambda state: state / "suppressions.db"}
# What the log says of one that can't serve.
TOLD = {"accounts.db": re.compile("accounts.db"), "suppressions.db": re.compile("suppressions.db|suppression list")}


def flip_pages(copy, path, count):
    size = path.stat().st_size
    for _ in range(count):
        # Half of them in what SQLite must understand: the file's header and the heads of its pages.
        at = copy.trial.random.randrange(size)
        copy.flip(path, at if copy.trial.random.random() < 0.5 else min(size - 1, at // BLOCK * BLOCK + at % 100))


def damage_database(copy, path, surely):
    random, size = copy.trial.random, path.stat().st_size
    if surely:
        copy.flip(path, random.randrange(MAGIC_BYTES))
        flip_pages(copy, path, 2)
    elif random.random() < 0.2 and size > BLOCK:
        copy.cut(path, random.randrange(1, size))
    else:
        flip_pages(copy, path, 3)
    return len(copy.told)


def database_round(trial, number, which, surely):
    """`surely`: what is hit can't be overlooked."""
    copy = Copy(trial, number)
    with contextlib.closing(copy):
        path = DATABASES[which](copy.folder / "state")
        trial.facts["flips"] += damage_database(copy, path, surely)
        served = serve_history(copy) if which == "history" else serve_state(copy, path)
        if surely and served == "serves":
            copy.trouble(f"{which}: it is no database, and nothing is said")
        if missing := trial.queued - set(copy.deliveries()):
            trial.lost += len(missing)
            copy.trouble(f"LOST {len(missing)}: {sorted(missing)[:10]}")
        say(f"bitrot {number + 1}: {which}: {served}")
        trial.facts["databases"][f"{which}: {served}"] = trial.facts["databases"].get(f"{which}: {served}", 0) + 1
    shutil.rmtree(copy.folder)


def deliver(copy, seconds=DRAIN_S):
    queued = copy.trial.queued
    lab.wait_until(lambda: queued <= set(copy.deliveries()), seconds, "the queue delivered", every=0.05)


def serve_history(copy):
    """In a word, what the service made of it: mail goes out, and new events are told."""
    try:
        copy.trial.ready.append(copy.service.start())
        deliver(copy)
        follow_history(copy)
        copy.service.stop()
    except Trouble as trouble:
        copy.trouble(str(trouble))
    copy.check_no_crash()
    return "set aside" if "set aside" in copy.log() else "serves"


def serve_state(copy, path):
    """As serve_history(). Where it can't serve it says so, and the file of a backup helps."""
    served = "serves"
    try:
        copy.trial.ready.append(copy.service.start())
        deliver(copy, TELL_S)
    except Trouble as trouble:
        code = copy.service.process.poll()
        served = "holds mail" if code is None else f"exit {code}"
        if not (TOLD[path.name].search(copy.log()) and code in (None, 75, 78)):  # 78: its version is hit
            copy.trouble(str(trouble))
    try:
        copy.service.stop()
        if served != "serves":
            for old in path.parent.glob(path.name + "*"):
                old.unlink()
            shutil.copy2(copy.trial.data / "state" / path.name, path)
            copy.trial.ready.append(copy.service.start())
            deliver(copy)
            copy.service.stop()
    except Trouble as trouble:
        copy.trouble(str(trouble))
    copy.check_no_crash()
    return served


def follow_history(copy):
    """New events are told, whatever became of the old ones."""
    load = lab.Load(copy.service, "new", 5, 1, 500)
    load.wait()
    end = time.monotonic() + 60
    while time.monotonic() < end:
        events = copy.service.cli("events", "--json")
        if sum(json.loads(line).get("type") == "delivered" for line in events.splitlines()[-40:]) >= 5:
            return
        time.sleep(0.1)
    raise Trouble(f"new events are not told: {events[-300:]}")


# ---- the test --------------------------------------------------------------------------------------

def prepare(trial):
    """A spool with settled messages, and queued ones of all sizes."""
    trial.open()
    suppressed = trial.folder / "suppressed"
    suppressed.write_text("".join(f"address{n}@suppressed.example\n" for n in range(SUPPRESSED)))
    trial.service.cli("suppress", "import", suppressed)
    trial.start()
    trial.finish(trial.load("s", 200, 10, 2000))
    trial.drain()
    trial.settled = set(trial.books.read().acked)
    trial.sink.stop()
    for name, count, size, more in (("a", 150, 500, ()), ("b", 100, 8000, ("--recipients", 3)), ("c", 40, 100000, ()),
                                    ("d", 12, 400000, ("--recipients", 2))):
        trial.finish(trial.load(name, count, 10, size, *more))
    trial.queued = set(trial.books.read().acked) - trial.settled
    time.sleep(1.5)  # deferrals are recorded, the history is copied
    trial.random.choice([trial.service.stop, trial.service.kill])()  # with an index, and without
    for path_of in DATABASES.values():  # what is committed is in the file itself
        with contextlib.closing(sqlite3.connect(path_of(trial.data / "state"))) as db:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def run_bitrot(trial):
    trial.facts.update(flips=0, missing=0, databases={})
    lab.private_mounts()
    trial.mount_memory(450)  # on a small disk segments are small
    prepare(trial)
    number = 0
    while trial.facts["flips"] < trial.rounds:
        journal_round(trial, number, trial.random.randint(1, 2 * FLIPS_A_ROUND))
        if number % 2 == 1:
            turn, which = divmod(number // 2, len(DATABASES))
            database_round(trial, number, list(DATABASES)[which], surely=turn == 0)
        number += 1
    trial.sink.start()
    trial.start()
    trial.drain()
