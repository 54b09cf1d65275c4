# SPDX-License-Identifier: MIT
"""The tools that judge the rest are judged here: each rule must bite on a bad sample and pass a good one."""
import importlib.machinery
import importlib.util
import os
import pathlib
import re
import shutil
import subprocess

import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]
SERVERS = {"postfix", "exim4", "exim4-daemon-light", "sendmail", "opensmtpd", "dovecot-core", "dovecot-imapd", "knot",
           "bind9", "unbound", "nsd", "dnsmasq", "courier-imap", "cyrus-imapd", "msmtp-mta", "dma", "nullmailer", "ssmtp"}


# ---- tools/deps --------------------------------------------------------------------------------------

def run_deps(tmp_path, *arguments, missing=(), root=True, sudo=False, apt_code=0):
    """tools/deps with dpkg-query, apt-get, id and sudo replaced; (finished process, apt-get's calls)."""
    fake = tmp_path / "bin"
    fake.mkdir()
    calls = tmp_path / "calls"
    scripts = {
        "dpkg-query": "for last; do :; done; case \" %s \" in *\" $last \"*) exit 1;; esac; printf 'installed '" % " ".join(missing),
        "apt-get": f"echo \"${{DEBIAN_FRONTEND-unset}} apt-get $*\" >>{calls}; exit {apt_code}",
        "id": f"echo {0 if root else 1000}",
        "sudo": f"[ \"$1\" = -n ] || exit 9; shift; [ {int(sudo)} = 1 ] || exit 1; echo sudo >>{calls}; exec \"$@\"",
    }
    for name, body in scripts.items():
        (fake / name).write_text(f"#!/bin/sh\n{body}\n")
        (fake / name).chmod(0o755)
    env = {**os.environ, "PATH": f"{fake}:{os.environ['PATH']}"}
    env.pop("DEBIAN_FRONTEND", None)
    run = subprocess.run([TOP / "tools" / "deps", *arguments], capture_output=True, text=True, env=env, stdin=subprocess.DEVNULL)
    return run, calls.read_text().splitlines() if calls.exists() else []


UPDATE = "unset apt-get -o DPkg::Lock::Timeout=300 update"
INSTALL = "noninteractive apt-get -o DPkg::Lock::Timeout=300 --no-install-recommends install -y meson ninja-build"


def test_deps_all_present(tmp_path):
    run, calls = run_deps(tmp_path, "build", "check")
    assert run.returncode == 0 and not calls


def test_deps_installs_as_root(tmp_path):
    run, calls = run_deps(tmp_path, "build", missing=["meson", "ninja-build"])
    assert run.returncode == 0 and calls == [UPDATE, INSTALL]


def test_deps_installs_by_sudo(tmp_path):
    run, calls = run_deps(tmp_path, "build", missing=["meson", "ninja-build"], root=False, sudo=True)
    assert run.returncode == 0 and [c for c in calls if c != "sudo"] == [UPDATE, INSTALL] and calls.count("sudo") == 3  # may it, update, install


@pytest.mark.parametrize("case", [{"root": False}, {"apt_code": 100}, {"check": True}])
def test_deps_can_not(tmp_path, case):
    """Exit 69 and the exact command, by hand or after apt-get failed."""
    arguments = ["--check", "build"] if case.pop("check", False) else ["build"]
    run, _ = run_deps(tmp_path, *arguments, missing=["meson", "ninja-build"], **case)
    assert run.returncode == 69
    assert ("    apt-get -o DPkg::Lock::Timeout=300 update && env DEBIAN_FRONTEND=noninteractive apt-get -o "
            "DPkg::Lock::Timeout=300 --no-install-recommends install -y meson ninja-build\n") in run.stderr


def test_deps_unknown_purpose(tmp_path):
    run, calls = run_deps(tmp_path, "nonsense")
    assert run.returncode == 64 and not calls


def test_dependencies_have_no_server():
    rows = re.findall(r"^\| `([^`]+)` \| (\w+) \|", (TOP / "docs" / "DEPENDENCIES.md").read_text(), re.M)
    assert len(rows) > 30 and not SERVERS & {name for name, _ in rows}


# ---- debian/ -----------------------------------------------------------------------------------------

def test_deb_builds_with_what_is_listed():
    """debian/control asks for the libraries and tools that docs/DEPENDENCIES.md lists, and no others; the versions agree."""
    rows = re.findall(r"^\| `([^`]+)` \| build \|", (TOP / "docs" / "DEPENDENCIES.md").read_text(), re.M)
    control = (TOP / "debian" / "control").read_text()
    wanted = set(re.findall(r"[a-z0-9][a-z0-9.+-]+(?= *(?:\(|,|$))", control.split("Build-Depends:")[1].split("\nStandards")[0], re.M))
    assert wanted - {"debhelper-compat", "dh-sequence-installsysusers"} == set(rows) - {
        "gcc", "libc6-dev", "python3",  # build-essential, and what meson brings
        "dns-root-data", "ca-certificates"}  # to run it
    assert {"dns-root-data", "ca-certificates"} < set(re.findall(r"[a-z-]+", control.split("\nDepends:")[1].split("\n")[0]))
    version = re.search(r"^project\([^)]*?[ (]version: '([^']+)'", (TOP / "meson.build").read_text(), re.M).group(1)
    assert (TOP / "debian" / "changelog").read_text().startswith(f"posthaste ({version}) ")


# ---- tools/lint, tools/check-layers ------------------------------------------------------------------

GOOD_H = "// SPDX-License-Identifier: MIT\n//\n// a - nothing\n#pragma once\n\n// Does nothing.\nint a_do(void);\nint a_more(void);\n"
GOOD_C = '// SPDX-License-Identifier: MIT\n#include "base/a.h"\n\nint a_do(void)\n{\n    return 0; // strcpy(x, y) in a comment\n}\n'


@pytest.fixture
def tree(tmp_path):
    """A small tree in which every rule passes."""
    top = tmp_path / "tree"
    for folder in ("src/base", "src/mail", "tools"):
        (top / folder).mkdir(parents=True)
    for name in ("tools/lint", "tools/check-layers", ".clang-format"):
        shutil.copy(TOP / name, top / name)
    (top / "LAYERS").write_text("# comment\nbase  x\nmail  y\n")
    (top / "src/base/a.h").write_text(GOOD_H)
    (top / "src/base/a.c").write_text(GOOD_C)
    (top / "src/base/a_test.c").write_text('// SPDX-License-Identifier: MIT\n#include "sim_x.h"\n')
    (top / "test/sim").mkdir(parents=True)
    (top / "test/sim/sim_x.h").write_text("// SPDX-License-Identifier: MIT\n")
    subprocess.run(["git", "init", "-q", top], check=True)
    return top


BAD = [
    ("format", "src/base/b.c", "// SPDX-License-Identifier: MIT\nint   x;\n", "src/base/b.c:2: run clang-format"),
    ("layers", "src/base/b.c", '#include "mail/m.h"\n', "src/base/b.c:1: base may not include mail/m.h"),
    ("layers", "src/mail/m.c", '#include "a.h"\n', 'src/mail/m.c:1: include "a.h" as "folder/a.h"'),
    ("layers", "src/mail/m.c", '#include "base/none.h"\n', "does not exist"),
    ("layers", "src/mail/m.c", '#include "sim_x.h"\n', 'include "sim_x.h" as "folder/sim_x.h"'),
    ("layers", "src/odd/o.c", "\n", "folder odd is not in LAYERS"),
    ("comments", "src/base/b.h", "// SPDX-License-Identifier: MIT\n\nint b_do(void);\n", "src/base/b.h:3: b_do() has no comment"),
    ("comments", "src/base/b.h", "// A\nint b_a(void);\n\nstruct x *b_do(int a,\n    int b);\n", "src/base/b.h:4: b_do()"),
    ("banned", "src/base/b.c", "void f(char *a)\n{\n    strcpy(a, \"x\");\n}\n", "src/base/b.c:3: strcpy()"),
    ("banned", "src/base/b.c", "int x = atoi (\"1\");\n", "src/base/b.c:1: atoi()"),
    ("log", "src/base/b.c", 'void f(void)\n{\n    log_info("it (is)", LOG_CSTR("text", "a"));\n}\n', "src/base/b.c:3: the key text"),
    ("log", "src/base/b.c", 'void f(void)\n{\n    log_warn("x", LOG_INT("a", 1),\n        LOG_INT("a", 2));\n}\n', "src/base/b.c:3: the key a"),
    ("licence", "src/base/b.c", "int x;\n", "src/base/b.c:1: no SPDX"),
    ("licence", "tools/new", "#!/bin/sh\ntrue\n", "tools/new:1: no SPDX"),
    ("text", "src/base/b.c", "int x; \n", "src/base/b.c:1: tab or trailing blank"),
    ("shell", "tools/new", "#!/bin/sh\necho $1\n", "tools/new:2"),
    ("python", "tools/new", "#!/usr/bin/python3\ndef\n", "tools/new:2"),
]


def lint(tree, rule):
    return subprocess.run([tree / "tools" / "lint", rule], capture_output=True, text=True)


@pytest.mark.parametrize("rule", sorted({row[0] for row in BAD}))
def test_lint_passes_good(tree, rule):
    run = lint(tree, rule)
    assert run.returncode == 0 and f"ok 1 - {rule}" in run.stdout, run.stdout + run.stderr


@pytest.mark.parametrize("rule,name,text,says", BAD)
def test_lint_bites(tree, rule, name, text, says):
    (tree / name).parent.mkdir(exist_ok=True)
    (tree / name).write_text(text)
    run = lint(tree, rule)
    assert run.returncode == 1 and says in run.stdout, run.stdout + run.stderr


def test_lint_tidy_remembers(tree):
    """A file with a bug is reported each time; a clean one is looked at once, until something it includes changes."""
    (tree / ".clang-tidy").write_text((TOP / ".clang-tidy").read_text())
    (tree / "build").mkdir()
    bad = tree / "src/base/b.c"
    bad.write_text("int f(int a);\nint f(int a)\n{\n    return a == 1 || a == 1;\n}\n")
    entries = [f'{{"directory": "{tree}/build", "file": "../src/base/{n}", "command": "cc -I../src -c ../src/base/{n}"}}'
               for n in ("a.c", "b.c")]
    (tree / "build/compile_commands.json").write_text(f"[{','.join(entries)}]")
    for _ in range(2):
        run = lint(tree, "tidy")
        assert run.returncode == 1 and "src/base/b.c:4: " in run.stdout and "a.c" not in run.stdout, run.stdout
    marks = set((tree / "build/lint-cache").iterdir())
    assert len(marks) == 1
    (tree / "src/base/a.h").write_text(GOOD_H + "// More.\nint a_third(void);\n")
    bad.write_text("int f(int a);\nint f(int a)\n{\n    return a == 1;\n}\n")
    assert lint(tree, "tidy").returncode == 0
    assert len(set((tree / "build/lint-cache").iterdir()) - marks) == 2


# ---- tools/check -------------------------------------------------------------------------------------

def tool(name):
    """tools/NAME as a module."""
    loader = importlib.machinery.SourceFileLoader(f"{name}_tool", str(TOP / "tools" / name))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


@pytest.fixture
def check(tmp_path):
    """tools/check as a module that believes in another tree."""
    module = tool("check")
    module.TOP, module.OUT = tmp_path, tmp_path / "build" / "check"
    module.OUT.mkdir(parents=True)
    (tmp_path / "docs").mkdir()
    return module


def outcomes(results):
    return [(r.test, r.outcome) for r in results]


def program(check, body, timeout_min=1):
    return check.run_program(check.Suite("sim", 1, None), ["/bin/sh", "-c", body], timeout_min)


def test_check_reads_tap(check):
    found = program(check, "echo 1..4; echo ok 1 - a; echo not ok 2 - b; echo '# because'; echo 'ok 3 - c # SKIP no root'; "
                           "echo 'not ok 4 # SKIP d'; exit 1")
    assert outcomes(found) == [("a", "passed"), ("b", "failed"), ("c", "skipped"), ("d", "skipped")]
    assert found[1].reason == "because" and found[2].reason == "no root"


@pytest.mark.parametrize("body,says", [
    ("echo 1..2; echo ok 1 - a", "planned 2 cases, ran 1"),
    ("echo 1..1; echo ok 1 - a; kill -SEGV $$", "SIGSEGV"),
    ("echo 1..1; echo ok 1 - a; exit 3", "exit code is 3"),
    ("true", "planned 0 cases, ran 0"),
    ("echo 1..1; echo ok 1 - a; echo '==7==ERROR: AddressSanitizer: heap-use-after-free' >&2", "heap-use-after-free"),
    ("echo 1..1; echo ok 1 - a; sleep 60", "took too long"),
])
def test_check_distrusts_programs(check, body, says):
    """One that dies, lies about its plan, hangs or has a sanitizer's report does not pass."""
    found = program(check, body, 0.02)
    assert found[-1].outcome == "failed" and says in found[-1].reason, found


FEATURE = "| id | clause | tests |\n|---|---|---|\n| 1.1 | x | {} |\n"


@pytest.mark.parametrize("named,fails", [
    ("`unit:a_b/good`", None), ("`unit:a_b`", "failed"), ("`unit:a_b/bad`", "failed"), ("`unit:a_b/none`", "absent"),
    ("`e2e:test_x.py::test_y`", None), ("`e2e:test_x.py::test_s`", "skipped"), ("`unit:a_b/good` `unit:none`", "absent"),
    ("", "names no test"), ("left out: too soon", None)])
def test_check_holds_features_to_account(check, tmp_path, named, fails):
    (tmp_path / "docs" / "FEATURES.md").write_text(FEATURE.format(named))
    results = [check.Result("unit", "a_b/good", "passed", 0), check.Result("unit", "a_b/bad", "failed", 0),
               check.Result("e2e", "test_x.py::test_y[1]", "passed", 0), check.Result("e2e", "test_x.py::test_s", "skipped", 0)]
    found = check.check_features(results, long=True)
    assert [r.outcome for r in found] == ["failed" if fails else "passed"]
    assert (fails or "") in found[0].reason


def cases_of(name):
    """What the name of a test says of its case: of a file of pytest the names of all, of another the last part."""
    if name.endswith(".py"):
        return re.findall(r"^def (test_\w+)", (TOP / "test" / "e2e" / name.partition(":")[2]).read_text(), re.M)
    return [re.split("/|::", name)[-1]]


def test_attacks_carry_their_letters():
    """What docs/INVARIANTS.md names against attacks is in docs/FEATURES.md, too, and each case has the letter of a row that names it."""
    rows = {}
    for letter, names in re.findall(r"^\| ([A-N]) \|[^|]*\|([^|]*)\|$", (TOP / "docs" / "INVARIANTS.md").read_text(), re.M):
        for name in re.findall(r"`([^`]+)`", names):
            rows.setdefault(name, set()).add(letter.lower())
    assert set().union(*rows.values()) == set("abcdefghijklmn")
    features = {name for _, names, _ in tool("check").feature_rows() for name in names}
    assert not [name for name in rows if not any(name == one or name.startswith((one + "/", one + "::")) for one in features)]
    assert not [(name, case) for name, letters in rows.items() if not name.startswith("fuzz:") for case in cases_of(name)
                if not re.match(f"(test_)?[{''.join(letters)}]_", case)]


def test_check_names_pytest_cases(check, tmp_path):
    folder = tmp_path / "t"
    folder.mkdir()
    (folder / "test_x.py").write_text(
        "import pytest\nclass TestC:\n    @pytest.mark.parametrize('n', [1, 2])\n    def test_m(self, n):\n        assert n == 1\n"
        "def test_s():\n    pytest.skip('because')\n@pytest.mark.long\ndef test_l():\n    pass\n")
    found = {r.test: r for r in check.run_pytest(check.Suite("e2e", 1, None), "t", False)}
    assert "(pytest)" not in found, found
    assert {name: r.outcome for name, r in found.items()} == {
        "test_x.py::TestC::test_m[1]": "passed", "test_x.py::TestC::test_m[2]": "failed", "test_x.py::test_s": "skipped"}
    assert found["test_x.py::test_s"].reason == "because"
    assert "assert 2 == 1" in found["test_x.py::TestC::test_m[2]"].reason


# ---- tools/mutants, tools/fuzz -----------------------------------------------------------------------

def unfit(name, hunks):
    return [f"{name}: {file}" for file, old, new in hunks if (TOP / file).read_text().count(old) != 1 or old == new]


def test_mutants_fit_the_source():
    """Each change of test/mutants/ is one of the source as it is now."""
    mutants = tool("mutants")
    assert not [one for path in sorted((TOP / "test" / "mutants").iterdir()) for one in unfit(path.name, mutants.parse(path)[3])]


def test_planted_fit_the_source():
    """Each of test/fuzz/planted/ is for a target that there is, and fits the source."""
    fuzz = tool("fuzz")
    for path in sorted((TOP / "test" / "fuzz" / "planted").iterdir()):
        target, _, hunks = fuzz.planted(path)
        assert target in fuzz.targets() and not unfit(path.name, hunks)
