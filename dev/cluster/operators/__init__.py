"""The operators of the overlays: cert-manager itself, and stand-ins for Strimzi and Altinity's operator, which come
from no registry that this machine can reach. The stand-ins make of an overlay's documents what the operators would
make, as manifests of plain Kubernetes with the operators' names, labels, users, rights and certificates. A document of
another kind than theirs is refused, so that a setting that nobody tried cannot pass for one that works."""

from dev.cluster.operators import altinity, strimzi


def manifests(documents, folder):
    """What the stand-ins make. Authority and passwords are kept in the folder, as Strimzi keeps its own in Secrets."""
    space = documents.namespace()
    yield from strimzi.manifests(documents, folder / "strimzi", space)
    yield from altinity.manifests(documents, space)
