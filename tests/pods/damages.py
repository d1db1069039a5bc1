"""Damages to the documents, and what the run has to say of each: shows that it can fail."""

from collections.abc import Callable
from typing import NamedTuple


class Damage(NamedTuple):
    carry_out: Callable  # changes the documents
    said: str  # a part of the problem that must be found
    rolls: bool = False  # whether it shows only when pods are replaced


def pod(documents, kind, component):
    return documents.one(kind, component)["spec"]["template"]["spec"]


def serve(documents):
    return pod(documents, "Deployment", "serve")


def consume(documents):
    return pod(documents, "StatefulSet", "consume")


def mount_elsewhere(documents):
    mounts = serve(documents)["containers"][0]["volumeMounts"]
    next(m for m in mounts if m["name"] == "clickhouse")["mountPath"] = "/run/secrets/elsewhere"


def other_readiness(documents):
    serve(documents)["containers"][0]["readinessProbe"]["httpGet"]["path"] = "/ready"


def other_probe_port(documents):
    consume(documents)["containers"][0]["livenessProbe"]["httpGet"]["port"] = "http"


def probe_with_tls(documents):
    serve(documents)["containers"][0]["startupProbe"]["httpGet"]["scheme"] = "HTTPS"


def no_kafka_user(documents):
    container = consume(documents)["containers"][0]
    container["env"] = [e for e in container["env"] if e["name"] != "CAPTCHA_KAFKA_USER"]


def no_pod_index(documents):
    container = consume(documents)["containers"][0]
    container["env"] = [e for e in container["env"] if e["name"] != "POD_INDEX"]


def plain_kafka(documents):
    config = next(d for d in documents.all("ConfigMap") if "CAPTCHA_KAFKA_TLS" in d["data"])
    config["data"]["CAPTCHA_KAFKA_TLS"] = "false"
    del config["data"]["CAPTCHA_KAFKA_CA_FILE"]


def other_broker(documents):
    config = next(d for d in documents.all("ConfigMap") if "CAPTCHA_KAFKA_BROKERS" in d["data"])
    config["data"]["CAPTCHA_KAFKA_BROKERS"] = "captcha-kafka-bootstrap.kafka.svc:9093"


def other_names(documents):
    certificate = next(d for d in documents.all("Certificate") if "dnsNames" in d["spec"])
    certificate["spec"]["dnsNames"] = ["*.clickhouse.svc"]


def right(user, operation):
    def carry_out(documents):
        doc = next(d for d in documents.all("KafkaUser") if d["metadata"]["name"] == user)
        for acl in doc["spec"]["authorization"]["acls"]:
            acl["operations"].remove(operation)

    return carry_out


def grant(user, text):
    def carry_out(documents):
        users = documents.one("ClickHouseInstallation")["spec"]["configuration"]["users"]
        users[f"{user}/grants/query"].remove(text)

    return carry_out


def no_files_group(documents):
    del serve(documents)["securityContext"]["fsGroup"]
    serve(documents)["securityContext"]["runAsGroup"] = 1000


def little_memory(documents):
    serve(documents)["containers"][0]["resources"]["limits"]["memory"] = "4Mi"


def no_pre_stop(documents):
    del serve(documents)["containers"][0]["lifecycle"]


def one_share(documents):
    args = consume(documents)["containers"][0]["args"]
    args[args.index("--partition-share=$(POD_INDEX)/$(CONSUME_REPLICAS)")] = "--partition-share=0/$(CONSUME_REPLICAS)"


DAMAGES = {
    "mount": Damage(mount_elsewhere, "/run/secrets/clickhouse/password"),
    "readiness": Damage(other_readiness, "readiness HTTP :9090/ready: 404"),
    "probe-port": Damage(other_probe_port, "asks port http, which the container does not have"),
    "probe-scheme": Damage(probe_with_tls, "startup HTTPS :9090/livez: no answer"),
    "kafka-user": Damage(no_kafka_user, "not provided: |   --kafka-user"),
    "pod-index": Damage(no_pod_index, "invalid value '$(POD_INDEX)/"),
    "kafka-tls": Damage(plain_kafka, "whether that port needs --kafka-tls"),
    "kafka-address": Damage(other_broker, "cannot connect to kafka at captcha-kafka-bootstrap.kafka.svc"),
    "certificate": Damage(other_names, "its certificate is for other names"),
    "right-write": Damage(right("captcha-serve", "Write"), "TopicAuthorizationFailed"),
    "right-read": Damage(right("captcha-consume", "Read"), "did not serve captcha:0: error 29"),
    "right-describe-configs": Damage(
        right("captcha-migrate", "DescribeConfigs"),
        "did not describe the configuration of topic captcha: TopicAuthorizationFailed",
    ),
    "grant-report": Damage(grant("captcha_serve", "GRANT SELECT ON captcha.*"), "captcha_serve: Not enough privileges"),
    "grant-claims": Damage(grant("captcha_consume", "GRANT INSERT ON captcha.claims"), "cannot write claims"),
    "files-group": Damage(no_files_group, "keys.txt: permission denied"),
    "memory": Damage(little_memory, "MiB; its limit is 4"),
    "pre-stop": Damage(no_pre_stop, "a request was lost", rolls=True),
    "share": Damage(one_share, "partition 1 is read by nobody"),
}
