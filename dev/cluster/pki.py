"""The cluster's own certificates and kubeconfig files, made once."""

import json

from dev.cluster import layout
from dev.cluster.authority import RSA, Authority, names, openssl
from dev.command import write

CLIENT, SERVER = "extendedKeyUsage=clientAuth", "extendedKeyUsage=serverAuth"
USE = "keyUsage=critical,digitalSignature"


def make():
    """Makes what is missing; the last file says that all are there."""
    done = layout.PKI / "done"
    if done.exists():
        return
    ca = Authority(layout.PKI, "ca", "/CN=captcha-cluster")
    api = [f"kubernetes{end}" for end in ("", ".default", ".default.svc", ".default.svc.cluster.local")]
    addresses = ["127.0.0.1", layout.NODE_ADDRESSES[0], layout.API_SERVICE]
    ca.certificate("apiserver", "/CN=kube-apiserver", [USE, SERVER, names(*api, "localhost", addresses=addresses)])
    ca.certificate("apiserver-to-kubelet", "/O=system:masters/CN=kube-apiserver-kubelet-client", [USE, CLIENT])
    front = Authority(layout.PKI, "front-proxy-ca", "/CN=captcha-cluster-front-proxy")
    front.certificate("front-proxy", "/CN=front-proxy-client", [USE, CLIENT])
    users = {
        "admin": "/O=system:masters/CN=admin",
        "controller-manager": "/CN=system:kube-controller-manager",
        "scheduler": "/CN=system:kube-scheduler",
        "proxy": "/CN=system:kube-proxy",
    }
    for node, address in zip(layout.NODES, layout.NODE_ADDRESSES, strict=True):
        subject = f"/O=system:nodes/CN=system:node:{node}"
        users[f"kubelet-{node}"] = subject
        ca.certificate(f"serving-{node}", subject, [USE, SERVER, names(node, addresses=[address])])
    for user, subject in users.items():
        kubeconfig(user, ca, ca.certificate(user, subject, [USE, CLIENT]))
    accounts = layout.PKI / "accounts.key"
    openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", f"rsa_keygen_bits:{RSA[0].partition(':')[2]}", "-out", accounts)
    openssl("pkey", "-in", accounts, "-pubout", "-out", layout.PKI / "accounts.pub")
    write(done, "")


def kubeconfig(user, ca, certificate):
    """A kubeconfig file in JSON, which is YAML too."""
    files = {"client-certificate": str(certificate), "client-key": str(certificate.with_suffix(".key"))}
    cluster = {"server": layout.API_SERVER, "certificate-authority": str(ca.file)}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "captcha", "cluster": cluster}],
        "users": [{"name": user, "user": files}],
        "contexts": [{"name": "captcha", "context": {"cluster": "captcha", "user": user}}],
        "current-context": "captcha",
    }
    write(layout.kubeconfig(user), json.dumps(config, indent=1) + "\n")
