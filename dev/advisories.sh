#!/bin/sh
# Checks the dependencies against known vulnerabilities, without the network: dev/advisories.sh CARGO_DENY FOLDER, a clone of
# https://github.com/RustSec/advisory-db. Without a folder it says that nothing was checked. A clone that was not fetched for
# 90 days is refused. Before that it makes a database of its own against a crate that is used, and sees the check fail.
set -eu

deny=$(realpath "$1")
folder=${2:-}
root=$(cd "$(dirname "$0")/.." && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT INT TERM

# The name that cargo-deny gives to its own clone: of the address of the default database, and a hash of it.
NAME=advisory-db-3157b0e258782691

# Against a folder in the form of that database. deny.toml says where cargo-deny looks.
check() {
    mkdir -p "$root/target/advisories"
    ln -sfn "$(realpath "$1")" "$root/target/advisories/$NAME"
    (cd "$root" && "$deny" --locked --offline check advisories)
}

# A database of one advisory, against all versions of a crate.
advisory() {
    mkdir -p "$scratch/db/crates/$1"
    cat >"$scratch/db/crates/$1/RUSTSEC-2000-0001.md" <<END
\`\`\`toml
[advisory]
id = "RUSTSEC-2000-0001"
package = "$1"
date = "2000-01-01"

[versions]
patched = []
\`\`\`

# Made up, to see that the check fails
END
    git -C "$scratch/db" init --quiet
    git -C "$scratch/db" add .
    git -C "$scratch/db" -c user.name=captcha -c user.email=captcha@localhost commit --quiet --message "made up"
}

advisory anyhow
if check "$scratch/db" >"$scratch/out" 2>&1; then
    echo "advisories: the check passed although anyhow has an advisory; see cargo-deny and deny.toml" >&2
    exit 1
fi
if ! grep -q RUSTSEC-2000-0001 "$scratch/out"; then
    cat "$scratch/out" >&2
    echo "advisories: the check failed, but not for the advisory that was made up" >&2
    exit 1
fi
if [ -z "$folder" ]; then
    echo "advisories: not checked; give ADVISORY_DB=FOLDER, a clone of https://github.com/RustSec/advisory-db"
    exit
fi
if ! [ -d "$folder/crates" ]; then
    echo "advisories: there is no $folder/crates; give ADVISORY_DB=FOLDER, a clone of https://github.com/RustSec/advisory-db" >&2
    exit 1
fi
check "$folder"
