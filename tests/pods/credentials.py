"""The secrets of the namespace: those that k8s/secrets.sh makes, by that script, and those that operators would
make."""

import os
import pty
import re
import secrets
import subprocess

import yaml

from dev.command import DEV, Failure

KUBECTL = """#!/bin/sh
# Stands in for kubectl where there is no cluster: nothing is there yet, and what is created is kept.
case "$*" in
*" get secret "*) exit 1 ;;
*" create -f -") exec cat >"{folder}/clickhouse.yaml" ;;
*" create secret generic captcha-keys --from-file=keys.txt=/dev/stdin") exec cat >"{folder}/keys.txt" ;;
esac
echo "kubectl: what is this: $*" >&2
exit 1
"""
KEY = re.compile(r"captcha_[a-z0-9]{4,32}_[0-9a-f]{64}")
DAYS = 30


def by_hand(folder, program):
    """What k8s/secrets.sh makes: {secret: {key: text}}, and the keys that it shows, the writer's and the reader's."""
    folder.mkdir()
    kubectl = folder / "kubectl"
    kubectl.write_text(KUBECTL.format(folder=folder))
    kubectl.chmod(0o755)
    shown = on_terminal(
        [DEV.parent / "k8s" / "secrets.sh", program], {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
    )
    keys = KEY.findall(shown)
    if len(keys) != 2:
        raise Failure(f"k8s/secrets.sh showed {len(keys)} API keys, not two: {KEY.sub('(a key)', shown)}")
    made = yaml.safe_load((folder / "clickhouse.yaml").read_text())
    return {
        made["metadata"]["name"]: made["stringData"],
        "captcha-keys": {"keys.txt": (folder / "keys.txt").read_text()},
    }, keys


def on_terminal(argv, environ):
    """What a command says on a terminal; it must not fail."""
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
        raise Failure(f"{argv[0]} failed: {text}")
    return text


class Authority:
    """Signs certificates with openssl."""

    def __init__(self, folder, name, subject, key):
        self.folder = folder / name
        self.folder.mkdir(parents=True)
        self.key_options = key
        self.file = self.certificate(
            "ca", subject, ["basicConstraints=critical,CA:true", "keyUsage=keyCertSign,cRLSign"]
        )

    def certificate(self, name, subject, extensions, key=None):
        """The file of a new certificate; its key is beside it, with another ending."""
        file, own = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        request, extra = self.folder / f"{name}.csr", self.folder / f"{name}.ext"
        extra.write_text("\n".join([*extensions, "subjectKeyIdentifier=hash"]) + "\n")
        options = ["-newkey", *(key or self.key_options), "-nodes", "-keyout", own, "-subj", subject]
        openssl("req", "-new", *options, "-out", request)
        signer = ["-signkey", own] if name == "ca" else ["-CA", self.file, "-CAkey", self.folder / "ca.key"]
        openssl("x509", "-req", "-in", request, *signer, "-extfile", extra, "-days", DAYS, "-out", file)
        return file


def openssl(*words):
    command, options = ["openssl", *map(str, words)], {"stdin": subprocess.DEVNULL, "capture_output": True}
    done = subprocess.run(command, check=False, text=True, **options)
    if done.returncode != 0:
        raise Failure(f"openssl {words[0]} failed: {done.stderr.strip()}")


RSA = ["rsa:2048"]
ELLIPTIC = ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"]


def names(hosts):
    return f"subjectAltName={','.join(f'DNS:{host}' for host in hosts)}"


def strimzi(documents, folder, brokers):
    """What Strimzi makes for a Kafka and its users: (secrets, [the certificate file of each broker])."""
    kafka = documents.one("Kafka")["metadata"]["name"]
    authority = Authority(folder, "kafka", "/O=io.strimzi/CN=cluster-ca v0", RSA)
    shared = [f"{kafka}-kafka-bootstrap", f"{kafka}-kafka-brokers"]
    space = documents.namespace()
    certificates = []
    for broker in brokers:
        own = [
            form
            for host in (*shared, broker.partition(".")[0])
            for form in (host, f"{host}.{space}", f"{host}.{space}.svc")
        ]
        own += [broker, f"{broker}.cluster.local"]
        # Strimzi names no use of the key.
        file = authority.certificate(broker, f"/O=io.strimzi/CN={kafka}-kafka", [names(own)])
        certificates.append(file)
    users = [d["metadata"]["name"] for d in documents.all("KafkaUser")]
    made = {user: {"password": secrets.token_urlsafe(24)} for user in users}
    made[f"{kafka}-cluster-ca-cert"] = {"ca.crt": authority.file.read_text()}
    return made, certificates


def cert_manager(documents, folder):
    """What cert-manager makes of certificates that our authority signs: (secrets, {secret: certificate file})."""
    made, files = {}, {}
    all_of_them = documents.all("Certificate")
    issuers = {d["metadata"]["name"]: d["spec"] for d in documents.all("Issuer")}
    authorities = {}
    for doc in all_of_them:
        if doc["spec"].get("isCA"):
            spec = doc["spec"]
            authorities[spec["secretName"]] = Authority(
                folder, doc["metadata"]["name"], f"/CN={spec['commonName']}", key_of(spec)
            )
    for doc in all_of_them:
        spec = doc["spec"]
        if spec.get("isCA"):
            continue
        issuer = issuers[spec["issuerRef"]["name"]]
        authority = authorities[issuer["ca"]["secretName"]]
        usage = "keyUsage=digitalSignature,keyEncipherment"  # cert-manager's own, where the document names none
        file = authority.certificate(
            doc["metadata"]["name"], f"/CN={spec['commonName']}", [names(spec["dnsNames"]), usage], key_of(spec)
        )
        files[spec["secretName"]] = file
        made[spec["secretName"]] = {
            "ca.crt": authority.file.read_text(),
            "tls.crt": file.read_text(),
            "tls.key": file.with_suffix(".key").read_text(),
        }
    return made, files


def key_of(spec):
    wanted = spec.get("privateKey", {})
    if (wanted.get("algorithm"), wanted.get("size")) != ("ECDSA", 256):
        raise Failure(f"the certificate for {spec['secretName']} wants a key that is not made here: {wanted}")
    return ELLIPTIC
