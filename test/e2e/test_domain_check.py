# SPDX-License-Identifier: MIT
"""What a sender domain is to publish, and whether it is there: `domain add` and `domain check` against a real DNS
server, and against one that fails."""
import json
import re

import pytest
from lib import peers
from lib.message import text_message
from lib.relay import Refused, submit

DOMAINS = {"spf_include": "_spf.service.test", "bounce_host": "bounce.service.test", "dmarc_reports": "d@service.test"}
IDS = ["ownership", "spf", "dkim", "dmarc", "return_path", "mx", "ptr", "tls"]


@pytest.fixture
def service(make_relay, authority):
    """make(dns_server): a relay that sends from an address of its own, with a certificate for its name."""
    def make(dns, **config):
        address = "203.0.113.5"
        relay = make_relay({"dns": {"servers": [dns.server]}, "domains": {**DOMAINS, "addresses": [address], **config}})
        relay.cli("account", "add", "acme", "--class", "bulk")
        return relay, address
    return make


def check(relay, domain="shop.test", *more):
    found = relay.cli("domain", "check", domain, *more)
    assert found["domain"] == domain and [one["id"] for one in found["checks"]] == IDS
    for one in found["checks"]:
        assert set(one) == {"id", "state", "want", "found", "fix"}
        assert one["state"] in ("ok", "missing", "wrong", "unknown") and (one["state"] == "ok") == (one["fix"] is None)
    return {one["id"]: one for one in found["checks"]}


def not_ok(checks):
    return {name: one["state"] for name, one in checks.items() if one["state"] != "ok"}


def line(record):
    """A record of `domain add` as a line of a zone file."""
    value = record["value"] + "." if record["type"] != "TXT" else " ".join(
        json.dumps(record["value"][i:i + 255]) for i in range(0, len(record["value"]), 255))
    return f"{record['name']}. 1 {record['type']} {value}\n"


def reverse(address):
    return ".".join(reversed(address.split("."))) + ".in-addr.arpa"


class Zones:
    """The zones of a customer and of the service in Knot, of single records that can be left out or replaced."""

    def __init__(self, start_peer):
        self.knot = start_peer(peers.Knot, zones={"shop.test": "", "service.test": "", "relay.test": "", "in-addr.arpa": ""})
        self.server = self.knot.server

    def fill(self, address, records):
        self.customer = {record["purpose"] + str(n): line(record) for n, record in enumerate(records)}
        self.customer.update(mx="@ 1 MX 10 mx\n", host="mx 1 A 127.0.0.9\n")
        self.ptr = {"ptr": f"{reverse(address)}. 1 PTR relay.test.\n"}
        self.knot.change("service.test", f"_spf 1 TXT \"v=spf1 ip4:{address} -all\"\nbounce 1 A {address}\n")
        self.knot.change("relay.test", f"@ 1 A {address}\n")
        self.put()

    def put(self, **changes):
        """With these records instead (None: without)."""
        for zone, records in (("shop.test", self.customer), ("in-addr.arpa", self.ptr)):
            self.knot.change(zone, "@ 1 SOA ns.test. h.test. 1 3600 600 86400 1\n" + "".join(
                text for text in {**records, **{k: v for k, v in changes.items() if k in records}}.values() if text))


@pytest.fixture
def zones(start_peer):
    return Zones(start_peer)


def find(records, purpose):
    return next(key for key in records if key.startswith(purpose))


def test_from_the_printed_records_alone(service, zones):
    """All that `domain add` prints is published, and nothing else: every check is ok. Then each record is broken in turn,
    and exactly that is named."""
    relay, address = service(zones)
    added = relay.cli("domain", "add", "acme", "shop.test")
    zones.fill(address, added["records"])
    assert not_ok(check(relay)) == {}, added["records"]
    assert relay.cli_list("domain", "list")[0]["verified"] is True  # what was found is kept
    assert relay.cli_list("domain", "list")[0]["return_path"] is True

    for purpose, ident in (("verification", "ownership"), ("spf", "spf"), ("dkim", "dkim"), ("dmarc", "dmarc"),
                           ("return_path", "return_path"), ("mx", "mx"), ("ptr", "ptr")):
        key = find({**zones.customer, **zones.ptr}, purpose)
        zones.put(**{key: None})
        assert not_ok(check(relay)) == {ident: "missing"}
    assert relay.cli_list("domain", "list")[0]["verified"] is True  # once is enough

    other = {"verification": '_posthaste 1 TXT "posthaste-verification=guess"\n', "spf": '@ 1 TXT "v=spf1 -all"\n',
             "dmarc": '_dmarc 1 TXT "v=DMARC1"\n', "return_path": "bounces 1 CNAME mx\n", "mx": "@ 1 MX 0 .\n",
             "ptr": f"{reverse(address)}. 1 PTR mx.shop.test.\n"}
    for purpose, ident in (("verification", "ownership"), ("spf", "spf"), ("dmarc", "dmarc"), ("return_path", "return_path"),
                           ("mx", "mx"), ("ptr", "ptr")):
        zones.put(**{find({**zones.customer, **zones.ptr}, purpose): other[purpose]})
        checks = check(relay)
        assert not_ok(checks) == {ident: "wrong"}
        assert checks[ident]["found"] and checks[ident]["want"]
    assert relay.cli_list("domain", "list")[0]["return_path"] is True  # what was last found
    zones.put(**{find(zones.customer, "return_path"): None})
    check(relay)
    assert relay.cli_list("domain", "list")[0]["return_path"] is False


def test_verified_by_a_check(service, zones):
    """A domain whose ownership a check has found may be sent as at once."""
    relay, address = service(zones)
    password = relay.cli("credential", "add", "acme", "--login", "acme", "--generate")["password"]
    added = relay.cli("domain", "add", "acme", "shop.test")
    data = text_message("a@shop.test", "b@example.org")
    with relay.client(login="acme", password=password) as client, pytest.raises(Refused) as refused:
        submit(client, "a@shop.test", "b@example.org", data)
    assert b"domain verify" in refused.value.text
    zones.fill(address, added["records"])
    check(relay)
    with relay.client(login="acme", password=password) as client:
        client.docmd("MAIL", "FROM:<a@shop.test>")
        assert client.docmd("RSET")[0] == 250
        assert client.docmd("MAIL", "FROM:<a@shop.test>")[0] == 250


def test_dns_without_an_answer(service, dns):
    """Servers that fail or are silent make a check unknown, never wrong; and what the store knew stays."""
    relay, address = service(dns)
    added = relay.cli("domain", "add", "acme", "shop.test")
    for record in added["records"]:
        dns.add(record["name"], record["type"], json.dumps(record["value"]) if record["type"] == "TXT" else record["value"] + ".")
    dns.add("shop.test", "MX", "10 mx.shop.test.")
    dns.add("mx.shop.test", "A", "127.0.0.9")
    dns.add("_spf.service.test", "TXT", f'"v=spf1 ip4:{address} -all"')
    dns.add("bounce.service.test", "A", address)
    dns.add(reverse(address), "PTR", "relay.test.")
    dns.add("relay.test", "A", address)
    assert not_ok(check(relay)) == {}
    for name, ident in (("_posthaste.shop.test", "ownership"), ("_spf.service.test", "spf"), ("_dmarc.shop.test", "dmarc"),
                        ("bounces.shop.test", "return_path"), ("mx.shop.test", "mx"), (reverse(address), "ptr")):
        dns.servfail(name)
        checks = check(relay)
        assert not_ok(checks) == {ident: "unknown"}
        assert "again" in checks[ident]["fix"]
        dns.rcode(name, None)
    assert relay.cli_list("domain", "list")[0]["return_path"] is True
    dns.silent("_dmarc.shop.test")
    assert not_ok(check(relay)) == {"dmarc": "unknown"}


def test_what_the_operator_left_open(make_relay, dns):
    """Nothing configured: the records say so, and the checks name the operator."""
    relay = make_relay()
    relay.cli("account", "add", "acme")
    added = relay.cli("domain", "add", "acme", "shop.test")
    assert "return_path" not in [record["purpose"] for record in added["records"]]
    assert any("domains.bounce_host" in note for note in added["notes"])
    assert next(r for r in added["records"] if r["purpose"] == "spf")["value"] == "v=spf1 a:relay.test ~all"
    checks = check(relay)
    assert checks["return_path"]["state"] == "missing" and "domains.bounce_host" in checks["return_path"]["fix"]
    assert checks["ptr"]["state"] == "unknown" and "operator" in checks["ptr"]["fix"]


def test_text_for_people(service, zones):
    relay, address = service(zones)
    text = relay.run("domain", "add", "acme", "shop.test").stdout
    for words in ("_posthaste.shop.test. TXT \"posthaste-verification=", "shop.test. TXT \"v=spf1 include:_spf.service.test ~all\"",
                  "_dmarc.shop.test. TXT \"v=DMARC1; p=none; rua=mailto:d@service.test\"",
                  "bounces.shop.test. CNAME bounce.service.test."):
        assert f"\n{words}" in text  # behind blanks it would go on with the owner of the line above (RFC 1035 section 5.1)
    assert "posthaste domain check shop.test" in text
    text = relay.run("domain", "check", "shop.test").stdout
    assert re.search(r"^ownership +missing +-$", text, re.M)
    assert "\nownership: missing\n  want   _posthaste.shop.test. TXT \"posthaste-verification=" in text and "\n  fix    publish this TXT record" in text
    assert "\\" not in text  # what is to be published can be copied
    assert 'there is no account "nosuch"' in relay.run("queue", "list", "--account", "nosuch", check=False).stderr


def test_all_keys_that_are_missing(service, dns):
    """Of an RSA and an Ed25519 key neither is there, then one: what is to be published is told at once."""
    relay, _ = service(dns)
    relay.reload({"dkim": {"keys": "both"}})
    records = [one for one in relay.cli("domain", "add", "acme", "shop.test")["records"] if one["purpose"] == "dkim"]
    names = [one["name"] for one in records]
    assert len(names) == 2
    found = check(relay)["dkim"]
    assert found["state"] == "missing" and found["found"] is None
    assert [text.split(". TXT ")[0] for text in found["want"].splitlines()] == names
    assert [text.split()[-1] for text in found["fix"].splitlines()] == names
    text = relay.run("domain", "check", "shop.test").stdout
    for name in names:
        assert text.count(f" {name}. TXT \"v=DKIM1; ") == 1 and text.count(f" publish this TXT record at {name}\n") == 1, text
    dns.txt(names[1], records[1]["value"])
    found = check(relay)["dkim"]
    assert found["state"] == "missing" and names[0] in found["fix"] and names[1] not in found["fix"] + found["want"]
    dns.txt(names[0], records[0]["value"])
    found = check(relay)["dkim"]
    assert found["state"] == "ok" and found["want"] == found["found"] and all(name in found["want"] for name in names)


def test_check_of_which_domain(service, zones):
    relay, _ = service(zones)
    assert relay.run("domain", "check", "shop.test", check=False).returncode == 66
    assert relay.run("domain", "check", "no domain", check=False).returncode == 65
    relay.cli("domain", "add", "acme", "shop.test")
    relay.cli("account", "add", "beta")
    relay.cli("domain", "add", "beta", "shop.test")
    both = relay.run("domain", "check", "shop.test", check=False)
    assert both.returncode == 65 and "several accounts" in both.stderr
    assert check(relay, "shop.test", "--account", "beta")
    assert relay.cli("domain", "check", "SHOP.test", "--account", "acme")["account"] == "acme"
    relay.stop()
    assert relay.run("domain", "check", "shop.test", check=False).returncode == 69


def test_self_signed_is_not_enough(make_relay, dns):
    relay = make_relay({"tls": {"certificate": None, "key": None, "self_signed": True}})
    relay.cli("account", "add", "acme")
    relay.cli("domain", "add", "acme", "shop.test")
    assert check(relay)["tls"]["state"] == "wrong"
