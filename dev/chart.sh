#!/bin/sh
# Packs the Helm chart into FILE: dev/chart.sh FILE. As `helm package` does, without helm, and with the same bytes for the
# same commit. Links into other folders become the files that they lead to.
set -eu

[ $# = 1 ] || { echo "usage: dev/chart.sh FILE" >&2; exit 2; }
file=$(realpath "$1")
cd "$(dirname "$0")/.."
tar --sort=name --mtime="@$(git log -1 --format=%ct)" --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX \
    --dereference --transform 's,^chart,captcha,' -C k8s -cf - chart | gzip -9n >"$file"
