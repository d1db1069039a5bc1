#!/bin/sh
# Makes the secrets that no operator makes, unless they are there: random passwords for ClickHouse's users, and two API keys.
# usage: k8s/secrets.sh [CAPTCHA [FOLDER]]: captcha's executable, otherwise the one on the PATH; and a folder for the API keys
# (write.key, read.key), which are otherwise shown on the terminal, once. Needs kubectl.
set -eu

captcha=${1:-captcha}
folder=${2:-}
namespace=captcha

if kubectl -n "$namespace" get secret captcha-clickhouse >/dev/null 2>&1; then
    echo "secret captcha-clickhouse is there already" >&2
else
    set --
    for user in serve serve_2 consume consume_2 migrate report; do
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
    exit
fi
shown=
if [ -z "$folder" ]; then
    if ! [ -t 2 ]; then
        echo "secrets: stderr is not a terminal, and API keys do not belong in a log; name a folder for them: $0 CAPTCHA FOLDER" >&2
        exit 1
    fi
    shown=$(mktemp -d)
    folder=$shown
    trap 'rm -rf "$shown"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
fi
# The keys go to their clients; only their hashes go into the secret.
writer=$("$captcha" serve new-key --role write --sites '*' --key-out "$folder/write.key")
reader=$("$captcha" serve new-key --role read --sites '*' --key-out "$folder/read.key")
printf '%s\n%s\n' "$writer" "$reader" |
    kubectl -n "$namespace" create secret generic captcha-keys --from-file=keys.txt=/dev/stdin
if [ -n "$shown" ]; then
    printf 'the API key that may write, for its client alone, shown only now:\n%s\n' "$(cat "$folder/write.key")" >&2
    printf 'the API key that may read:\n%s\n' "$(cat "$folder/read.key")" >&2
fi
