"""The image as files: of an archive that `make image` made, or put together as the Dockerfile's last stage says."""

import json
import shlex
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import NamedTuple

from dev.command import DEV, Failure, shown


class Image(NamedTuple):
    root: Path
    entrypoint: list
    user: int  # where a pod names none
    environ: dict
    what: str  # in words


def unpacked(archive, folder):
    """An image of an OCI archive."""
    oci = folder / "oci"
    with tarfile.open(archive) as tar:
        tar.extractall(oci, filter="data")

    def blob(digest):
        return oci / "blobs" / digest.replace(":", "/")

    (entry,) = json.loads((oci / "index.json").read_text())["manifests"]
    manifest = json.loads(blob(entry["digest"]).read_text())
    config = json.loads(blob(manifest["config"]["digest"]).read_text())["config"]
    root = folder / "image"
    for layer in manifest["layers"]:
        with tarfile.open(blob(layer["digest"])) as tar:
            if any(Path(name).name.startswith(".wh.") for name in tar.getnames()):
                raise Failure(f"{shown(archive)}: a layer takes files away; that is not carried out here")
            tar.extractall(root, filter="data")
    environ = dict(word.split("=", 1) for word in config.get("Env", []))
    revision = config.get("Labels", {}).get("org.opencontainers.image.revision", "of no revision")
    return Image(root, config["Entrypoint"], number(config["User"]), environ, f"{shown(archive)}, revision {revision}")


def put_together(folder, target):
    """An image of the executable that dev/static.sh builds."""
    program = target / "pods" / "captcha"
    subprocess.run([DEV / "static.sh", program], check=True, stdin=subprocess.DEVNULL)
    root, found = folder / "image", {}
    stage = (DEV.parent / "Dockerfile").read_text().rpartition("\nFROM scratch\n")[2]
    for line in stage.splitlines():
        word, _, rest = line.partition(" ")
        if word == "COPY":
            _, source, place = shlex.split(rest)
            place = root / place.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(program if source == "/captcha" else source, place)
        found[word] = rest
    if not {"COPY", "USER", "ENTRYPOINT"} <= set(found):
        raise Failure("the last stage of the Dockerfile cannot be understood")
    environ = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
    return Image(
        root,
        json.loads(found["ENTRYPOINT"]),
        number(found["USER"]),
        environ,
        f"{shown(program)}, as the Dockerfile has it",
    )


def number(user):
    """The user of `65532:65532`."""
    return int(user.partition(":")[0])
