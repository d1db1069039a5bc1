"""Certificate authorities and certificates, by openssl."""

import subprocess

from dev.command import Failure

DAYS = 30
RSA = ("rsa:2048",)
ELLIPTIC = ("ec", "-pkeyopt", "ec_paramgen_curve:P-256")


class Authority:
    """An authority in a folder: NAME.crt and NAME.key. One that is there is taken up again."""

    def __init__(self, folder, name, subject, key=ELLIPTIC):
        self.folder = folder
        self.name = name
        self.key = key
        self.file = folder / f"{name}.crt"
        folder.mkdir(parents=True, exist_ok=True)
        if not self.file.exists():
            self.renew(subject)

    def renew(self, subject):
        """A new key and a new certificate under the same name."""
        uses = ["basicConstraints=critical,CA:true", "keyUsage=critical,keyCertSign,cRLSign"]
        words = [word for use in uses for word in ("-addext", use)]
        key = ["-newkey", *self.key, "-noenc", "-keyout", self.file.with_suffix(".key")]
        openssl("req", "-x509", *key, "-subj", subject, "-days", DAYS, *words, "-out", self.file)

    def certificate(self, name, subject, extensions, key=None):
        """The file of a new certificate; its key is next to it, with the ending .key."""
        file = self.folder / f"{name}.crt"
        request, extra = file.with_suffix(".csr"), file.with_suffix(".ext")
        extra.write_text("\n".join([*extensions, "subjectKeyIdentifier=hash"]) + "\n")
        openssl(
            *("req", "-new", "-newkey", *(key or self.key), "-noenc", "-keyout", file.with_suffix(".key")),
            *("-subj", subject, "-out", request),
        )
        signer = ["-CA", self.file, "-CAkey", self.file.with_suffix(".key"), "-CAcreateserial"]
        openssl("x509", "-req", "-in", request, *signer, "-extfile", extra, "-days", DAYS, "-out", file)
        return file


def openssl(*words):
    command = ["openssl", *map(str, words)]
    done = subprocess.run(command, check=False, text=True, stdin=subprocess.DEVNULL, capture_output=True)
    if done.returncode != 0:
        raise Failure(f"openssl {words[0]} failed: {done.stderr.strip()}")


def names(*hosts, addresses=()):
    """The extension with a certificate's names."""
    return "subjectAltName=" + ",".join([*(f"DNS:{h}" for h in hosts), *(f"IP:{a}" for a in addresses)])
