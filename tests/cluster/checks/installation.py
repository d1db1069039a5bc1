"""An installation, from nothing to counted events, and what a second one changes."""

from dev.cluster import kubectl
from dev.command import Failure


def install(scene):
    """From an empty cluster to counted events, everything at once."""
    scene.make()
    with scene.load():
        pass
    scene.settle()


def apply_again(scene):
    """A second apply changes nothing, and kubectl diff shows nothing."""
    # kubectl sends the selector of a disruption budget each time, and says so, though nothing changes.
    changed = [line for line in scene.apply() if not line.startswith("poddisruptionbudget.policy/")]
    if changed:
        raise Failure(f"a second apply changes {len(changed)} objects: {', '.join(changed)}")
    done = kubectl.run("diff", "-k", scene.kustomization(), check=False)
    if done.returncode != 0 or done.stdout:
        raise Failure(f"kubectl diff is not empty: {done.stdout[:300]}{done.stderr[:300]}")
