"""What no schema can say about the manifests: each rule looks at all documents and yields (ok, rule, where, detail)."""

import re

from dev.manifests import component_rules, server_rules
from dev.manifests.documents import (
    COMPONENT,
    SERVERS,
    VERSION,
    Fact,
    containers,
    dashboards,
    env,
    expand,
    hit,
    image_name,
    is_server,
    job,
    kind,
    name,
    one_component,
    operated,
    pod,
    pod_labels,
    processes,
    where,
    workloads,
)

# Secrets that are made by hand, with the keys they must have.
OUT_OF_BAND = {
    "captcha-clickhouse": {"serve", "serve_2", "consume", "consume_2", "migrate", "report"},
    "captcha-keys": {"keys.txt"},
    "captcha-webhook": {"url"},
}
RESTRICTED_VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}
# What must be there, by its component label.
PARTS = [
    ("Deployment", "serve"),
    ("Service", "serve"),
    ("PodDisruptionBudget", "serve"),
    ("StatefulSet", "consume"),
    ("Job", "migrate"),
]
POD_INDEX = "metadata.labels['apps.kubernetes.io/pod-index']"
LEFT_AFTER_PRESTOP = 20  # seconds
SLOW_OPERATOR = 1800  # seconds that an operator may take to make servers, users and the topic
WRONG_USAGE = 2  # the exit code of captcha
LOW_SOLVE_RATE = 5  # of a report that was posted before
OWN_USER = 65532  # of captcha's image


def references(w):
    accounts = {name(d) for d in kind(w.docs, "ServiceAccount")}
    configs = {name(d) for d in kind(w.docs, "ConfigMap")}
    secrets = {
        name(d): set(d.get("data", {})) | set(d.get("stringData", {})) for d in kind(w.docs, "Secret")
    } | OUT_OF_BAND
    secrets |= operated(w.docs)
    namespaces = {name(d) for d in kind(w.docs, "Namespace")}
    # The one that is applied first. Another would be deleted with the kustomization, and with it Secrets and claims.
    # Only a first look, which brings servers of its own, has the same once more: it is applied by one command.
    first, *others = kind(w.docs, "Namespace")
    is_first_look = any(is_server(d) for d in workloads(w.docs))
    stays_out = others == [first] if is_first_look else not others
    yield Fact(stays_out, "namespace stays out of kustomizations", where(first))
    for d in w.docs:
        if d["kind"] != "Namespace":
            yield Fact(d["metadata"].get("namespace") in namespaces, "namespace is one of the manifests", where(d))
    for d in workloads(w.docs):
        account = pod(d).get("serviceAccountName")
        yield Fact(account in accounts, "service account exists", where(d), account)
        for v in pod(d).get("volumes", []):
            at = f"{where(d)} volume {v['name']}"
            if "configMap" in v:
                yield Fact(v["configMap"]["name"] in configs, "config map of a volume exists", at)
            if "secret" in v:
                secret, items = v["secret"]["secretName"], v["secret"].get("items", [])
                yield Fact(secret in secrets, "secret of a volume exists or is listed as made by hand", at, secret)
                for i in items:
                    yield Fact(i["key"] in secrets.get(secret, ()), "secret has the key", at, i["key"])
        mounted = {m["name"] for c in pod(d)["containers"] for m in c.get("volumeMounts", [])}
        for v in pod(d).get("volumes", []):
            yield Fact(v["name"] in mounted, "volume is used", where(d), v["name"])
    data = {name(d): d.get("data", {}) for d in kind(w.docs, "ConfigMap")}
    for d, spec, c, at in containers(w.docs):
        volumes = {v["name"]: v for v in spec.get("volumes", []) + claims(d)}
        files = set()
        for m in c.get("volumeMounts", []):
            yield Fact(m["name"] in volumes, "mounted volume exists", at, m["name"])
            secret = volumes.get(m["name"], {}).get("secret")
            if secret:
                yield Fact(m.get("readOnly") is True, "secret is mounted read-only", at, m["name"])
                files |= {f"{m['mountPath']}/{i['path']}" for i in secret.get("items", [])}
        for e in c.get("envFrom", []):
            config = e.get("configMapRef", {}).get("name")
            yield Fact(config in configs, "environment comes from a config map that exists", at, config)
            known, _ = w.known.get((c.get("args") or [""])[0], (set(), set()))
            for key, value in data.get(config, {}).items():
                if key.endswith("_FILE") and key in known:
                    yield Fact(value in files, "file of the config is in a mounted secret", at, value)
        for key, e in env(c).items():
            field = e.get("valueFrom", {}).get("fieldRef")
            if field:
                # Without it, a server-side apply conflicts with what the API server has added.
                yield Fact(field.get("apiVersion") == "v1", "field of a pod is named with its version", at, key)
            ref = e.get("valueFrom", {}).get("secretKeyRef")
            if ref:
                has = ref["key"] in secrets.get(ref["name"], ())
                yield Fact(has, "secret of a variable has the key", at, f"{ref['name']} {ref['key']}")
            if key.endswith("_FILE"):
                yield Fact(
                    e.get("value") in files, "file of a _FILE variable is in a mounted secret", at, e.get("value")
                )
            yield Fact(
                not (key.startswith("CAPTCHA_") and "secretKeyRef" in e.get("valueFrom", {})),
                "secret comes by file, not by environment",
                at,
                key,
            )
    for d in kind(w.docs, "StatefulSet"):
        headless = {name(s) for s in kind(w.docs, "Service") if s["spec"].get("clusterIP") == "None"}
        yield Fact(
            d["spec"].get("serviceName") in headless, "headless service exists", where(d), d["spec"].get("serviceName")
        )
    parts = {(d["kind"], d["metadata"].get("labels", {}).get(COMPONENT)) for d in w.docs}
    for part in PARTS:
        yield Fact(part in parts, "every part is there", "/".join(part))


def claims(workload):
    """What a workload claims for each of its pods, as volumes of the pod."""
    return [{"name": name(claim)} for claim in workload["spec"].get("volumeClaimTemplates", [])]


def selectors(w):
    for d in kind(w.docs, "Deployment", "StatefulSet"):
        yield Fact(hit(d["spec"]["selector"], w.docs) == [d], "workload selects its own pods and no others", where(d))
        constraints = pod(d).get("topologySpreadConstraints", [])
        yield Fact(bool(constraints) or is_server(d), "pods are spread", where(d))
        for t in constraints:
            own = hit(t.get("labelSelector"), w.docs) == [d]
            yield Fact(own, "spread constraint counts its own pods", where(d), t["topologyKey"])
    for d in kind(w.docs, "PodDisruptionBudget"):
        yield Fact(one_component(d["spec"].get("selector"), w.docs), "disruption budget selects one workload", where(d))
    for d in kind(w.docs, "Service"):
        pods = hit(d["spec"].get("selector"), w.docs)
        yield Fact(len(pods) == 1, "service selects one workload", where(d))
        declared = {
            p["name"]: p["containerPort"] for x in pods for c in pod(x)["containers"] for p in c.get("ports", [])
        }
        for p in d["spec"].get("ports", []):
            target = p.get("targetPort", p["port"])
            yield Fact(target in declared, "service port goes to a named port of the pod", where(d), target)
            public = target not in ("admin", declared.get("admin"))
            yield Fact(public, "admin port stays out of services", where(d), target)


def probes(w):
    for d, _, c, at in processes(w.docs):
        ports = {p["name"]: p["containerPort"] for p in c.get("ports", [])}
        for probe, path in (("startupProbe", "/livez"), ("livenessProbe", "/livez"), ("readinessProbe", "/readyz")):
            get = c.get(probe, {}).get("httpGet")
            if d["kind"] in ("Job", "CronJob"):
                continue
            yield Fact(get is not None, "container has startup, liveness and readiness probes", at, probe)
            if get:
                yield Fact(get["port"] == "admin" and "admin" in ports, "probe asks a declared admin port", at, probe)
                yield Fact(get["path"] == path, "liveness asks /livez, readiness /readyz", at, f"{probe} {get['path']}")
        for key, port in (("CAPTCHA_LISTEN", "http"), ("CAPTCHA_ADMIN_LISTEN", "admin")):
            address = env(c).get(key, {}).get("value")
            wanted = f"0.0.0.0:{ports[port]}" if port in ports else None
            yield Fact(address == wanted, "listen address and declared port agree", at, f"{key}={address}")


def security(w):
    for d in kind(w.docs, "Namespace"):
        labels = d["metadata"].get("labels", {})
        level = labels.get("pod-security.kubernetes.io/enforce")
        yield Fact(level == "restricted", "namespace enforces pod security restricted", where(d), level)
        version = labels.get("pod-security.kubernetes.io/enforce-version")
        yield Fact(version == f"v{w.oldest}", "pod security is that of the oldest Kubernetes", where(d), version)
    for d in kind(w.docs, "ServiceAccount"):
        yield Fact(d.get("automountServiceAccountToken") is False, "service account mounts no token", where(d))
    for d in workloads(w.docs):
        spec = pod(d)
        yield Fact(spec.get("automountServiceAccountToken") is False, "pod mounts no token", where(d))
        yield Fact(spec.get("enableServiceLinks") is False, "service links are off", where(d))
        shared = [k for k in ("hostNetwork", "hostPID", "hostIPC") if spec.get(k)]
        yield Fact(not shared, "pod stays out of the host's namespaces", where(d), shared)
        for v in spec.get("volumes", []):
            yield Fact(set(v) - {"name"} <= RESTRICTED_VOLUMES, "volume type is allowed", where(d), v["name"])
    for _, spec, c, at in containers(w.docs):
        own, shared = c.get("securityContext", {}), spec.get("securityContext", {})
        both = shared | own
        drop, add = (own.get("capabilities", {}).get(k, []) for k in ("drop", "add"))
        yield Fact(both.get("runAsNonRoot") is True, "runs as non-root", at)
        user = SERVERS.get(image_name(c), OWN_USER)
        yield Fact(both.get("runAsUser") == user, "user is the image's", at, f"{both.get('runAsUser')}, not {user}")
        yield Fact(
            both.get("seccompProfile", {}).get("type") == "RuntimeDefault", "seccomp profile is RuntimeDefault", at
        )
        yield Fact(own.get("allowPrivilegeEscalation") is False, "no privilege escalation", at)
        yield Fact(not own.get("privileged"), "not privileged", at)
        yield Fact("ALL" in drop and set(add) <= {"NET_BIND_SERVICE"}, "capabilities are dropped", at)
        yield Fact(own.get("readOnlyRootFilesystem") is True, "root file system is read-only", at)
        yield Fact(not any(p.get("hostPort") for p in c.get("ports", [])), "no host port", at)


def resources(w):
    for _, _, c, at in containers(w.docs):
        asked, limits = (c.get("resources", {}).get(k, {}) for k in ("requests", "limits"))
        yield Fact("memory" in limits, "memory has a limit", at)
        yield Fact({"cpu", "memory"} <= set(asked), "cpu and memory are requested", at)
    public = [
        x for s in kind(w.docs, "Service") if s["spec"].get("ports") for x in hit(s["spec"].get("selector"), w.docs)
    ]
    for d in workloads(w.docs):
        grace = pod(d).get("terminationGracePeriodSeconds", 30)
        sleep = max(
            c.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0) for c in pod(d)["containers"]
        )
        left = grace - sleep
        yield Fact(left >= LEFT_AFTER_PRESTOP, "grace period leaves 20 s after preStop", where(d), f"{left} s")
        if d in public and not is_server(d):
            yield Fact(sleep >= 5, "preStop sleeps while endpoints drain", where(d), f"{sleep} s")
    for d in kind(w.docs, "Deployment"):
        rolling = d["spec"].get("strategy", {}).get("rollingUpdate", {})
        yield Fact(rolling.get("maxUnavailable") == 0, "rolling update keeps every replica", where(d))
    for d in kind(w.docs, "Job"):
        bounds = ("backoffLimit", "ttlSecondsAfterFinished")
        yield Fact(all(b in d["spec"] for b in bounds), "job has bounds", where(d), ", ".join(bounds))
        yield from patience(d)
    for d in kind(w.docs, "CronJob"):
        yield from scheduled(d)


def scheduled(cron):
    """What a job of every day needs: an end, a failure that is seen, and one message a day."""
    spec, made = cron["spec"], job(cron)
    yield Fact(spec.get("concurrencyPolicy") == "Forbid", "two scheduled jobs never run at once", where(cron))
    bounds = ("startingDeadlineSeconds", "successfulJobsHistoryLimit", "failedJobsHistoryLimit")
    yield Fact(all(b in spec for b in bounds), "schedule has bounds", where(cron), ", ".join(bounds))
    ends = all(b in made for b in ("backoffLimit", "activeDeadlineSeconds"))
    yield Fact(ends and "ttlSecondsAfterFinished" not in made, "scheduled job ends and is kept", where(cron))
    yield Fact(pod(cron).get("restartPolicy") == "Never", "a failed try keeps its log", where(cron))
    yield from failures(cron)
    args = {a.partition("=")[0]: a.partition("=")[2] for a in pod(cron)["containers"][0].get("args", [])}
    zone = spec.get("timeZone")
    yield Fact(args.get("--timezone") == zone, "yesterday has the zone of the schedule", where(cron), zone)
    yield Fact("--require-complete-through" in args, "report of a schedule is complete or fails", where(cron))
    mounted = {
        f"{m['mountPath']}/{i['path']}"
        for m in pod(cron)["containers"][0].get("volumeMounts", [])
        for v in pod(cron).get("volumes", [])
        if v["name"] == m["name"]
        for i in v.get("secret", {}).get("items", [])
    }
    url = args.get("--webhook-url-file")
    yield Fact(url in mounted, "address of the webhook is in a mounted secret", where(cron), url)


def patience(doc):
    """What an install needs of a job that waits for operators."""
    waits = [int(env(c).get("CAPTCHA_WAIT", {}).get("value", 0)) for c in pod(doc)["containers"]]
    deadline = doc["spec"].get("activeDeadlineSeconds")
    yield Fact(min(waits) > SLOW_OPERATOR, "one try of the job outlasts a slow operator", where(doc), waits)
    yield Fact(
        deadline is None or deadline > max(waits), "no deadline ends the job while it waits", where(doc), deadline
    )
    yield Fact(pod(doc).get("restartPolicy") == "Never", "a failed try keeps its log", where(doc))
    yield from failures(doc)


def failures(doc):
    """Which failures of a pod count for its job."""
    rules = job(doc).get("podFailurePolicy", {}).get("rules", [])
    ignored = [c for r in rules if r["action"] == "Ignore" for c in r.get("onPodConditions", [])]
    yield Fact(
        {"type": "DisruptionTarget", "status": "True"} in ignored, "an eviction is no failure of the job", where(doc)
    )
    ends = [v for r in rules if r["action"] == "FailJob" for v in r.get("onExitCodes", {}).get("values", [])]
    yield Fact(WRONG_USAGE in ends, "wrong usage ends the job at once", where(doc), ends)
    posted = [LOW_SOLVE_RATE] if doc["kind"] == "CronJob" else []
    also = [code for code in ends if code != WRONG_USAGE]
    yield Fact(also == posted, "a report that was posted ends the job, and no other failure", where(doc), ends)


def shares(w):
    for d, _, c, at in processes(w.docs):
        for text in c.get("args", []) + [e["value"] for e in c.get("env", []) if "value" in e]:
            yield Fact("$(" not in expand(text, c), "every $(NAME) is a variable of the container", at, text)
        if d["kind"] == "StatefulSet":
            yield Fact(
                f"--partition-share={{{POD_INDEX}}}/{d['spec'].get('replicas')}"
                in [expand(a, c) for a in c.get("args", [])],
                "share is the pod's ordinal of as many shares as replicas",
                at,
                " ".join(c.get("args", [])),
            )
        variables = {e["name"]: expand(e["value"], c) for e in c.get("env", []) if "value" in e}
        if "CAPTCHA_KEYS_FILE" in variables:
            least = [
                s["spec"]["minReplicas"]
                for s in kind(w.docs, "HorizontalPodAutoscaler")
                if s["spec"]["scaleTargetRef"]["name"] == name(d)
            ]
            pods, share = d["spec"].get("replicas", *least), variables.get("CAPTCHA_RATE_SHARE")
            yield Fact(share == f"1/{pods}", "rates of keys are divided by the pods", at, f"{share}, {pods} pods")


def versions(w):
    for _, _, c, at in processes(w.docs):
        tag = c["image"].rpartition("/")[2].partition("@")[0].partition(":")[2]
        yield Fact(tag == w.version, "image tag is Cargo.toml's version", at, f"{c['image']}, Cargo.toml {w.version}")
    for _, _, c, at in containers(w.docs):
        yield Fact(c.get("imagePullPolicy") == "IfNotPresent", "image is pulled if not present", at)
    for d in filter(lambda d: not is_server(d), workloads(w.docs)):
        labels = {d["metadata"].get("labels", {}).get(VERSION), pod_labels(d).get(VERSION)}
        yield Fact(labels == {w.version}, "version label is Cargo.toml's version", where(d))
    for d in kind(w.docs, "Job"):
        yield Fact(
            name(d).endswith("-" + w.version.replace(".", "-")), "job name ends with the version", where(d), w.version
        )


def keys(w):
    config = {name(d): d.get("data", {}) for d in kind(w.docs, "ConfigMap") if d not in dashboards(w.docs)}
    readers = {}  # config map -> variables that a container reading it knows
    for _, _, c, at in processes(w.docs):
        subcommand = (c.get("args") or [""])[0]
        known = w.known.get(subcommand)
        yield Fact(known is not None, "first argument is a subcommand", at, subcommand)
        variables, flags = known or (set(), set())
        for key in env(c):
            if key.startswith("CAPTCHA_"):
                yield Fact(key in variables, "variable is known to the subcommand", at, key)
        for arg in c.get("args", [])[1:]:
            yield Fact(arg.partition("=")[0] in flags, "flag is known to the subcommand", at, arg)
        for e in c.get("envFrom", []):
            readers.setdefault(e.get("configMapRef", {}).get("name"), set()).update(variables)
    mounted = {v["configMap"]["name"] for d in workloads(w.docs) for v in pod(d).get("volumes", []) if "configMap" in v}
    for n, data in config.items():
        for key in data if n not in mounted else ():
            secret = re.search("PASSWORD|SECRET|TOKEN", key) and not key.endswith("_FILE")
            yield Fact(not secret, "config map holds no secret", f"ConfigMap/{n}", key)
            yield Fact(
                key in readers.get(n, ()), "config key is known to a subcommand that reads it", f"ConfigMap/{n}", key
            )


GROUPS = [references, selectors, probes, security, resources, shares, versions, keys]


def facts(world):
    return {group.__name__: list(group(world)) for group in GROUPS + component_rules.GROUPS + server_rules.GROUPS}
