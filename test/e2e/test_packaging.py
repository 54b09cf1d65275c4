# SPDX-License-Identifier: MIT
"""What is installed beside the program: manual pages (judge: mandoc), completion (judges: the shells themselves)."""
import pathlib
import re
import subprocess

import pytest
from lib.relay import BINARY

TOP = pathlib.Path(__file__).parents[2]
MADE = TOP / "build" / "src" / "cli"


def run(*command, **options):
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=60, **options)


def commands():
    """The names of all commands, as `posthaste help` lists them, what is too long with its help on the next line."""
    lines = run(BINARY, "help").stdout.split("commands:\n")[1].split("\n\n")[0].splitlines()
    return [re.match(r"  ([a-z-]+( [a-z-]+)*?)(?=  | [-A-Z\[])", line).group(1) for line in lines if line[2] != " "]


def options(command):
    """The options of a command, as its help lists them: [(name, takes a value)]."""
    text = run(BINARY, "help", *command.split()).stdout.split("\noptions:\n")[1]
    return [(match.group(1), bool(match.group(2))) for match in re.finditer(r"^  --([a-z-]+)( [A-Z|a-z:]+)?  ", text, re.M)]


# ---- manual pages --------------------------------------------------------------------------------------

def pages():
    return {path.name: path for folder in ("man1", "man5") for path in (MADE / folder).iterdir()}


def test_page_for_every_command():
    have = set(pages())
    want = {"posthaste.1", "posthaste.yaml.5"}
    for name in commands():
        want |= {f"posthaste-{name.replace(' ', '-')}.1"}
        want |= {f"posthaste-{name.split()[0]}.1"}  # the group's, or the command's own
    assert have == want


def test_j_mandoc_is_quiet():
    """mandoc -Tlint says nothing, but that it does not find our other pages: those are looked for here."""
    said = run("mandoc", "-Tlint", *pages().values())
    for line in said.stdout.splitlines():
        reference = re.search(r"referenced manual not found: Xr (\S+) (\d)", line)
        assert reference and f"{reference.group(1)}.{reference.group(2)}" in pages(), line
    assert said.stderr == ""


def rendered(page):
    return re.sub(r"\s+", " ", re.sub(r".\x08", "", run("mandoc", "-Tascii", "-O", "width=400", page).stdout))


def test_pages_say_what_help_says():
    for name in commands():
        text = rendered(pages()[f"posthaste-{name.replace(' ', '-')}.1"])
        for option, _ in options(name):
            assert f"--{option}" in text, (name, option)
        assert run(BINARY, "help", *name.split()).stdout.splitlines()[0].split(" - ", 1)[1] in text


def test_page_of_the_configuration():
    text = rendered(pages()["posthaste.yaml.5"])
    keys = re.findall(r"^(\S+)$", run(BINARY, "help", "configuration").stdout, re.M)
    assert len(keys) > 100
    for key in keys:
        assert f" {key} " in text, key


# ---- completion ----------------------------------------------------------------------------------------

BASH = r"""source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _posthaste; printf '%s\n' "${COMPREPLY[@]}" """
ASKED = [
    ("posthaste q", {"queue"}),
    ("posthaste d", {"doctor", "domain", "dkim"}),
    ("posthaste queue re", {"release", "retry"}),
    ("posthaste queue hold --d", {"--domain", "--dry-run"}),
    ("posthaste help queue ho", {"hold", "holds"}),
    ("posthaste account add --class ", {"transactional", "personal", "bulk"}),
    ("posthaste suppress add a@example.org --reason c", {"complaint"}),
    ("posthaste account set shop pre", {"preflight"}),
    ("posthaste account set shop preflight ho", {"hold"}),
    ("posthaste account set shop unsubscribe ", {"off", "bulk"}),
    ("posthaste sink --without S", {"SIZE", "SMTPUTF8"}),
    ("posthaste check-config --config conf", {"configured.yaml"}),
    ("posthaste suppress import conf", {"configured.yaml"}),
    ("posthaste queue hold --id ", set()),
]


@pytest.mark.parametrize("line,want", ASKED, ids=[line for line, _ in ASKED])
def test_j_bash(tmp_path, line, want):
    (tmp_path / "configured.yaml").touch()
    said = run("bash", "--norc", "-c", BASH, "bash", MADE / "posthaste.bash", *line.split(" "), cwd=tmp_path)
    assert (set(said.stdout.split()), said.stderr) == (want, "")


def test_j_bash_equals_sign():
    """readline hands `--class=tr` over in three words."""
    said = run("bash", "--norc", "-c", BASH, "bash", MADE / "posthaste.bash", "posthaste", "account", "add", "--class", "=", "tr")
    assert said.stdout.split() == ["transactional"]


def test_j_fish(tmp_path):
    (tmp_path / "configured.yaml").touch()
    rows = [(line, want) for line, want in ASKED if want]  # without a match fish guesses
    script = "".join(f"complete -C '{line}'; echo =; " for line, _ in rows)
    said = run("fish", "--no-config", "-c", f"source {MADE / 'posthaste.fish'}; {script}", cwd=tmp_path)
    got = [{row.split("\t")[0] for row in part.split("\n") if row} for part in said.stdout.split("=\n")[:-1]]
    assert got == [want for _, want in rows]
    assert said.stderr == ""


def test_j_shells_read_the_scripts():
    for command in (["bash", "-n", "posthaste.bash"], ["shellcheck", "posthaste.bash"], ["zsh", "-n", "_posthaste"],
                    ["fish", "--no-execute", "posthaste.fish"]):
        said = run(*command, cwd=MADE)
        assert (said.returncode, said.stdout, said.stderr) == (0, "", ""), command


def test_completion_has_every_option():
    texts = {name: (MADE / name).read_text() for name in ("posthaste.bash", "_posthaste", "posthaste.fish")}
    for name in commands():
        for option, _ in options(name):
            assert re.search(rf"^    '{name}'\) words='.* --{option}\b", texts["posthaste.bash"], re.M), (name, option)
            assert f"complete -c posthaste -n '__posthaste_in {name}' -l {option} " in texts["posthaste.fish"]
            block = texts["_posthaste"].split(f"\n    '{name}')\n")[1].split(";;")[0]
            assert re.search(rf"'\*?--{option}=?\[", block), (name, option)


def test_programs_of_their_own_know_their_options():
    """`sink` and `load` read their options themselves: each that help and manual name is one."""
    for name in ("sink", "load"):
        for option, has_value in options(name):
            said = run(BINARY, name, f"--{option}", *(["0"] if has_value else [])) if option != "help" else None
            assert said is None or not re.search("unrecognized|requires an argument|doesn't allow", said.stderr), said.stderr
