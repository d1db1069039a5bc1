"""The Helm chart in the cluster, with the values of the overlay that is installed."""

import json
import subprocess
import tempfile
import time
from pathlib import Path

from dev.cluster import install, kubectl, layout, machine
from dev.command import Failure
from dev.manifests import chart
from tests.cluster.checks import rollouts
from tests.cluster.stage import SPACE

HELM_SECONDS = 900
KEPT = ("kafka/captcha", "kafkatopic/captcha", "clickhouseinstallation/captcha")
WAIT = ("--wait", "--wait-for-jobs", f"--timeout={HELM_SECONDS}s")


def helm_chart(scene):
    """The Helm chart takes over what kubectl has applied, is upgraded and rolled back under load without a failed
    request, and leaves the servers with their data when it is uninstalled."""
    values = values_of(scene)
    with scene.load():
        helm(scene, "upgrade", "--install", "--take-ownership", "--force-conflicts", *WAIT, values=values)
        need_equal(scene)
        # The fields of what kubectl has made stay its own until the object is made again.
        helm(scene, "upgrade", "--force-conflicts", *WAIT, values=[*values, {"image": {"tag": "0.1.1"}}])
        rollouts.need_version(scene, "0.1.1")
        helm(scene, "rollback", "--force-conflicts", *WAIT)
        rollouts.need_version(scene, "0.1.0")
    scene.settle()
    helm(scene, "uninstall", "--wait")
    for component in ("serve", "consume"):
        kubectl.wait_until(f"no pod of {component}", lambda c=component: not scene.pods(c), HELM_SECONDS)
    for name in KEPT:
        kubectl.run("--namespace", SPACE, "get", name)
    helm(scene, "install", *WAIT, values=values)
    with scene.load():
        pass
    scene.settle()
    # Back to the kustomization, which the next checks change.
    helm(scene, "uninstall", "--wait")
    scene.apply()
    scene.rolled_out()
    scene.settle()


def values_of(scene):
    """What the values of the overlay lack here: requests for a small node, and the users that pods log in with."""
    resources = {"resources": {"requests": {"cpu": install.CPU_REQUEST}}}
    users = {entry["value"] for entry in rendered_env(scene) if entry["name"].endswith("_USER")}
    return [
        dict.fromkeys(("serve", "consume", "migrate"), resources),
        {"clickhouse": {"altinity": {"secondUsers": "captcha_serve_2" in users}}},
        {"kafka": {"strimzi": {"secondUsers": "captcha-serve-2" in users}}},
    ]


def rendered_env(scene):
    (serve,) = install.parse(install.render(scene.kustomization())).all("Deployment")
    return serve["spec"]["template"]["spec"]["containers"][0]["env"]


def need_equal(scene):
    """The chart has made what the overlay would make: kubectl would change labels that name the tool alone."""
    documents = install.parse(install.render(scene.kustomization())).docs
    # The Job of the chart has another name.
    listed = {"apiVersion": "v1", "kind": "List", "items": [doc for doc in documents if doc["kind"] != "Job"]}
    said = kubectl.run("diff", "-f", "-", given=json.dumps(listed), check=False)
    changes = [line for line in said.stdout.splitlines() if line[:1] in ("+", "-") and line[:3] not in ("+++", "---")]
    others = [
        line for line in changes if not line[1:].strip().startswith(("app.kubernetes.io/managed-by:", "generation:"))
    ]
    if others or not changes:
        raise Failure(f"the chart has made other objects than the overlay: {'; '.join(others[:5])}{said.stderr[:300]}")


def helm(scene, command, *words, values=()):
    """Runs helm on the node, and records how long it takes."""
    program = chart.program()
    if program is None:
        raise Failure("there is no helm; run make helm, or name it in HELM")
    target = ["captcha", *([chart.CHART] if command in ("install", "upgrade") else [])]
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(dir=layout.FOLDER) as folder:
        named = chart.FOLDERS[f"overlays/{scene.overlay.name}"] if values else []
        files = [chart.CHART / name for name in named]
        for number, given in enumerate(values):
            files.append(Path(folder) / f"{number}.json")
            files[-1].write_text(json.dumps(given))
        options = [option for file in files for option in ("--values", file)]
        homes = [f"HELM_{home}_HOME={folder}" for home in ("CACHE", "CONFIG", "DATA")]
        where = ["--namespace", SPACE, "--kubeconfig", layout.kubeconfig("admin")]
        argv = machine.enter("env", *homes, program, command, *target, *words, *options, *where)
        done = subprocess.run(argv, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise Failure(f"helm {command}: {chart.complaint(done.stderr)}")
    scene.record(f"{command}_seconds", time.monotonic() - begin)
