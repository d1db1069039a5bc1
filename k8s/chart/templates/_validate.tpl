{{- /* What values.schema.json cannot say: values that do not go together. config.yaml includes it. */}}
{{- define "captcha.validate" -}}
{{- $strimzi := .Values.kafka.strimzi }}
{{- $altinity := .Values.clickhouse.altinity }}
{{- if $strimzi.enabled }}
{{- if gt (int $strimzi.replicationFactor) (int $strimzi.brokers.replicas) }}
{{- fail (printf "kafka.strimzi.replicationFactor is %d, but kafka.strimzi.brokers.replicas is %d: each copy needs a broker of its own" (int $strimzi.replicationFactor) (int $strimzi.brokers.replicas)) }}
{{- end }}
{{- if gt (int .Values.consume.replicas) (int $strimzi.topic.partitions) }}
{{- fail (printf "consume.replicas is %d, but kafka.strimzi.topic.partitions is %d: a pod without a partition does nothing; lower the one or raise the other" (int .Values.consume.replicas) (int $strimzi.topic.partitions)) }}
{{- end }}
{{- else }}
{{- if and (eq .Values.kafka.sasl.mechanism "plain") (not .Values.kafka.tls.enabled) }}
{{- fail "kafka.sasl.mechanism plain sends the password itself: set kafka.tls.enabled, or use scram-sha-512" }}
{{- end }}
{{- include "captcha.validatePorts" (list . "kafka" .Values.kafka.brokers) }}
{{- end }}
{{- if not $altinity.enabled }}
{{- range .Values.clickhouse.shards }}
{{- include "captcha.validatePorts" (list $ "clickhouse" .) }}
{{- if and (gt (len .) 1) (not $.Values.clickhouse.cluster) }}
{{- fail (printf "clickhouse.shards has a shard of %d replicas: set clickhouse.cluster to the name of the cluster in remote_servers, so that migrate makes replicated tables" (len .)) }}
{{- end }}
{{- end }}
{{- end }}
{{- range $name, $_ := .Values.config }}
{{- if or (hasPrefix "CAPTCHA_KAFKA_" $name) (hasPrefix "CAPTCHA_CLICKHOUSE_" $name) }}
{{- fail (printf "config.%s: the chart sets it from the values of kafka and clickhouse; change those" $name) }}
{{- end }}
{{- end }}
{{- if and .Values.autoscaling.enabled (gt (int .Values.autoscaling.minReplicas) (int .Values.autoscaling.maxReplicas)) }}
{{- fail (printf "autoscaling.minReplicas is %d, more than autoscaling.maxReplicas, which is %d" (int .Values.autoscaling.minReplicas) (int .Values.autoscaling.maxReplicas)) }}
{{- end }}
{{- if and .Values.ingress.enabled (not .Values.ingress.host) }}
{{- fail "ingress.enabled needs ingress.host, such as captcha.example.com" }}
{{- end }}
{{- with .Values.gateway }}
{{- if and .enabled (not .host) }}
{{- fail "gateway.enabled needs gateway.host, such as captcha.example.com" }}
{{- end }}
{{- if and .enabled (not .parentRefs) (not .className) }}
{{- fail "gateway.enabled needs gateway.className (kubectl get gatewayclass lists them), or gateway.parentRefs for a Gateway that is there" }}
{{- end }}
{{- end }}
{{- end }}

{{- /* Pods can reach a server only at a port that their policy allows: (list . SERVERS ADDRESSES). */}}
{{- define "captcha.validatePorts" -}}
{{- $policy := (index . 0).Values.networkPolicy }}
{{- $servers := index . 1 }}
{{- $ports := list }}
{{- range (index $policy $servers).ports }}
{{- $ports = append $ports (toString .) }}
{{- end }}
{{- if $policy.enabled }}
{{- range index . 2 }}
{{- $port := splitList ":" . | last }}
{{- if not (has $port $ports) }}
{{- fail (printf "%s is at port %s, which networkPolicy.%s.ports (%s) does not allow: add it there" . $port $servers (join ", " $ports)) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
