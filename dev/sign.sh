#!/bin/sh
# Writes FOLDER/SHA256SUMS of all files there, and its signature: dev/sign.sh FOLDER COMMENT [KEY]. The key is a secret one of
# minisign; the comment is signed too. Without a key the sums are unsigned, and it says so.
set -eu

[ $# -ge 2 ] || { echo "usage: dev/sign.sh FOLDER COMMENT [KEY]" >&2; exit 2; }
comment=$2
key=${3:+$(realpath "$3")}
cd "$1"
rm -f SHA256SUMS SHA256SUMS.minisig
# Kept until all are listed, so that the list is not in itself.
sums=$(find . -maxdepth 1 -type f -printf '%P\0' | LC_ALL=C sort -z | xargs -0 sha256sum)
echo "$sums" >SHA256SUMS
if [ -z "$key" ]; then
    echo "release: unsigned; give SIGNING_KEY=FILE, a secret key of \`minisign -G\`"
    exit
fi
if ! command -v minisign >/dev/null; then
    echo "release: there is no minisign; install it (Debian: minisign)" >&2
    exit 1
fi
minisign -S -s "$key" -t "$comment" -m SHA256SUMS
