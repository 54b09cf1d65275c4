# SPDX-License-Identifier: MIT
"""peer - Postfix, Exim or OpenSMTPD in posthaste's place: as Debian sets it up, but that all mail goes to the sink

Each runs in a root of its own (tools/peers) and in namespaces (test/e2e/lib/peers.py), its spool in `data`.
"""
import collections
import contextlib
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import lab

sys.path.insert(0, str(lab.TOP / "test" / "e2e"))
from lib import network, peers  # noqa: E402

# where: the root, as tools/peers names it. serve, queue, retry and setup are shell: queue prints how many messages are
# queued (Exim: recipients; files of delivered messages can stay behind a cut), retry has all of them tried again at
# once, and setup knows the sink's port as $sink. patience: how many times posthaste's time it is under load, since
# with a process per session it takes less in it.
Kind = collections.namedtuple("Kind", "where package spool patience serve queue retry setup")
KINDS = {
    "postfix": Kind("", "postfix", "/var/spool/postfix", 4, serve="postfix start-fg",
                    queue="postqueue -j | wc -l", retry="postqueue -f", setup=r"""
        cp /usr/share/postfix/main.cf.debian /etc/postfix/main.cf
        postconf -e myhostname=peer.test mydestination= inet_interfaces=loopback-only "relayhost=[127.0.0.1]:$sink" \
            maillog_file=/dev/stdout
        postconf -F '*/*/chroot=n'  # the jail would have to be furnished
        newaliases"""),
    "exim": Kind("exim", "exim4-daemon-light", "/var/spool/exim4", 4, serve="exim4 -bdf -q30m",
                 queue="exim4 -bpu | grep -c '^          '", retry="exim4 -qff >/dev/null 2>&1 &", setup=r"""
        sed -i "s/^dc_eximconfig_configtype=.*/dc_eximconfig_configtype='smarthost'/
            s/^dc_smarthost=.*/dc_smarthost='127.0.0.1::$sink'/; s/^dc_other_hostnames=.*/dc_other_hostnames=''/" \
            /etc/exim4/update-exim4.conf.conf
        # The sink is on this host, which is no reason to freeze the mail.
        sed -i 's/^  route_list = \* DCsmarthost byname$/&\n  self = send/' /etc/exim4/exim4.conf.template
        update-exim4.conf
        install -d -o Debian-exim -g Debian-exim /run/exim4"""),
    "opensmtpd": Kind("opensmtpd", "opensmtpd", "/var/spool/smtpd", 1, serve="smtpd -d",
                      queue="smtpctl show queue | wc -l", retry="smtpctl schedule all", setup=r"""
        printf 'listen on 127.0.0.1\naction "relay" relay host smtp://127.0.0.1:%s\n' "$sink" >/etc/smtpd.conf
        printf 'match from any for any action "relay"\n' >>/etc/smtpd.conf"""),
}
BEGIN = """
mkdir -p {spool}
mount --bind /test/data/spool {spool}
sink={sink}
echo nameserver 127.0.0.1 >/etc/resolv.conf  # refuses at once
{setup}
date +%s.%N >/test/began
exec {serve}
"""
PORT = 25


def why_not(name):
    """The reason why it can't be run here, or None."""
    if os.geteuid() != 0:
        return "needs root: foreign servers run in namespaces"
    where = KINDS[name].where
    return None if peers.root(where) else f"{name} is not built: run tools/peers {where}"


def below(pid):
    """It and the processes that it started: an orphan goes to the first process of its namespace."""
    found = {pid}
    with contextlib.suppress(OSError):
        for child in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            found |= below(int(child))
    return found


def send(pids, number):
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


class Service:
    """A peer with the same calls as lab.Service. Port 25 is free: the trial moves to a network of its own."""
    enter_network = staticmethod(network.enter_private)

    def __init__(self, name, folder, sink_port, data):
        self.kind, self.folder = KINDS[name], pathlib.Path(folder)
        self.patience = self.kind.patience
        self.spool, self.inside = pathlib.Path(data) / "spool", None
        self.script = BEGIN.format(**self.kind._asdict(), sink=sink_port)

    def version(self):
        admin = peers.root(self.kind.where) + "/var/lib/dpkg"
        return subprocess.run(["dpkg-query", "--admindir", admin, "-W", "-f", "${Version}", self.kind.package],
                              check=True, capture_output=True, text=True).stdout

    def add_account(self):
        """No account: the spool as the package made it."""
        self.spool.mkdir(mode=0o711)
        packaged = pathlib.Path(peers.root(self.kind.where) + self.kind.spool)
        if packaged.exists():
            subprocess.run(["cp", "-a", f"{packaged}/.", self.spool], check=True)

    def port(self):
        return PORT

    def launch(self):
        """Returns when the daemon is about to be started."""
        began = self.folder / "began"
        began.unlink(missing_ok=True)
        log = self.folder / "peer.log"
        log.touch()
        log.chmod(0o666)  # Postfix's programs open what they have as /dev/stdout, under several users
        self.inside = peers.Peer(self.folder, ["sh", "-ec", self.script], "127.0.0.1", where=self.kind.where)
        lab.wait_until(lambda: self.is_running() and began.exists(), 120, "the peer's namespaces", every=0.005)

    def start(self, seconds=120):
        """Seconds from the start of the daemon to its first greeting."""
        self.launch()
        lab.wait_until(self.greets, seconds, "the peer greets", every=0.005)
        return time.time() - float((self.folder / "began").read_text())

    def is_running(self):
        if not self.inside.process.running():
            raise lab.Trouble(f"the peer ended\n{self.log_tail()}")
        return True

    def greets(self):
        self.is_running()
        try:
            with socket.create_connection(("127.0.0.1", PORT), 10) as conn:
                return conn.recv(4) == b"220 "
        except OSError:
            return False

    def kill(self, relay_only=False, at_once=lambda: None):
        """kill -9 of all its processes, then at_once(); when that was, and when all were gone. Stopped first, none sees another's death."""
        pids = set()
        while new := below(self.inside.inner_pid()) - pids:  # while they fork
            send(new, signal.SIGSTOP)
            pids |= new
        at = time.time()
        send(pids, signal.SIGKILL)
        at_once()
        self.inside.process.popen.wait(60)
        return at, time.time()

    def inside_says(self, command):
        return self.inside.run("sh", "-c", command, check=False).stdout.strip()

    def queued(self):
        return int(self.inside_says(self.kind.queue) or -1)

    def hurry(self):
        self.inside_says(self.kind.retry)

    def close(self):
        if self.inside and self.inside.process.running():
            self.inside.close()

    def log_tail(self):
        return self.inside.log()[-3000:] if self.inside else ""
