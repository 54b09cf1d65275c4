# SPDX-License-Identifier: MIT
"""Law 5 over real sockets: only CRLF.CRLF ends a message, at every split of the bytes; and what a hostile client may try
with STARTTLS, BDAT, silence and crowds."""
import base64
import contextlib
import itertools
import pathlib
import socket
import ssl
import subprocess
import time

import pytest
from lib.process import wait_until
from lib.raw import FALSE_ENDS, Closed, Raw
from lib.world import MX, PASSWORD, PLAIN, world_fixture


def config(world):
    return {
        "listeners": [PLAIN, {"name": "submission", "address": "127.0.0.1:0", "tls": "starttls", "auth": "required"},
                      {"name": "submissions", "address": "127.0.0.1:0", "tls": "implicit", "auth": "required"}, MX],
        "limits": {"command_timeout": "2s", "sessions": 400, "sessions_per_address": 100, "message_size": "1MiB"},
        "workers": 2,
    }


def fill(world):
    world.relay.add_account("alice", domains=["client.test"])


world = world_fixture(config, fill)
HEAD = b"From: alice@client.test\r\nTo: bob@example.org\r\nSubject: x\r\n\r\n"
ENVELOPE = b"MAIL FROM:<alice@client.test>\r\nRCPT TO:<bob@example.org>\r\n"
SMUGGLED = b"MAIL FROM:<evil@client.test>\r\nRCPT TO:<victim@example.org>\r\nDATA\r\nFrom: evil@client.test\r\n\r\nsmuggled\r\n"


def splits(content, at, length):
    """Ways to cut the content into segments: whole, around and within the sequence, and byte by byte near it."""
    yield [content]
    for cut in range(at, at + length + 1):
        yield [content[:cut], content[cut:]]
    yield [content[:at], *(bytes([b]) for b in content[at:at + length + 6]), content[at + length + 6:]]


def send_split(raw, segments):
    for segment in segments:
        if segment:
            raw.send(segment)
            time.sleep(0.0005)  # a segment of its own, as a rule


def check_one_message(world, raw, mark, sequence):
    """One reply to the content, then a session in step; if it was taken, one message with all of it arrives."""
    answer = raw.reply()
    assert raw.ask("VRFY x").code == 252, "the session is out of step: something within the content was obeyed"
    if answer.code != 250:
        assert answer.code == 550 and answer.enhanced == "5.6.0", answer
        return None
    return answer.ident, mark, sequence


@pytest.fixture(scope="module")
def no_smuggled(world):
    yield
    senders = {t.mail_from for t in world.receiver.transactions}
    assert "evil@client.test" not in senders and not world.receiver.messages("victim@example.org")


@pytest.mark.parametrize("hello", ["EHLO", "HELO"])
@pytest.mark.parametrize("sequence", FALSE_ENDS, ids=lambda s: repr(s)[2:-1])
def test_a_false_end(world, sequence, hello, no_smuggled):
    taken = []
    with world.open("plain", "alice") as raw:
        raw.ask(f"{hello} client.test")
        before = HEAD + b"mark%d" % next(MARKS)
        content = before + sequence + SMUGGLED + b"\r\n.\r\n"
        for segments in splits(content, len(before), len(sequence)):
            raw.envelope("alice@client.test", "bob@example.org")
            assert raw.ask("DATA").code == 354
            send_split(raw, segments)
            taken.append(check_one_message(world, raw, before, sequence))
            raw.ask("RSET")
    assert len({t is None for t in taken}) == 1, "the split of the bytes decided"
    if taken[0]:
        got = world.receiver.wait_for(f"id {taken[0][0]}".encode())
        assert b"smuggled" in got.data and got.data.count(b"MAIL FROM:") == 1


MARKS = itertools.count(1)


@pytest.mark.parametrize("sequence", FALSE_ENDS, ids=lambda s: repr(s)[2:-1])
def test_a_false_end_pipelined(world, sequence, no_smuggled):
    """All in one segment, the next transaction too."""
    with world.open("plain", "alice") as raw:
        raw.send(ENVELOPE + b"DATA\r\n" + HEAD + b"a" + sequence + SMUGGLED + b"\r\n.\r\nVRFY x\r\nNOOP\r\n")
        codes = [raw.reply().code for _ in range(6)]
    assert codes[:3] == [250, 250, 354] and codes[3] in (250, 550) and codes[4:] == [252, 250]


@pytest.mark.parametrize("sequence", FALSE_ENDS, ids=lambda s: repr(s)[2:-1])
def test_a_false_end_in_chunks(world, sequence, no_smuggled):
    """In BDAT even the true end is data; what goes out by DATA is one message still."""
    for end in (sequence, b"\r\n.\r\n"):
        content = HEAD + b"a" + end + SMUGGLED
        for cut in (len(content), len(HEAD) + 2, len(HEAD) + 3):
            with world.open("plain", "alice") as raw:
                raw.envelope("alice@client.test", "bob@example.org")
                answer = raw.bdat(content, cut)
                assert raw.ask("VRFY x").code == 252
            if answer.code == 250:
                got = world.receiver.wait_for(f"id {answer.ident}".encode())
                assert got.data.endswith(content.partition(b"\r\n\r\n")[2])
            else:
                assert answer.code == 550 and answer.enhanced == "5.6.0"


@pytest.mark.parametrize("tail", [b".", b"\r\n.", b"x", b"", b".\r\n", b"..\r\n.\r\n", b".\r\n.\r\n.\r\n", b"x" * 998], ids=lambda s: repr(s[:9])[2:-1])
def test_b_outbound_end(world, tail):
    """What a chunk may end with reaches a receiver that knows only DATA as one message, dots and all."""
    content = HEAD + b"before\r\n" + tail
    with world.open("plain", "alice") as raw:
        raw.envelope("alice@client.test", "bob@example.org")
        ident = raw.bdat(content).ident
    got = world.receiver.wait_for(f"id {ident}".encode())
    want = b"before\r\n" + tail
    assert got.data.partition(b"\r\n\r\n")[2] == (want if want.endswith(b"\r\n") else want + b"\r\n")


def test_b_outbound_bare_cr(world):
    """A last chunk that ends in a bare CR could make CR LF.LF of what follows: it is refused."""
    with world.open("plain", "alice") as raw:
        raw.envelope("alice@client.test", "bob@example.org")
        assert raw.bdat(HEAD + b"x\r").code == 550


def test_a_byte_by_byte(world):
    """A whole session, one byte a segment."""
    word = base64.b64encode(f"\0alice\0{PASSWORD}".encode()).decode()
    with Raw(world.relay.listener("plain"), greet=False) as raw:
        whole = b"EHLO c.test\r\nAUTH PLAIN " + word.encode() + b"\r\n" + ENVELOPE + b"DATA\r\n"
        assert raw.reply().code == 220
        for byte in whole:
            raw.send(bytes([byte]))
        assert [raw.reply().code for _ in range(5)] == [250, 235, 250, 250, 354]
        for byte in HEAD + b"..slow\r\n.\r\nQUIT\r\n":
            raw.send(bytes([byte]))
        answer = raw.reply()
        assert raw.reply().code == 221
    assert world.receiver.wait_for(f"id {answer.ident}".encode()).data.endswith(b"\r\n\r\n.slow\r\n")


# ---- STARTTLS

def test_d_starttls_injection(world):
    """What stands behind STARTTLS in the clear is not obeyed under TLS (CVE-2011-0411)."""
    for injected in (b"VRFY injected\r\n", b"EHLO evil\r\nMAIL FROM:<>\r\n", b"\r\n", b"A"):
        with Raw(world.relay.listener("submission")) as raw:
            raw.ehlo()
            raw.send(b"STARTTLS\r\n" + injected)
            assert raw.reply().code == 220
            try:
                raw.tls(world.authority.client_context())
                answer = raw.ehlo("after.test")
            except (OSError, Closed, AssertionError):
                continue  # turned away: as good
            assert answer.code == 250 and answer.lines[0] == "relay.test"
            assert raw.ask("NOOP").text == "2.0.0 Ok" and raw.ask("MAIL FROM:<alice@client.test>").code == 530


def test_d_starttls_forgets(world):
    with Raw(world.relay.listener("submission")) as raw:
        raw.ehlo()
        raw.starttls(world.authority.client_context())
        assert raw.ask("MAIL FROM:<alice@client.test>").code in (503, 530)
        assert raw.plain("alice", PASSWORD).code == 503  # EHLO is forgotten
        raw.ehlo()
        assert raw.expect("STARTTLS", 503).enhanced == "5.5.1"
    with Raw(world.relay.listener("mx")) as raw:
        raw.ehlo()
        raw.expect("MAIL FROM:<x@elsewhere.test>", 250)
        assert raw.expect("STARTTLS", 503).enhanced == "5.5.1"
        raw.expect("RSET", 250)
        raw.starttls(world.authority.client_context())
        raw.ehlo()
        assert raw.ask("RCPT TO:<a@example.org>").code == 503


def test_d_starttls_argument(world):
    with Raw(world.relay.listener("submission")) as raw:
        raw.ehlo()
        assert raw.expect("STARTTLS now", 501).enhanced == "5.5.4"


@pytest.mark.parametrize("junk", [b"EHLO x\r\n" * 100, b"\x16\x03\x01\xff\xff" + b"\0" * 2000, b"\x15\x03\x03\x00\x02\x02\x28", b"\x80\x2e\x01\x00\x02"],
                         ids=["plain", "record", "alert", "ssl2"])
def test_d_tls_junk(world, junk):
    with Raw(world.relay.listener("submissions"), greet=False) as raw:
        raw.send(junk)
        assert raw.is_closed()


def test_d_tls_silence(world):
    """A handshake that never comes is given up."""
    with Raw(world.relay.listener("submissions"), greet=False) as raw:
        assert raw.is_closed()


def test_c_cut_in_content(world):
    """A connection that ends within the content, under TLS and without, leaves no message."""
    for listener, chunked in itertools.product(["plain", "submission"], [False, True]):
        with world.open(listener, "alice", tls=listener == "submission") as raw:
            raw.envelope("alice@client.test", "cut@example.org")
            if chunked:
                raw.send(b"BDAT 100000 LAST\r\n" + HEAD + b"half a mess")
            else:
                raw.expect("DATA", 354)
                raw.send(HEAD + b"half a mess\r\n.\r")
            if isinstance(raw.socket, ssl.SSLSocket):
                try:
                    raw.socket.settimeout(2)
                    raw.socket.unwrap()
                except (OSError, ssl.SSLError):
                    pass
    time.sleep(0.5)
    assert not world.receiver.messages("cut@example.org")


# ---- BDAT

@pytest.mark.parametrize("size", ["-1", "+5", "0x10", "1e3", "18446744073709551616", "18446744073709551615", "4294967296", "9223372036854775808",
                                  "99999999999999999999999", "", "5 FIRST", "5 LAST LAST", "\u0665"])
def test_c_bdat_size(world, size):
    """A size that is none: what follows can't be told from commands, so the session ends."""
    with world.open("plain", "alice") as raw:
        raw.envelope("alice@client.test", "bob@example.org")
        answer = raw.ask(f"BDAT {size}")
        assert answer.code in (500, 501, 552) and raw.is_closed()


def test_c_bdat_refused_is_swallowed(world):
    """The octets of a refused chunk are never commands."""
    with world.open("plain", "alice") as raw:
        raw.send(b"BDAT 18 LAST\r\nMAIL FROM:<evil>\r\nVRFY x\r\n")
        assert [raw.reply().code for _ in range(2)] == [503, 252]
        raw.expect("MAIL FROM:<alice@client.test>", 250)
        raw.expect("RCPT TO:<x@[127.0.0.1]>", 550)
        raw.send(b"BDAT 6\r\nRSET\r\nBDAT 6 LAST\r\nRSET\r\nVRFY x\r\n")
        codes = [raw.reply().code for _ in range(3)]
        assert codes[2] == 252 and min(codes[:2]) >= 500


def test_c_bdat_and_data_do_not_mix(world):
    with world.open("plain", "alice") as raw:
        raw.envelope("alice@client.test", "bob@example.org")
        raw.send(b"BDAT 6\r\nFrom: ")
        assert raw.reply().code == 250
        assert raw.expect("DATA", 503).enhanced == "5.5.1"
        raw.expect("RCPT TO:<c@example.org>", 503)
        raw.expect("RSET", 250)
        raw.envelope("alice@client.test", "bob@example.org")
        assert raw.data(HEAD + b"x\r\n").code == 250


def rss(pid):
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024


def test_c_bdat_empty_chunks(world):
    """Ten thousand chunks of nothing cost no memory."""
    with world.open("plain", "alice") as raw:
        raw.envelope("alice@client.test", "bob@example.org")
        before = rss(world.relay.relay_pid())
        for _ in range(100):
            raw.send(b"BDAT 0\r\n" * 100)
            for _ in range(100):
                assert raw.reply().code == 250
        assert rss(world.relay.relay_pid()) - before < 2 << 20
        assert raw.bdat(HEAD + b"x\r\n").code == 250


# ---- silence and crowds

def test_silence(world):
    start = time.monotonic()
    with Raw(world.relay.listener("plain")) as raw:
        answer = raw.reply()
        assert answer.code == 421 and answer.enhanced == "4.4.2" and time.monotonic() - start > 1.5 and raw.is_closed()


def test_slow_loris(world):
    """A command must come whole in time: a byte now and then does not keep the session."""
    with Raw(world.relay.listener("plain")) as raw:
        start = time.monotonic()
        answer = None
        raw.socket.settimeout(0.3)
        for byte in itertools.cycle(b"NOOP "):
            raw.send(bytes([byte]))
            try:
                answer = raw.reply()
                break
            except TimeoutError:
                assert time.monotonic() - start < 60
        assert answer.code == 421 and answer.enhanced == "4.4.2"


def sessions(relay, listener):
    """How many connections the relay has open at a listener."""
    _, port = relay.listener(listener)
    rows = [line.split() for line in pathlib.Path(f"/proc/{relay.relay_pid()}/net/tcp").read_text().splitlines()[1:]]
    # Not in LISTEN, and with an inode: of a process yet.
    return sum(row[1].endswith(f":{port:04X}") and row[3] != "0A" and row[9] != "0" for row in rows)


def test_many_commands_at_once(world):
    """However many replies one burst of commands makes, all of them come, without another byte from the client."""
    for count in (150, 185, 190, 195):
        with Raw(world.relay.listener("plain")) as raw:
            raw.expect("EHLO c.test", 250)
            raw.send(b"HELP\r\n" * count)
            for _ in range(count):
                assert raw.reply().code == 214


def test_deaf_client(world):
    """Who takes no replies is not read from for ever, and is gone once its time is over."""
    wait_until(lambda: sessions(world.relay, "plain") == 0, what="the end of those before")
    with contextlib.ExitStack() as stack:
        for _ in range(10):
            raw = stack.enter_context(Raw(world.relay.listener("plain")))
            raw.expect("EHLO c.test", 250)
            raw.socket.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                for _ in range(1000):
                    raw.socket.send(b"HELP\r\n" * 1000)
        assert sessions(world.relay, "plain") > 0
        wait_until(lambda: sessions(world.relay, "plain") == 0, what="the deaf are gone")


def test_slow_content(world):
    with world.open("plain", "alice") as raw:
        raw.envelope("alice@client.test", "slow@example.org")
        raw.expect("DATA", 354)
        raw.socket.settimeout(0.2)
        start, answer = time.monotonic(), None
        while answer is None and time.monotonic() - start < 60:
            raw.send(b"x\r\n")
            try:
                answer = raw.reply()
            except TimeoutError:
                pass
        assert answer and answer.code == 421 and answer.enhanced == "4.4.2"
    assert not world.receiver.messages("slow@example.org")


@pytest.fixture
def patient(make_relay):
    """A relay whose clients have time: none is sent away before the last of a crowd is there."""
    return make_relay({"listeners": [MX], "limits": {"sessions": 400, "sessions_per_address": 100}, "workers": 2})


def test_flood(patient):
    """A thousand connections of one address: its share is served, the rest hear 421, others are not touched."""
    where = patient.listener("mx")
    before = rss(patient.relay_pid())
    crowd, replies = [], []
    try:
        for _ in range(1000):
            crowd.append(socket.create_connection(where, timeout=60, source_address=("127.77.0.1", 0)))
        for one in crowd:
            replies.append(one.recv(200)[:9])
        assert replies.count(b"220 relay") == 100 and replies.count(b"421 4.7.0") == 900
        with Raw(where, source="127.77.0.2") as other:
            assert other.ehlo().code == 250
        assert rss(patient.relay_pid()) - before < 100 * 100 * 1024 + (4 << 20)
    finally:
        for one in crowd:
            one.close()

    def free_again():
        with Raw(where, source="127.77.0.1", greet=False) as raw:
            return raw.reply().code == 220
    wait_until(free_again, 10, every=0.1)


def test_flood_of_all(patient):
    """More than fit in all: 421 that says so."""
    where = patient.listener("mx")
    crowd, replies = [], []
    try:
        for number in range(450):
            crowd.append(socket.create_connection(where, timeout=60, source_address=(f"127.78.0.{1 + number % 10}", 0)))
            replies.append(crowd[-1].recv(200)[:9])
        assert replies.count(b"421 4.3.2") == 50 and replies.count(b"220 relay") == 400
    finally:
        for one in crowd:
            one.close()


@pytest.mark.parametrize("junk", [b"\0" * 5000, b"\xff" * 5000 + b"\r\n", b"A" * 100000, b"\r\n" * 1000, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
                                  b"\x16\x03\x01\x00\x05hello"], ids=["nul", "8bit", "endless", "empty", "http", "tls"])
def test_junk_ends(world, junk):
    """Nonsense is answered, and not for ever."""
    with Raw(world.relay.listener("plain")) as raw:
        try:
            for _ in range(50):
                raw.send(junk)
        except OSError:
            pass
        assert raw.is_closed()


def test_still_alive(world):
    """After all of the above the same process serves on."""
    assert "starting another" not in world.relay.log()
    with world.open("plain", "alice") as raw:
        raw.envelope("alice@client.test", "bob@example.org")
        assert raw.data(HEAD + b"x\r\n").code == 250


# ---- more of D, F, G and M ---------------------------------------------------------------------------------------

def test_d_no_renegotiation(world):
    """A client of TLS 1.2 that asks for another handshake gets none; the session goes on, or ends."""
    address, port = world.relay.listener("submissions")
    command = ["openssl", "s_client", "-connect", f"{address}:{port}", "-tls1_2", "-legacy_renegotiation"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as client:
        client.stdin.write("EHLO me\r\n")
        client.stdin.flush()
        heard = ""
        while "220 " not in heard or "250 " not in heard:
            heard += client.stdout.readline()
        client.stdin.write("R\n")  # s_client's own command, at a line's start
        client.stdin.flush()
        try:
            rest = client.communicate("QUIT\r\n", timeout=20)[0]
        except subprocess.TimeoutExpired:
            client.kill()
            rest = client.communicate()[0]
    assert "RENEGOTIATING" in rest and "no renegotiation" in rest, rest


ODD = [b"\x0b", b"\x0c", b"\x00", b"\x7f", b"\x1b[31m", "\u2028".encode(), "\u0085".encode(), b"%0a", b"%0d%0aX-Evil: 1", b";reboot", b"|id", b"$(id)",
       b"`id`", b"'--"]


@pytest.mark.parametrize("odd", ODD, ids=lambda s: repr(s)[2:-1])
def test_f_odd_bytes_in_commands(world, odd):
    """Refused, or an address like any other: what goes out has it as it came, and no line more."""
    with world.open("plain", "alice") as raw:
        assert raw.ask(b"EHLO cli" + odd + b"ent.test").code in (250, 500, 501)
        assert raw.ask(b"HELO cli" + odd + b"ent.test").code in (250, 500, 501)
        raw.ehlo()
        sender, recipient = b"al" + odd + b"ice@client.test", b"bo" + odd + b"b@example.org"
        taken = [raw.ask(b"MAIL FROM:<" + sender + b">").code]
        if taken[0] != 250:
            raw.expect("MAIL FROM:<alice@client.test>", 250)
        taken.append(raw.ask(b"RCPT TO:<" + recipient + b">").code)
        raw.expect("RCPT TO:<bob@example.org>", 250)
        assert set(taken) <= {250, 500, 501, 550, 553}, taken
        if not odd.isascii() or any(byte < 32 or byte == 127 for byte in odd) or b" " in odd:
            assert 250 not in taken, taken
        ident = raw.data(HEAD + b"text\r\n").ident
    got = world.arrived(ident)
    header = got.data.partition(b"\r\n\r\n")[0]
    assert not any(byte < 32 and byte not in b"\r\n\t" for byte in header) and header.isascii()
    assert b"X-Evil" not in b"".join(line for line in header.split(b"\r\n") if line.startswith(b"X-"))
    assert got.recipients == ([recipient.decode()] if taken[1] == 250 else []) + ["bob@example.org"]


@pytest.mark.parametrize("junk", [b"\0" * 5000, bytes(range(256)) * 300, b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 50000,
                                  b"POST /v1/accounts HTTP/1.1\r\nContent-Length: -1\r\n\r\n", b"POST /v1/accounts HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n{",
                                  b"POST /v1/accounts HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n", b"GET /" + b"a" * 100000, b"\x16\x03\x01\x02\x00\x01"],
                         ids=["NULs", "bytes", "fields", "negative", "huge", "chunk", "path", "TLS"])
def test_m_junk_at_the_control_socket(world, junk):
    pid = world.relay.relay_pid()
    with socket.socket(socket.AF_UNIX) as one:
        one.settimeout(5)
        one.connect(world.relay.ready["control"])
        with contextlib.suppress(OSError):
            one.sendall(junk)
            one.shutdown(socket.SHUT_WR)
            while one.recv(65536):
                pass
    assert world.relay.cli("account", "list") and world.relay.relay_pid() == pid
