#!/bin/sh
# Builds captcha as one static file for this machine's processor: dev/static.sh FILE. Needs no more than Rust and a C
# compiler. The same commit, compilers and C library give the same bytes in whatever folder it is built.
set -eu

[ $# -eq 1 ] || { echo "usage: dev/static.sh FILE" >&2; exit 2; }
file=$(realpath -m "$1")
cd "$(dirname "$0")/.."

src=$PWD
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
cargo=${CARGO_HOME:-$HOME/.cargo}
host=$(rustc -vV | sed -n 's/^host: //p')
library=$(rustc --print sysroot)/lib/rustlib/src/rust
commit=$(rustc -vV | sed -n 's/^commit-hash: //p')

# Panics, log targets and C's assertions carry the paths of source files; these say where it was built. Of two that fit,
# rustc takes the last and a C compiler too. The separator that the encoded form needs lets paths have spaces.
us=$(printf '\037')
rust="-Ctarget-feature=+crt-static"
c=
for map in "$src=/src" "$target=/src/target" "$cargo=/cargo" "$library=/rustc/$commit"; do
    rust="$rust$us--remap-path-prefix=$map"
    c="$c -ffile-prefix-map=$map"
done

# Naming the target, even the host's own, keeps crt-static away from build scripts and procedural macros.
# glibc 2.34 and later resolve names without loading a library, so the static binary needs nothing beside it.
unset RUSTFLAGS
CARGO_ENCODED_RUSTFLAGS=$rust CFLAGS=$c CARGO_TARGET_DIR=$target CARGO_INCREMENTAL=0 \
    cargo build --release --locked --bin captcha --target "$host"
mkdir -p "$(dirname "$file")"
cp "$target/$host/release/captcha" "$file"
"$file" --help >/dev/null
