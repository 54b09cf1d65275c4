# SPDX-License-Identifier: MIT
"""`config show` and `config schema`: what is shown loads again and means the same; python3-jsonschema judges the schema."""
import json
import pathlib
import re
import shutil
import subprocess

import jsonschema
import pytest
import yaml
from lib.relay import BINARY

TOP = pathlib.Path(__file__).parents[2]
CORPUS = sorted((TOP / "test" / "fuzz" / "corpus" / "conf").glob("*.yaml"))
# A list, a section and words that are easily taken for something else.
AWKWARD = r'''
hostname: mail.example.org
spool: "sp ool"
user: "no"
listeners:
  - {name: "on", address: "127.0.0.1:0", tls: none, auth: none, trusted: [127.0.0.1, "2001:db8::/32"], submission: off}
  - {address: "*:2525", name: "007", tls: none, auth: optional, trusted: 10.0.0.0/8, role: submission}
tls:
routes:
  - {match: {recipient: ["*.example.net", a@example.net], account: null-sender}, via: "smtp://[2001:db8::1]:25", login: "ü\"\\: #", password_file: pw, tls: encrypt}
  - {via: maildir:/var/mail/%d/%u, match: {sender: "*"}}
lanes:
  - {match: slow.example, messages_per_second: 0.25, bytes_per_second: 1.5KiB}
retry: {lifetime: 1w, warn_after: none}
limits: {sessions: 1_000, message_size: 25MB, spool_segment: none}
domains: {addresses: [192.0.2.1, "2001:db8::1"], dmarc_reports: d@example.org}
bounce: {complaints: [fbl@example.org]}
http: {address: "*:8025"}
unsubscribe: {url: "https://u.example.org/", address: "[::]:8026"}
'''

# Every kind of listener; what one can't have may not be shown of it either.
LISTENERS = """
hostname: mail.example.org
tls: {self_signed: yes}
listeners:
  - {name: required, address: "*:587"}
  - {name: implicit, address: "127.0.0.1:465", tls: implicit, client_certificates: login}
  - {name: optional, address: "[::1]:587", auth: optional, trusted: [10.0.0.0/8], account: ops, client_certificates: ask}
  - {name: clear, address: "127.0.0.1:25", tls: none, auth: none, trusted: [127.0.0.1], account: ops, submission: strict}
  - {name: proxied, address: "127.0.0.1:0", proxy: [192.0.2.0/24], hide_client: yes}
  - {name: xclient, address: "127.0.0.1:0", xclient: [192.0.2.1], xclient_login: yes}
  - {name: bounces, address: "*:25", role: bounces}
  - {name: bounces-implicit, address: "127.0.0.1:0", role: bounces, tls: implicit}
  - {name: bounces-clear, address: "127.0.0.1:0", role: bounces, tls: none, proxy: [192.0.2.0/24], xclient: [192.0.2.1], hide_client: yes}
sendmail: {socket: submit.sock, accounts: [{user: "*", account: ops}]}
"""


def run(*arguments, code=0):
    result = subprocess.run([BINARY, *map(str, arguments)], capture_output=True, text=True, timeout=120)
    assert result.returncode == code, result.stderr
    return result.stdout


def examples(folder):
    """Files of ours that the relay takes: the fuzz corpus, the default, the guide's."""
    folder.mkdir(exist_ok=True)
    found = []
    texts = {path.name: path.read_text(errors="replace") for path in CORPUS} | {"awkward.yaml": AWKWARD, "listeners.yaml": LISTENERS}
    for number, block in enumerate(re.findall(r"```yaml[^\n]*\n(.*?)```", "".join(
            path.read_text() for path in [TOP / "README.md", *sorted((TOP / "docs").glob("*.md"))]), re.S)):
        texts[f"document{number}.yaml"] = block
    for name, text in texts.items():
        path = folder / name
        path.write_text(text)
        shown = subprocess.run([BINARY, "config", "show", "--config", path], capture_output=True, text=True, timeout=120)
        if shown.returncode == 0:
            found.append(path)
    assert len(found) >= 4, found
    return found


def test_shown_is_the_same_again(tmp_path):
    """With comments or defaults, it is a configuration, and the one that was read."""
    for path in examples(tmp_path / "in"):
        whole, brief = run("config", "show", "--defaults", "--config", path), run("config", "show", "--config", path)
        for text in (whole, brief):
            again = tmp_path / "again.yaml"
            again.write_text(text)
            assert run("config", "show", "--defaults", "--config", again) == whole, path
        given = yaml.safe_load(path.read_text()) or {}
        assert set(yaml.safe_load(brief)) >= set(given)  # all that the file says, no comment


def test_every_kind_of_listener_shown(tmp_path):
    """What is shown of it passes check-config; of those with role: bounces there are no keys of the others, not even as comments."""
    path, again = tmp_path / "p.yaml", tmp_path / "again.yaml"
    path.write_text(LISTENERS)
    for options in ([], ["--defaults"]):
        text = run("config", "show", *options, "--config", path)
        again.write_text(text)
        assert ": ok: 9 listeners" in run("check-config", "--config", again)
        refused = {"auth", "trusted", "account", "submission", "xclient_login", "client_certificates"}
        for entry in text.split("listeners:")[1].split("\ntls:")[0].split("\n  - ")[1:]:
            keys = set(re.findall(r"^ *(?:# )?([a-z_]+):", entry, re.M))
            assert keys & refused == (set() if "role: bounces" in entry else refused), entry


def test_what_is_shown(tmp_path):
    path = tmp_path / "p.yaml"
    path.write_text(AWKWARD)
    brief = run("config", "show", "--config", path)
    shown = yaml.safe_load(brief)
    assert shown["spool"] == f"{tmp_path}/sp ool" and shown["user"] == "no"
    assert [one["name"] for one in shown["listeners"]] == ["on", "007"]
    assert shown["listeners"][1]["address"] == "*:2525" and shown["listeners"][0]["trusted"] == ["127.0.0.1", "2001:db8::/32"]
    assert shown["routes"][0]["login"] == 'ü"\\: #' and shown["routes"][0]["match"]["recipient"] == ["*.example.net", "a@example.net"]
    assert shown["http"] == {"address": "*:8025"} and shown["unsubscribe"]["address"] == "[::]:8026"
    assert shown["retry"] == {"lifetime": "7d", "warn_after": "none"} and shown["lanes"][0]["bytes_per_second"] == 1536
    assert "state" not in shown and re.search(r"^# state: /var/lib/posthaste$", brief, re.M)
    assert re.search(r"^  # max: 4h$", brief, re.M) and re.search(r"^# log:\n#   format: text$", brief, re.M)
    whole = yaml.safe_load(run("config", "show", "--defaults", "--config", path))
    assert whole["retry"]["max"] == "4h" and len(whole["lanes"]) == 2 and whole["limits"]["sessions"] == 1000
    run("config", "show", "--json", "--config", path, code=64)
    path.write_text("hostname: [")
    run("config", "show", "--config", path, code=78)


# ---- the schema ------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def validator():
    schema = json.loads(run("config", "schema"))
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_schema_takes_what_the_relay_takes(validator, tmp_path):
    for path in examples(tmp_path / "in"):
        for text in (path.read_text(), run("config", "show", "--config", path), run("config", "show", "--defaults", "--config", path)):
            assert [error.message for error in validator.iter_errors(yaml.safe_load(text) or {"hostname": "x"})] == [], path


WRONG = {
    "hostname": ["-x", "a b", ["a"]],
    "nonsense": [1],
    "workers": [-1, 65, "many", 1.5, None],
    "shutdown_grace": ["10", "1s1h", "", 10, "s"],
    "listeners": [{}, [1], [{"name": "a"}], [{"name": "a", "address": "1.2.3.4"}], [{"name": "a", "address": "*:25", "tls": "ssl"}],
                  [{"name": "", "address": "*:25"}], [{"name": "a", "address": "*:25", "trusted": ["x/8"]}],
                  [{"name": "a", "address": "*:25", "hide_client": "maybe"}], [{"name": "a", "address": "*:25", "port": 1}]],
    "tls": [True, {"certificate": ""}, {"certificat": "x"}, {"self_signed": 2}],
    "routes": [[{}], [{"via": "uucp:x"}], [{"via": "mx", "match": {"recipient": []}}], [{"via": "mx", "tls": "always"}],
               [{"via": "mx", "login": ""}], [{"via": "mx", "match": {"subject": "x"}}]],
    "lanes": [[{"connections": 0}], [{"connections": "none"}], [{"messages_per_second": 0}], [{"bytes_per_second": "fast"}]],
    "limits": [{"message_size": 1}, {"message_size": "25 megabytes"}, {"recipients": 99}, {"sessions": True}],
    "domains": [{"addresses": ["192.0.2.0/24"]}, {"dmarc_reports": "nobody"}, {"dkim": "TXTT"}],
    "retry": [{"factor": 0.5}, {"factor": 11}, {"first": "none"}],
    "http": [{"address": "8025"}],
    "log": ["text", {"level": "verbose"}],
}


def test_schema_refuses_what_the_relay_refuses(validator, tmp_path):
    """Planted mistakes, one a file: the schema finds each, and so does check-config."""
    path = tmp_path / "p.yaml"
    for key, values in WRONG.items():
        for value in values:
            conf = {"hostname": "mail.example.org", key: value}
            assert list(validator.iter_errors(conf)), conf
            path.write_text(yaml.safe_dump(conf))
            taken = subprocess.run([BINARY, "config", "show", "--config", path], capture_output=True).returncode
            assert taken == 78, conf
    assert list(validator.iter_errors({"hostname": "a.example", "listeners": [{"name": "x"}]}))  # no address


def test_schema_knows_every_key(validator):
    """Each row of the reference is in it, with its help."""
    text = (TOP / "docs" / "INTERFACE.md").read_text()
    keys = re.findall(r"^\| `([a-z_.\[\]]+)` \| (.*?) \|", text[text.index("<!-- generated"):], re.M)
    assert len(keys) > 80
    for key, help_text in keys:
        at = validator.schema
        for part in key.split("."):
            at = at["properties"][part.removesuffix("[]")]
            at = at["items"] if part.endswith("[]") else at
        assert at["description"].startswith(help_text.replace("\\", "")), key


def test_example_for_an_editor(tmp_path):
    """The schema is one file that stands by itself."""
    if not shutil.which("node"):
        pytest.skip("needs node")
    path = tmp_path / "schema.json"
    path.write_text(run("config", "schema"))
    script = "const s=JSON.parse(require('fs').readFileSync(process.argv[1]));" \
        "const walk=o=>{for(const[k,v]of Object.entries(o)){if(k==='pattern')new RegExp(v,'u');else if(v&&typeof v==='object')walk(v)}};walk(s)"
    subprocess.run(["node", "-e", script, path], check=True, timeout=120)  # its patterns are those of ECMA 262, as editors read them
