# SPDX-License-Identifier: MIT
"""docs/SENDING-DOMAIN.md, as it stands: its configuration, its zone, its commands in their order, with the records that
`domain add` prints published in Knot and nothing else."""
import json
import re
import subprocess

import yaml
from lib import peers
from lib.process import TOP, wait_until
from lib.relay import BINARY

GUIDE = (TOP / "docs" / "SENDING-DOMAIN.md").read_text()
MESSAGE = b"""From: Shop <news@shop.example>
To: customer@example.org
Subject: Sale
List-Unsubscribe: <https://shop.example/u/1>
List-Unsubscribe-Post: List-Unsubscribe=One-Click

Everything must go.
"""


def blocks(kind):
    return re.findall(rf"^```{kind}\n(.*?)^```", GUIDE, re.M | re.S)


def zones_of(text):
    """The service's own zones, as the page has them; names are written whole."""
    zones = {"example.net": "", "in-addr.arpa": "", "shop.example": ""}
    for line in text.splitlines():
        name = line.split()[0]
        zone = next(zone for zone in zones if name.endswith(zone + "."))
        zones[zone] += re.sub(r"\s+", " 1 ", line, count=1) + "\n"
    return zones


def record_line(record):
    value = record["value"] + "." if record["type"] == "CNAME" else " ".join(
        json.dumps(record["value"][i:i + 255]) for i in range(0, len(record["value"]), 255))
    return f"{record['name']}. 1 {record['type']} {value}\n"


def test_the_guide(make_relay, start_peer, authority, tmp_path):
    config = yaml.safe_load(blocks("yaml")[0])
    for listener in config["listeners"]:
        listener["address"] = "127.0.0.1:0"  # ports 25 and 587 are not the test's to take
    pair = authority.issue(config["hostname"], stem="guide")
    knot = start_peer(peers.Knot, zones=zones_of(blocks("zone")[0]))
    relay = make_relay({**config, "dns": {"servers": [knot.server]}, "dkim": {"check_every": "1s"},
                        "tls": {"certificate": str(pair.certificate), "key": str(pair.key)}})
    (tmp_path / "message.eml").write_bytes(MESSAGE)
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    (bin_ / "posthaste").symlink_to(BINARY)

    def run(command):
        return subprocess.run(["sh", "-ec", command], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60,
                              env={"PATH": f"{bin_}:/usr/bin:/bin", "POSTHASTE_CONFIG": str(relay.config_file)}).stdout

    commands = [line for block in blocks("sh") for line in block.splitlines()]
    assert len(commands) == 8
    said = {}
    for command in commands:
        assert command.startswith("posthaste ")
        if "domain check" in command:
            records = json.loads(run("posthaste domain add acme shop.example --json"))["records"]
            knot.change("shop.example", "@ 1 MX 10 mx\nmx 1 A 203.0.113.20\n" + "".join(map(record_line, records)))
        if "message check" in command:  # the page says: at the latest dkim.check_every later
            wait_until(lambda: {key["state"] for key in relay.cli_list("dkim", "list")} == {"active"}, 20, "keys are used")
        said[command] = run(command)
    assert re.search(r"^password +\S{32}$", said["posthaste credential add acme --login acme --generate"], re.M)
    checked = said["posthaste domain check shop.example"]
    assert len(re.findall(r"^[a-z_]+ +ok ", checked, re.M)) == 8, checked
    assert said["posthaste message check --account acme < message.eml"] == "verdict: ok\n"
    shown = json.loads(run("posthaste account show acme --json"))
    assert shown["options"]["preflight"] == "hold" and shown["options"]["unsubscribe"] == "bulk"
