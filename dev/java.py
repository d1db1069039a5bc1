"""What Java needs besides its arguments: paths that it can take, and files of properties in its own spelling."""

from dev.command import Failure


def need_path(path):
    """A colon ends an entry of Java's class path, and a comma one of Kafka's folders; neither can be escaped."""
    if ":" in str(path) or "," in str(path):
        raise Failure(f"cannot start Java in {path}: its paths take no colon and no comma; move the checkout")


def properties(values):
    """A .properties file as Java reads it: Latin-1, where a backslash escapes and a value begins after its blanks."""
    return "".join(f"{key}={escaped(str(value))}\n" for key, value in values.items())


def escaped(value):
    units = value.encode("utf-16-be")
    codes = [int.from_bytes(units[at : at + 2], "big") for at in range(0, len(units), 2)]
    return "".join(chr(code) if 0x20 < code < 0x7F and code != 0x5C else f"\\u{code:04x}" for code in codes)
