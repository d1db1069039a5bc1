"""Renders kustomizations into documents."""

import itertools
import shutil
import subprocess
import tempfile
from pathlib import Path

import yaml

from dev.command import ROOT, Failure

K8S = ROOT / "k8s"
# Components in the order in which they are named, with those that they need.
COMPONENTS = {
    "daily-report": [],
    "certs": [],
    "kafka": [],
    "clickhouse": ["certs"],
    "clickhouse-ha": ["certs", "clickhouse"],
    "clickhouse-second-users": ["certs", "clickhouse"],
    "kafka-second-users": ["kafka"],
    "gateway": [],
    "monitoring": [],
    "autoscaling": [],
}


def render(folder):
    if shutil.which("kubectl"):
        command = ["kubectl", "kustomize", folder]
    elif shutil.which("kustomize"):
        command = ["kustomize", "build", folder]
    else:
        raise Failure(
            "neither kubectl nor kustomize is installed: install kubectl 1.27 or newer, or kustomize 5 or newer"
        )
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        what = f"{' '.join(map(str, command))} failed (it takes kustomize 5, kubectl 1.27 or newer)"
        raise Failure(f"{what}: {first_line(done.stderr)}")
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def applied_first():
    """What is applied before a kustomization, and stays when the kustomization is deleted."""
    return [document for document in yaml.safe_load_all((K8S / "base" / "namespace.yaml").read_text()) if document]


def targets():
    """What is checked: (its name, its documents)."""
    for folder in [K8S / "base", *sorted((K8S / "overlays").iterdir())]:
        yield str(folder.relative_to(ROOT)), render(folder)
    for chosen in [*itertools.combinations(COMPONENTS, 1), *itertools.combinations(COMPONENTS, 2)]:
        needed = {component for name in chosen for component in [name, *COMPONENTS[name]]}
        components = [name for name in COMPONENTS if name in needed]
        yield f"base with {', '.join(components)}", render_base_with(components)


def render_base_with(components):
    # In k8s/, because a kustomization is named from another by a relative path.
    with tempfile.TemporaryDirectory(prefix=".check-", dir=K8S) as folder:
        lines = ["namespace: captcha", "resources: [../base]", "components:"]
        lines += [f"  - ../components/{component}" for component in components]
        (Path(folder) / "kustomization.yaml").write_text("\n".join(lines) + "\n")
        return render(Path(folder))


def first_line(text):
    return next((line for line in text.splitlines() if line.strip()), "no reason given")[:300]
