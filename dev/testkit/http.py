"""HTTP requests. Without an answer the status is 0 and the text is the reason: nothing here raises."""

import http.client
from typing import NamedTuple

HOST = "127.0.0.1"
JSON = {"Content-Type": "application/json"}
SECONDS = 2  # for a request, where nothing else is said


class Response(NamedTuple):
    status: int
    body: bytes
    headers: http.client.HTTPMessage

    @property
    def text(self):
        return self.body.decode(errors="replace")


def connect(address, seconds=SECONDS, tls=None):
    """A connection to `host:port`, or to a port of this machine; encrypted with the SSLContext `tls`."""
    host = address if isinstance(address, str) else f"{HOST}:{address}"
    if tls:
        return http.client.HTTPSConnection(host, timeout=seconds, context=tls)
    return http.client.HTTPConnection(host, timeout=seconds)


def request(address, method, path, body=None, headers=None, *, seconds=SECONDS, tls=None):
    """Sends one request on a connection of its own."""
    connection = connect(address, seconds, tls)
    try:
        return exchange(connection, method, path, body, headers)
    except (OSError, http.client.HTTPException) as error:
        return Response(0, reason(error).encode(), http.client.HTTPMessage())
    finally:
        connection.close()


def get(address, path, headers=None, *, seconds=SECONDS):
    return request(address, "GET", path, headers=headers, seconds=seconds)


def exchange(connection, method, path, body=None, headers=None):
    """Sends one request on a connection that may be kept; raises what http.client raises."""
    connection.request(method, path, body, headers or {})
    answer = connection.getresponse()
    return Response(answer.status, answer.read(), answer.headers)


def reason(error):
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
