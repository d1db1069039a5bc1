#!/bin/sh
# Puts what `make image` has made, and the Helm chart, into target/release-VERSION/, with checksums and their signature: dev/release.sh [KEY].
set -eu

key=${1:+$(realpath "$1")}
cd "$(dirname "$0")/.."
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
revision=$(git rev-parse HEAD)
if [ -n "$(git status --porcelain)" ]; then
    revision=$revision-dirty
fi
out=target/release-$version
rm -rf "$out"
mkdir -p "$out"
for file in "captcha-$version-$(uname -m)" "captcha-$version.oci.tar" "captcha-$version.cdx.json"; do
    cp "target/image/$file" "$out/"
done
# What packages install: the manual, and completions of shells.
program=$out/captcha-$version-$(uname -m)
"$program" --man >"$out/captcha-$version.1"
for shell in bash zsh fish; do
    "$program" --completions "$shell" >"$out/captcha-$version.$shell"
done
dev/chart.sh "$out/captcha-chart-$version.tgz"
dev/sign.sh "$out" "captcha $version of commit $revision" "$key"
echo "release: $out"
