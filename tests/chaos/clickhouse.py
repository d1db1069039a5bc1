"""What the run asks ClickHouse itself, past the links."""

import http.client

from dev.command import Failure


def query(port, sql, database="captcha", seconds=120):
    """The lines of an answer; Failure when there is none."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=seconds)
    try:
        # Waiting for the end means that an error in the middle is an error, and no short answer.
        connection.request("POST", f"/?database={database}&wait_end_of_query=1", sql)
        answer = connection.getresponse()
        text = answer.read().decode()
    except (OSError, http.client.HTTPException) as error:
        raise Failure(f"cannot ask ClickHouse: {error}") from None
    finally:
        connection.close()
    if answer.status != 200:
        raise Failure(f"ClickHouse answered {answer.status}: {text[:300]}")
    return text.splitlines()
