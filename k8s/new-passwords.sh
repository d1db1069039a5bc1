#!/bin/sh
# Gives users of ClickHouse new random passwords, in the Secret captcha-clickhouse. Servers know them after their next start.
# docs/operations.md (Rotating secrets) has what comes before and after. Needs kubectl.
# usage: k8s/new-passwords.sh KEY...: keys of the Secret, such as serve_2 consume_2
set -eu

namespace=captcha

if [ $# = 0 ]; then
    echo "usage: $0 KEY...: keys of the Secret captcha-clickhouse, such as serve_2 consume_2" >&2
    exit 2
fi
key_of() {
    kubectl -n "$namespace" get "$1" --ignore-not-found \
        -o jsonpath='{.spec.template.spec.volumes[?(@.name=="clickhouse")].secret.items[0].key}'
}
used=" $(key_of deployment/captcha-serve) $(key_of statefulset/captcha-consume) "
for key in "$@"; do
    case $key in
        serve | serve_2 | consume | consume_2 | migrate | report) ;;
        *)
            echo "new-passwords: $key is none of serve, serve_2, consume, consume_2, migrate, report" >&2
            exit 2
            ;;
    esac
    case $used in
        *" $key "*)
            echo "new-passwords: pods log in with $key, and would be refused; replace the password of the other user, and" \
                "switch to it" >&2
            exit 1
            ;;
    esac
done
# By way of stdin: arguments can be seen by others.
{
    printf '{"stringData": {'
    separator=
    for key in "$@"; do
        printf '%s"%s": "%s"' "$separator" "$key" "$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')"
        separator=', '
    done
    printf '}}\n'
} | kubectl -n "$namespace" patch secret captcha-clickhouse --type merge --patch-file /dev/stdin
