"""Rules about what components bring: servers, their users, who may talk to whom, the way in, and scaling."""

import fnmatch
import json

from dev.manifests.documents import (
    COMPONENT,
    Fact,
    containers,
    dashboards,
    env,
    is_server,
    kind,
    name,
    pod,
    pod_labels,
    where,
    workloads,
)

# Labels of pods that operators make.
OPERATED = ("strimzi.io/", "clickhouse.altinity.com/", "clickhouse-keeper.altinity.com/")
# That Altinity's operator adds to its containers.
OPERATOR_PORTS = {"tcp": 9000, "secureclient": 9440, "http": 8123, "https": 8443, "interserver": 9009}
# That run all the time, and have a second user whose password can be replaced first.
ALWAYS_RUNNING = ("serve", "consume")
# Settings with the addresses of servers.
ADDRESSES = ("CAPTCHA_KAFKA_BROKERS", "CAPTCHA_CLICKHOUSE_ADDR")
# With both of these a policy is for all pods and all directions.
ALL = {"Ingress", "Egress"}


def config(docs):
    """The settings that all processes share."""
    return next((d.get("data", {}) for d in kind(docs, "ConfigMap") if name(d) == "captcha"), {})


def host_ports(text):
    for address in text.replace(";", ",").split(","):
        host, _, port = address.strip().rpartition(":")
        yield host, port


def selects(selector, labels):
    """Whether a selector of labels, with expressions or without, takes pods with these."""
    selector = selector or {}
    if not selector.get("matchLabels", {}).items() <= labels.items():
        return False
    return all(
        e["operator"] == "In" and labels.get(e["key"]) in e["values"] for e in selector.get("matchExpressions", [])
    )


def policies(docs, labels, direction):
    """The policies for pods with these labels in one direction."""
    for d in kind(docs, "NetworkPolicy"):
        if direction in d["spec"].get("policyTypes", []) and selects(d["spec"]["podSelector"], labels):
            yield d


def may_reach(docs, labels, port):
    """Whether some policy lets pods with these labels out to a port."""
    rules = [rule for d in policies(docs, labels, "Egress") for rule in d["spec"].get("egress", [])]
    return any(str(p["port"]) == str(port) for rule in rules for p in rule.get("ports", []))


def servers_of(workload):
    """The settings with the addresses of the servers that a workload talks to. A report asks ClickHouse alone."""
    if is_server(workload):
        return ()
    return ADDRESSES[1:] if workload["kind"] == "CronJob" else ADDRESSES


def network(w):
    denials = [
        d
        for d in kind(w.docs, "NetworkPolicy")
        if not d["spec"]["podSelector"] and set(d["spec"]["policyTypes"]) == ALL
    ]
    denials = [d for d in denials if not d["spec"].get("ingress") and not d["spec"].get("egress")]
    yield Fact(bool(denials), "everything is denied unless it is allowed", "NetworkPolicy")
    for d in kind(w.docs, "NetworkPolicy"):
        selector = d["spec"]["podSelector"]
        labels = selector.get("matchLabels", {})
        operated = any(label.startswith(OPERATED) for label in labels)
        found = operated or any(selects(selector, pod_labels(x)) for x in workloads(w.docs))
        yield Fact(found, "network policy selects some pods", where(d))
    shared = config(w.docs)
    for d in workloads(w.docs):
        labels = pod_labels(d)
        yield Fact(may_reach(w.docs, labels, 53), "pods may ask for names", where(d))
        for key in servers_of(d):
            for _, port in host_ports(shared.get(key, "")):
                yield Fact(
                    may_reach(w.docs, labels, port),
                    "pods may reach the servers of the config",
                    where(d),
                    f"{key} {port}",
                )
        if any(a.startswith("--webhook-url-file") for c in pod(d)["containers"] for a in c.get("args", [])):
            yield Fact(may_reach(w.docs, labels, 443), "pods may reach their webhook", where(d))
        elif not is_server(d):
            yield Fact(not may_reach(w.docs, labels, 443), "other pods reach no webhook", where(d))
        for p in [p for c in pod(d)["containers"] for p in c.get("ports", []) if p["name"] == "admin"]:
            rules = [r for x in policies(w.docs, labels, "Ingress") for r in x["spec"].get("ingress", [])]
            to_admin = [
                r
                for r in rules
                if not r.get("ports") or any(q["port"] in ("admin", p["containerPort"]) for q in r["ports"])
            ]
            yield Fact(all(r.get("from") for r in to_admin), "admin port is open to some pods at most", where(d))
        for c in pod(d)["containers"]:
            if not is_server(d) and any(p["name"] == "http" for p in c.get("ports", [])):
                rules = [r for x in policies(w.docs, labels, "Ingress") for r in x["spec"].get("ingress", [])]
                is_open = any(q["port"] == "http" for r in rules for q in r.get("ports", []))
                yield Fact(is_open, "http port is open", where(d))


def kafka(w):
    topics = {d["spec"].get("topicName", name(d)): d for d in kind(w.docs, "KafkaTopic")}
    users = {name(d): d for d in kind(w.docs, "KafkaUser")}
    clusters = {name(d) for d in kind(w.docs, "Kafka")}
    wanted = config(w.docs).get("CAPTCHA_KAFKA_TOPIC")
    if clusters:
        yield Fact(wanted in topics, "topic of the config is made", "ConfigMap/captcha", wanted)
    for d in kind(w.docs, "KafkaTopic", "KafkaUser", "KafkaNodePool"):
        cluster = d["metadata"].get("labels", {}).get("strimzi.io/cluster")
        yield Fact(cluster in clusters, "resource of Kafka names its cluster", where(d), cluster)
    brokers = sum(d["spec"]["replicas"] for d in kind(w.docs, "KafkaNodePool") if "broker" in d["spec"]["roles"])
    for d in topics.values():
        spec = d["spec"]
        yield Fact(
            spec["replicas"] <= brokers, "topic has no more copies than there are brokers", where(d), spec["replicas"]
        )
        least = max(spec["replicas"] - 1, 1)
        yield Fact(spec["config"]["min.insync.replicas"] == least, "one broker may be away and none may lie", where(d))
        kind_of_time = spec["config"].get("message.timestamp.type")
        yield Fact(
            kind_of_time == "LogAppendTime", "kafka's clock alone decides what retention drops", where(d), kind_of_time
        )
        for consume in kind(w.docs, "StatefulSet"):
            pods = consume["spec"]["replicas"]
            yield Fact(
                pods <= spec["partitions"],
                "no consume pod is without a partition",
                where(consume),
                f"{pods} of {spec['partitions']}",
            )
    for d in kind(w.docs, "KafkaUser"):
        for acl in d["spec"].get("authorization", {}).get("acls", []):
            right = acl["resource"]["type"], acl["resource"].get("name")
            yield Fact(right == ("topic", wanted), "rights are for the topic alone", where(d), right)
    for d, _, c, at in containers(w.docs):
        user = env(c).get("CAPTCHA_KAFKA_USER", {}).get("value")
        if clusters and ADDRESSES[0] in servers_of(d):
            yield Fact(user in users, "process has a user of Kafka", at, user)
            own = f"captcha-{d['metadata']['labels'].get(COMPONENT)}"
            yield Fact(user in (own, f"{own}-2"), "process has a user of its own", at, user)
            volumes = [v["secret"]["secretName"] for v in pod(d).get("volumes", []) if v["name"] == "kafka"]
            yield Fact(volumes == [user], "password is that of the process's user of Kafka", at, f"{user}, {volumes}")
    for process in ALWAYS_RUNNING if clusters else ():
        first, second = (users.get(f"captcha-{process}{n}", {}).get("spec") for n in ("", "-2"))
        yield Fact(first == second, "second user of Kafka has the rights of the first", f"KafkaUser/captcha-{process}")


def clickhouse(w):
    addresses = config(w.docs).get("CAPTCHA_CLICKHOUSE_ADDR", "")
    for d in kind(w.docs, "ClickHouseInstallation"):
        spec = d["spec"]["configuration"]
        suffix = f".{d['metadata']['namespace']}.svc:9440"
        shards = ";".join(",".join(host + suffix for host in replicas) for replicas in hosts(d))
        yield Fact(addresses == shards, "addresses are those of all shards and replicas", where(d), addresses)
        for workload, _, c, at in containers(w.docs):
            yield from clickhouse_user(workload, c, at, spec["users"])
            if c.get("args", [""])[0] == "migrate":
                replicated = "CAPTCHA_CLICKHOUSE_CLUSTER" in env(c)
                several = len(hosts(d)[0]) > 1
                yield Fact(replicated == several, "tables are replicated where there are replicas", at)
        for process in ALWAYS_RUNNING:
            first, second = (spec["users"].get(f"captcha_{process}{n}/grants/query") for n in ("", "_2"))
            yield Fact(first == second, "second user of ClickHouse has the grants of the first", where(d), process)
        for template in d["spec"].get("templates", {}).get("podTemplates", []):
            for c in template["spec"]["containers"]:
                # The operator looks for its ports by name, and adds those that it does not find.
                twice = [p for p in c.get("ports", []) if OPERATOR_PORTS.get(p["name"]) != p["containerPort"]]
                yield Fact(not twice, "ports are named as the operator names them", where(d), twice)
        keepers = {f"keeper-{name(k)}" for k in kind(w.docs, "ClickHouseKeeperInstallation")}
        for node in spec.get("zookeeper", {}).get("nodes", []):
            yield Fact(node["host"] in keepers, "keeper exists", where(d), node["host"])


def hosts(installation):
    """The names by which servers of an installation reach each other, of the replicas of each shard."""
    cluster = installation["spec"]["configuration"]["clusters"][0]
    layout = cluster["layout"]
    host = f"chi-{name(installation)}-{cluster['name']}-{{}}-{{}}"
    return [[host.format(s, r) for r in range(layout["replicasCount"])] for s in range(layout["shardsCount"])]


def clickhouse_user(workload, c, at, users):
    user = env(c).get("CAPTCHA_CLICKHOUSE_USER", {}).get("value")
    for field in ("password", "grants/query"):
        yield Fact(f"{user}/{field}" in users, "process has a user of ClickHouse", at, f"{user}/{field}")
    key = users.get(f"{user}/password", {}).get("valueFrom", {}).get("secretKeyRef", {}).get("key")
    volumes = [v["secret"] for v in pod(workload).get("volumes", []) if v["name"] == "clickhouse" and "secret" in v]
    mounted = [i["key"] for v in volumes for i in v["items"]]
    yield Fact(mounted == [key], "password is that of the process's user of ClickHouse", at, f"{user}, {mounted}")


def certificates(w):
    issuers = {name(d) for d in kind(w.docs, "Issuer")}
    names = [n for d in kind(w.docs, "Certificate") for n in d["spec"].get("dnsNames", [])]
    for d in kind(w.docs, "Certificate"):
        yield Fact(d["spec"]["issuerRef"]["name"] in issuers, "issuer exists", where(d), d["spec"]["issuerRef"]["name"])
        if d["spec"].get("isCA"):
            policy = d["spec"]["privateKey"].get("rotationPolicy")
            yield Fact(policy == "Never", "authority keeps its key when it is renewed", where(d), policy)
    for d in kind(w.docs, "ClickHouseInstallation"):
        for host in (host for replicas in hosts(d) for host in replicas):
            yield Fact(host in names, "certificate is for the names in remote_servers", "Certificate", host)
    if kind(w.docs, "ClickHouseInstallation"):
        for host, _ in host_ports(config(w.docs).get("CAPTCHA_CLICKHOUSE_ADDR", "")):
            covered = any(fnmatch.fnmatch(host, n) and host.count(".") == n.count(".") for n in names)
            yield Fact(covered, "certificate is for the host", "Certificate", host)


def way_in(w):
    gateways = {name(d): {x["name"] for x in d["spec"]["listeners"]} for d in kind(w.docs, "Gateway")}
    services = {name(d): {p["port"] for p in d["spec"].get("ports", [])} for d in kind(w.docs, "Service")}
    for d in kind(w.docs, "Gateway"):
        for x in d["spec"]["listeners"]:
            secured = x["protocol"] != "HTTPS" or x["tls"]["certificateRefs"]
            yield Fact(bool(secured), "https listener has a certificate", where(d), x["name"])
    for d in kind(w.docs, "HTTPRoute"):
        for p in d["spec"]["parentRefs"]:
            yield Fact(
                p["sectionName"] in gateways.get(p["name"], ()), "route hangs on a listener", where(d), p["sectionName"]
            )
        plain = any(p["sectionName"] == "http" for p in d["spec"]["parentRefs"])
        for rule in d["spec"]["rules"]:
            yield Fact(not (plain and rule.get("backendRefs")), "nothing is served without TLS", where(d))
            for b in rule.get("backendRefs", []):
                yield Fact(b["port"] in services.get(b["name"], ()), "route leads to a service", where(d), b["name"])


def scaling(w):
    for d in kind(w.docs, "HorizontalPodAutoscaler"):
        target = d["spec"]["scaleTargetRef"]
        found = [x for x in workloads(w.docs) if (x["kind"], name(x)) == (target["kind"], target["name"])]
        yield Fact(len(found) == 1, "autoscaler has a target", where(d))
        yield Fact(
            all("replicas" not in x["spec"] for x in found), "target leaves its number to the autoscaler", where(d)
        )
        yield Fact(d["spec"]["minReplicas"] >= 2, "autoscaler keeps two pods", where(d))
    for d in kind(w.docs, "PodMonitor"):
        found = [x for x in workloads(w.docs) if selects(d["spec"]["selector"], pod_labels(x))]
        ports = [p["name"] for x in found for c in pod(x)["containers"] for p in c.get("ports", [])]
        yield Fact(len(found) == 2, "pod monitor selects serve and consume", where(d))
        for endpoint in d["spec"]["podMetricsEndpoints"]:
            yield Fact(ports.count(endpoint["port"]) == len(found), "scraped port is there", where(d), endpoint["port"])
        boards = [text for c in dashboards(w.docs) for text in c["data"].values()]
        yield Fact(is_board(boards), "there is a dashboard", where(d))
        yield Fact(bool(kind(w.docs, "PrometheusRule")), "there are alerts", where(d))


def is_board(texts):
    try:
        return [len(json.loads(text)["panels"]) > 0 for text in texts] == [True]
    except (ValueError, KeyError):
        return False


GROUPS = [network, kafka, clickhouse, certificates, way_in, scaling]
