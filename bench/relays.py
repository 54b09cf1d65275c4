# SPDX-License-Identifier: MIT
"""relays - posthaste and Postfix, each started for one measurement, and what a measurement cost posthaste"""
import contextlib
import http.client
import json
import os
import shutil
import socket
import subprocess
import time
import types

import lab
from lib import peers

import machine
from tools import SINK

SLOW_FLUSH = machine.TOP / "build" / "libslow_flush.so"
WIDE = "limits: {sessions: 50000, sessions_per_address: 50000}\n"  # one address plays all clients
SETTLE_S = 0.7  # the history copies what happened within half a second


class Posthaste(lab.Service):
    """All at its defaults but for names, paths and the one route; `extra` is configuration on top."""

    name = "posthaste"

    def __init__(self, folder, extra="", tls=False, slow_flush=False):
        super().__init__(folder, SINK[1])
        self.slow_flush = slow_flush
        self.config_file.write_text(f"""\
hostname: relay.test
spool: {self.data}/spool
state: {self.data}/state
control: {self.folder}/control.sock
listeners:
  - {{name: in, address: "127.0.0.1:0", tls: {'starttls' if tls else 'none'}, auth: optional, trusted: ["127.0.0.0/8"], account: lab}}
http: {{address: "127.0.0.1:0"}}
routes:
  - {{match: {{}}, via: "smtp://{SINK[0]}:{SINK[1]}"}}
{'tls: {self_signed: yes}' if tls else ''}
{extra}""")

    def start(self, seconds=60):
        self.ready_file.unlink(missing_ok=True)
        began = time.monotonic()
        env = {**os.environ, **({"LD_PRELOAD": str(SLOW_FLUSH)} if self.slow_flush else {})}
        self.process = lab.spawn([lab.BINARY, "serve", "--config", self.config_file, "--ready-file", self.ready_file],
                                 self.log_file, env=env)
        return self.wait_ready(began, seconds)

    def begin(self):
        """Starts it, if it does not run yet."""
        if not self.process:
            self.start(120)

    def to(self):
        return "127.0.0.1", self.port()

    delivered_before = 0

    def wait_delivered(self, count):
        lab.wait_until(lambda: self.delivered() - self.delivered_before >= count, 60,
                       lambda: f"{count} messages are delivered\n{self.log_tail()}", every=0.05)

    def delivered(self):
        return self.metrics()['recipients_total{outcome="delivered"}']

    def wait_recycled(self):
        """Until the journal's segments are free but for the last; deliveries count from here."""
        def used():
            now = self.metrics()
            return now["spool_segments"] - now["spool_segments_free"]
        lab.wait_until(lambda: used() <= 2, 20, lambda: f"segments are freed\n{self.log_tail()}", every=0.2)
        self.delivered_before = self.delivered()

    def sign(self, domain):
        """From now on the account's mail of this domain is signed: its keys are taken as seen in the DNS."""
        self.cli("domain", "add", "lab", domain, "--trust")
        for line in self.cli("dkim", "list", "--json").splitlines():
            self.post("/v1/store", {"op": "dkim.seen", "args": {"number": json.loads(line)["number"]}})

    def post(self, path, body):
        """A request to the control socket."""
        with socket.socket(socket.AF_UNIX) as control:
            control.connect(str(self.folder / "control.sock"))
            connection = http.client.HTTPConnection("localhost")
            connection.sock = control
            connection.request("POST", path, json.dumps(body))
            answer = connection.getresponse()
            if answer.status != 200:
                raise lab.Trouble(f"{path}: {answer.status} {answer.read()}")

    def signer_pids(self):
        """The process with the keys."""
        return [pid for pid in machine.below(self.process.pid) if machine.process_name(pid) == "signer"]

    def signer_cpu_s(self):
        """Seconds of a core that it has used."""
        return sum(ran for pid in self.signer_pids() for _, ran, _ in machine.thread_times(pid).values())

    def hold(self):
        self.cli("queue", "hold", "--all")

    def release(self):
        self.cli("queue", "release", "--all")


@contextlib.contextmanager
def posthaste(folder, hold=False, **options):
    service = Posthaste(folder, **options)
    service.add_account()
    service.start()
    try:
        if hold:
            service.hold()
        yield service
    finally:
        service.close()


class Cost:
    """What a relay used between the start and end(): a dict for the round."""

    def __init__(self, relay):
        self.relay = relay
        if self.is_ours():
            self.before, self.watch = relay.metrics(), machine.Busy([relay.relay_pid()])
            self.signer_before = relay.signer_cpu_s()

    def is_ours(self):
        return self.relay.name == "posthaste"

    def look(self):
        if self.is_ours():
            self.watch.look()

    def end(self, count, *loads):
        """loads: watches of load and receiver. They bound the result if they had no time left and the relay had."""
        full = max((one.share() for one in loads), default=0) >= machine.RUNS_FULL
        if not self.is_ours():
            return {"postfix_bound_by_load": full}
        bound = full and self.watch.share() < machine.RUNS_FULL
        time.sleep(SETTLE_S)
        after, pid = self.relay.metrics(), self.relay.relay_pid()
        self.watch.look()

        def grown(name):
            return after[name] - self.before[name]
        def grown_of(name):
            return sum(value - self.before[row] for row, value in after.items() if row.startswith(name + "{"))
        threads = {name: round(1e6 * ran / count, 1) for name, ran in self.watch.by_name().items() if ran * 1e6 > count / 2}
        signer = self.relay.signer_cpu_s() - self.signer_before
        cpu = grown("process_cpu_seconds_total") + signer
        return {"bound_by_load": bound, "cpu_us_per_msg": 1e6 * cpu / count,
                "signer_us_per_msg": 1e6 * signer / count, "signer_share": signer / cpu, "signed": grown_of("dkim_signatures_total"),
                "bodies_read": grown("dkim_bodies_read_total"),
                "threads_us_per_msg": threads, "flushes_per_msg": grown("spool_flushes_total") / count,
                "written_bytes_per_msg": grown("spool_written_bytes_total") / count,
                "rss_peak_bytes": machine.status_bytes(pid, "VmHWM")}


# ---- Postfix ---------------------------------------------------------------------------------------

# What is fair: no DNS (there is none), input not slowed down, connections kept, and more connections at once than
# posthaste's lane has.
MAIN = f"""\
relayhost = [{SINK[0]}]:{SINK[1]}
in_flow_delay = 0
default_process_limit = 100
default_destination_concurrency_limit = 100
initial_destination_concurrency = 100
smtp_connection_cache_on_demand = yes
smtp_connection_cache_destinations = [{SINK[0]}]:{SINK[1]}
smtp_connection_reuse_count_limit = 1000
disable_dns_lookups = yes
smtp_host_lookup = native
"""
MAIN_TLS = "smtp_tls_security_level = may\nsmtp_tls_connection_reuse = yes\n"
MAIN_HOLD = "smtpd_client_restrictions = check_client_access static:HOLD\n"

START = r"""
set -e
mkdir -p /test/queue
cp -a /var/spool/postfix/. /test/queue/
mount --bind /test/queue /var/spool/postfix
if [ -e /test/slow_flush.so ]; then
    cp /test/slow_flush.so /usr/lib/slow_flush.so
    echo /usr/lib/slow_flush.so >/etc/ld.so.preload
fi
cp /test/postfix/main.cf /test/postfix/master.cf /etc/postfix/
chown root:root /etc/postfix/*.cf
touch -d '1 minute ago' /etc/postfix/*.cf
exec postfix start-fg
"""


class Postfix(peers.Postfix):
    name = "postfix"

    def _master(self, address, port):
        super()._master(address, port)
        with open(self.folder / "postfix" / "master.cf", "a") as out:
            out.write("tlsproxy unix - - n - 0 tlsproxy\n")

    sent_before = 0

    def begin(self):
        """An empty queue, deliveries counted from here."""
        self.run("postsuper", "-d", "ALL")
        self.sent_before = self.log().count("status=sent")

    def to(self):
        return self.address, self.port

    def wait_delivered(self, count):
        lab.wait_until(lambda: self.log().count("status=sent") - self.sent_before >= count, 60,
                       lambda: f"{count} messages are delivered\n{self.log_tail()}", every=0.2)

    def log_tail(self):
        return self.log()[-2000:]

    def release(self):
        """What MAIN_HOLD held goes out."""
        self.run("postsuper", "-H", "ALL")
        self.run("postqueue", "-f")

    def resident_bytes(self):
        return machine.resident_bytes(machine.below(self.inner_pid()))


def postfix(folder, main="", certificate=None, slow_flush=False):
    """Started; the caller closes it."""
    if slow_flush:
        shutil.copy(SLOW_FLUSH, folder / "slow_flush.so")
    peers.START_POSTFIX = START
    pair = certificate and types.SimpleNamespace(certificate=certificate[0], key=certificate[1])
    return Postfix(folder, main=MAIN + main + (MAIN_TLS if pair else ""), pair=pair)
