"""Does what the operators do with their documents: Kafka with its topic, users and rights, ClickHouse with its users.

Three brokers that are controllers too, where Strimzi would start three of each. A ClickHouse for each shard, with a
port in front of it that takes TLS off, because the engine that runs here has none."""

import subprocess
from xml.sax.saxutils import escape

from dev import fetch, ports, ready, supervise
from dev.command import DEV, Failure, last_words, start
from dev.testkit import servers
from tests.pods import credentials

CLUSTER = "Y2FwdGNoYS1wb2RzLTAwMA"
START_SECONDS = 180
TOOL_SECONDS = 120
OPERATIONS = {"Describe", "Write", "Read", "DescribeConfigs", "Create"}
RACK = "abc"


class Servers:
    """All that pods connect to; `children` are the processes."""

    def __init__(self, documents, network, folder, lock):
        self.documents = documents
        self.network = network
        self.folder = folder
        self.lock = lock
        self.children = []
        self.kafka = documents.one("Kafka")
        self.clickhouse = documents.one("ClickHouseInstallation")
        self.kafka_ports = []

    def begin(self):
        """Starts everything and makes of the documents what operators make of them."""
        brokers = self.brokers()
        made, kafka_files = credentials.strimzi(self.documents, self.folder / "authorities", brokers)
        self.documents.secrets |= made
        made, server_files = credentials.cert_manager(self.documents, self.folder / "authorities")
        self.documents.secrets |= made
        self.start_kafka(brokers, kafka_files)
        self.start_clickhouse(server_files)
        for child, ask in self.children:
            supervise.wait_ready(child, ask, START_SECONDS)
        self.make_topic_and_rights()

    def brokers(self):
        """The names that brokers have and advertise."""
        name, space = self.kafka["metadata"]["name"], self.documents.namespace()
        pools = [d for d in self.documents.all("KafkaNodePool") if "broker" in d["spec"]["roles"]]
        if len(pools) != 1:
            raise Failure(f"{len(pools)} node pools have brokers; one is wanted")
        pool, count = pools[0]["metadata"]["name"], pools[0]["spec"]["replicas"]
        return [f"{name}-{pool}-{n}.{name}-kafka-brokers.{space}.svc" for n in range(count)]

    def listener(self):
        """The port of the one listener, of the one kind that is made here."""
        (listener,) = self.kafka["spec"]["kafka"]["listeners"]
        kind = listener["type"], listener["tls"], listener.get("authentication", {}).get("type")
        simple = self.kafka["spec"]["kafka"].get("authorization", {}).get("type") == "simple"
        if kind != ("internal", True, "scram-sha-512") or not simple:
            raise Failure(f"a listener of this kind is not made here: {kind}, simple rights {simple}")
        return listener["port"]

    def start_kafka(self, brokers, certificates):
        port, name = self.listener(), f"TLS-{self.listener()}"  # as Strimzi names it
        chosen = ports.pick(2 * len(brokers))
        self.kafka_ports = chosen[: len(brokers)]
        controllers = chosen[len(brokers) :]
        voters = ",".join(f"{n}@127.0.0.1:{c}" for n, c in enumerate(controllers))
        targets = []
        users = [d["metadata"]["name"] for d in self.documents.all("KafkaUser")]
        scram = [f"SCRAM-SHA-512=[name={u},password={self.documents.secrets[u]['password']}]" for u in users]
        for node, (broker, certificate) in enumerate(zip(brokers, certificates, strict=True)):
            address = self.network.service(broker)
            targets.append((address, port))
            store = certificate.with_suffix(".pem")
            store.write_text(certificate.with_suffix(".key").read_text() + certificate.read_text())
            plain = f"PLAINTEXT://127.0.0.1:{self.kafka_ports[node]}"
            module = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
            settings = self.kafka["spec"]["kafka"].get("config", {}) | {
                "listeners": f"{plain},{name}://{address}:{port},CONTROLLER://127.0.0.1:{controllers[node]}",
                "advertised.listeners": f"{plain},{name}://{broker}:{port}",
                "listener.security.protocol.map": f"CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,{name}:SASL_SSL",
                "inter.broker.listener.name": "PLAINTEXT",
                "controller.quorum.voters": voters,
                "sasl.enabled.mechanisms": "SCRAM-SHA-512",
                f"listener.name.{name.lower()}.scram-sha-512.sasl.jaas.config": module,
                "ssl.keystore.type": "PEM",
                "ssl.keystore.location": store,
                "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
                "super.users": "User:ANONYMOUS",  # the brokers among themselves, and what makes the rights below
                "broker.rack": RACK[node % len(RACK)],
            }
            words = ["--node-id", node, "--cluster-id", CLUSTER, "--controller-port", controllers[node]]
            for key, value in settings.items():
                words += ["--set", f"{key}={servers.value(value)}"]
            words += [word for user in scram for word in ("--scram", user)]
            at = self.kafka_ports[node]
            self.launch("kafka", f"kafka-{node}", at, words, lambda at=at: ready.kafka(at))
        bootstrap = f"{self.kafka['metadata']['name']}-kafka-bootstrap.{self.documents.namespace()}.svc"
        self.network.forward(self.network.service(bootstrap), port, targets)

    def start_clickhouse(self, certificates):
        spec = self.clickhouse["spec"]["configuration"]
        (cluster,) = spec["clusters"]
        layout, tls = cluster["layout"], spec["settings"]["tcp_port_secure"]
        if layout["replicasCount"] != 1:
            raise Failure("replicas of a shard are not made here")
        (template,) = self.clickhouse["spec"]["templates"]["podTemplates"]
        (certificate,) = [certificates[v["secret"]["secretName"]] for v in template["spec"]["volumes"] if "secret" in v]
        config = self.folder / "clickhouse-config.xml"
        users = self.folder / "clickhouse-users.xml"
        users.write_text(self.users(spec["users"]))
        shared = (DEV / "clickhouse-config.xml").read_text()
        config.write_text(shared.replace("</clickhouse>", f"<users_config>{users}</users_config></clickhouse>"))
        for shard in range(layout["shardsCount"]):
            port, http = ports.pick(2)
            pod = f"chi-{self.clickhouse['metadata']['name']}-{cluster['name']}-{shard}-0"
            host = f"{pod}.{self.documents.namespace()}.svc"
            words = ["--http-port", http, "--config", config]
            self.launch("clickhouse", f"clickhouse-{shard}", port, words, lambda at=http: ready.clickhouse(at))
            self.network.forward(self.network.service(host), tls, [("127.0.0.1", port)], certificate)

    def users(self, paths):
        """ClickHouse's file of users, of what the operator takes: paths and values."""
        users = {}
        for path, value in paths.items():
            user, _, setting = path.partition("/")
            ref = value["valueFrom"]["secretKeyRef"] if isinstance(value, dict) else None
            secret = ref and self.documents.key("Secret", ref["name"], ref["key"], f"clickhouse user {user}")
            users.setdefault(user, {})[setting] = secret or value
        page = ""
        for user, settings in users.items():
            unknown = set(settings) - {"password", "networks/ip", "profile", "grants/query"}
            if unknown:
                raise Failure(f"clickhouse user {user}: {', '.join(unknown)} is not carried out here")
            page += f"<{user}><quota>default</quota><profile>{settings.get('profile', 'default')}</profile>"
            page += f"<password>{escape(settings.get('password', ''))}</password><networks>"
            page += "".join(f"<ip>{address}</ip>" for address in settings["networks/ip"]) + "</networks>"
            if "grants/query" in settings:
                page += (
                    "<grants>"
                    + "".join(f"<query>{escape(grant)}</query>" for grant in settings["grants/query"])
                    + "</grants>"
                )
            page += f"</{user}>"
        shell = "<clickhouse><profiles><default/></profiles><quotas><default/></quotas><users>{}</users></clickhouse>"
        return shell.format(page)

    def launch(self, kind, name, port, words, ask):
        log = self.folder / "logs" / f"{name}.log"
        child = servers.launch(kind, name, self.folder / name, port, log, *words, pass_fds=(self.lock,))
        self.children.append((child, ask))

    def make_topic_and_rights(self):
        """Topics and rights, each by a tool of Kafka's, all at once."""
        wanted = []
        for doc in self.documents.all("KafkaTopic"):
            spec = doc["spec"]
            words = ["--create", "--topic", spec.get("topicName", doc["metadata"]["name"])]
            words += ["--partitions", spec["partitions"], "--replication-factor", spec["replicas"]]
            for key, value in spec.get("config", {}).items():
                words += ["--config", f"{key}={servers.value(value)}"]
            wanted.append(("org.apache.kafka.tools.TopicCommand", words))
        for doc in self.documents.all("KafkaUser"):
            for right in doc["spec"]["authorization"]["acls"]:
                resource, operations = right["resource"], right["operations"]
                if (
                    resource["type"] != "topic"
                    or set(right) != {"resource", "operations"}
                    or not OPERATIONS.issuperset(operations)
                ):
                    raise Failure(f"a right of this kind is not made here: {right}")
                words = ["--add", "--allow-principal", f"User:{doc['metadata']['name']}", "--topic", resource["name"]]
                words += ["--resource-pattern-type", resource["patternType"]]
                words += [word for operation in operations for word in ("--operation", operation)]
                wanted.append(("org.apache.kafka.tools.AclCommand", words))
        running = []
        bootstrap = ["--bootstrap-server", f"127.0.0.1:{self.kafka_ports[0]}"]
        for number, (tool, words) in enumerate(wanted):
            log = self.folder / "logs" / f"tool-{number}.log"
            argv = ["java", "-XX:TieredStopAtLevel=1", "-cp", f"{fetch.fetch().kafka}/*", tool, *bootstrap]
            with open(log, "wb") as output:
                child = start([*argv, *words], stdin=subprocess.DEVNULL, stdout=output, stderr=output)
            running.append((tool, log, child))
        for tool, log, child in running:
            if child.wait(TOOL_SECONDS) != 0:
                raise Failure(f"{tool} failed: {last_words(log)}")
