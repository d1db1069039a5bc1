"""Damages the rendered documents, in memory, so that each rule has to complain at least once."""

import copy

from dev.manifests import chart, documents, monitoring, rules

DELETE = object()
SERVE, CONSUME, MIGRATE = "Deployment/captcha-serve", "StatefulSet/captcha-consume", "Job/captcha-migrate"
POD = "spec template spec "
C = POD + "containers 0 "
LABEL = "app.kubernetes.io/component"

# (rule, document, path to a field, its new value): the rule must complain about the document after the change.
DAMAGES = [
    ("every part is there", "Service/captcha", "metadata labels " + LABEL, "other"),
    ("every part is there", SERVE, "kind", "DaemonSet"),
    ("namespace is one of the manifests", "Service/captcha", "metadata namespace", "default"),
    ("namespace stays out of kustomizations", "ServiceAccount/captcha-serve", "kind", "Namespace"),
    ("service account exists", SERVE, POD + "serviceAccountName", "default"),
    ("config map of a volume exists", SERVE, POD + "volumes 0", {"name": "clickhouse", "configMap": {"name": "other"}}),
    ("secret of a volume exists or is listed as made by hand", SERVE, POD + "volumes 0 secret secretName", "other"),
    ("secret has the key", SERVE, POD + "volumes 0 secret items 0 key", "passwd"),
    ("volume is used", MIGRATE, C + "volumeMounts", []),
    ("mounted volume exists", CONSUME, C + "volumeMounts 0 name", "other"),
    ("secret is mounted read-only", SERVE, C + "volumeMounts 0 readOnly", DELETE),
    ("environment comes from a config map that exists", SERVE, C + "envFrom 0 configMapRef name", "other"),
    ("file of a _FILE variable is in a mounted secret", SERVE, C + "volumeMounts 0 mountPath", "/other"),
    (
        "secret comes by file, not by environment",
        SERVE,
        C + "env 2",
        {
            "name": "CAPTCHA_CLICKHOUSE_PASSWORD",
            "valueFrom": {"secretKeyRef": {"name": "captcha-clickhouse", "key": "x"}},
        },
    ),
    ("field of a pod is named with its version", CONSUME, C + "env 0 valueFrom fieldRef apiVersion", DELETE),
    ("headless service exists", CONSUME, "spec serviceName", "captcha"),
    (
        "workload selects its own pods and no others",
        SERVE,
        "spec selector matchLabels",
        {"app.kubernetes.io/name": "captcha"},
    ),
    ("workload selects its own pods and no others", CONSUME, "spec template metadata labels " + LABEL, "other"),
    ("pods are spread", CONSUME, POD + "topologySpreadConstraints", DELETE),
    (
        "spread constraint counts its own pods",
        SERVE,
        POD + "topologySpreadConstraints 1 labelSelector matchLabels " + LABEL,
        "consume",
    ),
    (
        "disruption budget selects one workload",
        "PodDisruptionBudget/captcha-serve",
        "spec selector matchLabels " + LABEL,
        "other",
    ),
    ("service selects one workload", "Service/captcha", "spec selector " + LABEL, DELETE),
    ("service port goes to a named port of the pod", "Service/captcha", "spec ports 0 targetPort", "web"),
    ("admin port stays out of services", "Service/captcha", "spec ports 0 targetPort", "admin"),
    ("admin port stays out of services", "Service/captcha", "spec ports 0 targetPort", 9090),
    ("container has startup, liveness and readiness probes", CONSUME, C + "startupProbe", DELETE),
    ("probe asks a declared admin port", CONSUME, C + "ports 0 name", "other"),
    ("probe asks a declared admin port", SERVE, C + "readinessProbe httpGet port", "http"),
    ("liveness asks /livez, readiness /readyz", CONSUME, C + "livenessProbe httpGet path", "/readyz"),
    ("listen address and declared port agree", SERVE, C + "env 0 value", "127.0.0.1:8000"),
    ("listen address and declared port agree", SERVE, C + "ports 1 containerPort", 9091),
    (
        "namespace enforces pod security restricted",
        "Namespace/captcha",
        "metadata labels pod-security.kubernetes.io/enforce",
        "baseline",
    ),
    (
        "pod security is that of the oldest Kubernetes",
        "Namespace/captcha",
        "metadata labels pod-security.kubernetes.io/enforce-version",
        "latest",
    ),
    ("service account mounts no token", "ServiceAccount/captcha-serve", "automountServiceAccountToken", DELETE),
    ("pod mounts no token", MIGRATE, POD + "automountServiceAccountToken", True),
    ("service links are off", MIGRATE, POD + "enableServiceLinks", DELETE),
    ("pod stays out of the host's namespaces", SERVE, POD + "hostNetwork", True),
    ("volume type is allowed", SERVE, POD + "volumes 0", {"name": "clickhouse", "hostPath": {"path": "/"}}),
    ("runs as non-root", SERVE, POD + "securityContext runAsNonRoot", DELETE),
    ("runs as non-root", SERVE, C + "securityContext runAsNonRoot", False),
    ("user is the image's", CONSUME, POD + "securityContext runAsUser", 0),
    ("seccomp profile is RuntimeDefault", CONSUME, POD + "securityContext seccompProfile type", "Unconfined"),
    ("no privilege escalation", SERVE, C + "securityContext allowPrivilegeEscalation", DELETE),
    ("not privileged", SERVE, C + "securityContext privileged", True),
    ("capabilities are dropped", SERVE, C + "securityContext capabilities", {"drop": ["NET_RAW"]}),
    ("capabilities are dropped", SERVE, C + "securityContext capabilities add", ["SYS_ADMIN"]),
    ("root file system is read-only", MIGRATE, C + "securityContext readOnlyRootFilesystem", DELETE),
    ("no host port", SERVE, C + "ports 0 hostPort", 80),
    ("memory has a limit", CONSUME, C + "resources limits memory", DELETE),
    ("cpu and memory are requested", CONSUME, C + "resources requests cpu", DELETE),
    ("grace period leaves 20 s after preStop", SERVE, C + "lifecycle preStop sleep seconds", 30),
    ("grace period leaves 20 s after preStop", CONSUME, POD + "terminationGracePeriodSeconds", 5),
    ("preStop sleeps while endpoints drain", SERVE, C + "lifecycle", DELETE),
    ("rolling update keeps every replica", SERVE, "spec strategy rollingUpdate maxUnavailable", "25%"),
    ("job has bounds", MIGRATE, "spec backoffLimit", DELETE),
    ("one try of the job outlasts a slow operator", MIGRATE, C + "env 0 value", "600"),
    ("no deadline ends the job while it waits", MIGRATE, "spec activeDeadlineSeconds", 1800),
    ("a failed try keeps its log", MIGRATE, POD + "restartPolicy", "OnFailure"),
    ("an eviction is no failure of the job", MIGRATE, "spec podFailurePolicy rules 0 action", "Count"),
    ("wrong usage ends the job at once", MIGRATE, "spec podFailurePolicy rules 1 onExitCodes values", [1]),
    (
        "a report that was posted ends the job, and no other failure",
        MIGRATE,
        "spec podFailurePolicy rules 1 onExitCodes values",
        [2, 5],
    ),
    ("every $(NAME) is a variable of the container", CONSUME, C + "env 0 name", "ORDINAL"),
    ("share is the pod's ordinal of as many shares as replicas", CONSUME, "spec replicas", 3),
    ("share is the pod's ordinal of as many shares as replicas", CONSUME, C + "env 1 value", "3"),
    (
        "share is the pod's ordinal of as many shares as replicas",
        CONSUME,
        C + "env 0 valueFrom fieldRef fieldPath",
        "metadata.name",
    ),
    ("rates of keys are divided by the pods", SERVE, C + "env 5 value", "4"),
    ("rates of keys are divided by the pods", SERVE, C + "env 6", DELETE),
    ("image tag is Cargo.toml's version", SERVE, C + "image", "registry:5000/captcha:latest"),
    ("image tag is Cargo.toml's version", SERVE, C + "image", "registry:5000/captcha"),
    ("image is pulled if not present", SERVE, C + "imagePullPolicy", DELETE),
    ("version label is Cargo.toml's version", CONSUME, "metadata labels app.kubernetes.io/version", "0.0.1"),
    ("job name ends with the version", MIGRATE, "metadata name", "captcha-migrate-0-0-1"),
    ("first argument is a subcommand", MIGRATE, C + "args 0", "upgrade"),
    ("variable is known to the subcommand", SERVE, C + "env 0 name", "CAPTCHA_LISTEN_ON"),
    ("variable is known to the subcommand", MIGRATE, C + "env 0 name", "CAPTCHA_LISTEN"),
    ("flag is known to the subcommand", CONSUME, C + "args 1", "--share=$(POD_INDEX)/$(CONSUME_REPLICAS)"),
    (
        "config key is known to a subcommand that reads it",
        "ConfigMap/captcha",
        "data CAPTCHA_KAFKA_BROKER",
        "kafka:9092",
    ),
    ("config map holds no secret", "ConfigMap/captcha", "data CAPTCHA_CLICKHOUSE_PASSWORD", "hunter2"),
    ("file of the config is in a mounted secret", "ConfigMap/captcha", "data CAPTCHA_KAFKA_CA_FILE", "/other"),
    ("everything is denied unless it is allowed", "NetworkPolicy/default-deny", "spec policyTypes", ["Ingress"]),
    ("everything is denied unless it is allowed", "NetworkPolicy/default-deny", "spec egress", [{}]),
    (
        "network policy selects some pods",
        "NetworkPolicy/captcha-serve",
        "spec podSelector matchLabels " + LABEL,
        "other",
    ),
    ("pods may ask for names", "NetworkPolicy/dns", "spec egress", []),
    ("pods may reach the servers of the config", "NetworkPolicy/captcha-to-kafka", "spec egress 0 ports 0 port", 9092),
    (
        "pods may reach the servers of the config",
        "NetworkPolicy/captcha-to-clickhouse",
        "spec podSelector matchExpressions 1 values",
        ["serve", "consume"],
    ),
    ("admin port is open to some pods at most", "NetworkPolicy/captcha-metrics", "spec ingress 0 from", DELETE),
    ("http port is open", "NetworkPolicy/captcha-serve", "spec ingress", []),
    ("topic of the config is made", "KafkaTopic/captcha", "spec topicName", "other"),
    ("resource of Kafka names its cluster", "KafkaUser/captcha-serve", "metadata labels strimzi.io/cluster", "other"),
    ("topic has no more copies than there are brokers", "KafkaNodePool/brokers", "spec replicas", 2),
    ("one broker may be away and none may lie", "KafkaTopic/captcha", "spec config min.insync.replicas", 1),
    (
        "kafka's clock alone decides what retention drops",
        "KafkaTopic/captcha",
        "spec config message.timestamp.type",
        DELETE,
    ),
    ("no consume pod is without a partition", "KafkaTopic/captcha", "spec partitions", 3),
    ("rights are for the topic alone", "KafkaUser/captcha-consume", "spec authorization acls 0 resource name", "*"),
    ("process has a user of Kafka", "KafkaUser/captcha-migrate", "metadata name", "other"),
    ("process has a user of its own", SERVE, "metadata labels " + LABEL, "other"),
    ("password is that of the process's user of Kafka", SERVE, C + "env 7 value", "captcha-serve-2"),
    (
        "second user of Kafka has the rights of the first",
        "KafkaUser/captcha-consume-2",
        "spec authorization acls 0 operations",
        ["Describe"],
    ),
    (
        "addresses are those of all shards and replicas",
        "ClickHouseInstallation/captcha",
        "spec configuration clusters 0 layout shardsCount",
        3,
    ),
    (
        "process has a user of ClickHouse",
        "ClickHouseInstallation/captcha",
        "spec configuration users captcha_serve/grants/query",
        DELETE,
    ),
    ("password is that of the process's user of ClickHouse", SERVE, POD + "volumes 0 secret items 0 key", "serve_2"),
    (
        "second user of ClickHouse has the grants of the first",
        "ClickHouseInstallation/captcha",
        "spec configuration users captcha_serve_2/grants/query",
        ["GRANT SELECT ON captcha.*"],
    ),
    (
        "ports are named as the operator names them",
        "ClickHouseInstallation/captcha",
        "spec templates podTemplates 0 spec containers 0 ports",
        [{"name": "tcp-secure", "containerPort": 9440}],
    ),
    (
        "tables are replicated where there are replicas",
        "ClickHouseInstallation/captcha",
        "spec configuration clusters 0 layout replicasCount",
        1,
    ),
    ("keeper exists", "ClickHouseKeeperInstallation/captcha", "metadata name", "other"),
    ("issuer exists", "Certificate/captcha-clickhouse", "spec issuerRef name", "other"),
    ("authority keeps its key when it is renewed", "Certificate/captcha-ca", "spec privateKey rotationPolicy", DELETE),
    ("certificate is for the host", "Certificate/captcha-clickhouse", "spec dnsNames", ["*.svc", "captcha.svc"]),
    (
        "certificate is for the names in remote_servers",
        "Certificate/captcha-clickhouse",
        "spec dnsNames",
        ["*.captcha.svc", "*.captcha.svc.cluster.local"],
    ),
    ("https listener has a certificate", "Gateway/captcha", "spec listeners 1 tls certificateRefs", []),
    ("route hangs on a listener", "HTTPRoute/captcha", "spec parentRefs 0 sectionName", "tls"),
    ("nothing is served without TLS", "HTTPRoute/captcha", "spec parentRefs 0 sectionName", "http"),
    ("route leads to a service", "HTTPRoute/captcha", "spec rules 0 backendRefs 0 port", 8000),
    ("autoscaler has a target", "HorizontalPodAutoscaler/captcha-serve", "spec scaleTargetRef name", "other"),
    ("target leaves its number to the autoscaler", SERVE, "spec replicas", 2),
    ("autoscaler keeps two pods", "HorizontalPodAutoscaler/captcha-serve", "spec minReplicas", 1),
    ("pod monitor selects serve and consume", "PodMonitor/captcha", "spec selector matchExpressions", []),
    ("scraped port is there", "PodMonitor/captcha", "spec podMetricsEndpoints 0 port", "metrics"),
    ("there is a dashboard", "ConfigMap/captcha-dashboard", "metadata labels grafana_dashboard", DELETE),
    ("there is a dashboard", "ConfigMap/captcha-dashboard", "data captcha.json", "{}"),
    ("there are alerts", "PrometheusRule/captcha", "kind", "Probe"),
]

# The same for the overlay whose servers are plain workloads.
KAFKA, CLICKHOUSE = "StatefulSet/kafka", "StatefulSet/clickhouse"
USERS = "ConfigMap/clickhouse"
SERVER_DAMAGES = [
    (
        "namespace stays out of kustomizations",
        "Namespace/captcha",
        "metadata labels pod-security.kubernetes.io/warn",
        "baseline",
    ),
    ("user is the image's", KAFKA, POD + "securityContext runAsUser", 65532),
    ("root file system is read-only", CLICKHOUSE, C + "securityContext readOnlyRootFilesystem", DELETE),
    ("service links are off", KAFKA, POD + "enableServiceLinks", DELETE),
    ("memory has a limit", KAFKA, C + "resources limits memory", DELETE),
    ("mounted volume exists", KAFKA, "spec volumeClaimTemplates 0 metadata name", "other"),
    ("secret of a variable has the key", CLICKHOUSE, C + "env 1 valueFrom secretKeyRef key", "other"),
    ("image tag is Cargo.toml's version", KAFKA, C + "image", "apache/kafka-native:4.3.1"),
    ("server has an exact version that is tested", KAFKA, C + "image", "apache/kafka:4.3"),
    ("server has an exact version that is tested", CLICKHOUSE, C + "image", "clickhouse/clickhouse-server:26.7"),
    ("server has an exact version that is tested", CLICKHOUSE, C + "image", "clickhouse/clickhouse-server:26.8.1.2041"),
    ("server keeps its name and its volume", KAFKA, "kind", "Deployment"),
    ("server has a readiness probe of a declared port", KAFKA, C + "readinessProbe", DELETE),
    ("server has a readiness probe of a declared port", CLICKHOUSE, C + "readinessProbe httpGet port", "admin"),
    ("data is in a claimed volume", CLICKHOUSE, "spec volumeClaimTemplates", []),
    ("data is in a claimed volume", KAFKA, C + "env 8 value", "/tmp/kraft-combined-logs"),
    ("folder that the image writes to is a volume", KAFKA, C + "volumeMounts 1 mountPath", "/other"),
    ("folder that the image writes to is a volume", CLICKHOUSE, C + "volumeMounts 1 mountPath", "/other"),
    ("address of the config is a service with that port", "Service/kafka", "metadata name", "broker"),
    ("address of the config is a service with that port", "Service/clickhouse", "spec ports 0 port", 9440),
    (
        "address of the config is a service with that port",
        "ConfigMap/captcha",
        "data CAPTCHA_KAFKA_BROKERS",
        "kafka.kafka.svc:9092",
    ),
    ("broker advertises the address of the config", KAFKA, C + "env 4 value", "PLAINTEXT://localhost:9092"),
    (
        "server lets in captcha's pods and no others",
        "NetworkPolicy/kafka",
        "spec ingress 0 from 0",
        {"podSelector": {}},
    ),
    ("server lets in captcha's pods and no others", "NetworkPolicy/clickhouse", "spec ingress 0 ports 0 port", "http"),
    (
        "server lets in pods of its namespace to some ports",
        "NetworkPolicy/clickhouse",
        "spec ingress 0 from 0 namespaceSelector",
        {},
    ),
    ("pods may reach the servers of the config", "NetworkPolicy/captcha-to-kafka", "spec egress 0 ports 0 port", 9093),
    (
        "user without a password connects from the pod itself alone",
        USERS,
        "data users.xml",
        "<clickhouse><users><default><networks><ip>::/0</ip></networks></default></users></clickhouse>",
    ),
    (
        "user has the grants of production",
        USERS,
        "data users.xml",
        '<clickhouse><users><captcha_serve><password from_env="SERVE_PASSWORD"/><grants><query>GRANT ALL ON *.*</query>'
        "</grants></captcha_serve></users></clickhouse>",
    ),
    ("password is the one that the process has", CLICKHOUSE, C + "env 1 valueFrom secretKeyRef key", "consume"),
    ("process has a user in users.xml", SERVE, C + "env 2 value", "default"),
]

# The same for the base with a daily report.
REPORT = "CronJob/captcha-report"
J = "spec jobTemplate spec "
RC = J + "template spec containers 0 "
REPORT_DAMAGES = [
    (
        "a report that was posted ends the job, and no other failure",
        REPORT,
        J + "podFailurePolicy rules 1 onExitCodes values",
        [2],
    ),
    ("two scheduled jobs never run at once", REPORT, "spec concurrencyPolicy", "Allow"),
    ("schedule has bounds", REPORT, "spec startingDeadlineSeconds", DELETE),
    ("scheduled job ends and is kept", REPORT, J + "activeDeadlineSeconds", DELETE),
    ("scheduled job ends and is kept", REPORT, J + "ttlSecondsAfterFinished", 600),
    ("a failed try keeps its log", REPORT, J + "template spec restartPolicy", "OnFailure"),
    ("an eviction is no failure of the job", REPORT, J + "podFailurePolicy", DELETE),
    ("wrong usage ends the job at once", REPORT, J + "podFailurePolicy rules 1 onExitCodes values", [4, 5]),
    ("yesterday has the zone of the schedule", REPORT, "spec timeZone", "Europe/Berlin"),
    ("report of a schedule is complete or fails", REPORT, RC + "args 6", "--order=asc"),
    ("address of the webhook is in a mounted secret", REPORT, RC + "args 7", "--webhook-url-file=/other/url"),
    ("flag is known to the subcommand", REPORT, RC + "args 1", "--since=yesterday"),
    ("variable is known to the subcommand", REPORT, RC + "env 0 name", "CAPTCHA_KEYS_FILE"),
    ("secret has the key", REPORT, J + "template spec volumes 1 secret items 0 key", "address"),
    ("runs as non-root", REPORT, J + "template spec securityContext runAsNonRoot", DELETE),
    ("memory has a limit", REPORT, RC + "resources limits", {}),
    ("image tag is Cargo.toml's version", REPORT, RC + "image", "captcha"),
    ("version label is Cargo.toml's version", REPORT, "metadata labels app.kubernetes.io/version", "0.0.1"),
    ("pods may reach their webhook", "NetworkPolicy/captcha-report", "spec egress 0 ports 0 port", 80),
    ("other pods reach no webhook", "NetworkPolicy/captcha-report", "spec podSelector", {}),
    (
        "pods may reach the servers of the config",
        "NetworkPolicy/captcha-to-clickhouse",
        "spec podSelector matchExpressions 1 values",
        ["serve", "consume", "migrate"],
    ),
]

# The same for the schemas: (what is wrong, document, path, value).
SCHEMA_DAMAGES = [
    ("a kind that does not exist", SERVE, "kind", "Deploymnt"),
    ("a version that is gone", SERVE, "apiVersion", "apps/v1beta1"),
    ("a field that does not exist", SERVE, C + "readinessProb", {}),
    ("a number where a text belongs", CONSUME, C + "env 1 value", 2),
    ("a required field left out", "PodDisruptionBudget/captcha-serve", "spec selector matchLabels", ["captcha"]),
    ("a job without a template", MIGRATE, "spec template", DELETE),
]

# And for the definitions of custom resources.
CUSTOM_DAMAGES = [
    ("a version that is gone", "Kafka/captcha", "apiVersion", "kafka.strimzi.io/v1beta1"),
    ("a field that does not exist", "Kafka/captcha", "spec kafka listeners 0 tsl", True),
    ("a value that is not allowed", "KafkaUser/captcha-serve", "spec authentication type", "scram-sha-256"),
    ("a text where a number belongs", "KafkaTopic/captcha", "spec partitions", "many"),
    ("a required field left out", "KafkaNodePool/brokers", "spec roles", DELETE),
    ("a field of ClickHouse that does not exist", "ClickHouseInstallation/captcha", "spec configuration user", {}),
    ("a field that each apply would change", "HTTPRoute/captcha", "spec rules 0 backendRefs 0 weight", DELETE),
    ("a route without a shape", "HTTPRoute/captcha", "spec rules 0 matches 0 path type", "Prefix"),
    ("a certificate without a secret", "Certificate/captcha-clickhouse", "spec secretName", DELETE),
    ("a pod monitor without endpoints", "PodMonitor/captcha", "spec podMetricsEndpoints", "admin"),
    ("an alert that waits for no time", "PrometheusRule/captcha", "spec groups 0 rules 0 for", "long"),
    ("a field of an alert that does not exist", "PrometheusRule/captcha", "spec groups 0 rules 0 severity", "page"),
]

# For alerts, their tests and what is written of them, and the dashboard: (what the complaint says, path, value).
FIRST = "groups 0 rules 0 "
MONITORING_DAMAGES = [
    ("its severity is none of", FIRST + "labels severity", "critical"),
    ("its annotations are not", FIRST + "annotations summary", DELETE),
    (
        "its runbook_url does not end in",
        FIRST + "annotations runbook_url",
        "https://docs.example.com/captcha/docs/alerts.md#other",
    ),
    ("docs/alerts.md has no heading", "runbooks", "# Alerts\n"),
    ("docs/alerts.md: there is no alert", "groups 0 rules", []),
    ("two alerts have one name", FIRST + "alert", "CaptchaConsumeAbsent"),
    ("lacks a moment at which it fires", "tests tests", []),
    ("lacks a moment at which it fires", "tests tests 1 alert_rule_test 1 exp_alerts", []),
    ("k8s/tests/alerts.yaml: there is no alert", "tests tests 0 alert_rule_test 0 alertname", "Other"),
    ("which it does not have when it fires", FIRST + "annotations summary", "of {{ $labels.pod }}"),
    ("schemaVersion is not", "board schemaVersion", 36),
    ("its variables are", "board templating list", []),
    ("ids of its panels are not unique", "board panels 2 id", 2),
    ("it stands outside of the grid", "board panels 1 gridPos x", 22),
    ("it covers panel", "board panels 1 gridPos x", 4),
    ("it has no title", "board panels 1 title", ""),
    ("it has no description", "board panels 1 description", DELETE),
    ("it has no unit", "board panels 1 fieldConfig defaults unit", DELETE),
    ("it asks nothing", "board panels 1 targets", []),
    ("it asks nothing", "board panels 1 targets 0 expr", ""),
    ("two of its queries have one refId", "board panels 12 targets 1 refId", "A"),
    ("it does not ask the chosen data source", "board panels 1 targets 0 datasource uid", "prometheus"),
    ("it uses variables that are not there", "board panels 1 targets 0 expr", "up{namespace='$space'}"),
]

# The same for what only promtool notices.
PROMTOOL_DAMAGES = [
    ("promtool check", FIRST + "expr", "absent(captcha_ready"),
    ("promtool check", FIRST + "annotations description", "{{ $labels.pod"),
    ("promtool check", "board panels 1 targets 0 expr", "sum(captcha_ready"),
    ("promtool test: CaptchaServeAbsent", FIRST + "expr", 'absent(captcha_ready{check="kafka"})'),
    ("promtool test: CaptchaServeAbsent", FIRST + "for", "1h"),
    ("promtool test: CaptchaServeAbsent", FIRST + "labels severity", "ticket"),
]

# For the chart: what it renders must not be equal any more: (document, path, value).
CHART_DAMAGES = [
    (SERVE, C + "resources limits memory", "513Mi"),
    (SERVE, C + "env 0", DELETE),
    (SERVE, C + "env 5 name", "Z_REPLICAS"),
    (SERVE, "metadata labels example", "x"),
    (SERVE, "spec replicas", 3),
    (CONSUME, POD + "terminationGracePeriodSeconds", 44),
    (CONSUME, "spec replicas", "4"),
    (MIGRATE, "metadata name", "captcha-migrate-0-0-9-0a1b2c3d"),
    (MIGRATE, C + "securityContext", DELETE),
    ("NetworkPolicy/captcha-to-kafka", "spec egress 0 to", DELETE),
    ("NetworkPolicy/default-deny", "kind", "ConfigMap"),
    ("ConfigMap/captcha", "data CAPTCHA_KAFKA_TLS", "false"),
    ("ConfigMap/captcha-dashboard", "data captcha.json", "{}"),
    ("PrometheusRule/captcha", "spec groups 0 rules 0 for", "6m"),
    ("Kafka/captcha", "spec kafka config min.insync.replicas", 1),
    ("KafkaUser/captcha-serve", "spec authorization acls 0 operations", ["All"]),
    ("ClickHouseInstallation/captcha", "spec configuration users captcha_serve/profile", "readonly"),
    ("Service/captcha", "metadata namespace", "default"),
]


def damaged(docs, document, path, value):
    """A copy of all documents with one field of one of them changed; a name may be given by its beginning."""
    docs = copy.deepcopy(docs)
    found = [d for d in docs if documents.where(d) == document] or [
        d for d in docs if documents.where(d).startswith(document)
    ]
    damage(found[0], path, value)
    return docs


def damage(place, path, value):
    *parents, last = [int(p) if p.isdigit() else p for p in path.split()]
    for p in parents:
        place = place[p]
    if value is DELETE:
        del place[last]
    else:
        place[last] = value


def run_monitoring(watched, tool):
    """As `run`, for alerts and dashboard; without promtool, but for what only promtool notices."""
    lines, damages = [], MONITORING_DAMAGES + (PROMTOOL_DAMAGES if tool else [])
    for wanted, path, value in damages:
        fields = copy.deepcopy(watched._asdict())
        damage(fields, path, value)
        said = monitoring.problems(
            monitoring.Monitoring(**fields), tool if (wanted, path, value) in PROMTOOL_DAMAGES else None
        )
        if not any(wanted in line for line in said):
            lines.append(f"damage went unnoticed: monitoring: {path}: wanted '{wanted}'")
    return lines + list(monitoring.unnoticed(watched, tool) if tool else []), len(damages)


def run_chart(kustomized, charted, helm):
    """As `run`, for the comparison of the chart with a kustomization, and for values that it would not refuse."""
    lines = [
        f"damage went unnoticed: chart: {damage[0]}: {damage[1]}"
        for damage in CHART_DAMAGES
        if not any(chart.differences(kustomized, damaged(charted, *damage)))
    ]
    for what, docs in (("is missing", charted[1:]), ("is twice", [*charted, charted[0]])):
        if not any(chart.differences(kustomized, docs)):
            lines.append(f"damage went unnoticed: chart: a document {what}")
    harmless = [("serve.replicas=3", "at '/serve/replicas'"), ("serve.replicas=0", "of another reason")]
    if len(list(chart.refusals(helm, harmless))) != len(harmless):
        lines.append("damage went unnoticed: chart: a value that is not refused, or for another reason")
    return lines, len(CHART_DAMAGES) + 2 + len(harmless)


def run(world, servers, report, schema_problems, with_custom):
    """All lines that say which damage went unnoticed or which rule no damage has tripped; and the number of damages.

    `servers` is the world whose servers are plain workloads, `report` the one with a daily report."""
    lines, tripped = [], set()
    for damages, whole in ((DAMAGES, world), (SERVER_DAMAGES, servers), (REPORT_DAMAGES, report)):
        for rule, *damage in damages:
            groups = rules.facts(whole._replace(docs=damaged(whole.docs, *damage))).values()
            noticed = {f.rule for group in groups for f in group if not f.ok}
            tripped |= noticed & {rule}
            if rule not in noticed:
                lines.append(f"damage went unnoticed: {damage[0]}: {damage[1]}: wanted '{rule}'")
    facts = [entry for whole in (world, servers, report) for entry in rules.facts(whole).items()]
    for group, found in facts:
        lines += [f"no damage for the rule '{rule}' ({group})" for rule in sorted({f.rule for f in found} - tripped)]
    schema_damages = SCHEMA_DAMAGES + (CUSTOM_DAMAGES if with_custom else [])
    for what, *damage in schema_damages:
        if not schema_problems(damaged(world.docs, *damage)):
            lines.append(f"damage went unnoticed by the schemas: {what}: {damage[0]}: {damage[1]}")
    return lines, len(DAMAGES) + len(SERVER_DAMAGES) + len(REPORT_DAMAGES) + len(schema_damages)
