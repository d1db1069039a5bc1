#!/bin/sh
# Makes the secrets that no operator makes, unless they are there: random passwords for ClickHouse's users, and two API keys.
# Needs kubectl, and captcha on the PATH or as the first argument.
set -eu

captcha=${1:-captcha}
namespace=captcha

if kubectl -n "$namespace" get secret captcha-clickhouse >/dev/null 2>&1; then
    echo "secret captcha-clickhouse is there already" >&2
else
    set --
    for user in serve consume migrate report; do
        password=$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')
        set -- "$@" "$user" "$password"
    done
    # By way of a manifest on stdin: arguments can be seen by others.
    {
        printf 'apiVersion: v1\nkind: Secret\nmetadata:\n  name: captcha-clickhouse\nstringData:\n'
        printf '  %s: "%s"\n' "$@"
    } | kubectl -n "$namespace" create -f -
fi

if kubectl -n "$namespace" get secret captcha-keys >/dev/null 2>&1; then
    echo "secret captcha-keys is there already" >&2
else
    # The keys themselves are shown on the terminal once; their hashes go into the secret.
    writer=$("$captcha" serve new-key --role write --sites '*')
    reader=$("$captcha" serve new-key --role read --sites '*')
    printf '%s\n%s\n' "$writer" "$reader" |
        kubectl -n "$namespace" create secret generic captcha-keys --from-file=keys.txt=/dev/stdin
fi
