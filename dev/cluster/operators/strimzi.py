"""What Strimzi makes of a Kafka, its node pools, its topics and its users.

The brokers are controllers too, where Strimzi would start pods of their own for the controllers."""

import json
import secrets

from dev.cluster import official_images
from dev.cluster.authority import RSA, Authority, names
from dev.cluster.operators.documents import (
    config_map,
    container,
    metadata,
    need,
    pod,
    secret,
    service,
    stateful_set,
)
from dev.command import DEV, Failure, write

CLUSTER = "Y2FwdGNoYS1wb2RzLTAwMA"  # an id of Kafka's form
JAVA = "/opt/java/bin/java -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -cp '/opt/kafka/*'"
# Ports of Strimzi's: of controllers, and of the brokers among themselves.
CONTROL_PORT, INNER_PORT = 9090, 9091
OPERATIONS = {"Describe", "Write", "Read", "DescribeConfigs", "Create"}
LOG4J = (DEV / "kafka-log4j2.yaml").read_text()


def manifests(documents, folder, space):
    kafka = documents.one("Kafka")
    name, spec = kafka["metadata"]["name"], kafka["spec"]["kafka"]
    need(spec, {"listeners", "authorization", "rack", "config"}, f"Kafka {name}")
    listener = the_listener(spec, name)
    (pool,) = [doc for doc in documents.all("KafkaNodePool") if "broker" in doc["spec"]["roles"]]
    pods = f"{name}-{pool['metadata']['name']}"
    replicas = pool["spec"]["replicas"]
    governing = f"{name}-kafka-brokers"
    hosts = [f"{pods}-{number}.{governing}.{space}.svc" for number in range(replicas)]
    authority = Authority(folder, "cluster-ca", "/O=io.strimzi/CN=cluster-ca v0", RSA)
    yield secret(f"{name}-cluster-ca-cert", space, {"ca.crt": authority.file.read_text()})
    yield secret(pods, space, keystores(authority, name, space, hosts))
    passwords = user_passwords(documents, folder)
    for user, password in passwords.items():
        yield secret(user, space, {"password": password})
    port = listener["port"]
    yield config_map(
        "strimzi-settings", space, {"server.properties": properties(spec, hosts, port), "log4j2.yaml": LOG4J}
    )
    scram = " ".join(f"--add-scram SCRAM-SHA-512=[name={u},password={p}]" for u, p in passwords.items())
    yield secret("strimzi-users", space, {"users": scram})
    labels = {"strimzi.io/cluster": name, "strimzi.io/kind": "Kafka", "strimzi.io/name": f"{name}-kafka"}
    labels |= {"strimzi.io/pool-name": pool["metadata"]["name"]}
    yield stateful_set(pods, space, labels, replicas, governing, brokers(governing, space, port, pods), "data-0")
    yield service(governing, space, labels, [CONTROL_PORT, INNER_PORT, port])
    yield service(f"{name}-kafka-bootstrap", space, labels, [port], headless=False)
    yield network_policy(name, space, labels, listener)
    yield topics_and_rights(documents, space, name, hosts[0])


def the_listener(spec, name):
    (listener,) = spec["listeners"]
    kind = listener["type"], listener["tls"], listener.get("authentication", {}).get("type")
    if kind != ("internal", True, "scram-sha-512") or spec.get("authorization") != {"type": "simple"}:
        raise Failure(f"Kafka {name}: the stand-in makes a listener with TLS and SCRAM-SHA-512 and simple rights alone")
    return listener


def keystores(authority, name, space, hosts):
    """The key and the certificate of each broker, in one file."""
    stores = {}
    for host in hosts:
        broker = host.partition(".")[0]
        own = [
            f"{h}{end}"
            for h in (f"{name}-kafka-bootstrap", f"{name}-kafka-brokers", broker)
            for end in ("", f".{space}", f".{space}.svc")
        ]
        file = authority.certificate(
            broker, f"/O=io.strimzi/CN={name}-kafka", [names(*own, host, f"{host}.cluster.local")]
        )
        stores[f"{broker}.pem"] = file.with_suffix(".key").read_text() + file.read_text()
    return stores


def user_passwords(documents, folder):
    """A password for each user, kept in the folder: Strimzi keeps its own too."""
    file = folder / "passwords.json"
    kept = json.loads(file.read_text()) if file.exists() else {}
    made = {
        doc["metadata"]["name"]: kept.get(doc["metadata"]["name"], secrets.token_urlsafe(24))
        for doc in documents.all("KafkaUser")
    }
    write(file, json.dumps(made))
    return made


def change_password(documents, folder, user, run):
    """A new password for a user, as Strimzi makes one when its Secret was deleted: the brokers' command and the Secret.
    `run(pod, script)` runs a script in a broker's pod."""
    file = folder / "passwords.json"
    kept = json.loads(file.read_text()) | {user: secrets.token_urlsafe(24)}
    write(file, json.dumps(kept))
    words = f"--alter --entity-type users --entity-name {user} --add-config 'SCRAM-SHA-512=[password={kept[user]}]'"
    run(first_broker(documents), script_of(f"kafka.admin.ConfigCommand {{}} {words}"))
    return secret(user, documents.namespace(), {"password": kept[user]})


def change_right(documents, user, operation, word):
    """The pod and the script that take a right of a user away, or give it: `word` is an option of Kafka's tool."""
    (topic,) = [doc["metadata"]["name"] for doc in documents.all("KafkaTopic")]
    words = f"{word} --allow-principal User:{user} --topic {topic} --operation {operation}"
    return first_broker(documents), script_of(f"org.apache.kafka.tools.AclCommand {{}} {words}")


def under_replicated(documents):
    """The pod and the script that print the partitions which lack a replica."""
    return first_broker(documents), script_of(
        "org.apache.kafka.tools.TopicCommand {} --describe --under-replicated-partitions"
    )


def first_broker(documents):
    (pool,) = [doc for doc in documents.all("KafkaNodePool") if "broker" in doc["spec"]["roles"]]
    return f"{documents.one('Kafka')['metadata']['name']}-{pool['metadata']['name']}-0"


def script_of(command):
    """A script that runs a tool of Kafka's in a broker's pod; {} is where it takes the server."""
    return f"{JAVA} {command.format(f'--bootstrap-server localhost:{INNER_PORT}')}"


def properties(spec, hosts, port):
    """The properties of every broker; the script below puts in what is a broker's own."""
    tls = f"TLS-{port}"  # as Strimzi names a listener
    settings = spec.get("config", {}) | {
        "process.roles": "broker,controller",
        "node.id": "@ID@",
        "controller.quorum.voters": ",".join(f"{n}@{host}:{CONTROL_PORT}" for n, host in enumerate(hosts)),
        "controller.listener.names": "CONTROLLER",
        "listeners": f"PLAINTEXT://0.0.0.0:{INNER_PORT},{tls}://0.0.0.0:{port},CONTROLLER://0.0.0.0:{CONTROL_PORT}",
        "advertised.listeners": f"PLAINTEXT://@HOST@:{INNER_PORT},{tls}://@HOST@:{port}",
        "listener.security.protocol.map": f"CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,{tls}:SASL_SSL",
        "inter.broker.listener.name": "PLAINTEXT",
        "sasl.enabled.mechanisms": "SCRAM-SHA-512",
        f"listener.name.{tls.lower()}.scram-sha-512.sasl.jaas.config": (
            "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        ),
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": "/run/secrets/tls/@POD@.pem",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",  # the brokers among themselves, and the tools below
        "broker.rack": "zone-a",
        "log.dirs": "/data/log",
        "offsets.topic.num.partitions": 1,
        "transaction.state.log.num.partitions": 1,
        "log.index.size.max.bytes": 1 << 20,
    }
    return "".join(f"{key}={text(value)}\n" for key, value in settings.items())


def text(value):
    return str(value).lower() if isinstance(value, bool) else value


def brokers(governing, space, port, pods):
    script = f"""set -eu
pod=$(hostname)
own="s/@ID@/${{pod##*-}}/g; s/@HOST@/$pod.{governing}.{space}.svc/g; s/@POD@/$pod/g"
sed "$own" /etc/strimzi/server.properties >/tmp/server.properties
[ -e /data/log/meta.properties ] ||
    {JAVA} kafka.tools.StorageTool format -t {CLUSTER} -c /tmp/server.properties $(cat /etc/strimzi-users/users)
exec {JAVA} -Xms64m -Xmx300m -Dlog4j2.configurationFile=file:/etc/strimzi/log4j2.yaml kafka.Kafka /tmp/server.properties
"""
    mounts = {"data-0": "/data", "tmp": "/tmp", "settings": "/etc/strimzi", "users": "/etc/strimzi-users"}
    server = container(
        *("kafka", official_images.KAFKA.image(), script, mounts | {"tls": "/run/secrets/tls"}),
        resources={"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": "900Mi"}},
        readinessProbe={"tcpSocket": {"port": port}, "periodSeconds": 2},
    )
    volumes = {
        "tmp": {"emptyDir": {}},
        "settings": {"configMap": {"name": "strimzi-settings"}},
        "users": {"secret": {"secretName": "strimzi-users"}},
        "tls": {"secret": {"secretName": pods}},
    }
    return pod([server], volumes, terminationGracePeriodSeconds=30)


def network_policy(name, space, labels, listener):
    own = {"podSelector": {"matchLabels": {"strimzi.io/cluster": name}}}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata(f"{name}-network-policy-kafka", space),
        "spec": {
            "podSelector": {"matchLabels": labels},
            "policyTypes": ["Ingress"],
            "ingress": [
                {"from": [own], "ports": [{"port": CONTROL_PORT}, {"port": INNER_PORT}]},
                {"from": listener.get("networkPolicyPeers", []), "ports": [{"port": listener["port"]}]},
            ],
        },
    }


def topics_and_rights(documents, space, name, host):
    """A Job that makes the topics and the rights with Kafka's own tools, all at once; it tries again until it can."""
    server = f"--bootstrap-server {host}:{INNER_PORT}"
    commands = []
    for doc in documents.all("KafkaTopic"):
        spec = doc["spec"]
        need(spec, {"partitions", "replicas", "config"}, f"KafkaTopic {doc['metadata']['name']}")
        words = [f"--partitions {spec['partitions']} --replication-factor {spec['replicas']}"]
        words += [f"--config {key}={text(value)}" for key, value in spec.get("config", {}).items()]
        tool = f"org.apache.kafka.tools.TopicCommand {server} --create --if-not-exists"
        commands.append(f"{tool} --topic {doc['metadata']['name']} {' '.join(words)}")
    for doc in documents.all("KafkaUser"):
        user = doc["metadata"]["name"]
        for right in doc["spec"]["authorization"]["acls"]:
            resource, operations = right["resource"], right["operations"]
            if (
                resource["type"] != "topic"
                or set(right) != {"resource", "operations"}
                or not OPERATIONS.issuperset(operations)
            ):
                raise Failure(f"KafkaUser {user}: the stand-in does not make a right of this kind: {right}")
            words = [f"--topic {resource['name']} --resource-pattern-type {resource['patternType']}"]
            words += [f"--operation {operation}" for operation in operations]
            tool = f"org.apache.kafka.tools.AclCommand {server} --add --allow-principal User:{user}"
            commands.append(f"{tool} {' '.join(words)}")
    script = "fail() { echo $1 failed; touch /tmp/failed; }\n"
    script += "".join(f"{{ {JAVA} {command} || fail {number}; }} &\n" for number, command in enumerate(commands))
    script += "wait\n[ ! -e /tmp/failed ]\n"
    tool = container("tools", official_images.KAFKA.image(), script, {"tmp": "/tmp"})
    labels = {"strimzi.io/cluster": name, "strimzi.io/kind": "tools"}
    template = pod([tool], {"tmp": {"emptyDir": {}}}, restartPolicy="Never")
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata("strimzi-topics-and-rights", space),
        "spec": {"backoffLimit": 20, "template": {"metadata": {"labels": labels}, "spec": template}},
    }
