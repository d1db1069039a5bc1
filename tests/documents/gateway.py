"""A gateway on this machine that serves captcha below a prefix, as gateways in front of it do."""

from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from dev.testkit import http

HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "date", "server"}
ANSWER_SECONDS = 30
BAD_GATEWAY = 502


@contextmanager
def gateway(prefix, port):
    """Yields the port on which `prefix` stands before every path of what listens on `port`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(prefix, port))
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


def handler(prefix, port):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            if not self.path.startswith(f"{prefix}/"):
                self.send_error(404)
                return
            path = self.path.removeprefix(prefix)
            answer = http.get(port, path, dict(self.headers), seconds=ANSWER_SECONDS)
            self.send_response(answer.status or BAD_GATEWAY)
            for name, value in answer.headers.items():
                if name.lower() not in HOP_BY_HOP:
                    self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer.body)

        def log_message(self, *_):
            pass

    return Handler
