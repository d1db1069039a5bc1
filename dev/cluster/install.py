"""Installs an overlay of k8s/ in the cluster, with what the cluster and its operators would bring."""

import json
import os
import pty
import re
import subprocess
import tempfile
from pathlib import Path

from dev.cluster import kubectl, layout, operators, programs
from dev.cluster.operators.documents import Documents
from dev.command import ROOT, Failure, say, shown, write

K8S = ROOT / "k8s"
SPACE = "captcha"
PROMETHEUS_SPACE = "monitoring"
KEY = re.compile(r"captcha_[a-z0-9]{4,32}_[0-9a-f]{64}")
KEYS = layout.FOLDER / "api-keys.json"  # the writer's and the reader's, as secrets.sh shows them once
ROLLOUT_SECONDS = 600
DNS_SECONDS = 120
# Of the pods of captcha: the nodes are two processors, and requests are for the scheduler alone.
CPU_REQUEST = "20m"
OPERATED = ("Kafka", "ClickHouseInstallation")  # kinds that operators act on


def definitions(folder):
    """Applies the operators' definitions of their kinds."""
    kubectl.run("apply", "--server-side", "-f", folder)
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
    """A folder with the overlay as it is, but for what its pods ask of the scheduler."""
    folder = layout.FOLDER / "overlays" / overlay.name
    folder.mkdir(parents=True, exist_ok=True)
    target = {"kind": "Deployment|StatefulSet|Job", "labelSelector": "app.kubernetes.io/part-of=captcha"}
    path = "/spec/template/spec/containers/0/resources/requests/cpu"
    patch = json.dumps([{"op": "replace", "path": path, "value": CPU_REQUEST}])
    document = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [os.path.relpath(overlay, folder)],
        "patches": [{"target": target, "patch": patch}],
    }
    write(folder / "kustomization.yaml", json.dumps(document, indent=1) + "\n")
    return folder


def namespace():
    kubectl.run("apply", "-f", K8S / "base" / "namespace.yaml")


def make_secrets(program):
    """Runs k8s/secrets.sh on a terminal against the cluster, and keeps the API keys that it shows."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "kubectl"
        write(script, f'#!/bin/sh\nexec {" ".join(map(str, kubectl.argv()))} "$@"\n')
        script.chmod(0o755)
        environ = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
        said = on_terminal([K8S / "secrets.sh", program], environ)
    keys = KEY.findall(said)
    if len(keys) == 2:
        write(KEYS, json.dumps(keys))
        KEYS.chmod(0o600)
    elif not KEYS.exists():
        raise Failure(f"k8s/secrets.sh showed {len(keys)} API keys, not two: {KEY.sub('(a key)', said)[-300:]}")
    return said


def on_terminal(argv, environ):
    """What a command prints on a terminal; it must not fail."""
    ours, theirs = pty.openpty()
    child = subprocess.Popen([str(word) for word in argv], env=environ, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    said = b""
    try:
        while block := os.read(ours, 4096):
            said += block
    except OSError:  # so does a terminal end
        pass
    finally:
        os.close(ours)
    text = said.decode(errors="replace")
    if child.wait() != 0:
        raise Failure(f"{argv[0]} failed: {KEY.sub('(a key)', text).strip()[-300:]}")
    return text


def operators_of(documents):
    """Does what the operators would do with these documents; what they made."""
    made = list(operators.manifests(documents, kubectl.secret_texts(SPACE), layout.FOLDER / "operators"))
    kubectl.apply(made)
    return made


def parse(text):
    import yaml

    return Documents([document for document in yaml.safe_load_all(text) if document])


def wait_installed(documents, seconds=ROLLOUT_SECONDS):
    """Waits for the Job, consume and serve."""
    (job,) = [doc["metadata"]["name"] for doc in documents.all("Job")]
    for what in (f"job/{job}", "statefulset/captcha-consume", "deployment/captcha-serve"):
        if what.startswith("job/"):
            words = ["wait", "--for=condition=Complete", what]
        else:
            words = ["rollout", "status", what]
        kubectl.run("--namespace", SPACE, *words, f"--timeout={seconds}s")


def install(overlay, definitions_folder, program):
    """From an empty cluster to pods that are ready."""
    documents = parse(render(kustomization(overlay)))
    base()
    operated = any(documents.all(kind) for kind in OPERATED)
    if operated:
        if not definitions_folder:
            raise Failure(
                f"{shown(overlay)} needs the definitions of its operators (Strimzi, Altinity, cert-manager, Gateway API,"
                " Prometheus): give their folder with CRDS=FOLDER, or take OVERLAY=local, which needs none"
            )
        say("definitions of the operators' kinds")
        definitions(definitions_folder)
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
    return documents


