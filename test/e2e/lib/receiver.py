# SPDX-License-Identifier: MIT
"""A receiving server (aiosmtpd) that keeps what it got and answers as the test says.

    receiver = Receiver()
    receiver.script("rcpt", "451 4.7.1 come back later", times=1, when="slow@example.org")
    receiver.script("end", DROP)                  # takes the message, closes without a reply
    receiver.script("body", DROP, after=2000)     # closes in the middle of the data
    receiver.script("mail", "421 4.3.2 closing", CLOSE)
    receiver.script("end", Delay(3))              # then answers as usual

Steps: connect, ehlo, starttls, mail, rcpt, data (the command), body (during the data), end (after the final
dot), rset, quit. A step may be given several actions; they happen in order. Replies may have several lines
("250-one\\r\\n250 two"). The first script that matches is used; each is used `times` times (None: always).
"""
import asyncio
import collections
import dataclasses
import logging
import re
import socket
import threading
import time

from aiosmtpd.smtp import SMTP, AuthResult

from . import network
from .process import wait_until

logging.getLogger("mail.log").setLevel(logging.CRITICAL)
DROP = object()   # close at once, without a word
CLOSE = object()  # close after what was said so far
SWALLOW = object()  # say nothing and wait for the next command
Delay = collections.namedtuple("Delay", "seconds")
DATA_MAX = 300 << 20


@dataclasses.dataclass
class Transaction:
    """One message that got as far as its final dot, whatever it was answered."""
    connection: int
    client: tuple
    helo: str
    tls: str  # e.g. "TLSv1.3", or ""
    login: str
    mail_from: str
    mail_parameters: list
    recipients: list
    recipient_parameters: dict
    data: bytes  # dots removed, all else as received
    at: float = dataclasses.field(default_factory=time.monotonic)
    reply: str = ""

    @property
    def accepted(self):
        return self.reply.startswith("2")


@dataclasses.dataclass
class Script:
    step: str
    actions: tuple
    times: object
    when: object
    after: int

    def matches(self, step, text):
        if self.step != step or self.times == 0:
            return False
        if self.when is None:
            return True
        return self.when(text) if callable(self.when) else self.when.lower() in text.lower()


class Receiver:
    def __init__(self, address=None, port=None, tls=None, hostname="receiver.test", capabilities=(),
                 without=(), accounts=None, require_tls=False, implicit=False):
        """tls: an ssl.SSLContext for STARTTLS, or, implicit, from the first byte. capabilities: EHLO lines to add (DSN is understood);
        without: keywords to leave out. accounts: {login: password} turns AUTH on."""
        self.address = address or network.new_address()
        self.tls, self.hostname = None if implicit else tls, hostname
        self._tls_at_once = tls if implicit else None
        self.capabilities, self.without = list(capabilities), {w.upper() for w in without}
        self.accounts, self.require_tls = accounts, require_tls
        self.transactions, self.commands = [], []
        self.connections = 0   # ever made
        self.open_now = self.open_most = 0
        self._scripts, self._lock = [], threading.Lock()
        self._greylist = {}
        self._sessions = set()
        self._loop = asyncio.new_event_loop()
        port = network.smtp_port() if port is None else port
        self._sock = socket.socket(socket.AF_INET6 if ":" in self.address else socket.AF_INET, socket.SOCK_STREAM)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._sock.bind((self.address, port))
        self._sock.listen(500)
        self.port = self._sock.getsockname()[1]
        started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(started,), daemon=True)
        self._thread.start()
        assert started.wait(60)

    def _run(self, started):
        asyncio.set_event_loop(self._loop)
        self._server = self._loop.run_until_complete(self._loop.create_server(
            lambda: _Session(self), sock=self._sock, ssl=self._tls_at_once))
        started.set()
        self._loop.run_forever()

    def close(self):
        def stop():
            self._server.close()
            for task in asyncio.all_tasks(self._loop):
                task.cancel()
            self._loop.call_later(0.05, self._loop.stop)
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(stop)
            self._thread.join(10)

    def hang_up(self):
        """Closes all open connections, as a server does with idle ones."""
        def close_all():
            for session in list(self._sessions):
                session.transport.close()
        self._loop.call_soon_threadsafe(close_all)
        wait_until(lambda: self.open_now == 0, 5, "connections closed")

    # ---- the script

    def script(self, step, *actions, times=None, when=None, after=0):
        with self._lock:
            self._scripts.append(Script(step, actions, times, when, after))
        return self

    def clear(self):
        with self._lock:
            self._scripts.clear()

    def greylist(self, seconds, reply="451 4.7.1 greylisted, please try again"):
        """Refuses each (sender, recipient) until `seconds` after it first came."""
        def when(key):
            return time.monotonic() < self._greylist.setdefault(key, time.monotonic() + seconds)
        return self.script("rcpt", reply, when=when)

    def take(self, step, text=""):
        """The script to follow at this step, or None; counts it as used."""
        with self._lock:
            for one in self._scripts:
                if one.matches(step, text):
                    if one.times is not None:
                        one.times -= 1
                    return one
        return None

    # ---- what came

    def messages(self, recipient=None):
        """The accepted transactions, or those for one recipient."""
        with self._lock:
            return [t for t in self.transactions if t.accepted and recipient in (None, *t.recipients)]

    def wait(self, count=1, recipient=None, seconds=15.0):
        """Waits for that many accepted transactions; the list of them."""
        wait_until(lambda: len(self.messages(recipient)) >= count, seconds,
                   f"{count} messages for {recipient or 'anyone'} at {self.address}; commands: {self.commands[-20:]}")
        return self.messages(recipient)

    def wait_for(self, marker, seconds=15.0):
        """The first accepted transaction whose content has these bytes."""
        def look():
            return next((t for t in self.messages() if marker in t.data), None)
        return wait_until(look, seconds, f"a message with {marker!r} at {self.address}")

    def wait_one(self, recipient=None, seconds=15.0):
        return self.wait(1, recipient, seconds)[0]


class _Session(SMTP):
    command_size_limit = 4096
    line_length_limit = 1 << 20

    def __init__(self, receiver):
        self.receiver = receiver
        self.said_to = ""
        super().__init__(_Handler(receiver), hostname=receiver.hostname, ident="ESMTP", data_size_limit=DATA_MAX,
                         enable_SMTPUTF8="SMTPUTF8" not in receiver.without, loop=asyncio.get_event_loop(),
                         tls_context=receiver.tls, require_starttls=receiver.require_tls,
                         authenticator=self._check_login, auth_require_tls=False)
        self.command_size_limits.update(dict.fromkeys(("MAIL", "RCPT", "AUTH"), 4096))
        self.mail_parameters, self.recipient_parameters = [], {}
        self.number = 0

    def connection_made(self, transport):
        self.receiver._sessions.add(self)
        if not self.number:
            self.receiver.connections += 1
            self.number = self.receiver.connections
            self.receiver.open_now += 1
            self.receiver.open_most = max(self.receiver.open_most, self.receiver.open_now)
        super().connection_made(transport)

    def connection_lost(self, error):
        self.receiver._sessions.discard(self)
        if self.number > 0:
            self.receiver.open_now -= 1
            self.number = -self.number
        super().connection_lost(error)

    def _check_login(self, server, session, envelope, mechanism, data):
        login, password = data.login.decode(), data.password.decode()
        if (self.receiver.accounts or {}).get(login) != password:
            return AuthResult(success=False, handled=False)
        return AuthResult(success=True, auth_data=login)

    async def act(self, step, text=""):
        """Follows the script at this step; False if it has said or done all that is to be done."""
        script = self.receiver.take(step, text)
        if script is None:
            return True
        go_on = True
        for action in script.actions:
            if isinstance(action, Delay):
                await asyncio.sleep(action.seconds)
            elif action is DROP:
                self.transport.abort()
                raise asyncio.CancelledError
            elif action is CLOSE:
                self.transport.close()
                raise asyncio.CancelledError
            else:
                go_on = False
                if action is not SWALLOW:
                    await self.push(action)
        return go_on

    async def push(self, status):
        said = status if isinstance(status, str) else status.decode(errors="replace")
        if said.startswith("220 ") and self.session.host_name is None and not getattr(self, "greeted", False):
            self.greeted = True
            if not await self.act("connect"):
                return
        self.said_to = said
        await super().push(status)

    def _heard(self, command, arg):
        self.receiver.commands.append(f"{command} {arg}".strip() if arg else command)

    async def smtp_EHLO(self, hostname):
        self._heard("EHLO", hostname)
        if await self.act("ehlo", hostname or ""):
            await super().smtp_EHLO(hostname)

    async def smtp_HELO(self, hostname):
        self._heard("HELO", hostname)
        if await self.act("helo", hostname or ""):
            await super().smtp_HELO(hostname)

    async def smtp_STARTTLS(self, arg):
        self._heard("STARTTLS", arg)
        if await self.act("starttls"):
            await super().smtp_STARTTLS(arg)

    async def smtp_MAIL(self, arg):
        self._heard("MAIL", arg)
        self.mail_parameters, self.recipient_parameters = [], {}
        if await self.act("mail", arg or ""):
            arg, self.mail_parameters = self._without_dsn(arg)
            await super().smtp_MAIL(arg)

    async def smtp_RCPT(self, arg):
        self._heard("RCPT", arg)
        if await self.act("rcpt", arg or ""):
            arg, parameters = self._without_dsn(arg)
            await super().smtp_RCPT(arg)
            if self.said_to.startswith("250"):
                self.recipient_parameters[self.envelope.rcpt_tos[-1]] = parameters

    async def smtp_DATA(self, arg):
        self._heard("DATA", arg)
        if not await self.act("data"):
            return
        script = self.receiver.take("body")
        if script is not None and self.envelope.rcpt_tos:
            await self.push("354 go ahead")
            seen = 0
            while seen < script.after:
                seen += len(await self._reader.read(script.after - seen))
            self.receiver._scripts.insert(0, Script("midway", script.actions, 1, None, 0))
            await self.act("midway")
            return
        await super().smtp_DATA(arg)

    async def smtp_RSET(self, arg):
        self._heard("RSET", arg)
        if await self.act("rset"):
            await super().smtp_RSET(arg)

    async def smtp_QUIT(self, arg):
        self._heard("QUIT", arg)
        if await self.act("quit"):
            await super().smtp_QUIT(arg)

    def _without_dsn(self, arg):
        """aiosmtpd does not know these parameters: where offered they are kept for the test and taken away."""
        parameters = re.findall(r" (\S+=\S+|SMTPUTF8|REQUIRETLS)", arg or "", re.I)
        if "DSN" in {c.upper() for c in self.receiver.capabilities}:
            arg = re.sub(r"(?i) (RET|ENVID|NOTIFY|ORCPT)=\S+", "", arg or "")
        for offer, parameter in (("DELIVERBY", "BY"), ("MT-PRIORITY", "MT-PRIORITY")):
            if any(c.upper().split()[0] == offer for c in self.receiver.capabilities):
                arg = re.sub(rf"(?i) {parameter}=\S+", "", arg or "")
        return arg, parameters


class _Handler:
    def __init__(self, receiver):
        self.receiver = receiver

    async def handle_EHLO(self, server, session, envelope, hostname, responses):
        session.host_name = hostname
        receiver = self.receiver
        lines = [line[4:] for line in responses]
        kept = [line for line in lines[1:] if line.split()[0].upper() not in receiver.without | {"HELP"}
                and (receiver.accounts or not line.upper().startswith("AUTH"))]
        lines = [lines[0], *kept, *receiver.capabilities]
        return [f"250{'-' if i + 1 < len(lines) else ' '}{line}" for i, line in enumerate(lines)]

    async def handle_DATA(self, server, session, envelope):
        tls = session.ssl.get_extra_info("ssl_object") if hasattr(session.ssl, "get_extra_info") else None
        secured = server.transport.get_extra_info("ssl_object") or tls
        transaction = Transaction(
            abs(server.number), session.peer, session.host_name, secured.version() if secured else "",
            session.auth_data if isinstance(session.auth_data, str) else "", envelope.mail_from,
            server.mail_parameters, list(envelope.rcpt_tos), dict(server.recipient_parameters),
            bytes(envelope.original_content))
        script = self.receiver.take("end", f"{envelope.mail_from} {' '.join(envelope.rcpt_tos)}")
        transaction.reply = "250 2.0.0 taken"
        for action in script.actions if script else ():
            if isinstance(action, Delay):
                await asyncio.sleep(action.seconds)
            elif action in (DROP, CLOSE):
                if transaction.reply.startswith("250 2.0.0 taken"):
                    transaction.reply = ""
                self._keep(transaction)
                if action is DROP:
                    server.transport.abort()
                    raise asyncio.CancelledError
                server.transport.write(transaction.reply.encode() + b"\r\n" if transaction.reply else b"")
                server.transport.close()
                raise asyncio.CancelledError
            else:
                transaction.reply = action
        self._keep(transaction)
        return transaction.reply

    def _keep(self, transaction):
        with self.receiver._lock:
            self.receiver.transactions.append(transaction)
