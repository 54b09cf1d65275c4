# SPDX-License-Identifier: MIT
"""Postfix, Dovecot and Knot from build/peers, and the roots that tools/fault asks for, each in namespaces of its own.

A peer sees the root through a throw-away overlay (what it writes is gone with it), the test's folder as
/test, its own processes, and the network of the test. The cached root is never written to. All of a
peer's processes die with the one that holds its process namespace, and that one with the test.
"""
import csv
import http.server
import pathlib
import re
import shlex
import shutil
import socket
import subprocess
import textwrap
import threading
import urllib.parse

from . import network
from .process import TOP, Process, wait_until

# $1: the cached root, $2: the test's folder; the rest is the command.
ENTER = r"""
set -e
root=$1 folder=$2; shift 2
mount --make-rprivate /
mount -t tmpfs -o mode=755 peer /mnt
mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay peer -o lowerdir="$root",upperdir=/mnt/upper,workdir=/mnt/work /mnt/root
mkdir -p /mnt/root/test
mount --rbind "$folder" /mnt/root/test
mount -t proc proc /mnt/root/proc
mount --rbind /dev /mnt/root/dev
printf '127.0.0.1 localhost peer.test\n' >/mnt/root/etc/hosts
# Not exec: a daemon that changes its identity loses the kernel's promise to kill it with its parent, and this
# shell, the first process of the namespace, does not.
env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 chroot /mnt/root "$@" &
wait $!
"""


def root(where=""):
    """Where the root of that name (to tools/peers) is, or None if it is not built."""
    found = subprocess.run([TOP / "tools" / "peers", "--path", where], capture_output=True, text=True)
    return found.stdout.strip() or None


def lives(pid):
    """Whether a process runs. One that ended and waits for its parent, maybe a tardy init, holds nothing any more."""
    try:
        return pathlib.Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def why_not():
    """The reason why peers can't be run here, or None if they can."""
    if not network.PRIVATE:
        return "needs root: foreign servers run in namespaces"
    if root() is None:
        return "build/peers is not built: run tools/peers as root"
    return None


class Peer:
    """A command inside; `.address` is where it listens. `.folder` is /test for it."""

    def __init__(self, folder, command, address=None, where=""):
        self.folder = pathlib.Path(folder)
        self.address = address or network.new_address()
        self.process = Process(["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", ENTER, "peer",
                                root(where), self.folder, *command], self.folder / "peer.log")

    def children(self):
        return pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()

    def inner_pid(self):
        """The first process inside, as the host numbers it."""
        return int(self.children()[0])

    def run(self, *command, check=True, stdin="", timeout=120):
        """A further command inside (postqueue, doveadm, knotc, ...); the finished process."""
        inner = self.inner_pid()
        words = ["nsenter", "--target", str(inner), "--mount", "--pid", "env", "-i",
                 "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "chroot", "/mnt/root", *map(str, command)]
        result = subprocess.run(words, input=stdin, capture_output=True, text=True, timeout=timeout)
        assert not check or result.returncode == 0, f"{shlex.join(words)}: {result.stderr}{result.stdout}"
        return result

    def wait_port(self, port, seconds=60.0):
        wait_until(lambda: self.process.check_running() and network.accepts(self.address, port), seconds,
                   f"{type(self).__name__} on {self.address}:{port}:\n{self.process.log()[-3000:]}", every=0.05)
        return self

    def log(self):
        return self.process.log()

    def close(self):
        """The namespace's first process dies with `unshare`, and everything inside with it."""
        inner = self.inner_pid() if self.process.running() else None
        self.process.kill()
        wait_until(lambda: not (inner and lives(inner)), 10, "the peer's processes are gone")


class Knot(Peer):
    """Authoritative DNS. zones: {"example.org": zone file text (the SOA and NS are added if missing)}.
    signed: zones to sign; ds_file() then has what a validator needs as trust anchor."""

    def __init__(self, folder, zones, signed=(), address=None, port=53):
        folder = pathlib.Path(folder)
        (folder / "zones").mkdir(parents=True, exist_ok=True)
        self.port, self.zones, self.signed = port, {}, tuple(signed)
        address = address or network.new_address()
        self.folder = folder
        blocks = []
        for name, text in zones.items():
            self._write(name, text)
            signing = "    dnssec-signing: on\n    dnssec-policy: quick\n" if name in self.signed else ""
            blocks.append(f"  - domain: {name}\n    file: {name or 'root'}.zone\n    zonefile-sync: -1\n"
                          f"    zonefile-load: difference-no-serial\n    journal-content: all\n{signing}")
        (folder / "knot.conf").write_text(textwrap.dedent(f"""\
            server:
                rundir: /run/knot
                user: root:root
                listen: {address}@{port}
                udp-workers: 1
                tcp-workers: 1
                background-workers: 1
            log:
              - target: stdout
                any: info
            database:
                storage: /var/lib/knot
            policy:
              - id: quick
                algorithm: ecdsap256sha256
                single-type-signing: on
                nsec3: off
            template:
              - id: default
                storage: /test/zones
            """) + "zone:\n" + "".join(blocks))
        super().__init__(folder, ["sh", "-c", "mkdir -p /run/knot /var/lib/knot && exec knotd -c /test/knot.conf"], address)
        self.wait_port(port)

    def _write(self, name, text):
        text = textwrap.dedent(text)
        if " SOA " not in text:
            text = f"@ 60 SOA ns.{name}. hostmaster.{name}. 1 3600 600 86400 5\n" + text
        if " NS " not in text:
            text += f"\n@ 60 NS ns.{name}.\nns 60 A {network.new_address()}\n"
        (self.folder / "zones" / f"{name or 'root'}.zone").write_text(f"$ORIGIN {name}.\n$TTL 60\n{text}\n")

    @property
    def server(self):
        return f"{self.address}@{self.port}"

    def change(self, name, text):
        """Replaces a zone's records and waits until they are served."""
        self._write(name, text)
        self.run("knotc", "-c", "/test/knot.conf", "-b", "zone-reload", f"{name}.")

    def anchor_file(self, name):
        """A file with the zone's DNSKEYs, for `dns.trust_anchor`."""
        out = self.run("kdig", f"@{self.address}", "-p", str(self.port), "+short", f"{name}.", "DNSKEY").stdout
        path = self.folder / f"{name}.anchor"
        path.write_text("".join(f"{name}. 60 IN DNSKEY {line}\n" for line in out.splitlines()))
        return path


class Postfix(Peer):
    """A receiver for `domains` (a Maildir each, /test/mail/DOMAIN/; every user but `unknown` exists), or a
    client: see send().

    main: further lines of main.cf. pair: a certs.Pair turns STARTTLS on. relay_to: ("host", port) to send
    everything to (for Postfix as our client)."""

    def __init__(self, folder, domains=(), main="", pair=None, address=None, port=25, relay_to=None):
        folder = pathlib.Path(folder)
        (folder / "postfix").mkdir(parents=True, exist_ok=True)
        (folder / "mail").mkdir(exist_ok=True)
        (folder / "mail").chmod(0o777)
        self.port = port
        self.folder = folder
        address = address or network.new_address()
        if pair:
            (folder / "postfix" / "server.crt").write_bytes(pair.certificate.read_bytes())
            (folder / "postfix" / "server.key").write_bytes(pair.key.read_bytes())
            main += ("\nsmtpd_tls_security_level = may\nsmtpd_tls_cert_file = /test/postfix/server.crt\n"
                     "smtpd_tls_key_file = /test/postfix/server.key\nsmtpd_tls_received_header = yes\n")
        if relay_to:
            main += f"\nrelayhost = [{relay_to[0]}]:{relay_to[1]}\n"
        (folder / "postfix" / "main.cf").write_text(textwrap.dedent(f"""\
            compatibility_level = 3.6
            myhostname = postfix.test
            mydestination =
            inet_interfaces = all
            inet_protocols = all
            mynetworks = 127.0.0.0/8 [::1]/128 [2001:db8::]/64
            maillog_file = /dev/stdout
            maillog_file_prefixes = /var, /dev
            smtputf8_enable = yes
            message_size_limit = 104857600
            mailbox_size_limit = 0
            virtual_mailbox_limit = 0
            virtual_mailbox_domains = {' '.join(domains)}
            virtual_mailbox_base = /test/mail
            virtual_mailbox_maps = regexp:/test/postfix/mailboxes
            virtual_minimum_uid = 1
            virtual_uid_maps = static:65534
            virtual_gid_maps = static:65534
            alias_maps =
            smtpd_relay_restrictions = permit_mynetworks, reject_unauth_destination
            smtpd_recipient_restrictions =
            smtpd_peername_lookup = no
            smtp_dns_support_level = disabled
            """) + main)
        boxes = "".join(f"/^[^@]+@{re.escape(domain)}$/ {domain}/\n" for domain in domains)
        (folder / "postfix" / "mailboxes").write_text(f"if !/^unknown@/\n{boxes}endif\n")
        self._master(address, port)
        super().__init__(folder, ["sh", "-c", START_POSTFIX], address)
        self.wait_port(port)

    def _master(self, address, port):
        # The listener is last, as Postfix opens them in this order: who can connect finds all others there, postlog
        # above all, without which every command fails.
        rows = ["pickup unix n - n 1 1 pickup", "cleanup unix n - n - 0 cleanup",
                "qmgr unix n - n 300 1 qmgr", "tlsmgr unix - - n 1000? 1 tlsmgr", "rewrite unix - - n - - trivial-rewrite",
                "bounce unix - - n - 0 bounce", "defer unix - - n - 0 bounce", "trace unix - - n - 0 bounce",
                "flush unix n - n 1000? 0 flush", "proxymap unix - - n - - proxymap", "smtp unix - - n - - smtp",
                "relay unix - - n - - smtp", "error unix - - n - - error", "retry unix - - n - - error",
                "discard unix - - n - - discard", "local unix - n n - - local", "virtual unix - n n - - virtual",
                "lmtp unix - - n - - lmtp", "anvil unix - - n - 1 anvil", "scache unix - - n - 1 scache",
                "showq unix n - n - - showq", "postlog unix-dgram n - n - 1 postlogd", f"{address}:{port} inet n - n - - smtpd"]
        (self.folder / "postfix" / "master.cf").write_text("\n".join(rows) + "\n")

    def messages(self, address):
        """What was delivered to an address, oldest first, as Postfix wrote it (LF, its own fields in front)."""
        folder = self.folder / "mail" / address.partition("@")[2] / "new"
        whole = [path.read_bytes() for path in sorted(folder.glob("*"), key=lambda p: p.stat().st_mtime_ns)]
        return [data for data in whole if f"\nX-Original-To: {address}\n".encode() in data[:2000]]

    def wait(self, address, count=1, seconds=20.0):
        wait_until(lambda: len(self.messages(address)) >= count, seconds,
                   f"{count} messages for {address} in Postfix:\n{self.log()[-3000:]}", every=0.1)
        return self.messages(address)

    def send(self, sender, recipients, data):
        """Submits a message through Postfix's own sendmail command, to be sent to relay_to."""
        self.run("sendmail", "-C", "/etc/postfix", "-i", "-f", sender, *recipients, stdin=data)


# Postfix refuses configuration files of others; /test is the test's, so they are copied. Each of its processes
# waits until main.cf has not changed for two seconds, so the copy is made older. `postfix start-fg` would only
# check a queue that is new each time, at a few hundred processes a start.
START_POSTFIX = r"""
set -e
cp /test/postfix/main.cf /test/postfix/master.cf /etc/postfix/
chown root:root /etc/postfix/*.cf
touch -d '1 minute ago' /etc/postfix/*.cf
exec /usr/lib/postfix/sbin/master -d
"""


class Dovecot(Peer):
    """LMTP in, IMAP out. Every user exists (password "secret"); mail is in /test/mail/USER@DOMAIN/."""

    def __init__(self, folder, address=None, lmtp_port=24, imap_port=143, extra=""):
        folder = pathlib.Path(folder)
        (folder / "mail").mkdir(parents=True, exist_ok=True)
        (folder / "mail").chmod(0o777)
        (folder / "socket").mkdir(exist_ok=True)
        address = address or network.new_address()
        self.lmtp_port, self.imap_port = lmtp_port, imap_port
        (folder / "dovecot.conf").write_text(textwrap.dedent(f"""\
            protocols = imap lmtp
            listen = {address}
            base_dir = /run/dovecot
            log_path = /dev/stderr
            ssl = no
            disable_plaintext_auth = no
            mail_location = maildir:/test/mail/%u
            mail_uid = mail
            mail_gid = mail
            first_valid_uid = 1
            auth_username_format = %Lu
            passdb {{
              driver = static
              args = password=secret
            }}
            userdb {{
              driver = static
              args = uid=mail gid=mail home=/test/mail/%u allow_all_users=yes
            }}
            service lmtp {{
              inet_listener lmtp {{
                address = {address}
                port = {lmtp_port}
              }}
              unix_listener /test/socket/lmtp {{
                mode = 0666
              }}
            }}
            service imap-login {{
              inet_listener imap {{
                port = {imap_port}
              }}
              inet_listener imaps {{
                port = 0
              }}
            }}
            """) + extra)
        super().__init__(folder, ["dovecot", "-F", "-c", "/test/dovecot.conf"], address)
        self.wait_port(lmtp_port)
        self.wait_port(imap_port)

    @property
    def lmtp_path(self):
        """The LMTP socket as the host sees it."""
        return self.folder / "socket" / "lmtp"

    def fetch(self, user, count=1, seconds=20.0):
        """The whole messages in a user's INBOX, by IMAP, once there are `count`."""
        import imaplib
        client = imaplib.IMAP4(self.address, self.imap_port, timeout=60)
        client.login(user, "secret")
        try:
            wait_until(lambda: int(client.select("INBOX", readonly=True)[1][0]) >= count, seconds,
                       f"{count} messages for {user} in Dovecot", every=0.1)
            _, parts = client.fetch("1:*", "(BODY.PEEK[])")
            return [part[1] for part in parts if isinstance(part, tuple)]
        finally:
            client.logout()


class Gsasl(Peer):
    """GNU SASL's tool as a client; `authority` is whom it believes."""

    def __init__(self, folder, authority):
        shutil.copy(authority.file, pathlib.Path(folder) / "authority.pem")
        super().__init__(folder, ["sleep", "infinity"])
        wait_until(lambda: self.children() and self.run("test", "-d", "/proc/1", check=False).returncode == 0, 20,
                   self.process.log)

    def certificate(self, pair):
        """Options by which it shows a certificate."""
        shutil.copy(pair.certificate, self.folder / "client.crt")
        shutil.copy(pair.key, self.folder / "client.key")
        return "--x509-cert-file=/test/client.crt", "--x509-key-file=/test/client.key"

    def login(self, where, mechanism, login, password, *options):
        """Whether it logged in, and what was said."""
        result = self.run("gsasl", "--smtp", "--verbose", f"--connect={where[0]}:{where[1]}", "--hostname=localhost",
                          f"--mechanism={mechanism}", f"--authentication-id={login}", f"--password={password}",
                          "--x509-ca-file=/test/authority.pem", *options, check=False, stdin="\n")
        return "\n235 " in "\n" + result.stdout, result.stdout + result.stderr


class HAProxy(Peer):
    """Passes connections on with a PROXY header. backends: {PORT: ((host, port), options of its `server` line)};
    it speaks to them from `source`."""

    def __init__(self, folder, backends, source, checks="", ip6=False):
        address = network.new_address6() if ip6 else network.new_address()
        self.stats_port = network.free_port(address)
        sections = "".join(
            f"listen l{port}\n    bind {address}:{port}\n{checks}"
            f"    server one {host}:{target} source {source} {options}\n"
            for port, ((host, target), options) in backends.items())
        (pathlib.Path(folder) / "haproxy.cfg").write_text(textwrap.dedent(f"""\
            global
                log stdout format raw local0
                stats socket ipv{6 if ip6 else 4}@{address}:{self.stats_port} level admin
            defaults
                mode tcp
                timeout connect 10s
                timeout client 60s
                timeout server 60s
                timeout check 30s
            """) + sections)
        super().__init__(folder, ["haproxy", "-db", "-f", "/test/haproxy.cfg"], address)
        self.wait_port(self.stats_port)

    def state(self, port):
        """What its health checks found: {"status": "UP", "check_status": "L7OK", ...}."""
        with socket.create_connection((self.address, self.stats_port), 60) as stats:
            stats.sendall(b"show stat\n")
            rows = list(csv.DictReader(stats.makefile().read().lstrip("# ").splitlines()))
        return next(row for row in rows if (row["pxname"], row["svname"]) == (f"l{port}", "one"))


class Nginx(Peer):
    """Nginx's mail proxy before an SMTP server: says by XCLIENT who its clients are. They log in at `accounts`
    ({login: password}), whatever the server knows of them; without accounts nobody needs to."""

    def __init__(self, folder, server, accounts=None):
        address, self.port, self.accounts = network.new_address(), 2525, accounts
        self.asked = []  # the headers of each question
        self.door = http.server.ThreadingHTTPServer((address, 0), self._handler(server))
        threading.Thread(target=self.door.serve_forever, daemon=True).start()
        (pathlib.Path(folder) / "nginx.conf").write_text(textwrap.dedent(f"""\
            load_module /usr/lib/nginx/modules/ngx_mail_module.so;
            daemon off;
            master_process off;
            pid /test/nginx.pid;
            error_log stderr info;
            events {{ worker_connections 64; }}
            mail {{
                server_name nginx.test;
                auth_http {address}:{self.door.server_address[1]}/auth;
                proxy_pass_error_message on;
                server {{
                    listen {address}:{self.port};
                    protocol smtp;
                    smtp_auth {"plain login" if accounts else "none"};
                    xclient on;
                }}
            }}
            """))
        super().__init__(folder, ["nginx", "-c", "/test/nginx.conf"], address)
        self.wait_port(self.port)

    def _handler(self, server):
        peer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                peer.asked.append(dict(self.headers))
                login, password = (urllib.parse.unquote(self.headers.get(name, "")) for name in ("Auth-User", "Auth-Pass"))
                right = not peer.accounts or peer.accounts.get(login) == password
                self.send_response(200)
                self.send_header("Auth-Status", "OK" if right else "Login or password wrong")
                self.send_header("Auth-Server", server[0])
                self.send_header("Auth-Port", str(server[1]))
                self.end_headers()

            def log_message(self, *_):
                pass
        return Handler

    def close(self):
        super().close()
        self.door.shutdown()
        self.door.server_close()
