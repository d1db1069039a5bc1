#!/bin/sh
# Builds the container image without a daemon, and a list of what is in it: target/image/captcha-VERSION.oci.tar and .cdx.json. The
# executable of the image is there too, as captcha-VERSION-PROCESSOR.
# Needs buildah, and cargo-cyclonedx as its first argument. The executable is built here; the last stage of the Dockerfile makes
# the image of it, so that labels, user and entry point stand in one place. The same commit on the same system gives the same
# bytes: every time in the image is that of the commit.
set -eu

cyclonedx=$(realpath "$1")
cd "$(dirname "$0")/.."
if ! command -v buildah >/dev/null; then
    echo "image: there is no buildah; install it (Debian: buildah), or use \`docker build .\`" >&2
    exit 1
fi
authorities=/etc/ssl/certs/ca-certificates.crt
if ! [ -s "$authorities" ]; then
    echo "image: there is no $authorities; install ca-certificates" >&2
    exit 1
fi

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
revision=$(git rev-parse HEAD)
if [ -n "$(git status --porcelain)" ]; then
    revision=$revision-dirty
fi
out=$PWD/target/image
archive=$out/captcha-$version.oci.tar
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT INT TERM

mkdir -p "$scratch/root/etc/ssl/certs"
dev/static.sh "$scratch/root/captcha"
cp "$authorities" "$scratch/root$authorities"
chmod -R u=rwX,go=rX "$scratch/root"
chmod 755 "$scratch/root/captcha"

mkdir -p "$out"
rm -f "$archive"
cp "$scratch/root/captcha" "$out/captcha-$version-$(uname -m)"
storage="--storage-driver vfs --root $scratch/store --runroot $scratch/run"
# shellcheck disable=SC2086 # words of options
buildah $storage build --quiet --isolation chroot --format oci --build-context "build=$scratch/root" \
    --timestamp "$(git log -1 --format=%ct)" --build-arg "VERSION=$version" --build-arg "REVISION=$revision" \
    --tag "captcha:$version" --file Dockerfile "$scratch/root" >"$scratch/id"
# shellcheck disable=SC2086
buildah $storage push --quiet "captcha:$version" "oci:$scratch/oci:captcha:$version"
# containerd imports an image under this name, and a kubelet looks for `image: captcha:VERSION` under no other. Others read
# the name that buildah has written.
python3 - "$scratch/oci/index.json" "docker.io/library/captcha:$version" <<'END'
import json, sys

path, name = sys.argv[1:]
with open(path) as file:
    index = json.load(file)
(manifest,) = index["manifests"]
manifest["annotations"]["io.containerd.image.name"] = name
with open(path, "w") as file:
    json.dump(index, file, separators=(",", ":"), sort_keys=True)
END
# buildah's own archive has the time of its making.
tar --sort=name --mtime="@$(git log -1 --format=%ct)" --owner=0 --group=0 --numeric-owner -C "$scratch/oci" -cf "$archive" .

"$cyclonedx" cyclonedx --format json --override-filename image.cdx >/dev/null
# One for each crate of the workspace; this one is for tests alone.
rm tests/corpus/image.cdx.json
mv image.cdx.json "$out/captcha-$version.cdx.json"

digest=$(sha256sum "$archive" | cut -d ' ' -f 1)
echo "image: $archive, $(wc -c <"$archive") bytes, sha256 of the archive $digest"
echo "what is in it: $out/captcha-$version.cdx.json"
