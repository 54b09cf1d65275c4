# SPDX-License-Identifier: MIT
"""A scripted DNS server: what it answers, how late, or whether at all.

It plays the recursive server that posthaste is told to ask: it follows CNAMEs, sets RA, and says NXDOMAIN
to every name that it was not told about. Every question is kept in `queries`.
"""
import collections
import socket
import socketserver
import struct
import threading
import time

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from . import network

Query = collections.namedtuple("Query", "name type at over")


def _strings(text):
    """A TXT record's text in strings of at most 255 bytes."""
    parts = [text[at:at + 255] for at in range(0, len(text), 255)] or [""]
    return " ".join('"' + part.replace('"', '\\"') + '"' for part in parts)


class FakeDns:
    def __init__(self, address=None, port=None):
        self.address = address or network.new_address()
        self.zone = {}  # lower-case name without final dot -> type -> [rdata text]
        self.rcodes, self.silent_names, self.delays = {}, set(), {}
        self.ttl = 60
        self.queries = []
        self._lock = threading.Lock()
        port = port if port is not None else (53 if network.PRIVATE else network.free_port(self.address))
        self._servers = [_Udp((self.address, port), self), _Tcp((self.address, port), self)]
        self.port = port
        for server in self._servers:
            threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True).start()

    @property
    def server(self):
        """As the configuration wants it."""
        return f"{self.address}@{self.port}"

    # ---- what it knows

    def add(self, name, rtype, *values):
        """Adds records, e.g. add("example.org", "MX", "10 mx1.example.org."); keeps what was there."""
        self.zone.setdefault(_key(name), {}).setdefault(rtype.upper(), []).extend(values)

    def replace(self, name, rtype, *values):
        self.zone.setdefault(_key(name), {})[rtype.upper()] = list(values)

    def remove(self, name):
        self.zone.pop(_key(name), None)

    def mx(self, name, *hosts):
        """Hosts in order of preference, or (preference, host) pairs."""
        for index, host in enumerate(hosts):
            preference, host = host if isinstance(host, tuple) else (10 * (index + 1), host)
            self.add(name, "MX", f"{preference} {host.rstrip('.')}.")

    def null_mx(self, name):
        self.add(name, "MX", "0 .")

    def a(self, name, *addresses):
        for address in addresses:
            self.add(name, "AAAA" if ":" in address else "A", address)

    def cname(self, name, target):
        self.add(name, "CNAME", target.rstrip(".") + ".")

    def txt(self, name, text):
        self.add(name, "TXT", _strings(text))

    def domain(self, name, *receivers):
        """A mail domain whose MX hosts are these receivers (anything with .address), by preference."""
        for index, receiver in enumerate(receivers):
            host = f"mx{index + 1}.{name}"
            self.mx(name, (10 * (index + 1), host))
            self.a(host, receiver.address)

    # ---- how it behaves

    def rcode(self, name, code):
        """SERVFAIL, REFUSED, ... for a name and all below it; None ends that."""
        if code is None:
            self.rcodes.pop(_key(name), None)
        else:
            self.rcodes[_key(name)] = dns.rcode.from_text(code)

    def servfail(self, name):
        self.rcode(name, "SERVFAIL")

    def silent(self, name):
        """Never answers for a name and all below it; the name "" means every name."""
        self.silent_names.add(_key(name))

    def speak(self, name):
        self.silent_names.discard(_key(name))

    def delay(self, name, seconds):
        self.delays[_key(name)] = seconds

    def asked(self, name, rtype=None):
        """How often it was asked."""
        with self._lock:
            return sum(q.name == _key(name) and rtype in (None, q.type) for q in self.queries)

    def close(self):
        for server in self._servers:
            server.shutdown()
            server.server_close()

    # ---- answering

    def answer(self, wire, over):
        """The reply's bytes, or None for silence."""
        try:
            query = dns.message.from_wire(wire)
        except Exception:
            return None
        if not query.question:
            return None
        question = query.question[0]
        name, rtype = _key(question.name.to_text()), dns.rdatatype.to_text(question.rdtype)
        with self._lock:
            self.queries.append(Query(name, rtype, time.monotonic(), over))
        if _covering(self.silent_names, name) is not None:
            return None
        waits = _covering(self.delays, name)
        if waits is not None:
            time.sleep(self.delays[waits])
        reply = dns.message.make_response(query, recursion_available=True)
        failing = _covering(self.rcodes, name)
        if failing is not None:
            reply.set_rcode(self.rcodes[failing])
        else:
            self._fill(reply, name, rtype)
        out = reply.to_wire(max_size=65535)
        room = query.payload if query.edns >= 0 else 512
        if over == "udp" and len(out) > room:
            reply = dns.message.make_response(query, recursion_available=True)
            reply.flags |= dns.flags.TC
            out = reply.to_wire()
        return out

    def _fill(self, reply, name, rtype):
        for _ in range(16):
            records = self.zone.get(name)
            if records is None:
                if not any(other.endswith("." + name) for other in self.zone):
                    reply.set_rcode(dns.rcode.NXDOMAIN)
                break
            found = rtype if records.get(rtype) else "CNAME"
            if not records.get(found):
                break
            reply.answer.append(dns.rrset.from_text(name + ".", self.ttl, "IN", found, *records[found]))
            if found == rtype:
                return
            name = _key(records["CNAME"][0])
        parent = name.partition(".")[2] or name
        reply.authority.append(dns.rrset.from_text(
            (parent + ".") if parent else ".", self.ttl, "IN", "SOA", "ns.invalid. root.invalid. 1 3600 600 86400 5"))


def _key(name):
    return name.lower().rstrip(".")


def _covering(names, name):
    """The closest of `names` that is the name itself or a parent of it, or None."""
    while True:
        if name in names:
            return name
        if not name:
            return None
        name = name.partition(".")[2]


class _UdpHandler(socketserver.BaseRequestHandler):
    def handle(self):
        data, sock = self.request
        out = self.server.dns.answer(data, "udp")
        if out is not None:
            sock.sendto(out, self.client_address)


class _TcpHandler(socketserver.StreamRequestHandler):
    timeout = 10

    def handle(self):
        while True:
            head = self.rfile.read(2)
            if len(head) < 2:
                return
            out = self.server.dns.answer(self.rfile.read(struct.unpack("!H", head)[0]), "tcp")
            if out is None:
                return
            self.wfile.write(struct.pack("!H", len(out)) + out)


class _Udp(socketserver.ThreadingUDPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True

    def __init__(self, where, dns_server):
        self.dns = dns_server
        self.address_family = socket.AF_INET6 if ":" in where[0] else socket.AF_INET
        super().__init__(where, _UdpHandler)


class _Tcp(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True

    def __init__(self, where, dns_server):
        self.dns = dns_server
        self.address_family = socket.AF_INET6 if ":" in where[0] else socket.AF_INET
        super().__init__(where, _TcpHandler)
