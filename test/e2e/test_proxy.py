# SPDX-License-Identifier: MIT
"""PROXY protocol: the address that a proxy tells is the client's for everything, and nobody else may tell one."""
import socket
import ssl
import struct

import pytest
from lib import network, peers
from lib.message import text_message
from lib.process import wait_until
from lib.raw import Closed, Raw
from lib.world import PASSWORD, world_fixture

PROXY = "127.9.0.1"  # of the proxies' network; a test's client comes from there and tells who it is
OFFICE = "127.42.7.5"  # of a trusted network
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


def config(world):
    common = {"address": "127.0.0.1:0", "proxy": ["127.9.0.0/16", "2001:db8::/64"], "trusted": ["127.42.7.0/24", "127.9.66.0/24"]}
    return {"workers": 1, "listeners": [
        {**common, "name": "proxied", "tls": "starttls", "auth": "optional", "account": "alice"},
        {**common, "name": "counted", "tls": "starttls", "auth": "optional", "account": "alice"},
        {**common, "name": "smtps", "tls": "implicit", "auth": "required"}],
        "limits": {"sessions_per_address": 3, "auth_failures": 3, "auth_block": "60s"}}


world = world_fixture(config, lambda world: world.relay.add_account("alice", domains=["client.test"]))


def v1(source, port=4660, destination="192.0.2.25", to=25):
    family = "TCP6" if ":" in source else "TCP4"
    return f"PROXY {family} {source} {destination if family == 'TCP4' else '2001:db8::25'} {port} {to}\r\n".encode()


def v2(source, port=4660, tlvs=b""):
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    ends = socket.inet_pton(family, source) + socket.inet_pton(family, "2001:db8::25" if ":" in source else "192.0.2.25")
    block = ends + struct.pack("!HH", port, 25) + tlvs
    return SIGNATURE + bytes([0x21, 0x21 if ":" in source else 0x11]) + struct.pack("!H", len(block)) + block


LOCAL = SIGNATURE + b"\x20\0\0\0"


def connect(world, header, listener="proxied", source=PROXY, greet=True):
    raw = Raw(world.relay.listener(listener), source=source, greet=False)
    raw.send(header)
    if greet:
        raw.greeting = raw.reply()
    return raw


@pytest.mark.parametrize("header", [v1(OFFICE), v2(OFFICE), v2(OFFICE, tlvs=b"\x20\0\x05\x01\0\0\0\0\xea\0\x02hi")],
                         ids=["v1", "v2", "v2-tlvs"])
def test_told_address_is_the_clients(world, header):
    """In Received, in the record, and for trust: the office may send without a login."""
    with connect(world, header) as raw:
        raw.ehlo("office.test")
        ident = raw.envelope("alice@client.test", "bob@example.org").data(text_message("alice@client.test", "bob@example.org")).ident
    received = world.arrived(ident).data.partition(b"\r\nDate:")[0]
    assert b"from office.test ([127.42.7.5])" in received and b"127.9.0.1" not in received
    assert "client=127.42.7.5" in world.relay.log() and "client=127.9.0.1" not in world.relay.log()


def test_others_are_strangers(world):
    """Who is told to come from elsewhere has no rights, whoever tells it."""
    for header in (v1("198.51.100.7"), v2("198.51.100.7"), v2("2001:db8::7"), v1("2001:db8::7")):
        with connect(world, header) as raw:
            raw.ehlo()
            assert raw.ask("AUTH PLAIN AA==").code in (530, 538)
            raw.expect("MAIL FROM:<alice@client.test>", 250)
            assert raw.ask("RCPT TO:<bob@example.org>").code == 550


def test_mapped_address_is_ip4(world):
    with connect(world, b"PROXY TCP6 ::ffff:127.42.7.9 2001:db8::25 1 25\r\n") as raw:
        raw.ehlo()
        raw.envelope("alice@client.test", "bob@example.org")


def test_header_in_pieces(world):
    for header in (v1(OFFICE), v2(OFFICE)):
        with Raw(world.relay.listener("proxied"), source=PROXY, greet=False) as raw:
            for byte in header:
                raw.send(bytes([byte]))
            assert raw.reply().code == 220
            raw.ehlo()
            raw.envelope("alice@client.test", "bob@example.org")


def test_with_what_follows(world):
    """Header and command in one segment: the command is the client's."""
    with connect(world, v1(OFFICE) + b"EHLO office.test\r\nMAIL FROM:<alice@client.test>\r\n", greet=False) as raw:
        assert [raw.reply().code for _ in range(3)] == [220, 250, 250]


@pytest.mark.parametrize("together", [True, False], ids=["one-segment", "apart"])
def test_implicit_tls(world, together):
    """The header comes before the ClientHello, perhaps in one segment with it."""
    raw = Raw(world.relay.listener("smtps"), source=PROXY, greet=False)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = world.authority.client_context().wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    hello = outgoing.read()
    for part in [v2(OFFICE) + hello] if together else [v2(OFFICE), hello]:
        raw.send(part)
    while True:
        try:
            tls.do_handshake()
            break
        except ssl.SSLWantReadError:
            raw.send(outgoing.read())
            incoming.write(raw.socket.recv(65536))
    raw.send(outgoing.read())

    def read():
        while True:
            try:
                return tls.read(4096)
            except ssl.SSLWantReadError:
                incoming.write(raw.socket.recv(65536))
    assert read().startswith(b"220 ")
    tls.write(b"EHLO x\r\n")
    raw.send(outgoing.read())
    assert b"250-AUTH " in read()
    raw.close()


@pytest.mark.parametrize("source", ["127.0.0.1", "127.10.0.1"])
def test_only_from_proxies(world, source):
    """Others are refused without a word, whatever they send; the log names them."""
    raw = Raw(world.relay.listener("proxied"), source=source, greet=False)
    try:
        raw.send(v1(OFFICE))
    except ConnectionError:
        pass
    with pytest.raises((Closed, ConnectionError)):
        raw.reply()
    wait_until(lambda: f"peer={source} because=\"its address is none of the listener's proxies\"" in world.relay.log(), 10)


@pytest.mark.parametrize("header, because", [
    (b"EHLO client.test\r\n", "no PROXY header"), (b"PROXY TCP4 999.0.0.1 192.0.2.25 1 2\r\n", "no two addresses"),
    (b"PROXY UNKNOWN " + b"x" * 200, "more than 107"), (b"\x16\x03\x01\x02\0", "no PROXY header"),
    (SIGNATURE + b"\x21\x11\xff\xff", "more than 4096"), (SIGNATURE + b"\x31\x11\0\x0c", "a version other"),
    (SIGNATURE + b"\x21\x11\0\x04aaaa", "too small for its addresses")])
def test_no_header(world, header, because):
    """Closed without a greeting, and logged."""
    before = world.relay.metrics()["posthaste_sessions_refused_total"]
    with connect(world, header, greet=False) as raw:
        with pytest.raises(Closed):
            raw.reply()
    wait_until(lambda: because in world.relay.log(), 10)
    wait_until(lambda: world.relay.metrics()["posthaste_sessions_refused_total"] > before)  # another's line may stand in the log


def test_silence_is_not_waited_for(world):
    with Raw(world.relay.listener("proxied"), source=PROXY, greet=False, timeout=60) as raw:
        raw.send(b"PROXY TCP4 192.0")
        assert raw.is_closed()
    wait_until(lambda: "no PROXY header came" in world.relay.log(), 10)


def test_health_checks(world):
    """LOCAL: the connection is the proxy's own, with the rights that its address has."""
    with connect(world, LOCAL) as raw:
        assert raw.ehlo().code == 250
        raw.expect("MAIL FROM:<alice@client.test>", 250)
        assert raw.ask("RCPT TO:<bob@example.org>").code == 550
    with connect(world, LOCAL, source="127.9.66.1") as raw:
        raw.ehlo()
        raw.envelope("alice@client.test", "bob@example.org")


@pytest.mark.parametrize("header", [b"PROXY UNKNOWN\r\n", SIGNATURE + b"\x21\0\0\0"], ids=["v1", "v2"])
def test_unknown_is_never_trusted(world, header):
    """A client whose address the proxy does not say gets none of the proxy's rights."""
    with connect(world, header, source="127.9.66.1") as raw:
        assert not any(line.startswith("AUTH") for line in raw.ehlo().lines)
        raw.expect("MAIL FROM:<alice@client.test>", 250)
        assert raw.ask("RCPT TO:<bob@example.org>").code == 550


def test_limits_count_told_addresses(world):
    """Four of one address are one too many; the proxy itself is not counted."""
    open_ = [connect(world, v1("198.51.100.9"), "counted") for _ in range(3)]
    with connect(world, v1("198.51.100.9"), "counted") as raw:
        assert raw.greeting.code == 421
    with connect(world, v1("198.51.100.10"), "counted") as raw:
        assert raw.greeting.code == 220
    open_.pop().close()

    def there_is_room():
        with connect(world, v1("198.51.100.9"), "counted") as raw:
            return raw.greeting.code == 220
    wait_until(there_is_room, 10)
    for raw in open_:
        raw.close()


def test_failed_logins_count_for_told_addresses(world):
    context = world.authority.client_context()

    def attempt(address, password, login="alice"):
        with connect(world, v2(address)) as raw:
            raw.ehlo()
            raw.starttls(context)
            raw.ehlo()
            return raw.plain(login, password).code
    assert [attempt("198.51.100.20", "wrong", f"guess{n}") for n in range(3)] == [535, 535, 535]
    assert attempt("198.51.100.20", PASSWORD) == 454
    assert attempt("198.51.100.21", PASSWORD) == 235


@pytest.mark.parametrize("options", ["send-proxy", "send-proxy-v2"])
@pytest.mark.parametrize("ip6", [False, True], ids=["ip4", "ip6"])
def test_j_haproxy(world, start_peer, options, ip6):
    """HAProxy tells its clients' addresses, and its health checks pass."""
    if ip6 and not network.has_ipv6():
        pytest.skip("no IPv6 here")
    checks = "    option smtpchk EHLO haproxy.test\n"
    proxy = start_peer(peers.HAProxy, backends={
        2500: (world.relay.listener("proxied"), f"{options} check check-send-proxy inter 200ms"),
        4650: (world.relay.listener("smtps"), options)}, checks=checks, source=PROXY, ip6=ip6)
    wait_until(lambda: proxy.state(2500)["check_status"] == "L7OK", 20, proxy.log())
    client = network.new_address6() if ip6 else "127.42.7.77"
    with Raw((proxy.address, 4650), source=client, context=world.authority.client_context()) as raw:
        raw.ehlo("behind.test")
        assert raw.plain("alice", PASSWORD).code == 235
        ident = raw.envelope("alice@client.test", "bob@example.org").data(text_message("alice@client.test", "bob@example.org")).ident
    received = world.arrived(ident).data.partition(b"\r\nDate:")[0].decode()
    assert f"from behind.test ([{'IPv6:' if ip6 else ''}{client}])" in received
    with Raw((proxy.address, 2500), source=client) as raw:
        raw.ehlo()
        raw.expect("MAIL FROM:<alice@client.test>", 250)
        assert raw.ask("RCPT TO:<bob@example.org>").code == (550 if ip6 else 250)
    assert proxy.state(2500)["status"] == "UP"
