#!/bin/sh
# Verifies a release: dev/verify.sh FOLDER KEY. The key is a public one of minisign: a file, or its second line. It fails for another
# key, and for a file that is changed, missing, or not in the list.
set -eu

if [ $# -ne 2 ] || [ -z "$1" ] || [ -z "$2" ]; then
    echo "usage: make verify-release DIR=FOLDER PUBLIC_KEY=FILE (or the key itself)" >&2
    exit 2
fi
if ! command -v minisign >/dev/null; then
    echo "verify: there is no minisign; install it (Debian: minisign)" >&2
    exit 1
fi
if [ -f "$2" ]; then
    option=-p key=$(realpath "$2")
else
    option=-P key=$2
fi
cd "$1"
for file in SHA256SUMS SHA256SUMS.minisig; do
    [ -f "$file" ] || { echo "verify: there is no $1/$file: the release is unsigned or not whole" >&2; exit 1; }
done
comment=$(minisign -V -Q "$option" "$key" -m SHA256SUMS) || {
    echo "verify: $1/SHA256SUMS is not signed by this key" >&2
    exit 1
}
sha256sum --check --strict --quiet SHA256SUMS || { echo "verify: $1 is not what was signed" >&2; exit 1; }
find . -mindepth 1 ! -name SHA256SUMS ! -name SHA256SUMS.minisig -printf '%P\n' | while read -r file; do
    cut -c67- SHA256SUMS | grep -qxFe "$file" || { echo "verify: $1/$file is not in SHA256SUMS" >&2; exit 1; }
done
echo "verified: $comment, $(wc -l <SHA256SUMS) files"
