# SPDX-License-Identifier: MIT
"""machine - what the machine can do, and what processes use of it, from /proc"""
import collections
import contextlib
import os
import pathlib
import re
import select
import shutil
import statistics
import subprocess
import time

TOP = pathlib.Path(__file__).resolve().parent.parent
FOLDER = TOP / "build" / "bench" / str(os.getpid())  # of this run
RUNS_FULL = 0.9  # a thread that ran or wanted to run for this share of the time bounds what it does


@contextlib.contextmanager
def workspace():
    """FOLDER while this run lasts; those of runs that were killed go."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for other in FOLDER.parent.iterdir():
        if not pathlib.Path("/proc", other.name).exists():
            shutil.rmtree(other, ignore_errors=True)
    try:
        yield FOLDER
    finally:
        shutil.rmtree(FOLDER, ignore_errors=True)


# ---- processes -------------------------------------------------------------------------------------

def status_bytes(pid, key):
    found = re.search(rf"^{key}:\s+(\d+) kB", pathlib.Path(f"/proc/{pid}/status").read_text(), re.M)
    return int(found.group(1)) * 1024


def resident_bytes(pids):
    """Proportional shares, so that what processes share counts once; those that end meanwhile have none."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            found = re.search(r"^Pss:\s+(\d+)", pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M)
            total += 1024 * int(found.group(1)) if found else 0
    return total


def below(pid):
    """All processes below this one; some may have ended since."""
    found = []
    with contextlib.suppress(OSError):
        for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += [int(child), *below(int(child))]
    return found


def process_name(pid):
    """None: it has ended."""
    with contextlib.suppress(OSError):
        return pathlib.Path(f"/proc/{pid}/comm").read_text().strip()
    return None


def thread_times(pid):
    """{thread id: (name without its number, seconds run, seconds waited for a core)}."""
    times = {}
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        try:
            name = (task / "comm").read_text().strip().rstrip("0123456789")
            ran, waited = (int(word) / 1e9 for word in (task / "schedstat").read_text().split()[:2])
        except OSError:
            continue  # it ended meanwhile
        times[task.name] = (name, ran, waited)
    return times


class Busy:
    """How busy the busiest thread of some processes was from the start to the last look()."""

    def __init__(self, pids):
        self.first = {pid: thread_times(pid) for pid in pids}
        self.last, self.began = self.first, time.monotonic()
        self.ended = self.began

    def look(self):
        for pid in self.first:
            try:
                self.last = {**self.last, pid: thread_times(pid)}
                self.ended = time.monotonic()
            except OSError:
                pass  # it has ended: what was seen last counts

    def share(self):
        spans = [ran + waited - sum(self.first[pid].get(thread, ("", 0, 0))[1:])
                 for pid, threads in self.last.items() for thread, (_, ran, waited) in threads.items()]
        return max(spans, default=0) / max(self.ended - self.began, 1e-3)

    def by_name(self):
        """Seconds run by threads of each name."""
        ran = collections.Counter()
        for pid, threads in self.last.items():
            for thread, (name, now, _) in threads.items():
                ran[name] += now - self.first[pid].get(thread, ("", 0, 0))[1]
        return ran


def wait_looking(process, seconds, *watches):
    """Waits for the process to end and looks at the watches meanwhile; its exit code, or None: too long."""
    end = time.monotonic() + seconds
    handle = os.pidfd_open(process.pid)
    try:
        while time.monotonic() < end:
            for one in watches:
                one.look()
            if select.select([handle], [], [], 0.05)[0]:
                return process.wait()
    finally:
        os.close(handle)
    return None


# ---- the machine -----------------------------------------------------------------------------------

def fdatasync_us():
    """The median of 100 flushes of 4 KiB, written over, on the disk that build/ is on."""
    path = FOLDER / "flush"
    with open(path, "wb", buffering=0) as out:
        out.write(bytes(1 << 20))
        os.fsync(out.fileno())
        times = []
        for number in range(100):
            os.pwrite(out.fileno(), bytes(4096), 4096 * (number % 256))
            began = time.monotonic()
            os.fdatasync(out.fileno())
            times.append(time.monotonic() - began)
    path.unlink()
    return 1e6 * statistics.median(times)


def disk_mb_per_s():
    """64 MiB written over, 1 MiB a flush."""
    path, piece = FOLDER / "stream", bytes(1 << 20)
    with open(path, "wb", buffering=0) as out:
        for _ in range(64):
            out.write(piece)
        os.fsync(out.fileno())
        began = time.monotonic()
        for number in range(64):
            os.pwrite(out.fileno(), piece, number << 20)
            os.fdatasync(out.fileno())
        took = time.monotonic() - began
    path.unlink()
    return (64 << 20) / 1e6 / took


def rsa2048_per_s():
    text = subprocess.run(["openssl", "speed", "-seconds", "1", "rsa2048"], capture_output=True, text=True).stdout
    found = re.search(r"^rsa 2048 bits\s+\S+\s+\S+\s+([\d.]+)", text, re.M)
    return float(found.group(1)) if found else None


def signature_us(kind):
    """CPU of one signature while all cores make them, as `openssl speed` counts it: "rsa2048" or "ed25519"."""
    runs = [subprocess.Popen(["openssl", "speed", "-seconds", "2", kind], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            for _ in range(os.cpu_count())]
    rows = [re.search(r"^ *(?:rsa 2048 bits|253 bits EdDSA \(Ed25519\)) +\S+ +\S+ +([\d.]+)", run.communicate()[0], re.M) for run in runs]
    if not all(rows):
        raise RuntimeError(f"openssl speed {kind} has no such row")
    return statistics.mean(1e6 / float(row.group(1)) for row in rows)


def file_system():
    return subprocess.run(["findmnt", "-n", "-o", "FSTYPE", "--target", FOLDER], capture_output=True, text=True).stdout.strip()


def cpu_model():
    found = re.search(r"^model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text(), re.M)
    return found.group(1) if found else os.uname().machine
