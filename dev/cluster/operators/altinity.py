"""What Altinity's operator makes of a ClickHouseInstallation: a StatefulSet and a Service for each server, with its
users. The engine that runs here has no TLS, so a program in the pod takes TLS off in front of it."""

import hashlib
from xml.sax.saxutils import escape

from dev.cluster import official_images
from dev.cluster.operators.documents import config_map, container, need, pod, service, stateful_set
from dev.command import DEV, Failure

TCP, HTTP = 9000, 8123
# Not k8s_secret_password and the like, with which the operator read Secrets itself: it refuses them since 0.27.4.
USER_SETTINGS = {"password", "password_sha256_hex", "networks/ip", "profile", "grants/query"}


def manifests(documents, space):
    installation = documents.one("ClickHouseInstallation")
    name, spec = installation["metadata"]["name"], installation["spec"]["configuration"]
    need(spec, {"clusters", "settings", "files", "users"}, f"ClickHouseInstallation {name}")
    (cluster,) = spec["clusters"]
    layout = cluster["layout"]
    if layout["replicasCount"] != 1:
        raise Failure(f"ClickHouseInstallation {name}: the stand-in makes one replica of each shard alone")
    (template,) = installation["spec"]["templates"]["podTemplates"]
    (tls,) = [volume["secret"]["secretName"] for volume in template["spec"]["volumes"] if "secret" in volume]
    port = spec["settings"]["tcp_port_secure"]
    users, environment = users_of(spec["users"])
    shared = (DEV / "clickhouse-config.xml").read_text()
    config = shared.replace(
        "</clickhouse>", "<users_config>/etc/clickhouse-users/users.xml</users_config></clickhouse>"
    )
    yield config_map("altinity-config", space, {"config.xml": config})
    yield config_map("altinity-users", space, {"users.xml": users})
    for shard in range(layout["shardsCount"]):
        host = f"chi-{name}-{cluster['name']}-{shard}-0"
        labels = {
            "clickhouse.altinity.com/app": "chop",
            "clickhouse.altinity.com/chi": name,
            "clickhouse.altinity.com/cluster": cluster["name"],
            "clickhouse.altinity.com/shard": str(shard),
            "clickhouse.altinity.com/replica": "0",
        }
        yield stateful_set(host, space, labels, 1, host, server(port, tls, environment), "data")
        yield service(host, space, labels, [TCP, port])


def server(port, tls, environment):
    script = f"""set -eu
untls :{port} /run/secrets/tls/tls.crt /run/secrets/tls/tls.key 127.0.0.1:{TCP} &
exec clickhouse-server /opt/clickhouse/libchdb /data/clickhouse {TCP} {HTTP} --config-file=/etc/clickhouse/config.xml \
    --logger.console=1 --log-level=warning --implicit_select=0
"""
    mounts = {"data": "/data", "tmp": "/tmp", "config": "/etc/clickhouse", "users": "/etc/clickhouse-users"}
    clickhouse = container(
        *("clickhouse", official_images.CLICKHOUSE.image(), script, mounts | {"tls": "/run/secrets/tls"}),
        env=environment,
        resources={"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": "3Gi"}},
        readinessProbe={"tcpSocket": {"port": port}, "periodSeconds": 2},
    )
    volumes = {
        "tmp": {"emptyDir": {}},
        "config": {"configMap": {"name": "altinity-config"}},
        "users": {"configMap": {"name": "altinity-users"}},
        "tls": {"secret": {"secretName": tls}},
    }
    return pod([clickhouse], volumes, terminationGracePeriodSeconds=30)


def users_of(paths):
    """The file of users, and the environment of the servers that it refers to.

    As the operator does it: a password by `valueFrom` becomes an environment variable, which a server reads when it
    starts. The operator follows no Secrets."""
    users, environment = {}, []
    for path, value in paths.items():
        user, _, setting = path.partition("/")
        need([setting], USER_SETTINGS, f"ClickHouse user {user}")
        users.setdefault(user, {})[setting] = value
    page = ""
    for user, settings in users.items():
        page += f"<{user}><quota>default</quota><profile>{settings.get('profile', 'default')}</profile>"
        page += password_of(user, settings, environment)
        page += "<networks>" + "".join(f"<ip>{address}</ip>" for address in settings["networks/ip"]) + "</networks>"
        if "grants/query" in settings:
            grants = "".join(f"<query>{escape(grant)}</query>" for grant in settings["grants/query"])
            page += f"<grants>{grants}</grants>"
        page += f"</{user}>"
    shell = "<clickhouse><profiles><default/></profiles><quotas><default/></quotas><users>{}</users></clickhouse>"
    return shell.format(page), environment


def password_of(user, settings, environment):
    for setting, value in settings.items():
        if setting == "password" and isinstance(value, dict):
            variable = "USER_PASSWORD_" + hashlib.sha256(user.encode()).hexdigest()[:8].upper()
            environment.append({"name": variable, "valueFrom": {"secretKeyRef": value["valueFrom"]["secretKeyRef"]}})
            return f'<password from_env="{variable}"/>'
        if setting.startswith("password"):
            return f"<{setting}>{escape(value)}</{setting}>"
    if user != "default":
        raise Failure(f"ClickHouse user {user} has no password: the operator would give it one that everybody knows")
    return "<password></password>"
