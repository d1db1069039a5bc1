"""Rules about Kafka and ClickHouse as plain workloads (overlays/local), where no operator makes anything of them."""

from xml.etree import ElementTree

import yaml

from dev import fetch
from dev.manifests.component_rules import ADDRESSES, config, host_ports, policies, selects
from dev.manifests.documents import Fact, env, hit, image_name, is_server, kind, name, pod, pod_labels, where, workloads
from dev.manifests.render import K8S

# The users that a server of production gets, with their grants.
PRODUCTION = K8S / "components" / "clickhouse" / "users.yaml"
# What the tests run, by the image that has it; and the numbers that an exact version has.
TESTED = {
    "apache/kafka": (fetch.KAFKAS[fetch.KAFKA].version, 3),
    "clickhouse/clickhouse-server": (fetch.CLICKHOUSE, 4),
}


def servers(docs):
    return [d for d in workloads(docs) if is_server(d)]


def pods(w):
    """What a kubelet needs to know of a server's pod."""
    for d in servers(w.docs):
        (container,) = pod(d)["containers"]
        tag, (tested, numbers) = container["image"].rpartition(":")[2], TESTED[image_name(container)]
        is_exact = f"{tag}.".startswith(f"{tested}.") and len(tag.split(".")) == numbers
        yield Fact(is_exact, "server has an exact version that is tested", where(d), f"{tag}, tested {tested}")
        yield Fact(d["kind"] == "StatefulSet", "server keeps its name and its volume", where(d))
        probe = container.get("readinessProbe", {})
        port = probe.get("httpGet", probe.get("tcpSocket", {})).get("port")
        declared = [p["name"] for p in container.get("ports", [])]
        yield Fact(port in declared, "server has a readiness probe of a declared port", where(d), port)
        claimed = {name(claim) for claim in d["spec"].get("volumeClaimTemplates", [])}
        paths = [m["mountPath"] for m in container["volumeMounts"] if m["name"] in claimed]
        data = env(container).get("KAFKA_LOG_DIRS", {"value": "/var/lib/clickhouse"})["value"]
        yield Fact(any(data.startswith(path) for path in paths), "data is in a claimed volume", where(d), data)
        # The image writes there, and everything else is read-only.
        written = {"apache/kafka": "/opt/kafka/config", "clickhouse/clickhouse-server": "/tmp"}[image_name(container)]
        volumes = {v["name"] for v in pod(d)["volumes"] if "emptyDir" in v}
        paths = [m["mountPath"] for m in container["volumeMounts"] if m["name"] in volumes]
        yield Fact(written in paths, "folder that the image writes to is a volume", where(d), written)


def addresses(w):
    """The way from captcha's pods to the servers of the config, where these are among the documents."""
    if not servers(w.docs):
        return
    shared = config(w.docs)
    services = {name(d): d for d in kind(w.docs, "Service")}
    for key in ADDRESSES:
        for host, port in host_ports(shared.get(key, "")):
            service, *rest = host.split(".")
            found = services.get(service, {"metadata": {}, "spec": {}})
            leads = rest == [found["metadata"].get("namespace"), "svc"]
            ports = [p for p in found["spec"].get("ports", []) if str(p["port"]) == port]
            yield Fact(
                bool(leads and ports), "address of the config is a service with that port", key, f"{host}:{port}"
            )
            for p in ports:
                for server in hit(found["spec"]["selector"], w.docs):
                    yield from let_in(w, server, p["targetPort"])
    for d in servers(w.docs):
        advertised = env(pod(d)["containers"][0]).get("KAFKA_ADVERTISED_LISTENERS", {}).get("value")
        wanted = f"PLAINTEXT://{shared.get('CAPTCHA_KAFKA_BROKERS')}"
        yield Fact(advertised in (None, wanted), "broker advertises the address of the config", where(d), advertised)


def let_in(w, server, port):
    """Whether a server takes connections from every process of captcha, and from nothing else."""
    rules = [r for d in policies(w.docs, pod_labels(server), "Ingress") for r in d["spec"].get("ingress", [])]
    peers = [peer for r in rules if any(p["port"] == port for p in r.get("ports", [])) for peer in r.get("from", [{}])]
    for d in workloads(w.docs):
        wanted = not is_server(d)
        is_in = any(is_peer(peer, pod_labels(d)) for peer in peers)
        yield Fact(is_in == wanted, "server lets in captcha's pods and no others", where(server), f"{port}, {where(d)}")
    for r in rules:
        is_narrow = r.get("ports") and r.get("from") and all(set(peer) == {"podSelector"} for peer in r["from"])
        yield Fact(bool(is_narrow), "server lets in pods of its namespace to some ports", where(server))


def is_peer(peer, labels):
    """Whether a peer of a policy is a pod with these labels in the same namespace; an empty one is any pod."""
    return not peer or selects(peer.get("podSelector", {}), labels)


def users(w):
    """The users of a server that reads them from a file are those of production."""
    documents = [
        text for d in kind(w.docs, "ConfigMap") for key, text in d.get("data", {}).items() if key == "users.xml"
    ]
    if not documents:
        return
    production = yaml.safe_load(PRODUCTION.read_text())["spec"]["configuration"]["users"]
    (text,) = documents
    for user in ElementTree.fromstring(text).find("users"):
        at = f"users.xml {user.tag}"
        addresses_of = [ip.text for ip in user.iterfind("networks/ip")]
        if user.tag == "default":
            here = set(addresses_of) == set(production["default/networks/ip"])
            yield Fact(here, "user without a password connects from the pod itself alone", at, addresses_of)
            continue
        grants = [query.text for query in user.iterfind("grants/query")]
        yield Fact(
            grants == production.get(f"{user.tag}/grants/query"), "user has the grants of production", at, grants
        )
        variable = user.find("password").get("from_env")
        wanted = production.get(f"{user.tag}/password", {}).get("valueFrom", {}).get("secretKeyRef")
        for d in servers(w.docs):
            if any("configMap" in v for v in pod(d)["volumes"]):
                found = env(pod(d)["containers"][0]).get(variable, {}).get("valueFrom", {}).get("secretKeyRef")
                yield Fact(found == wanted, "password is the one that the process has", at, f"{variable}: {found}")
    named = {user.tag for user in ElementTree.fromstring(text).find("users")} - {"default"}
    for d in workloads(w.docs):
        for c in pod(d)["containers"]:
            user = env(c).get("CAPTCHA_CLICKHOUSE_USER", {}).get("value")
            yield Fact(user in named or is_server(d), "process has a user in users.xml", where(d), user)


GROUPS = [pods, addresses, users]
