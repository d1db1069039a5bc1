"""What cert-manager makes: the Secrets of an authority that signs itself, and of certificates that it signs."""

from dev.cluster.authority import ELLIPTIC, Authority, names
from dev.command import Failure

# cert-manager's own, where a document names no use of the key.
USE = "keyUsage=digitalSignature,keyEncipherment"


def certificates(documents, folder):
    """{Secret: {key: text}}. An authority in the folder is taken up again; certificates are new each time."""
    issuers = {doc["metadata"]["name"]: doc["spec"] for doc in documents.all("Issuer")}
    wanted = [doc for doc in documents.all("Certificate") if doc["spec"]["issuerRef"].get("kind", "Issuer") == "Issuer"]
    authorities = {}
    for doc in wanted:
        spec = doc["spec"]
        if spec.get("isCA"):
            subject = f"/CN={spec['commonName']}"
            authorities[spec["secretName"]] = Authority(folder, doc["metadata"]["name"], subject, key_of(spec))
    made = {}
    for doc in wanted:
        spec = doc["spec"]
        if not spec.get("isCA"):
            authority = authorities[issuers[spec["issuerRef"]["name"]]["ca"]["secretName"]]
            extensions = [names(*spec["dnsNames"]), USE]
            name = f"{doc['metadata']['name']}-certificate"
            file = authority.certificate(name, f"/CN={spec['commonName']}", extensions, key_of(spec))
            made[spec["secretName"]] = {
                "ca.crt": authority.file.read_text(),
                "tls.crt": file.read_text(),
                "tls.key": file.with_suffix(".key").read_text(),
            }
    return made


def key_of(spec):
    wanted = spec.get("privateKey", {})
    if (wanted.get("algorithm"), wanted.get("size")) != ("ECDSA", 256):
        raise Failure(f"the certificate for {spec['secretName']} wants a key that is not made here: {wanted}")
    return ELLIPTIC
