"""Sends requests that are refused early through real proxies: whoever sends must get to read why.

`captcha serve` stands behind nginx and haproxy of Debian, in the ways in which people run them: buffering and
streaming, over HTTP/1.1, and over HTTP/2 where they can. Each case is a body that is refused before it has come to its
end, sent several times at once; every answer must be the one that serve gave. The client's own address must arrive too,
by each way that --client-address-from knows. Needs the servers of `dev/stack.py with`, nginx and haproxy; `make
proxies` sees to it."""

import argparse
import http.client
import json
import os
import shutil
import socket
import subprocess
import tempfile
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from dev import ports, supervise
from dev.command import Failure, run, say
from dev.testkit import captcha, events, servers
from dev.testkit.http import HOST

CLIENT = "127.0.0.7"  # the address that requests come from
TIMES = 6
AT_ONCE = 3

KB = 1000
GOOD_EVENTS = 2000  # 400 kB
WRONG_KEY = "captcha_" + "a" * 12 + "_" + "0" * 64

# Two listeners of one proxy are two proxies here; the second needs nothing started.
SLEEP = ["sleep", "3600"]

# The bytes of a body, its headers, its path, and the status that must arrive. Below 1 MB is the default of nginx.
CASES = {
    "a wrong key, 400 kB": (400 * KB, {"authorization": f"Bearer {WRONG_KEY}"}, "/v1/events", 401),
    "no key, 1.9 MB": (1900 * KB, {}, "/v1/events", 401),
    "another type, 1.9 MB": (1900 * KB, {"content-type": "text/csv"}, "/v1/events", 415),
    "no such path, 1.9 MB": (1900 * KB, {}, "/v1/nothing", 404),
    "a wrong query, 1.9 MB": (1900 * KB, {}, "/v1/events?nothing=1", 422),
    "too large, 5 MB": (5000 * KB, {}, "/v1/events", 413),
    "too large, 30 MB": (30_000 * KB, {}, "/v1/events", 413),
}

NGINX = """
daemon off; master_process off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/nginx-error.log warn;
events {{ worker_connections 512; }}
http {{
    access_log off; client_max_body_size 0;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port}; listen 127.0.0.1:{h2_port} http2;
        location / {{
            proxy_pass http://127.0.0.1:{serve}; proxy_http_version 1.1; proxy_set_header Connection "";
            proxy_set_header Host $host; {buffering} {forwarded}
        }}
    }}
}}
"""

HAPROXY = """
global
    maxconn 500
defaults
    mode {mode}
    timeout connect 5s
    timeout client 30s
    timeout server 30s
frontend front
    bind 127.0.0.1:{port}
    {h2}
    default_backend back
backend back
    {forwarded}
    server serve 127.0.0.1:{serve} {server}
"""


def arguments():
    parser = argparse.ArgumentParser(prog="python3 -m tests.proxies", description=__doc__.partition("\n")[0])
    captcha.add_program(parser)
    parser.add_argument("--times", type=int, default=TIMES, help=f"each case through each proxy (default: {TIMES})")
    return parser.parse_args()


def carry_out(options, signals):
    for tool in ("nginx", "haproxy"):
        if not shutil.which(tool):
            if os.environ.get("CI"):
                raise Failure(f"there is no {tool}; install it (Debian: {tool})")
            say(f"proxies: there is no {tool}, so nothing was tried; install it (Debian: {tool})")
            return 0
    given = servers.given("make proxies")
    settings, logs = given.settings(f"proxies_{uuid.uuid4().hex}"), given.logs
    captcha.command(options.program, "migrate", **settings)
    failed = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        key = captcha.new_key(options.program, folder / "keys.txt")
        settings |= {"keys_file": folder / "keys.txt", "access_log_share": "1", "trusted_proxies": "127.0.0.1"}
        for way in ("x-forwarded-for", "forwarded", "proxy-protocol"):
            log = logs / f"proxies-{way}.log"
            with (
                ExitStack() as stack,
                captcha.serving(options.program, log, signals, client_address_from=way, **settings) as serve,
            ):
                for proxy in proxies(way, folder, serve, logs):
                    started, port, send = proxy
                    child = supervise.launch(*started)
                    stack.callback(supervise.stop, [[child]], signals)
                    supervise.wait_ready(child, lambda: None if listens(port) else "it does not listen")
                    failed += try_all(started[0], port, send, key, options.times)
                failed += check_log(log, way)
    if failed:
        raise Failure(f"{failed} cases failed, see above")
    say("proxies: every refusal was read, and every client was known by its address")
    return 0


def proxies(way, folder, serve, logs):
    """What is started, the port that it listens on, and how to send to it."""
    if way == "x-forwarded-for":
        for buffering in ("on", "off"):
            port, h2_port = ports.pick(2)
            own = folder / f"nginx-{buffering}"
            own.mkdir()
            config = own / "nginx.conf"
            config.write_text(
                NGINX.format(
                    folder=own,
                    port=port,
                    h2_port=h2_port,
                    serve=serve,
                    buffering=f"proxy_request_buffering {buffering};",
                    forwarded="proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;",
                )
            )
            started = (f"nginx, buffering {buffering}", ["nginx", "-p", own, "-c", config], logs / f"{own.name}.log")
            yield started, port, post
            yield (f"{started[0]}, h2 from the client", SLEEP, logs / "sleep.log"), h2_port, post_h2
    h2 = "bind 127.0.0.1:{} proto h2"
    ways = {
        "x-forwarded-for": [
            ("haproxy", "http", "option forwardfor", ""),
            ("haproxy, h2 to serve", "http", "option forwardfor", "proto h2"),
        ],
        "forwarded": [("haproxy, forwarded", "http", 'http-request set-header forwarded "for=%[src]"', "")],
        "proxy-protocol": [
            ("haproxy, tcp, v1", "tcp", "", "send-proxy"),
            ("haproxy, tcp, v2", "tcp", "", "send-proxy-v2"),
        ],
    }
    for number, (name, mode, forwarded, server) in enumerate(ways[way]):
        port, h2_port = ports.pick(2)
        config = folder / f"haproxy-{way}-{number}.cfg"
        config.write_text(
            HAPROXY.format(
                mode=mode,
                port=port,
                serve=serve,
                forwarded=forwarded,
                server=server,
                h2=h2.format(h2_port) if mode == "http" else "",
            )
        )
        yield (name, ["haproxy", "-db", "-f", config], logs / f"{config.stem}.log"), port, post
        if mode == "http":
            yield (f"{name}, h2 from the client", SLEEP, logs / "sleep.log"), h2_port, post_h2


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


def try_all(name, port, send, key, times):
    failed = 0
    good = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    body = json.dumps([events.event(events.SITES[0])] * GOOD_EVENTS).encode()
    cases = {"good, 400 kB": (body, good, "/v1/events", 200)}
    for case, (size, more, path, status) in CASES.items():
        headers = {"content-type": "application/json"} | ({} if "no key" in case else good) | more
        cases[case] = (b" " * size, headers, path, status)
    for case, (body, headers, path, status) in cases.items():
        with ThreadPoolExecutor(AT_ONCE) as pool:
            came = list(pool.map(lambda _: send(port, path, headers, body), range(times)))
        wrong = [answer for answer in came if answer != status]
        if wrong:
            say(f"{name}: {case}: {len(wrong)} of {times} were not answered {status}: {wrong}")
            failed += 1
    say(f"{name}: {len(cases)} cases, {failed} failed")
    return failed


def post(port, path, headers, body):
    """The status, or what went wrong: like a simple client, all is sent before anything is read."""
    connection = http.client.HTTPConnection(HOST, port, timeout=60, source_address=(CLIENT, 0))
    try:
        try:
            connection.request("POST", path, body, headers)
        except OSError as err:
            # What was said before the connection broke may still be read.
            broken = str(err)
        else:
            broken = ""
        try:
            return connection.getresponse().status
        except (OSError, http.client.HTTPException) as err:
            return broken or str(err) or type(err).__name__
    finally:
        connection.close()


def post_h2(port, path, headers, body):
    # Without waiting for 100 Continue: all is sent before anything is read.
    words = [
        "--http2-prior-knowledge",
        "--interface",
        CLIENT,
        "-sS",
        "-m",
        "60",
        "-H",
        "expect:",
        "--data-binary",
        "@-",
    ]
    words += [word for name, value in headers.items() for word in ("-H", f"{name}: {value}")]
    words += ["-o", "/dev/null", "-w", "%{http_code}", f"http://{HOST}:{port}{path}"]
    asked = subprocess.run(["curl", *words], input=body, capture_output=True, check=False)
    status = asked.stdout.decode()
    return int(status) if status.isdigit() and status != "000" else asked.stderr.decode().strip()


def check_log(log, way):
    """Whether every request is logged with the address of the client that sent it to the proxy."""
    lines = [json.loads(line) for line in log.read_text().splitlines() if '"message":"request"' in line]
    others = [line for line in lines if line.get("client") != CLIENT]
    if others or not lines:
        say(f"{way}: {len(others)} of {len(lines)} requests are logged with another client: {others[:1]}")
        return 1
    return 0


def main():
    options = arguments()
    return supervise.to_the_end(lambda signals: carry_out(options, signals))


if __name__ == "__main__":
    run(main)
