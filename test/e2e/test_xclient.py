# SPDX-License-Identifier: MIT
"""XCLIENT: a proxy that the configuration names says who its client is; nobody else may."""
import pytest
from lib import clients, peers
from lib.message import text_message
from lib.raw import Raw
from lib.world import PASSWORD, world_fixture

OFFICE = "127.42.7.5"  # of a trusted network


def config(world):
    common = {"address": "127.0.0.1:0", "tls": "starttls", "auth": "optional", "account": "alice", "trusted": ["127.42.7.0/24", "127.9.66.0/24"]}
    strict = {key: value for key, value in common.items() if key != "account"}
    return {"workers": 1, "listeners": [
        {**common, "name": "told", "xclient": ["127.9.0.0/16"]},
        {**common, "name": "any", "xclient": ["127.0.0.0/8"]},
        {**strict, "name": "logins", "auth": "required", "xclient": ["127.0.0.0/8"], "xclient_login": True},
        {**common, "name": "both", "xclient": ["127.9.66.0/24"], "proxy": ["127.9.0.0/16"]},
        {"name": "bounces", "address": "127.0.0.1:0", "tls": "none", "role": "bounces", "xclient": ["127.9.0.0/16"]}],
        "limits": {"sessions_per_address": 2, "auth_failures": 2, "auth_block": "60s"}}


def fill(world):
    world.relay.add_account("alice", domains=["client.test"])
    world.relay.add_account("carol", domains=["carol.test"])
    world.relay.add_account("gone", domains=["gone.test"])
    world.relay.cli("account", "suspend", "gone")


world = world_fixture(config, fill)


def connect(world, *commands, listener="told", source="127.9.0.1"):
    raw = Raw(world.relay.listener(listener), source=source)
    raw.ehlo("proxy.test")
    for command in commands:
        raw.answer = raw.ask(command)
    return raw


def deliver(world, raw, sender="alice@client.test"):
    ident = raw.envelope(sender, "bob@example.org").data(text_message(sender, "bob@example.org")).ident
    return ident, world.arrived(ident).data.partition(b"\r\nDate:")[0].decode()


def test_told_address_is_the_clients(world):
    """For trust, Received and the log; the session begins anew."""
    with connect(world, f"XCLIENT NAME=office.test ADDR={OFFICE} PORT=4660 PROTO=ESMTP HELO=told.test DESTADDR=192.0.2.25 DESTPORT=25") as raw:
        assert str(raw.answer) == str(raw.greeting) and raw.answer.code == 220
        assert raw.ask("MAIL FROM:<alice@client.test>").code == 503
        raw.ehlo("proxy.test")
        ident, received = deliver(world, raw)
    assert "from told.test ([127.42.7.5])" in received and "127.9.0.1" not in received
    assert "client=127.42.7.5:4660" in world.relay.log()


@pytest.mark.parametrize("told", ["ADDR=198.51.100.7", "ADDR=IPV6:2001:db8::7", "ADDR=[UNAVAILABLE]", "ADDR=[TEMPUNAVAIL] NAME=[TEMPUNAVAIL]"])
def test_others_are_strangers(world, told):
    """Who is told to come from elsewhere, or from nobody knows where, has no rights: not those of the proxy's network either."""
    with connect(world, f"XCLIENT {told}", source="127.9.66.1") as raw:
        assert raw.answer.code == 220
        assert not any(line.startswith("AUTH") for line in raw.ehlo().lines)
        raw.expect("MAIL FROM:<alice@client.test>", 250)
        assert raw.ask("RCPT TO:<bob@example.org>").code == 550


def test_only_for_whom_it_is_meant(world):
    """Neither offered to others nor taken from them; LOGIN only where it is believed."""
    with connect(world) as raw:
        assert "XCLIENT NAME ADDR PORT PROTO HELO DESTADDR DESTPORT" in raw.ehlo().lines
        assert raw.ask("XCLIENT LOGIN=alice").enhanced == "5.7.0"
    with connect(world, listener="logins") as raw:
        assert "XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT" in raw.ehlo().lines
    with connect(world, source="127.0.0.1") as raw:
        assert not any(line.startswith("XCLIENT") for line in raw.ehlo().lines)
        assert (raw.ask(f"XCLIENT ADDR={OFFICE}").code, raw.ask("NOOP").code) == (550, 250)


def test_may_be_said_again(world):
    """The next client over the same connection, with none of the rights of the last."""
    with connect(world, "XCLIENT LOGIN=alice", listener="logins") as raw:
        raw.ehlo()
        deliver(world, raw)
        assert raw.ask("XCLIENT LOGIN=carol").code == 220
        raw.ehlo()
        assert raw.ask("MAIL FROM:<alice@client.test>").code == 550
        deliver(world, raw, "carol@carol.test")
        assert raw.ask("XCLIENT ADDR=192.0.2.1").code == 220
        raw.ehlo()
        assert raw.ask("MAIL FROM:<carol@carol.test>").code == 530


@pytest.mark.parametrize("login", ["nobody", "gone"])
def test_unknown_logins(world, login):
    with connect(world, f"XCLIENT LOGIN={login}", listener="logins") as raw:
        assert raw.answer.code == 550 and login in raw.answer.text
        assert raw.ask("MAIL FROM:<alice@client.test>").code == 530


def test_limits_count_told_addresses(world):
    opened = [connect(world, "XCLIENT ADDR=198.51.100.9") for _ in range(2)]
    opened.append(connect(world, "XCLIENT ADDR=198.51.100.9"))
    assert [raw.answer.code for raw in opened] == [220, 220, 421]
    opened.append(connect(world, "XCLIENT ADDR=198.51.100.10", source="127.9.0.2"))
    assert opened[-1].answer.code == 220
    for raw in opened:
        raw.close()


def test_failed_logins_count_for_told_addresses(world):
    context = world.authority.client_context()

    def attempt(address, login, password, source):
        with connect(world, f"XCLIENT ADDR={address}", source=source) as raw:
            raw.ehlo()
            raw.starttls(context)
            raw.ehlo()
            return raw.plain(login, password).code
    assert [attempt("198.51.100.20", f"guess{n}", "wrong", "127.9.1.1") for n in range(2)] == [535, 535]
    assert attempt("198.51.100.20", "alice", PASSWORD, "127.9.1.2") == 454
    assert attempt("198.51.100.21", "alice", PASSWORD, "127.9.1.1") == 235


def test_behind_a_proxy_header(world):
    """The address that a PROXY header tells decides who may say XCLIENT."""
    for source, code in (("127.9.66.5", 220), ("198.51.100.1", 550)):
        with Raw(world.relay.listener("both"), source="127.9.0.1", greet=False) as raw:
            raw.send(f"PROXY TCP4 {source} 192.0.2.25 1 25\r\n")
            assert raw.reply().code == 220
            assert raw.ask(f"XCLIENT ADDR={OFFICE}").code == code


def test_listener_for_bounces(world):
    """There, too: reports are counted by the address that is told."""
    with connect(world, "XCLIENT ADDR=198.51.100.30", listener="bounces") as raw:
        assert raw.answer.code == 220
        raw.ehlo()
        raw.expect("MAIL FROM:<>", 250)


def test_j_swaks(world):
    data = text_message("alice@client.test", "bob@example.org", body="by swaks\n")
    to = clients.To.relay(world.relay, "told")
    options = ["--xclient-addr", OFFICE, "--xclient-name", "office.test", "--xclient-helo", "told.test", "--xclient-proto", "ESMTP",
               "--local-interface", "127.9.0.1"]
    to.tls = "none"
    printed = clients.swaks(to, "alice@client.test", ["bob@example.org"], data, *options)
    ident = printed.partition("queued as ")[2].split()[0]
    assert "from told.test ([127.42.7.5])" in world.arrived(ident).data.decode()
    with pytest.raises(clients.Failed):
        clients.swaks(to, "alice@client.test", ["bob@example.org"], data, "--xclient-addr", "198.51.100.7", "--local-interface", "127.9.0.1")


def test_j_nginx(world, start_peer):
    """nginx lets clients in and tells their address and login; their mail is their account's."""
    nginx = start_peer(peers.Nginx, server=world.relay.listener("logins"), accounts={"alice": "nginx knows", "nobody": "nginx knows"})
    with Raw((nginx.address, nginx.port), source="127.42.9.9") as raw:
        raw.ehlo("behind.test")
        assert raw.plain("alice", "wrong").code == 535
    with Raw((nginx.address, nginx.port), source="127.42.9.9") as raw:
        raw.ehlo("behind.test")
        assert raw.plain("alice", "nginx knows").code == 235
        ident, received = deliver(world, raw)
        assert "from behind.test ([127.42.9.9])" in received and "with ESMTPA" in received
        assert raw.ask("MAIL FROM:<carol@carol.test>").code == 550
    assert world.relay.message(ident)["account"] == "alice"
    with Raw((nginx.address, nginx.port), source="127.42.9.9") as raw:
        raw.ehlo("behind.test")
        assert raw.plain("nobody", "nginx knows").code == 550  # nginx passes the answer to XCLIENT on


def test_j_nginx_without_logins(world, start_peer):
    """The address alone decides: the office may send, others may not."""
    nginx = start_peer(peers.Nginx, server=world.relay.listener("any"))
    for source, code in ((OFFICE, 250), ("127.42.9.9", 550)):
        with Raw((nginx.address, nginx.port), source=source) as raw:
            raw.ehlo("behind.test")
            raw.expect("MAIL FROM:<alice@client.test>", 250)
            assert raw.ask("RCPT TO:<bob@example.org>").code == code
