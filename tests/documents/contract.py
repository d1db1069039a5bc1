"""Has schemathesis test what openapi.yaml promises, against the real executable on real Kafka and ClickHouse.

It sends good and bad requests of all operations, from a seed, and holds each answer against the document that the
server itself gives out. schemathesis.toml says how, contract_hooks.py what the document cannot say. Needs the servers
of `dev/stack.py with` and a Python that has requirements.txt; `make contract` sees to both. What was found is printed,
with a curl line each."""

import argparse
import re
import subprocess
import sys
import uuid
from pathlib import Path

from dev import supervise
from dev.command import ROOT, Failure, captcha_environment, run, say, shown
from dev.testkit import captcha, events, http, servers

HERE = Path(__file__).resolve().parent
CASES = 500
EVENTS = 100
SECONDS_MAX = 300  # for this many cases, which take about 15 s on a machine that does nothing else


def arguments():
    parser = argparse.ArgumentParser(prog="python3 -m tests.documents.contract", description=__doc__.partition("\n")[0])
    captcha.add_program(parser)
    parser.add_argument("--cases", type=int, default=CASES, help=f"most for each operation (default: {CASES})")
    parser.add_argument("--seed", type=int, default=6, help="(default: 6)")
    return parser.parse_args()


def carry_out(options, signals):
    given = servers.given("make contract")
    settings, logs = given.settings(f"contract_{uuid.uuid4().hex}"), given.logs
    captcha.command(options.program, "migrate", **settings)
    # Reports are to have rows, so that their form is looked at too.
    with (
        captcha.running("consume", options.program, logs / "contract-consume.log", signals, **settings),
        captcha.serving(options.program, logs / "contract-serve.log", signals, **settings) as port,
    ):
        # Enough that each partition has some: reports wait for the first receipt of one.
        events.send(port, [events.event(events.SITES[0]) for _ in range(EVENTS)])
        return schemathesis(f"http://{http.HOST}:{port}", options, logs / "schemathesis.log")


def schemathesis(base, options, log):
    """Its exit code; what it says is shown whole only if it found something."""
    command = [
        *(sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()"),
        *("--config-file", HERE / "schemathesis.toml", "run", f"{base}/v1/openapi.json", "--url", base),
        *("--seed", str(options.seed), "--max-examples", str(options.cases)),
    ]
    environ = captcha_environment() | {"SCHEMATHESIS_HOOKS": "tests.documents.contract_hooks", "PYTHONPATH": str(ROOT)}
    seconds = SECONDS_MAX * max(1.0, options.cases / CASES)
    with open(log, "w") as output:
        try:
            # It leaves a folder where it runs.
            streams = {"stdout": output, "stderr": output, "cwd": log.parent}
            code = subprocess.run(command, check=False, env=environ, timeout=seconds, **streams).returncode
        except subprocess.TimeoutExpired:
            raise Failure(f"schemathesis did not end in {seconds:.0f} s; its log is {shown(log)}") from None
    text = log.read_text()
    if code:
        say(text)
        raise Failure("the API and openapi.yaml differ; schemathesis says above where")
    cases = re.search(r"(\d+) generated, (\d+) passed", text)
    if not cases or cases[1] != cases[2] or cases[1] == "0":
        raise Failure(f"schemathesis tested nothing: {text.strip()}")
    say(f"schemathesis: {cases[1]} requests, seed {options.seed}: the API is what openapi.yaml says")
    return 0


def main():
    options = arguments()
    return supervise.to_the_end(lambda signals: carry_out(options, signals))


if __name__ == "__main__":
    run(main)
