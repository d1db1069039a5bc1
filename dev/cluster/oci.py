"""Archives of images, in the form that containerd imports (OCI image layout in a tar file)."""

import hashlib
import io
import json
import platform
import tarfile
import tempfile

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def write_archive(name, folder, archive, entrypoint, user="65532:65532", env=()):
    """Writes the files of a folder as the image `name`, with its registry and its tag, of one layer.

    The same files give the same bytes. Everything in the image belongs to root; the folder's modes stay."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    new = archive.with_name(archive.name + ".new")
    with tempfile.TemporaryFile(dir=archive.parent) as layer:
        with tarfile.open(fileobj=layer, mode="w") as tar:
            for path in sorted(folder.rglob("*")):
                tar.add(path, path.relative_to(folder), recursive=False, filter=belongs_to_root)
        size = layer.tell()
        layer.seek(0)
        digest = hashlib.file_digest(layer, "sha256").hexdigest()
        layer.seek(0)
        arch = {"architecture": ARCHITECTURES.get(platform.machine(), platform.machine()), "os": "linux"}
        settings = {"User": user, "Env": [PATH, *env], "Entrypoint": list(entrypoint)}
        rootfs = {"type": "layers", "diff_ids": [f"sha256:{digest}"]}
        config = json.dumps({**arch, "config": settings, "rootfs": rootfs}).encode()
        layers = [{"mediaType": LAYER, "digest": f"sha256:{digest}", "size": size}]
        document = {"schemaVersion": 2, "mediaType": MANIFEST, "config": blob(CONFIG, config), "layers": layers}
        manifest = json.dumps(document).encode()
        # The first is how containerd names the image, the second what other tools read.
        named = {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name}
        entry = blob(MANIFEST, manifest) | {"annotations": named, "platform": arch}
        with tarfile.open(new, "w") as tar:
            add(tar, "oci-layout", b'{"imageLayoutVersion": "1.0.0"}')
            add(tar, "index.json", json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode())
            for data in (config, manifest):
                add(tar, f"blobs/sha256/{hashlib.sha256(data).hexdigest()}", data)
            info = tarfile.TarInfo(f"blobs/sha256/{digest}")
            info.size = size
            tar.addfile(info, layer)
    new.replace(archive)


def belongs_to_root(entry):
    entry.uid = entry.gid = entry.mtime = 0
    entry.uname = entry.gname = ""
    return entry


def blob(kind, data):
    return {"mediaType": kind, "digest": f"sha256:{hashlib.sha256(data).hexdigest()}", "size": len(data)}


def add(tar, name, data):
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))
