#!/bin/sh
# Signs a small release with a key of its own, verifies it, and damages it in each way that must be noticed.
set -eu

root=$(cd "$(dirname "$0")/../.." && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT INT TERM
cd "$scratch"

for name in ours other; do
    # Without a password.
    minisign -G -W -p "$name.pub" -s "$name.key" >/dev/null
done
mkdir signed
for file in captcha captcha.oci.tar captcha.cdx.json; do
    echo "$file" >"signed/$file"
done
"$root/dev/sign.sh" signed "captcha 0 of commit 0" ours.key >/dev/null

fails=0
tried=0

# Damages a copy by a command, and verifies it.
expect() {
    expected=$1 key=$2 name=$3
    shift 3
    rm -rf copy
    cp -r signed copy
    (cd copy && "$@")
    tried=$((tried + 1))
    if said=$("$root/dev/verify.sh" copy "$key" 2>&1); then found=verified; else found=refused; fi
    if [ "$found" != "$expected" ]; then
        fails=$((fails + 1))
        echo "release: $name was $found: $said" >&2
    fi
}

# shellcheck disable=SC2329  # expect calls it
again() {
    "$root/dev/sign.sh" . "captcha 0 of commit 0" "$scratch/other.key" >/dev/null
}

expect verified ours.pub "what was signed" true
expect verified "$(tail -n 1 ours.pub)" "what was signed, by the key itself" true
expect refused other.pub "another key" true
expect refused ours.pub "a changed byte" sed -i 's/c/d/' captcha
expect refused ours.pub "a missing file" rm captcha.oci.tar
expect refused ours.pub "another file" touch captcha-evil
expect refused ours.pub "a file whose name another one begins with" touch capt
expect refused ours.pub "a folder" mkdir captcha-folder
expect refused ours.pub "a changed list" sed -i '1d' SHA256SUMS
expect refused ours.pub "a missing list" rm SHA256SUMS
expect refused ours.pub "a missing signature" rm SHA256SUMS.minisig
expect refused ours.pub "a changed comment" sed -i 's/captcha 0/captcha 1/' SHA256SUMS.minisig
expect refused ours.pub "a release that was signed again" again
echo "release: $tried tried, $fails not as expected"
exit "$fails"
