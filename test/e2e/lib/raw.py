# SPDX-License-Identifier: MIT
"""SMTP by hand: bytes out, replies in, so that a test says exactly what is on the wire and when."""
import base64
import dataclasses
import hashlib
import hmac
import os
import socket
import ssl

from .process import PATIENCE_S

QUEUED = "2.0.0 Ok: queued as "
# Whatever some server somewhere has taken for the end of the data.
FALSE_ENDS = [b"\n.\n", b"\n.\r", b"\r.\n", b"\r.\r", b"\n.\r\n", b"\r.\r\n", b"\r\n.\n", b"\r\n.\r", b"\r\n\0.\r\n", b"\r\n.\0\r\n",
              b"\r\n.\r\r\n", b"\r\r\n.\r\r\n", b"\n\n.\r\n", b"\r\n.\n\r\n", b"\r\n.\n.\r\n", b"\r\n .\r\n", b"\r\n.\t\r\n", b"\r\n.\x0b\r\n",
              b"\r\n\xef\xbb\xbf.\r\n", b"\r\n. \r\n", b"\xe2\x80\xa8.\xe2\x80\xa8", b"\x85.\x85", b"=0D=0A.=0D=0A"]


@dataclasses.dataclass
class Reply:
    code: int
    lines: list  # without code and separator

    @property
    def text(self):
        return self.lines[-1]

    @property
    def enhanced(self):
        return self.text.split(" ", 1)[0]

    @property
    def ident(self):
        assert self.code == 250 and self.text.startswith(QUEUED), self
        return self.text[len(QUEUED):]

    def __str__(self):
        return f"{self.code} {self.text}"


class Closed(AssertionError):
    """The server closed where a reply was expected."""


class Raw:
    """A connection; the greeting is read unless the server is to be silent."""

    def __init__(self, where, source=None, timeout=PATIENCE_S, context=None, greet=True, small=False):
        if isinstance(where, tuple):
            self.socket = socket.create_connection(where, timeout, source_address=(source, 0) if source else None)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        else:  # the path of a Unix socket
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.settimeout(timeout)
            self.socket.connect(str(where))
        if small:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.kept = b""
        self.context = context
        if context and context is not True:
            self.tls(context)
        self.greeting = self.reply() if greet else None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    close = __exit__

    def tls(self, context, name="localhost"):
        assert not self.kept, f"bytes before TLS: {self.kept!r}"
        self.socket = context.wrap_socket(self.socket, server_hostname=name)
        return self

    def starttls(self, context):
        answer = self.ask("STARTTLS")
        assert answer.code == 220, answer
        return self.tls(context)

    def send(self, data):
        self.socket.sendall(data.encode() if isinstance(data, str) else data)
        return self

    def line(self):
        while b"\r\n" not in self.kept:
            try:
                got = self.socket.recv(65536)
            except (ConnectionResetError, ssl.SSLError):
                got = b""
            if not got:
                raise Closed(f"closed; kept {self.kept!r}")
            self.kept += got
        line, _, self.kept = self.kept.partition(b"\r\n")
        return line

    def reply(self):
        lines = []
        while True:
            line = self.line()
            assert len(line) >= 4 and line[:3].isdigit() and line[3:4] in b" -", line
            lines.append(line[4:].decode())
            if line[3:4] == b" ":
                return Reply(int(line[:3]), lines)

    def ask(self, command):
        """One command, its reply."""
        command = command.encode() if isinstance(command, str) else command
        return self.send(command + b"\r\n").reply()

    def ehlo(self, name="client.test"):
        return self.ask(f"EHLO {name}")

    def plain(self, login, password):
        word = base64.b64encode(b"\0" + login.encode() + b"\0" + password.encode()).decode()
        return self.ask(f"AUTH PLAIN {word}")

    def is_closed(self):
        """Waits for the end of the connection; what came before it is lost."""
        try:
            while self.socket.recv(65536):
                pass
        except (ConnectionResetError, ssl.SSLError):
            pass
        except TimeoutError:
            return False
        return True

    def expect(self, command, code):
        answer = self.ask(command)
        assert answer.code == code, f"{command!r}: {answer}"
        return answer

    def envelope(self, sender, recipients, parameters=""):
        """MAIL and RCPTs, each of which must be taken."""
        self.expect(f"MAIL FROM:<{sender}>{parameters}", 250)
        for recipient in [recipients] if isinstance(recipients, str) else recipients:
            self.expect(f"RCPT TO:<{recipient}>", 250)
        return self

    def data(self, content):
        """DATA with this content (dots are stuffed here, the last CRLF must be there); the final reply."""
        answer = self.ask("DATA")
        if answer.code != 354:
            return answer
        if content.startswith(b"."):
            content = b"." + content
        return self.send(content.replace(b"\r\n.", b"\r\n..") + b".\r\n").reply()

    def bdat(self, content, chunk=None):
        """The content in chunks; the last reply."""
        chunk = chunk or max(len(content), 1)
        pieces = [content[i:i + chunk] for i in range(0, len(content), chunk)] or [b""]
        for number, piece in enumerate(pieces):
            last = number + 1 == len(pieces)
            answer = self.send(f"BDAT {len(piece)}{' LAST' if last else ''}\r\n".encode() + piece).reply()
            if answer.code != 250:
                return answer
        return answer


def b64(data):
    return base64.b64encode(data.encode() if isinstance(data, str) else data).decode()


class Scram:
    """The client's side of RFC 5802 and 7677, begun, checking the server's signature."""

    def __init__(self, raw, login):
        self.raw = raw
        nonce = b64(os.urandom(18))
        self.bare = f"n={login},r={nonce}"
        self.answer = raw.ask(f"AUTH SCRAM-SHA-256 {b64('n,,' + self.bare)}")
        if self.answer.code != 334:
            return
        self.first = base64.b64decode(self.answer.text).decode()
        self.parts = dict(part.split("=", 1) for part in self.first.split(","))
        assert self.parts["r"].startswith(nonce) and len(self.parts["r"]) > len(nonce) and int(self.parts["i"]) >= 4096

    def finish(self, password, tamper=False):
        """The last reply."""
        if self.answer.code != 334:
            return self.answer
        salted = hashlib.pbkdf2_hmac("sha256", password.encode(), base64.b64decode(self.parts["s"]), int(self.parts["i"]))
        client_key = hmac.digest(salted, b"Client Key", "sha256")
        final = f"c=biws,r={self.parts['r']}" + ("x" if tamper else "")
        whole = f"{self.bare},{self.first},{final}".encode()
        signature = hmac.digest(hashlib.sha256(client_key).digest(), whole, "sha256")
        proof = bytes(a ^ b for a, b in zip(client_key, signature))
        answer = self.raw.ask(b64(f"{final},p={b64(proof)}"))
        if answer.code != 334:
            return answer
        expected = hmac.digest(hmac.digest(salted, b"Server Key", "sha256"), whole, "sha256")
        assert base64.b64decode(answer.text) == b"v=" + b64(expected).encode()
        return self.raw.ask("")
