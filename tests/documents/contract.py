"""Has schemathesis test what openapi.yaml promises, against the real executable on real Kafka and ClickHouse.

It sends good and bad requests of all operations, from a seed, and holds each answer against the document that the server itself
gives out. schemathesis.toml says how, contract_hooks.py what the document cannot say. Needs the servers of `dev/stack.py
with` and a Python that has requirements.txt; `make contract` sees to both. What was found is printed, with a curl line each."""

import argparse
import os
import re
import subprocess
import sys
import uuid
from pathlib import Path

from dev import supervise
from dev.command import Failure, captcha_environment, run, say, shown
from tests.documents import serving

HERE = Path(__file__).resolve().parent
CASES = 500
SECONDS_MAX = 300  # for so many cases, which take about 15 s on a machine that does nothing else


def arguments():
    parser = argparse.ArgumentParser(prog="python3 -m tests.documents.contract", description=__doc__.partition("\n")[0])
    serving.add_program(parser)
    parser.add_argument("--cases", type=int, default=CASES, help=f"most for each operation (default: {CASES})")
    parser.add_argument("--seed", type=int, default=6, help="(default: 6)")
    return parser.parse_args()


def carry_out(options, signals):
    name = f"contract_{uuid.uuid4().hex}"
    kafka, clickhouse, logs = map(shared, ("CAPTCHA_TEST_KAFKA", "CAPTCHA_TEST_CLICKHOUSE", "CAPTCHA_TEST_LOGS"))
    settings = {
        "kafka_brokers": kafka,
        "clickhouse_addr": clickhouse,
        "kafka_topic": name,
        "clickhouse_database": name,
    }
    logs = Path(logs)
    migrate(options.program, settings)
    # Reports are to have rows, so that their form is looked at too.
    with (
        serving.running("consume", options.program, logs / "contract-consume.log", signals, **settings),
        serving.serving(options.program, logs / "contract-serve.log", signals, **settings) as port,
    ):
        return schemathesis(f"http://127.0.0.1:{port}", options, logs / "schemathesis.log")


def shared(name):
    if name not in os.environ:
        raise Failure(f"{name} is not set: this needs servers, run make contract")
    return os.environ[name]


def migrate(program, settings):
    done = subprocess.run([program, "migrate"], env=captcha_environment(**settings), capture_output=True, text=True)
    if done.returncode:
        raise Failure(f"captcha migrate failed: {done.stderr.strip()}")


def schemathesis(base, options, log):
    """Its exit code; what it says is shown whole only if it found something."""
    command = [
        *(sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()"),
        *("--config-file", HERE / "schemathesis.toml", "run", f"{base}/v1/openapi.json", "--url", base),
        *("--seed", str(options.seed), "--max-examples", str(options.cases)),
    ]
    environ = captcha_environment() | {"SCHEMATHESIS_HOOKS": "contract_hooks", "PYTHONPATH": str(HERE)}
    seconds = SECONDS_MAX * max(1.0, options.cases / CASES)
    with open(log, "w") as output:
        try:
            # It leaves a folder where it runs.
            done = subprocess.run(
                command, env=environ, stdout=output, stderr=output, timeout=seconds, cwd=log.parent
            )
            code = done.returncode
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
