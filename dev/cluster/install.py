"""Installs an overlay of k8s/ in the cluster, with what the cluster and its operators would bring."""

import json
import os
import subprocess
import tempfile
from pathlib import Path

from dev.cluster import kubectl, layout, operators, programs
from dev.cluster.operators import cert_manager
from dev.cluster.operators.documents import Documents
from dev.command import ROOT, Failure, say, shown, write

K8S = ROOT / "k8s"
SPACE = "captcha"
KEYS = layout.FOLDER / "api-keys"  # write.key and read.key
ROLLOUT_SECONDS = 600
# The node may have two processors. Requests are for the scheduler alone; and twelve partitions with the usual 300 ms
# between inserts would take most of such a machine for ClickHouse.
CPU_REQUEST = "20m"
INSERT_INTERVAL_MS = 1000
OPERATORS = layout.FOLDER / "operators"  # what they keep: authorities and passwords
STAND_IN = {"captcha.test/made-by": "operator"}
BUILT_IN = {"v1", "apps", "batch", "policy", "autoscaling", "networking.k8s.io"}
OPERATED = ("Kafka", "ClickHouseInstallation")  # kinds that operators act on


def definitions(folder):
    """Applies the operators' definitions of their kinds."""
    for given in (folder, cert_manager.definitions()):
        kubectl.run("apply", "--server-side", "-f", given)
    kubectl.run("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")


def base():
    """What a cluster has before anybody installs something: names and metrics of its pods."""
    kubectl.run("apply", "-f", Path(__file__).parent / "dns.yaml")


def render(overlay):
    """The documents of an overlay, by the cluster's own kubectl."""
    done = subprocess.run(
        [programs.folder() / "kubectl", "kustomize", overlay], check=False, capture_output=True, text=True
    )
    if done.returncode != 0:
        raise Failure(f"kubectl kustomize {shown(overlay)}: {done.stderr.strip()[-300:]}")
    return done.stdout


def kustomization(overlay):
    """A folder with the overlay as it is, but for what two processors cannot give to its pods."""
    folder = layout.FOLDER / "overlays" / overlay.name
    folder.mkdir(parents=True, exist_ok=True)
    container = "/spec/template/spec/containers/0"
    workloads = {"kind": "Deployment|StatefulSet|Job", "labelSelector": "app.kubernetes.io/part-of=captcha"}
    request = {"op": "replace", "path": f"{container}/resources/requests/cpu", "value": CPU_REQUEST}
    consume = {"kind": "StatefulSet", "name": "captcha-consume"}
    variable = {"name": "CAPTCHA_INSERT_INTERVAL_MS", "value": str(INSERT_INTERVAL_MS)}
    interval = {"op": "add", "path": f"{container}/env/-", "value": variable}
    document = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [os.path.relpath(overlay, folder)],
        "patches": [
            {"target": workloads, "patch": json.dumps([request])},
            {"target": consume, "patch": json.dumps([interval])},
        ],
    }
    write(folder / "kustomization.yaml", json.dumps(document, indent=1) + "\n")
    return folder


def namespace():
    kubectl.run("apply", "-f", K8S / "base" / "namespace.yaml")


def make_secrets(program):
    """Runs k8s/secrets.sh against the cluster, which puts the API keys that it makes into a folder."""
    KEYS.mkdir(mode=0o700, parents=True, exist_ok=True)
    run_script("secrets.sh", program, KEYS)


def run_script(name, *words):
    """Runs a script of k8s/ with the cluster's kubectl on its PATH."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "kubectl"
        write(script, f'#!/bin/sh\nexec {" ".join(map(str, kubectl.argv()))} "$@"\n')
        script.chmod(0o755)
        environ = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
        argv = [str(word) for word in (K8S / name, *words)]
        done = subprocess.run(argv, check=False, capture_output=True, text=True, env=environ, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise Failure(f"k8s/{name} failed: {done.stderr.strip()[-300:]}")


def api_keys():
    """API keys: the writer's and the reader's; None where secrets.sh made none."""
    files = [KEYS / "write.key", KEYS / "read.key"]
    return [file.read_text().strip() if file.exists() else None for file in files]


def operators_of(documents):
    """Does what the operators would do with these documents."""
    made = list(operators.manifests(documents, OPERATORS))
    for document in made:
        document["metadata"].setdefault("labels", {}).update(STAND_IN)
    kubectl.apply(made)


def remove_operated():
    """What operators remove when their documents go: all that they made, but not the claims."""
    kinds = "statefulsets,services,configmaps,secrets,networkpolicies,jobs"
    (label,) = STAND_IN.items()
    kubectl.run("--namespace", SPACE, "delete", kinds, "--selector", "=".join(label), "--wait=true")


def parse(text):
    import yaml

    return Documents([document for document in yaml.safe_load_all(text) if document])


def wait_installed(documents, seconds=ROLLOUT_SECONDS):
    """Waits for the Job, consume and serve."""
    (job,) = [doc["metadata"]["name"] for doc in documents.all("Job")]
    waits = {f"job/{job}": ["wait", "--for=condition=Complete"]}
    waits |= {name: ["rollout", "status"] for name in ("statefulset/captcha-consume", "deployment/captcha-serve")}
    for what, words in waits.items():
        kubectl.run("--namespace", SPACE, *words, what, f"--timeout={seconds}s")


def install(overlay, definitions_folder, program):
    """From an empty cluster to pods that are ready."""
    documents = parse(render(kustomization(overlay)))
    base()
    operated = any(documents.all(kind) for kind in OPERATED)
    if operated:
        if not definitions_folder:
            kinds = sorted(
                {doc["kind"] for doc in documents.docs if doc["apiVersion"].partition("/")[0] not in BUILT_IN}
            )
            raise Failure(
                f"{shown(overlay)} needs the definitions of its operators' kinds, {', '.join(kinds)}: give their folder"
                " with CRDS=FOLDER, or take OVERLAY=local, which needs none"
            )
        say("definitions of the operators' kinds")
        definitions(definitions_folder)
        say("cert-manager")
        kubectl.apply(cert_manager.manifests())
    say("namespace and secrets")
    namespace()
    if operated:
        make_secrets(program)
        say("Kafka and ClickHouse, as the operators would make them")
        operators_of(documents)
    say(f"{shown(overlay)}")
    lines = kubectl.run("apply", "-k", kustomization(overlay)).stdout.splitlines()
    say(f"{len(lines)} objects; wait for the pods")
    wait_installed(documents)
