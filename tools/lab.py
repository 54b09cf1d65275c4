# SPDX-License-Identifier: MIT
"""lab - a relay, a receiver and loads for tools/fault and bench/run, and the books about every message

The relay's listener takes mail of 127.0.0.0/8 without a login, and routes all of it to the sink. Nothing
outlives the process that started it: children die with their parent.
"""
import collections
import contextlib
import ctypes
import dataclasses
import datetime
import hashlib
import http.client
import json
import os
import pathlib
import re
import signal
import subprocess
import threading
import time

TOP = pathlib.Path(__file__).resolve().parent.parent
BINARY = pathlib.Path(os.environ.get("POSTHASTE_BINARY", TOP / "build" / "posthaste"))
_libc = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNS, CLONE_NEWNET = 0x00020000, 0x40000000


class Trouble(Exception):
    """The relay (or the machine) did not do what it must; the text says what."""


def die_with_parent():
    _libc.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def private_mounts():
    """Mounts made from here on are ours alone and gone with the last of our processes."""
    if _libc.unshare(CLONE_NEWNS) != 0:
        raise Trouble(f"unshare: {os.strerror(ctypes.get_errno())}")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)


def spawn(command, log, **options):
    with open(log, "ab") as out:
        options = {"stdin": subprocess.DEVNULL, "stdout": out, "stderr": out, **options}
        return subprocess.Popen([str(word) for word in command], preexec_fn=die_with_parent, **options)


def wait_until(ask, seconds, what, every=0.01):
    end = time.monotonic() + seconds
    while not (answer := ask()):
        if time.monotonic() > end:
            raise Trouble(f"not within {seconds} s: {what() if callable(what) else what}")
        time.sleep(every)
    return answer


def children(pid):
    """The guard's relay process, if one runs; its signer holds no mail and is left alone."""
    found = []
    with contextlib.suppress(OSError):
        for word in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            if pathlib.Path(f"/proc/{word}/comm").read_text().strip() != "signer":
                found.append(int(word))
    return found


def threads(pid, prefixes):
    """Ids of the process's threads whose names begin so."""
    found = []
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            if (task / "comm").read_text().strip().startswith(tuple(prefixes)):
                found.append(int(task.name))
    return found


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def status(pid, key):
    """A number of /proc/PID/status."""
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1])
    return 0


def anonymous(pid):
    return 1024 * status(pid, "RssAnon")


def rss(pid):
    return 1024 * status(pid, "VmRSS")


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Service:
    """`posthaste serve` in `folder`, its spool and state in `data`."""
    patience = 1

    def __init__(self, folder, sink_port, data=None, extra="", listener="tls: none", routes=""):
        self.folder, self.data = pathlib.Path(folder), pathlib.Path(data or folder)
        self.ready_file, self.log_file = self.folder / "ready.json", self.folder / "relay.log"
        self.config_file = self.folder / "posthaste.yaml"
        self.process = self.ready = None
        self.config_file.write_text(f"""\
hostname: relay.test
spool: {self.data}/spool
state: {self.data}/state
control: {self.folder}/control.sock
listeners:
  - {{name: in, address: "127.0.0.1:0", {listener}, auth: optional, trusted: ["127.0.0.0/8"], account: lab}}
http: {{address: "127.0.0.1:0"}}
retry: {{first: 1s, factor: 1, max: 1s, lifetime: 1h}}
routes:
{routes}  - {{match: {{}}, via: "smtp://127.0.0.1:{sink_port}"}}
{extra}""")

    def cli(self, *arguments):
        run = subprocess.run([BINARY, *arguments, "--config", self.config_file], stdin=subprocess.DEVNULL,
                             capture_output=True, text=True, timeout=120)
        if run.returncode:
            raise Trouble(f"posthaste {' '.join(arguments)}: exit {run.returncode}\n{run.stderr}")
        return run.stdout

    def add_account(self):
        for folder in ("spool", "state"):
            (self.data / folder).mkdir(exist_ok=True)
        self.cli("account", "add", "lab", "--any-sender")

    def start(self, seconds=60):
        """Seconds until it was ready."""
        began = time.monotonic()
        self.launch()
        return self.wait_ready(began, seconds)

    def launch(self):
        self.ready_file.unlink(missing_ok=True)
        self.process = spawn([BINARY, "serve", "--config", self.config_file, "--ready-file", self.ready_file],
                             self.log_file)

    def wait_ready(self, began, seconds=60):
        def ready():
            if self.process.poll() is not None:
                raise Trouble(f"the service ended with {self.process.returncode}\n{self.log_tail()}")
            return self.ready_file.exists()
        wait_until(ready, seconds, lambda: f"the service is ready\n{self.log_tail()}", every=0.002)
        took = time.monotonic() - began
        self.ready = json.loads(self.ready_file.read_text())
        return took

    def relay_pid(self):
        return wait_until(lambda: children(self.process.pid), 30, "a relay process")[0]

    def kill(self, relay_only=False, at_once=lambda: None):
        """kill -9, then at_once(); when that was, and when nothing of it ran any more. A guard left alone starts another relay."""
        relay = children(self.process.pid)
        if relay_only:
            self.ready_file.unlink(missing_ok=True)
        at = time.time()
        for pid in relay + ([] if relay_only else [self.process.pid]):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        at_once()
        if not relay_only:
            self.process.wait()
        wait_until(lambda: all(map(is_gone, relay)), 30, "the end of the relay process", every=0.001)
        return at, time.time()

    def stop(self, seconds=40):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                return self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                self.kill()
                raise Trouble("SIGTERM did not end the service") from None
        return 0

    def close(self):
        if self.process and self.process.poll() is None:
            self.kill()

    def port(self):
        return self.ready["listeners"][0]["port"]

    def metrics(self):
        where = self.ready["http"]
        connection = http.client.HTTPConnection(where["address"], where["port"], timeout=60)
        with contextlib.closing(connection):
            connection.request("GET", "/metrics")
            text = connection.getresponse().read().decode()
        rows = (line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#"))
        return {name.removeprefix("posthaste_"): float(value) for name, _, value in rows}

    def queued(self):
        return self.metrics()["queue_messages"]

    def hurry(self):
        """Nothing to do: what is queued is tried again every second."""

    def log_tail(self, lines=20):
        return "\n".join(self.log_file.read_text(errors="replace").splitlines()[-lines:])


def is_gone(pid):
    """No thread of it runs any more (its files are closed), whether or not somebody has waited for it."""
    try:
        state = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        return state == "Z" and len(os.listdir(f"/proc/{pid}/task")) <= 1
    except OSError:
        return True


class Sink:
    """`posthaste sink`; after stop() start() listens at the same port."""

    def __init__(self, folder):
        self.folder, self.port, self.process = pathlib.Path(folder), 0, None
        self.log_file = self.folder / "sink.jsonl"

    def start(self):
        ready = self.folder / "sink.ready"
        ready.unlink(missing_ok=True)
        self.process = spawn([BINARY, "sink", "--listen", f"127.0.0.1:{self.port}", "--log", self.log_file,
                              "--quiet", "--ready-file", ready], self.folder / "sink.log")
        wait_until(lambda: ready.exists() and ready.read_text().endswith("\n"), 60, "the sink listens")
        self.port = json.loads(ready.read_text())["listeners"][0]["port"]
        return self

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(60)


class Load:
    """One running `posthaste load`; .report once it has ended."""

    def __init__(self, service, name, count, sessions, size, *more):
        folder = service.folder
        self.name, self.count, self.out = name, count, folder / f"load-{name}.json"
        command = [BINARY, "load", "--to", f"127.0.0.1:{service.port()}", "--name", name, "--count", count,
                   "--sessions", sessions, "--size", size, "--ids", folder / "ids.jsonl",
                   "--refused", folder / "refused.jsonl", "--json", *more]
        with open(self.out, "wb") as out:
            self.process = spawn(command, folder / "load.log", stdout=out)
        self.report = None

    def wait(self, seconds=180):
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Trouble(f"the load {self.name} does not end") from None
        # Stopped before it had begun, it has nothing to tell.
        self.report = json.loads(self.out.read_text() or '{"accepted": 0, "refused": 0, "replies": {}}')
        return self.report

    def stop(self):
        """Its server is gone: it takes in what has arrived and ends."""
        self.process.terminate()
        return self.wait(60)


def json_lines(path):
    """Whole lines only: a writer may be in the middle of the last one."""
    try:
        text = pathlib.Path(path).read_text(errors="replace")
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in text.split("\n")[:-1]]


def at_text(seconds):
    """As the logs of sink and load have it."""
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def seconds_of(at):
    return datetime.datetime.fromisoformat(at.replace("Z", "+00:00")).timestamp()


class Pulse:
    """How slow this machine and its disk are at each moment: a small write is flushed again and again."""
    EVERY_S = 0.05

    def __init__(self, folder):
        self.file = os.open(folder / "pulse", os.O_WRONLY | os.O_CREAT, 0o600)
        self.beats = []  # (began, seconds it was late)
        threading.Thread(target=self.beat, daemon=True).start()

    def beat(self):
        while True:
            began = time.time()
            time.sleep(self.EVERY_S)
            os.pwrite(self.file, b"beat", 0)
            os.fdatasync(self.file)
            self.beats.append((began, time.time() - began - self.EVERY_S))

    def slowest(self, at, window_s=5.0):
        return max((late for began, late in self.beats if at - window_s <= began <= at), default=window_s)


class Starving:
    """How long the service's threads that a client waits for were ready to run and got no processor (proc(5), schedstat)."""
    EVERY_S = 0.05

    def __init__(self, service):
        self.service, self.seconds, self.samples = service, {}, []  # by thread; (when, their sum)
        threading.Thread(target=self.watch, daemon=True).start()

    def watch(self):
        while True:
            for process in self.processes():
                self.look(process)
            self.samples.append((time.time(), sum(self.seconds.values())))
            time.sleep(self.EVERY_S)

    def processes(self):
        guard = getattr(self.service, "process", None)  # a peer has none that is known
        return [guard.pid, *children(guard.pid)] if guard else []

    def look(self, pid):
        """A worker counts for its share, as any of them may be the client's; what waits beside these is nothing to it."""
        with contextlib.suppress(OSError):
            waiting, workers = {}, 0
            for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
                with contextlib.suppress(OSError):
                    name = "first" if task.name == str(pid) else (task / "comm").read_text().strip()
                    if name in ("first", "main", "spool") or name.startswith("worker"):
                        waiting[task] = int((task / "schedstat").read_text().split()[1]) / 1e9, name.startswith("worker")
                        workers += name.startswith("worker")
            self.seconds.update((task, seconds / workers if is_worker else seconds) for task, (seconds, is_worker) in waiting.items())

    def between(self, began, ended):
        """Seconds, from the first look after `began` to the last before `ended`."""
        sums = [waited for at, waited in self.samples if began <= at <= ended]
        return sums[-1] - sums[0] if sums else 0.0


@dataclasses.dataclass
class Crash:
    at: float
    over: float
    recorded: dict = dataclasses.field(default_factory=dict)  # of what was taken just before: when that came to the journal
    in_flight: int | None = None  # None: not counted


class Books:
    """What was sent, acknowledged, refused and delivered, by (load id, recipient); crashes are told to it."""
    CLOCK_S = 0.1  # what the sink writes into its log may be late by that
    WINDOW_S = 0.5  # an outcome is on disk this long after the receiver's 250, plus what the machine was late

    def __init__(self, folder):
        self.folder, self.sent, self.crashes = pathlib.Path(folder), {}, []
        self.logs = {}  # lines read, and up to which byte
        self.maildir, self.filed = None, {}  # a folder that is delivered to, too; what was read there
        self.pulse = Pulse(self.folder)

    def window(self, crash):
        """Seconds before a crash in which outcomes may have been on their way to the disk."""
        return self.WINDOW_S + 3 * self.pulse.slowest(crash)

    def load(self, load):
        self.sent[load.name] = load.count
        return load

    def lines(self, name):
        """All of a log so far; whole lines only, as its writer may be in the middle of the last one."""
        lines, offset = self.logs.get(name, ([], 0))
        with contextlib.suppress(FileNotFoundError), open(self.folder / name, "rb") as log:
            log.seek(offset)
            new = log.read()
            new = new[:new.rfind(b"\n") + 1]
            lines += [json.loads(line) for line in new.decode(errors="replace").split("\n")[:-1]]
            self.logs[name] = lines, offset + len(new)
        return lines

    def read(self):
        self.acked = {(line["load_id"], recipient): line["sha256"]
                      for line in self.lines("ids.jsonl") for recipient in line["recipients"]}
        self.refused = {line["load_id"]: line["code"] for line in self.lines("refused.jsonl")}
        self.deliveries = collections.defaultdict(list)
        for line in self.lines("sink.jsonl"):
            self.deliveries[line["id"], line["recipient"]].append(line)
        if self.maildir:
            self.read_maildir()
        return self

    def read_maildir(self):
        """A message that is delivered again takes the place of the first: its file has the name of the delivery."""
        for path in self.maildir.glob("*/*/new/*"):
            if path not in self.filed:
                content = path.read_bytes().replace(b"\n", b"\r\n")
                content = content[content.find(b"X-Load-Id: "):]
                self.filed[path] = {"id": content[11:content.find(b"\r\n")].decode(errors="replace"),
                                    "sha256": hashlib.sha256(content).hexdigest(),
                                    "at": at_text(path.stat().st_mtime)}
            domain, user = path.parts[-4:-2]
            self.deliveries[self.filed[path]["id"], f"{user}@{domain}"].append(self.filed[path])

    def accepted_at(self):
        """When each message was answered 250."""
        return sorted(seconds_of(line["at"]) for line in self.lines("ids.jsonl"))

    def missing(self):
        self.read()
        return [one for one in self.acked if one not in self.deliveries]

    def crashed(self, at, over=None):
        """It began at `at`; from `over` on nothing ran any more."""
        self.crashes.append(Crash(at, over or at))

    def taken(self, crash):
        """What the receiver took while an outcome of it may have been on its way to the disk: {(load id, recipient): when}."""
        taken, began = {}, crash.at - self.window(crash.at)
        for line in reversed(self.lines("sink.jsonl")):
            at = seconds_of(line["at"])
            if at < began - 1:
                break
            if began <= at <= crash.over + self.CLOCK_S:
                taken[line["id"], line["recipient"]] = at
        return taken

    def in_flight(self, read_journal):
        """How many recipients the receiver took and the last crash left without an outcome in the journal. read_journal(since) gives
        ({load id: message id}, {(message id, number of the recipient): when it was delivered})."""
        crash = self.crashes[-1]
        taken = self.taken(crash)
        named, delivered = read_journal(crash.at - self.window(crash.at))
        named.update((line["load_id"], line["id"]) for line in self.lines("ids.jsonl") if "id" in line)
        for load_id, recipient in taken:
            number = re.match(r"user(\d+)@", recipient)  # so `load` names several, from 0 on
            key = named.get(load_id), int(number[1]) + 1 if number else 1
            if key in delivered:
                crash.recorded[load_id, recipient] = delivered[key]
        crash.in_flight = sum(crash.recorded.get(key, crash.over + 1) > crash.over for key in taken)
        return crash.in_flight

    def was_sent(self, load_id):
        name, _, number = load_id.rpartition("-")
        return number.isdigit() and int(number) < self.sent.get(name, 0)

    def judge(self):
        """(the numbers, what is wrong in words)."""
        self.read()
        troubles = []
        lost = [i for i in self.acked if i not in self.deliveries]
        ghosts = [i for i in self.deliveries if i[0] in self.refused or not self.was_sent(i[0])]
        changed = [i for i, sha in self.acked.items() if any(d["sha256"] != sha for d in self.deliveries.get(i, ()))]
        dup, unexplained, age = 0, [], 0.0
        windows = [(crash, self.window(crash.at)) for crash in self.crashes]
        for key, copies in self.deliveries.items():
            times = sorted(seconds_of(c["at"]) for c in copies) if len(copies) > 1 else []
            dup += len(copies) - 1
            for first, second in zip(times, times[1:]):
                ages = [crash.at - first for crash, window in windows if self.excuses(crash, window, key, first, second)]
                age = max([age, *ages])
                if not ages:
                    unexplained.append((*key, self.when(key, first, second)))
        for what, which in (("LOST", lost), ("GHOST", ghosts), ("CHANGED", changed),
                            ("DUP not in flight at a crash", unexplained)):
            if which:
                troubles.append(f"{what} {len(which)}: {' '.join(map('/'.join, which[:10]))}")
        return {"acked": len(self.acked), "refused": len(self.refused), "delivered": len(self.deliveries),
                "lost": len(lost), "dup": dup, "ghost": len(ghosts), "in_flight_max": self.in_flight_max(windows),
                "dup_age_ms_max": round(1000 * age)}, troubles

    def excuses(self, crash, window, key, first, second):
        """It was in flight at the crash, as far as time tells, and no outcome was in the journal before it came again."""
        return (crash.at - window <= first <= crash.over + self.CLOCK_S and second >= crash.at - self.CLOCK_S and
                crash.recorded.get(key, second) >= second - self.CLOCK_S)

    def when(self, key, first, second):
        """A duplicate's two times, seen from the crash that is nearest to the first."""
        crash = min(self.crashes, key=lambda crash: abs(crash.at - first), default=Crash(first, first))
        recorded = f",recorded{crash.recorded[key] - crash.at:+.3f}s" if key in crash.recorded else ""
        return (f"{first - crash.at:+.3f}s,{second - crash.at:+.3f}s,over{crash.over - crash.at:+.3f}s,"
                f"window{self.window(crash.at):.3f}s{recorded}")

    def in_flight_max(self, windows):
        """Of a crash that nobody counted at, all that the sink took in the window before it."""
        if not windows:
            return 0
        times = sorted(seconds_of(d["at"]) for copies in self.deliveries.values() for d in copies)
        return max(sum(crash.at - window <= t <= crash.over for t in times) if crash.in_flight is None else crash.in_flight
                   for crash, window in windows)
