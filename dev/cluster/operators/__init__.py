"""Stand-ins for Strimzi, Altinity's operator and cert-manager, none of which comes from a registry that this machine
can count on: they make of an overlay's documents what the operators would make, as manifests of plain Kubernetes with
the operators' names, labels, users, rights and certificates. A document of another kind than theirs is refused, so that
a setting that nobody tried cannot pass for one that works."""

from dev.cluster.operators import altinity, cert_manager, strimzi
from dev.cluster.operators.documents import secret


def manifests(documents, secrets, folder):
    """What the operators would make. `secrets` are those of the namespace: {name: {key: text}}; the authorities are
    kept in the folder, as operators keep theirs in Secrets."""
    space = documents.namespace()
    certificates = cert_manager.certificates(documents, folder / "cert-manager")
    yield from (secret(name, space, data) for name, data in certificates.items())
    yield from strimzi.manifests(documents, folder / "strimzi", space)
    yield from altinity.manifests(documents, secrets, space)
