# SPDX-License-Identifier: MIT
"""The container's files, the compose file and the stateful set: judged by foreign programs, and tried as far as that goes without
an engine: the service runs as they have it run. Judges: dockerfile-utils, docker-compose, Kubernetes' schema (kubernetes-models)."""
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile

import pytest
import yaml
from lib import judges
from lib.process import TOP, Process, wait_until
from lib.relay import BINARY

FILES = TOP / "packaging" / "container"
CONTAINERFILE = (FILES / "Containerfile").read_text()
COMPOSE = yaml.safe_load((FILES / "compose.yaml").read_text())
MANIFEST = TOP / "packaging" / "kubernetes" / "posthaste.yaml"
OBJECTS = list(yaml.safe_load_all(MANIFEST.read_text()))
USER = "10001"


@pytest.fixture(scope="module")
def npm():
    where = judges.npm_root()
    if where is None:
        pytest.skip("npm's packages are not there: tools/npm")
    return pathlib.Path(where)


def run(*command, **options):
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=120, **options)


def the(kind):
    return next(one for one in OBJECTS if one["kind"] == kind)


def container():
    return the("StatefulSet")["spec"]["template"]["spec"]["containers"][0]


# ---- the image -------------------------------------------------------------------------------------------

def test_j_containerfile(npm, tmp_path):
    lint = ["node", npm / "dockerfile-utils" / "bin" / "dockerfile-utils", "lint"]
    said = run(*lint, FILES / "Containerfile")
    assert said.returncode == 0 and said.stdout.strip() == "", said.stdout + said.stderr
    bad = tmp_path / "Containerfile"
    bad.write_text(CONTAINERFILE.replace("\nUSER", "\nUSERR"))
    assert run(*lint, bad).returncode != 0


def test_image_has_what_the_program_needs():
    """Each library that the program names comes with a package of the second step."""
    needed = set(re.findall(r"NEEDED +(\S+)", run("objdump", "-p", BINARY).stdout)) - {"libc.so.6"}
    needed = {name for name in needed if not name.startswith(("ld-linux", "libasan", "libubsan", "libtsan", "libm."))}
    second = CONTAINERFILE[CONTAINERFILE.rindex("FROM "):]
    where = dict(re.findall(r"^\s*(\S+) .*=> (\S+)", run("ldd", BINARY).stdout, re.M))
    for name in needed:
        path = os.path.realpath(where[name])  # dpkg may know it without /usr
        owner = run("dpkg", "-S", path).stdout or run("dpkg", "-S", path.removeprefix("/usr")).stdout
        assert owner and re.search(rf"\s{re.escape(owner.split(':')[0])}\s", second), f"{name}: {owner}"
    for word in ("USER 10001:10001", "STOPSIGNAL SIGTERM", "--no-install-recommends", "dns-root-data", "ca-certificates"):
        assert word in second, word


# ---- compose ---------------------------------------------------------------------------------------------

def test_j_compose(tmp_path):
    said = run("docker-compose", "-f", FILES / "compose.yaml", "config")
    assert said.returncode == 0, said.stderr
    bad = tmp_path / "compose.yaml"
    bad.write_text((FILES / "compose.yaml").read_text().replace("read_only", "readonly"))
    assert run("docker-compose", "-f", bad, "config").returncode != 0


def test_compose_shuts_it_in():
    service = COMPOSE["services"]["posthaste"]
    assert service["read_only"] is True and service["cap_drop"] == ["ALL"] and service["user"] == "10001:10001"
    assert "no-new-privileges:true" in service["security_opt"] and int(service["stop_grace_period"][:-1]) > 30
    config = yaml.safe_load((FILES / "posthaste.yaml").read_text())
    ports = {one["address"].rpartition(":")[2] for one in config["listeners"]} | {config["http"]["address"].rpartition(":")[2]}
    assert {port.rpartition(":")[2] for port in service["ports"]} == ports
    assert set(re.search(r"EXPOSE (.*)", CONTAINERFILE).group(1).split()) == ports
    command = service["healthcheck"]["test"][2:]
    assert run(BINARY, "help", *command).returncode == 0
    volumes = {volume.split(":")[1] for volume in service["volumes"]}
    for path in (config["spool"], config["state"], config["tls"]["certificate"], config["tls"]["key"]):
        assert any(path == volume or path.startswith(volume + "/") for volume in volumes), path


# ---- the stateful set ------------------------------------------------------------------------------------

def judged(npm, objects):
    said = run("node", TOP / "test" / "e2e" / "npm" / "kubernetes.js", input=json.dumps(objects),
               env={**os.environ, "NODE_PATH": str(npm)})
    assert said.returncode == 0, said.stderr
    return said.stdout.splitlines()


def test_j_manifest(npm):
    assert [line.split()[0] for line in judged(npm, OBJECTS)] == ["ok"] * len(OBJECTS)
    text = MANIFEST.read_text()
    for right, wrong in (("replicas: 1", "replicas: one"), ("readinessProbe", "readynessProbe"), ("clusterIP", "clusterIp"),
                         ("drop: [ALL]", "dropp: [ALL]"), ("containerPort: 5870", "port: 5870")):
        assert right in text
        lines = judged(npm, list(yaml.safe_load_all(text.replace(right, wrong))))
        assert sum(line.startswith("bad") for line in lines) == 1, wrong


def test_manifest_fits_together(tmp_path, pair):
    pod, config = the("StatefulSet")["spec"]["template"]["spec"], yaml.safe_load(the("ConfigMap")["data"]["posthaste.yaml"])
    headless = {one["metadata"]["name"] for one in OBJECTS if one.get("spec", {}).get("clusterIP") == "None"}
    assert {the("StatefulSet")["spec"]["serviceName"]} == headless
    assert pod["terminationGracePeriodSeconds"] > int(config["shutdown_grace"][:-1])
    ports = {port["name"]: port["containerPort"] for port in container()["ports"]}
    assert {one["name"]: int(one["address"].rpartition(":")[2]) for one in config["listeners"]} | {
        "http": int(config["http"]["address"].rpartition(":")[2])} == ports
    mounts = [mount["mountPath"] for mount in container()["volumeMounts"]]
    for path in (config["spool"], config["state"], config["tls"]["certificate"], "/etc/posthaste/posthaste.yaml"):
        assert any(path.startswith(mount + "/") for mount in mounts), path
    assert container()["securityContext"]["readOnlyRootFilesystem"] and container()["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    file = tmp_path / "posthaste.yaml"
    file.write_text(the("ConfigMap")["data"]["posthaste.yaml"].replace("/tls/tls.crt", str(pair.certificate)).replace("/tls/tls.key", str(pair.key)))
    said = run(BINARY, "check-config", "--config", file)
    assert said.returncode == 0, said.stderr


# ---- it runs like that -----------------------------------------------------------------------------------

@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become the container's user in namespaces of its own")
def test_runs_with_a_read_only_root_and_no_privilege(pair):
    """As user 10001, no capability, no new privileges, nothing writable but the volumes; probes answer; SIGTERM ends it with 0."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="container", dir="/tmp"))
    try:
        folder.chmod(0o755)
        data = folder / "data"
        data.mkdir(mode=0o700)
        shutil.copy(pair.certificate, data / "tls.crt")
        shutil.copy(pair.key, data / "tls.key")
        shutil.copy(BINARY, folder / "posthaste")
        text = the("ConfigMap")["data"]["posthaste.yaml"].replace("/data/", f"{data}/").replace("/tls/", f"{data}/")
        text = re.sub(r'"\*:\d+"', '"127.0.0.1:0"', text) + "limits: {spool_segment: 4MiB}\n"
        (folder / "posthaste.yaml").write_text(text)
        for path in (data, *data.iterdir()):
            os.chown(path, int(USER), int(USER))
        ready = data / "ready.json"
        inner = (f"mount --bind {data} {data} && mount -o remount,bind,ro / && mount -t tmpfs -o mode=1777 tmpfs /dev/shm && "
                 f"exec setpriv --reuid {USER} --regid {USER} --clear-groups --bounding-set=-all --inh-caps=-all --no-new-privs "
                 f"{folder}/posthaste serve --config {folder}/posthaste.yaml --ready-file {ready}")
        service = Process(["unshare", "--mount", "sh", "-ec", inner], folder / "log")
        try:
            wait_until(lambda: service.check_running() and ready.exists(), 60, "the ready file")
            where = json.loads(ready.read_text())["http"]
            probes = {container()[probe]["httpGet"]["path"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")}
            for path in probes:
                assert run("curl", "-sf", f"http://{where['address']}:{where['port']}{path}").returncode == 0, path
            status = pathlib.Path(f"/proc/{service.pid}/status").read_text()
            assert re.search(rf"^Uid:\s+{USER}\s", status, re.M) and re.search(r"^CapBnd:\s+0+$", status, re.M)
            assert "NoNewPrivs:\t1" in status
            service.signal(signal.SIGTERM)
            assert service.wait(60) == 0, service.log()
            assert " error " not in service.log(), service.log()
        finally:
            if service.running():
                service.kill()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
