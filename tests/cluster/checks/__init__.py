"""The checks, in the order in which they run. Each takes the stage, and raises Failure when something does not hold."""

from tests.cluster.checks import (
    alerts,
    autoscaling,
    chart,
    faults,
    installation,
    monitoring,
    network,
    rollouts,
    secrets,
)

CHECKS = {
    "install": installation.install,
    "apply-again": installation.apply_again,
    "restart": rollouts.restart,
    "upgrade": rollouts.upgrade_and_back,
    "scale-consume": rollouts.scale_consume,
    "scale-serve": rollouts.scale_serve,
    "evict": rollouts.evict_all,
    "policies": network.policies,
    "scraped": monitoring.scraped,
    "autoscale": autoscaling.autoscale,
    "clickhouse-passwords": secrets.clickhouse_passwords,
    "kafka-passwords": secrets.kafka_passwords,
    "api-keys": secrets.api_keys,
    "certificates": secrets.certificates,
    "authority-key": secrets.authority_key,
    "kill": faults.kill,
    "out-of-memory": faults.out_of_memory,
    "kafka-away": faults.kafka_away,
    "clickhouse-away": faults.clickhouse_away,
    "node-restart": faults.node_restart,
    "drain": faults.drain,
    **alerts.CHECKS,
    "reinstall": installation.reinstall,
    "helm-chart": chart.helm_chart,
}
# What CI has the time for: one check of each kind.
QUICK = ("install", "apply-again", "upgrade", "scale-consume", "policies", "kill", "reinstall")
