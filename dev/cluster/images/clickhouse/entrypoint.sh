#!/bin/sh
# /entrypoint.sh of our image of ClickHouse: does what that of clickhouse/clickhouse-server does, as far as
# k8s/overlays/local uses it.
#
# The server is the engine of chdb with dev/clickhouse-server.c. It reads /etc/clickhouse-server/config.xml with config.d,
# and users.xml with users.d, as a server does. What the official script needs is needed here too: /tmp, and users.d unless
# CLICKHOUSE_SKIP_USER_SETUP=1, are written to.
#
# In the image: /bin/clickhouse-server, /opt/clickhouse/libchdb, config.xml and users.xml of this folder in
# /etc/clickhouse-server with the empty folders config.d and users.d, and busybox as sh, cat, cp and mkdir.
set -eu

folder=/etc/clickhouse-server
data=/var/lib/clickhouse
cd "$data"
mkdir -p "$data/tmp" "$data/user_files" "$data/format_schemas"
cp "$folder/users.xml" /tmp/users.xml

if [ "${CLICKHOUSE_SKIP_USER_SETUP:-0}" = 1 ]; then
    echo "$0: explicitly skip changing user 'default'"
else
    echo "$0: neither CLICKHOUSE_USER nor CLICKHOUSE_PASSWORD is set, disabling network access for user 'default'"
    cat >"$folder/users.d/default-user.xml" <<'END'
<clickhouse>
  <users><default><networks replace="replace"><ip>::1</ip><ip>127.0.0.1</ip></networks></default></users>
</clickhouse>
END
fi

exec /bin/clickhouse-server /opt/clickhouse/libchdb "$data" 9000 8123 --config-file="$folder/config.xml" \
    --listen_host=0.0.0.0 --logger.console=1 --log-level=warning --implicit_select=0
