"""Passwords, keys and certificates are replaced under load, step by step as docs/operations.md says."""

import base64
import itertools
import json
import subprocess
import tempfile
from pathlib import Path

from dev.cluster import install, kubectl, machine
from dev.cluster.operators import cert_manager, strimzi
from dev.cluster.operators.documents import secret
from dev.command import Failure
from tests.cluster.stage import PART, SPACE, replace

REFUSED = "captcha_logins_refused_total"
POD_SECONDS = 300
KEY_SECONDS = 150  # the kubelet updates files within two minutes
CLICKHOUSE_TLS = "captcha-clickhouse-tls"
CLICKHOUSE_PODS = "clickhouse.altinity.com/chi=captcha"
SECOND_CLICKHOUSE, SECOND_KAFKA = "../../components/clickhouse-second-users", "../../components/kafka-second-users"


def clickhouse_passwords(scene):
    """ClickHouse's passwords are replaced by switching to the second users, and back: no request fails, no login is
    refused."""
    overlay = scene.overlay / "kustomization.yaml"
    after = "  - ../../components/clickhouse\n"
    before = scene.metric(REFUSED)
    with scene.load():
        install.run_script("new-passwords.sh", "serve_2", "consume_2", "migrate", "report")
        restart_clickhouse()
        need_none_refused(scene, before)
        replace(overlay, after, f"{after}  - {SECOND_CLICKHOUSE}\n")
        scene.apply()
        scene.rolled_out()
        install.run_script("new-passwords.sh", "serve", "consume")
        restart_clickhouse()
        need_none_refused(scene)
        replace(overlay, f"  - {SECOND_CLICKHOUSE}\n", "")
        scene.apply()
        scene.rolled_out()
        need_none_refused(scene)
    scene.settle()


def restart_clickhouse():
    for pod in kubectl.items("pods", SPACE, CLICKHOUSE_PODS):
        restart_pod(pod["metadata"]["name"])


def restart_pod(name):
    """Deletes a pod of a StatefulSet, and waits for the new one."""
    kubectl.run("--namespace", SPACE, "delete", "pod", name)
    kubectl.run("--namespace", SPACE, "wait", "--for=create", f"--timeout={POD_SECONDS}s", f"pod/{name}")
    kubectl.run("--namespace", SPACE, "wait", "--for=condition=Ready", f"--timeout={POD_SECONDS}s", f"pod/{name}")


def need_none_refused(scene, before=0):
    """The pods that run have had no login refused, but for those of before."""
    refused = scene.metric(REFUSED) - before
    scene.record("logins_refused", scene.numbers.get("logins_refused", 0) + refused)
    if refused:
        raise Failure(f"{refused:.0f} logins were refused")


def kafka_passwords(scene):
    """Kafka's passwords are replaced by switching to the second users: no request fails, no login is refused."""
    overlay = scene.overlay / "kustomization.yaml"
    after = "  - ../../components/kafka\n"
    before = scene.metric(REFUSED)
    documents = install.parse(install.render(scene.kustomization()))
    with scene.load():
        for user in ("captcha-serve-2", "captcha-consume-2"):
            new_kafka_password(documents, user)
        need_none_refused(scene, before)
        replace(overlay, after, f"{after}  - {SECOND_KAFKA}\n")
        scene.apply()
        scene.rolled_out()
        for user in ("captcha-serve", "captcha-consume"):
            new_kafka_password(documents, user)
        need_none_refused(scene)
        replace(overlay, f"  - {SECOND_KAFKA}\n", "")
        scene.apply()
        scene.rolled_out()
        need_none_refused(scene)
    scene.settle()


def new_kafka_password(documents, user):
    def run(pod, script):
        kubectl.run("--namespace", SPACE, "exec", pod, "--", "sh", "-c", script)

    kubectl.run("--namespace", SPACE, "delete", "secret", user)
    made = strimzi.change_password(documents, install.OPERATORS / "strimzi", user, run)
    made["metadata"]["labels"] = dict(install.STAND_IN)
    kubectl.apply([made])


def api_keys(scene):
    """A second key is added and the first one removed, without a restart: the new one works, the old one is refused."""
    old, _ = install.api_keys()
    lines = read_keys()
    new, line = new_key(scene)
    write_keys([*lines, line])
    seconds = kubectl.wait_until("the new key is accepted", lambda: answers(scene, new) == 200, KEY_SECONDS)
    scene.record("accepted_seconds", seconds)
    write_keys([*lines[1:], line])
    seconds = kubectl.wait_until("the old key is refused", lambda: answers(scene, old) == 401, KEY_SECONDS)
    scene.record("refused_seconds", seconds)
    (install.KEYS / "write.key").write_text(new + "\n")
    with scene.load():
        pass
    scene.settle()


def read_keys():
    data = kubectl.read("get", "secret", "captcha-keys", "--namespace", SPACE)["data"]["keys.txt"]
    return [line for line in base64.b64decode(data).decode().splitlines() if line]


def write_keys(lines):
    data = base64.b64encode(("\n".join(lines) + "\n").encode()).decode()
    patch = json.dumps({"data": {"keys.txt": data}})
    kubectl.run("--namespace", SPACE, "patch", "secret", "captcha-keys", "--type=merge", "--patch", patch)


def new_key(scene):
    """A key, and its line for keys.txt, by the program itself."""
    file = install.KEYS / "second.key"
    file.unlink(missing_ok=True)
    argv = [scene.program, "serve", "new-key", "--role", "write", "--sites", "*", "--key-out", file]
    done = subprocess.run([str(word) for word in argv], check=True, capture_output=True, text=True)
    return file.read_text().strip(), done.stdout.strip()


def answers(scene, key):
    """The worst status that a request with this key has from the pods of serve; 200 when all accept it."""
    statuses = set()
    for pod in scene.pods("serve"):
        url = f"http://{pod['status']['podIP']}:8000/v1/events"
        words = [
            "-s",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            "-m",
            "5",
            "-H",
            "Content-Type: application/json",
            "-d",
            "[]",
        ]
        argv = machine.enter_network("curl", *words, "-H", f"Authorization: Bearer {key}", url)
        code = int(subprocess.run(argv, check=False, capture_output=True, text=True).stdout or 0)
        # An empty list is answered 200 or 422 to a key that may write.
        statuses.add(code if code in (0, 401, 403) else 200)
    return statuses.pop() if len(statuses) == 1 else 0


def certificates(scene):
    """Every certificate of ClickHouse and Kafka is replaced, and ClickHouse's authority renewed: no request fails."""
    documents = install.parse(install.render(scene.kustomization()))
    with scene.load():
        before = clickhouse_certificate()
        authority = kubectl.read("get", "issuer", "captcha-ca", "--namespace", SPACE)["spec"]["ca"]["secretName"]
        for certificate in (authority, "captcha-clickhouse"):
            cert_manager.renew(certificate, SPACE)
        need_trust(before, clickhouse_certificate())
        brokers = list(strimzi.manifests(documents, install.OPERATORS / "strimzi", SPACE))
        kubectl.apply(
            doc for doc in brokers if doc["kind"] == "Secret" and doc["metadata"]["name"] == "captcha-brokers"
        )
        wait_served()
        # Strimzi rolls the brokers, one after the other, and waits for their replicas.
        for pod in kubectl.items("pods", SPACE, "strimzi.io/kind=Kafka"):
            restart_pod(pod["metadata"]["name"])
            kubectl.wait_until("all replicas in sync", lambda: in_sync(documents), POD_SECONDS)
    scene.settle()


def in_sync(documents):
    """Whether every partition has all its replicas, as Kafka's own tool says."""
    pod, script = strimzi.under_replicated(documents)
    done = kubectl.run("--namespace", SPACE, "exec", pod, "--", "sh", "-c", script, check=False)
    return done.returncode == 0 and not done.stdout.strip()


def clickhouse_certificate():
    """The Secret of ClickHouse's certificate: its authority's certificate, its own, and its key."""
    return kubectl.secret_texts(SPACE)[CLICKHOUSE_TLS]


def need_trust(*made):
    """Pods get the files of a Secret up to two minutes apart: the authority of each has to trust the certificates of
    all."""
    with tempfile.TemporaryDirectory() as folder:
        trusted, own = Path(folder, "ca.crt"), Path(folder, "tls.crt")
        for one, other in itertools.product(made, made):
            trusted.write_text(one["ca.crt"])
            own.write_text(other["tls.crt"])
            argv = ["openssl", "verify", "-CAfile", trusted, own]
            done = subprocess.run(argv, check=False, capture_output=True, text=True)
            if done.returncode != 0:
                said = done.stderr.strip().splitlines()[-1]
                raise Failure(f"pods with one certificate of ClickHouse's authority refuse those of another: {said}")


def wait_served():
    """Waits until every ClickHouse uses the certificate that is in the Secret; servers read their files again."""
    wanted = subprocess.run(
        ["openssl", "x509", "-noout", "-serial"],
        check=True,
        capture_output=True,
        text=True,
        input=clickhouse_certificate()["tls.crt"],
    ).stdout

    def served():
        return all(serial(pod["status"]["podIP"]) == wanted for pod in kubectl.items("pods", SPACE, CLICKHOUSE_PODS))

    return kubectl.wait_until("ClickHouse uses its new certificate", served, KEY_SECONDS)


def serial(address):
    """The line with the serial number of the certificate that a ClickHouse shows."""
    script = f"openssl s_client -connect {address}:9440 </dev/null 2>/dev/null | openssl x509 -noout -serial"
    argv = machine.enter_network("sh", "-c", script)
    return subprocess.run(argv, check=False, capture_output=True, text=True).stdout


def authority_key(scene):
    """ClickHouse's authority gets another key, as docs/operations.md says: no request fails, no report is refused."""
    components = scene.overlay.parent.parent / "components"
    authority, pods = components / "certs" / "authority.yaml", components / "clickhouse" / "pods.yaml"
    second = {**document(authority, "Certificate"), "metadata": {"name": "captcha-ca-2"}}
    second["spec"]["secretName"] = "captcha-ca-2"
    with scene.load():
        before = clickhouse_certificate()
        # 1. Both authorities are trusted.
        authority.write_text(f"{authority.read_text()}---\n{json.dumps(second)}\n")
        scene.apply()
        words = ["--for=condition=Ready", f"--timeout={POD_SECONDS}s", "certificate/captcha-ca-2"]
        kubectl.run("--namespace", SPACE, "wait", *words)
        made = kubectl.secret_texts(SPACE)
        both = "".join(made[name]["tls.crt"] for name in ("captcha-ca", "captcha-ca-2"))
        kubectl.apply([secret("captcha-clickhouse-authorities", SPACE, {"ca.crt": both})])
        replace(pods, f"secretName: {CLICKHOUSE_TLS}", "secretName: captcha-clickhouse-authorities")
        apply_pods(scene)
        # 2. The second one signs.
        replace(authority, "  ca: {secretName: captcha-ca}", "  ca: {secretName: captcha-ca-2}")
        scene.apply()
        cert_manager.renew("captcha-clickhouse", SPACE)
        scene.record("served_seconds", wait_served())
        need_distrust(before, clickhouse_certificate())
        # 3. It alone is trusted.
        replace(pods, "secretName: captcha-clickhouse-authorities", f"secretName: {CLICKHOUSE_TLS}")
        apply_pods(scene)
    scene.settle()
    if scene.numbers["unanswered_reports"]:
        raise Failure(f"{scene.numbers['unanswered_reports']} reports were not answered: ClickHouse was not trusted")


def apply_pods(scene):
    """Applies what changes the Job too, whose template cannot be changed."""
    kubectl.run("--namespace", SPACE, "delete", "job", "--selector", PART)
    scene.apply()
    scene.rolled_out()


def need_distrust(before, after):
    """The other way round: a key that somebody has seen is trusted no longer."""
    try:
        need_trust(before, after)
    except Failure:
        return
    raise Failure("ClickHouse's authority has the key that it had")


def document(file, kind):
    """The one document of a kind in a file."""
    (found,) = install.parse(file.read_text()).all(kind)
    return found
