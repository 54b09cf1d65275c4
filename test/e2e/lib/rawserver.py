# SPDX-License-Identifier: MIT
"""A server that does exactly what a function of the test does with its socket: for what no proper server would say."""
import contextlib
import socket
import threading

from . import network


class RawServer:
    """serve(connection) runs in a thread for each connection; what it raises of OSError ends it."""

    def __init__(self, serve, address=None):
        self.address = address or network.new_address()
        self.connections = 0
        self._serve = serve
        self._sock = socket.socket()
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._sock.bind((self.address, network.smtp_port()))
        self._sock.listen(100)
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._sock.accept()
                self.connections += 1
                threading.Thread(target=self._one, args=(connection,), daemon=True).start()

    def _one(self, connection):
        with contextlib.suppress(OSError), connection:
            connection.settimeout(120)
            self._serve(connection)

    def close(self):
        self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()


class Chunker:
    """A polite ESMTP server that knows BDAT, and notes what it heard and which commands came together."""

    def __init__(self, extensions):
        self.extensions = extensions
        self.flights, self.commands, self.bodies = [], [], []

    def __call__(self, connection):
        stream = b""

        def more():
            nonlocal stream
            data = connection.recv(1 << 20)
            if not data:
                raise OSError("closed")
            self.flights.append(data)
            stream += data

        def line():
            nonlocal stream
            while b"\r\n" not in stream:
                more()
            one, _, stream = stream.partition(b"\r\n")
            return one

        def say(text):
            connection.sendall(text.encode() + b"\r\n")

        say("220 chunker.test ESMTP")
        body = b""
        while True:
            command = line().decode("utf-8", "replace")
            self.commands.append(command)
            verb = command.split()[0].upper()
            if verb == "EHLO":
                words = ["chunker.test", *self.extensions]
                say("\r\n".join(f"250{'-' if i + 1 < len(words) else ' '}{w}" for i, w in enumerate(words)))
            elif verb == "BDAT":
                size = int(command.split()[1])
                while len(stream) < size:
                    more()
                body, stream = body + stream[:size], stream[size:]
                if command.upper().endswith("LAST"):
                    self.bodies.append(body)
                    body = b""
                say("250 2.0.0 chunk taken")
            elif verb == "DATA":
                say("354 go ahead")
                while b"\r\n.\r\n" not in b"\r\n" + stream:
                    more()
                at = (b"\r\n" + stream).index(b"\r\n.\r\n")
                self.bodies.append(stream[:at].replace(b"\r\n..", b"\r\n."))
                stream = stream[at + 3:]
                say("250 2.0.0 taken")
            elif verb == "QUIT":
                say("221 2.0.0 bye")
                return
            else:
                say("250 2.1.0 fine")
