#!/bin/sh
# /etc/kafka/docker/run of our image of Kafka: does what that of apache/kafka does, as far as k8s/overlays/local uses it.
#
# The settings are made by the official image's own class, which is in Kafka's jars: KAFKA_* variables and the files in
# /mnt/shared/config become /opt/kafka/config, and the data folder is formatted with CLUSTER_ID. What the official
# scripts need is needed here too, so that a mount that is missing fails: /opt/kafka/config, /tmp and LOG_DIR are written to.
#
# In the image: Java in /opt/java, Kafka's jars in /opt/kafka, dev/kafka-log4j2.yaml as /etc/kafka/docker/log4j2.yaml, the
# empty folders /opt/kafka/config and /mnt/shared/config, and busybox as sh, mkdir and grep.
set -eu

export CLUSTER_ID="${CLUSTER_ID:-5L6g3nShT-eMCtK--X86sw}" # the official image's default
logs=${LOG_DIR:-/opt/kafka/logs}
# One collector thread and the first compiler only: half the processor time of a start.
java="/opt/java/bin/java -XX:+UseSerialGC -XX:TieredStopAtLevel=1"

if ! [ -w /opt/kafka/config ]; then
    echo "kafka: cannot write to /opt/kafka/config; mount a volume there" >&2
    exit 1
fi
mkdir -p "$logs"

# shellcheck disable=SC2086 # words of options
if ! said=$($java -cp '/opt/kafka/*' kafka.docker.KafkaDockerWrapper setup --default-configs-dir /etc/kafka/docker \
    --mounted-configs-dir /mnt/shared/config --final-configs-dir /opt/kafka/config 2>&1); then
    if ! printf '%s\n' "$said" | grep -qi 'already formatted'; then
        printf '%s\n' "$said" >&2
        exit 1
    fi
fi

# shellcheck disable=SC2086
exec $java ${KAFKA_HEAP_OPTS:--Xmx1G -Xms1G} "-Xlog:gc*:file=$logs/kafkaServer-gc.log:time,tags:filecount=10,filesize=100M" \
    "-Dkafka.logs.dir=$logs" -Dlog4j2.configurationFile=/opt/kafka/config/log4j2.yaml -cp '/opt/kafka/*' \
    kafka.Kafka /opt/kafka/config/server.properties
