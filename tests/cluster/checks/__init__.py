"""The checks, in the order in which they run. Each takes the stage, and raises Failure when something does not hold."""

from tests.cluster.checks import installation, rollouts

CHECKS = {
    "install": installation.install,
    "apply-again": installation.apply_again,
    "restart": rollouts.restart,
    "upgrade": rollouts.upgrade_and_back,
    "scale-consume": rollouts.scale_consume,
    "scale-serve": rollouts.scale_serve,
    "evict": rollouts.evict_all,
}
