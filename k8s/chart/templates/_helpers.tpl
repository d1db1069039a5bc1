{{- /* The version is the image's tag. */}}
{{- define "captcha.version" -}}
{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "captcha.image" -}}
{{- with .Values.image.registry }}{{ . }}/{{ end -}}
{{ .Values.image.repository }}:{{ include "captcha.version" . }}
{{- with .Values.image.digest }}@{{ . }}{{ end }}
{{- end }}

{{- /* What only the chart adds. Operators copy labels from their resources to pods, which would restart Kafka and
       ClickHouse at each version of the chart: resources of Strimzi, Altinity and cert-manager do not have these. */}}
{{- define "captcha.chartLabels" -}}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "captcha.labels" -}}
app.kubernetes.io/name: captcha
app.kubernetes.io/part-of: captcha
{{- end }}

{{- /* Namespace and labels: (list . COMPONENT), with an empty component for what belongs to all. */}}
{{- define "captcha.metadata" -}}
{{- $ := index . 0 }}
{{- $component := index . 1 -}}
namespace: {{ $.Release.Namespace }}
labels:
  {{- include "captcha.labels" $ | nindent 2 }}
  {{- with $component }}
  app.kubernetes.io/component: {{ . }}
  {{- end }}
  {{- include "captcha.chartLabels" $ | nindent 2 }}
{{- end }}

{{- /* The same for a workload, with the version. */}}
{{- define "captcha.workloadMetadata" -}}
{{- include "captcha.metadata" . }}
  {{- include "captcha.versionLabel" (index . 0) | nindent 2 }}
{{- end }}

{{- /* A label ends with a letter or a digit; a tag need not. */}}
{{- define "captcha.versionLabel" -}}
app.kubernetes.io/version: {{ include "captcha.version" . | trunc 63 | trimAll "-_." | quote }}
{{- end }}

{{- define "captcha.selector" -}}
app.kubernetes.io/name: captcha
app.kubernetes.io/component: {{ . }}
{{- end }}

{{- /* The pod settings of one process, as YAML: those for all, and its own: (list . PROCESS). */}}
{{- define "captcha.pod" -}}
{{- $all := deepCopy (index . 0).Values.pod }}
{{- $own := (index (index . 0).Values (index . 1)).pod }}
{{- $both := dict }}
{{- range tuple "annotations" "labels" "nodeSelector" }}
{{- $_ := set $both . (mergeOverwrite (get $all .) (get $own .)) }}
{{- end }}
{{- range tuple "tolerations" "extraEnv" "extraVolumes" "extraVolumeMounts" }}
{{- $_ := set $both . (concat (get $all .) (get $own .)) }}
{{- end }}
{{- range tuple "affinity" "priorityClassName" }}
{{- $_ := set $both . (get $own . | default (get $all .)) }}
{{- end }}
{{- toYaml $both }}
{{- end }}

{{- /* Metadata of the pods of one process: (list . PROCESS). Pods read the ConfigMap when they start: another one makes
       other pods. */}}
{{- define "captcha.podMetadata" -}}
{{- $ := index . 0 }}
{{- $pod := include "captcha.pod" . | fromYaml -}}
labels:
  {{- include "captcha.labels" $ | nindent 2 }}
  app.kubernetes.io/component: {{ index . 1 }}
  {{- include "captcha.versionLabel" $ | nindent 2 }}
  {{- with $pod.labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
annotations:
  checksum/config: {{ include "captcha.config" $ | sha256sum }}
  {{- with $pod.annotations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{- /* The beginning of the pod spec of one process: (list . PROCESS). */}}
{{- define "captcha.podSpec" -}}
{{- $ := index . 0 }}
{{- $pod := include "captcha.pod" . | fromYaml -}}
serviceAccountName: captcha-{{ index . 1 }}
automountServiceAccountToken: false
enableServiceLinks: false # a Service named captcha would set CAPTCHA_PORT=tcp://...
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  seccompProfile: {type: RuntimeDefault}
{{- with $.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with $pod.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $pod.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $pod.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $pod.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "captcha.spread" -}}
topologySpreadConstraints:
  {{- range tuple "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "captcha.selector" $ | nindent 8 }}
  {{- end }}
{{- end }}

{{- define "captcha.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{- /* How Kafka is reached, as YAML: as the values say, or as Strimzi makes it. */}}
{{- define "captcha.kafka" -}}
{{- $kafka := .Values.kafka }}
{{- if $kafka.strimzi.enabled }}
brokers: captcha-kafka-bootstrap.{{ .Release.Namespace }}.svc:9093
tls: true
caSecret: captcha-cluster-ca-cert
clientSecret: ""
mechanism: scram-sha-512
users: # the operator makes a Secret of the same name for each
  {{- range tuple "serve" "consume" "migrate" }}
  {{- $user := printf "captcha-%s%s" . (and $kafka.strimzi.secondUsers (ne . "migrate") | ternary "-2" "") }}
  {{ . }}: {name: {{ $user }}, secret: {{ $user }}, passwordKey: password}
  {{- end }}
{{- else }}
brokers: {{ join "," $kafka.brokers | quote }}
tls: {{ $kafka.tls.enabled }}
caSecret: {{ $kafka.tls.enabled | ternary $kafka.tls.caSecret "" | quote }}
clientSecret: {{ $kafka.tls.enabled | ternary $kafka.tls.clientSecret "" | quote }}
mechanism: {{ $kafka.sasl.mechanism | quote }}
users:
  {{- range $process, $user := $kafka.sasl.users }}
  {{ $process }}: {{ merge (dict "secret" $kafka.sasl.secret) $user | toJson }}
  {{- end }}
{{- end }}
{{- end }}

{{- /* How ClickHouse is reached, as YAML: as the values say, or as Altinity's operator makes it. */}}
{{- define "captcha.clickhouse" -}}
{{- $clickhouse := .Values.clickhouse }}
{{- if $clickhouse.altinity.enabled }}
{{- $shards := list }}
{{- range $shard := until (int $clickhouse.altinity.shards) }}
{{- $replicas := list }}
{{- range $replica := until (int $clickhouse.altinity.replicas) }}
{{- $replicas = append $replicas (printf "chi-captcha-captcha-%d-%d.%s.svc:9440" $shard $replica $.Release.Namespace) }}
{{- end }}
{{- $shards = append $shards (join "," $replicas) }}
{{- end }}
address: {{ join ";" $shards | quote }}
tls: true
caSecret: captcha-clickhouse-tls
clientSecret: ""
cluster: {{ gt (int $clickhouse.altinity.replicas) 1 | ternary "captcha" "" | quote }}
users:
  {{- range $process, $user := $clickhouse.users }}
  {{- $suffix := and $clickhouse.altinity.secondUsers (has $process (list "serve" "consume")) | ternary "_2" "" }}
  {{ $process }}: {name: {{ $user.name }}{{ $suffix }}, passwordKey: {{ $user.passwordKey }}{{ $suffix }}}
  {{- end }}
{{- else }}
{{- $shards := list }}
{{- range $clickhouse.shards }}
{{- $shards = append $shards (join "," .) }}
{{- end }}
address: {{ join ";" $shards | quote }}
tls: {{ $clickhouse.tls.enabled }}
caSecret: {{ $clickhouse.tls.enabled | ternary $clickhouse.tls.caSecret "" | quote }}
clientSecret: {{ $clickhouse.tls.enabled | ternary $clickhouse.tls.clientSecret "" | quote }}
cluster: {{ $clickhouse.cluster | quote }}
users: {{ $clickhouse.users | toJson }}
{{- end }}
{{- end }}

{{- /* The settings that all three processes share: the data of the ConfigMap. */}}
{{- define "captcha.config" -}}
{{- $kafka := include "captcha.kafka" . | fromYaml }}
{{- $clickhouse := include "captcha.clickhouse" . | fromYaml -}}
CAPTCHA_KAFKA_BROKERS: {{ $kafka.brokers | quote }}
CAPTCHA_KAFKA_TOPIC: {{ .Values.kafka.topic | quote }}
{{- if $kafka.tls }}
CAPTCHA_KAFKA_TLS: "true"
{{- end }}
{{- if $kafka.caSecret }}
CAPTCHA_KAFKA_CA_FILE: /run/secrets/kafka-ca/ca.crt
{{- end }}
{{- if $kafka.clientSecret }}
CAPTCHA_KAFKA_CLIENT_CERTIFICATE_FILE: /run/secrets/kafka-client/tls.crt
CAPTCHA_KAFKA_CLIENT_KEY_FILE: /run/secrets/kafka-client/tls.key
{{- end }}
{{- with $kafka.mechanism }}
CAPTCHA_KAFKA_SASL_MECHANISM: {{ . }}
{{- end }}
CAPTCHA_CLICKHOUSE_ADDR: {{ $clickhouse.address | quote }}
CAPTCHA_CLICKHOUSE_DATABASE: {{ .Values.clickhouse.database | quote }}
{{- if $clickhouse.tls }}
CAPTCHA_CLICKHOUSE_TLS: "true"
{{- end }}
{{- if $clickhouse.caSecret }}
CAPTCHA_CLICKHOUSE_CA_FILE: /run/secrets/clickhouse-ca/ca.crt
{{- end }}
{{- if $clickhouse.clientSecret }}
CAPTCHA_CLICKHOUSE_CLIENT_CERTIFICATE_FILE: /run/secrets/clickhouse-client/tls.crt
CAPTCHA_CLICKHOUSE_CLIENT_KEY_FILE: /run/secrets/clickhouse-client/tls.key
{{- end }}
{{- range $name, $value := .Values.config }}
{{ $name }}: {{ $value | quote }}
{{- end }}
{{- end }}

{{- /* What one process needs to log in to ClickHouse and Kafka, in three lists: (list . PROCESS). */}}
{{- define "captcha.clickhouseEnv" -}}
{{- $clickhouse := include "captcha.clickhouse" (index . 0) | fromYaml -}}
- {name: CAPTCHA_CLICKHOUSE_USER, value: {{ (index $clickhouse.users (index . 1)).name | quote }}}
- {name: CAPTCHA_CLICKHOUSE_PASSWORD_FILE, value: /run/secrets/clickhouse/password}
{{- end }}

{{- define "captcha.kafkaEnv" -}}
{{- $kafka := include "captcha.kafka" (index . 0) | fromYaml }}
{{- if $kafka.mechanism }}
- {name: CAPTCHA_KAFKA_USER, value: {{ (index $kafka.users (index . 1)).name | quote }}}
- {name: CAPTCHA_KAFKA_PASSWORD_FILE, value: /run/secrets/kafka/password}
{{- end }}
{{- end }}

{{- define "captcha.extraEnv" -}}
{{- with (include "captcha.pod" . | fromYaml).extraEnv }}
{{- toYaml . }}
{{- end }}
{{- end }}

{{- /* A Secret as a volume: (list NAME SECRET KEY FILE [KEY FILE]). */}}
{{- define "captcha.secretVolume" -}}
- name: {{ index . 0 }}
  secret:
    secretName: {{ index . 1 }}
    defaultMode: 0440
    items:
      - {key: {{ index . 2 }}, path: {{ index . 3 }}}
      {{- if gt (len .) 4 }}
      - {key: {{ index . 4 }}, path: {{ index . 5 }}}
      {{- end }}
{{- end }}

{{- /* The Secrets of one process as volumes, each of them mounted at /run/secrets/NAME: (list . PROCESS). */}}
{{- define "captcha.secretVolumes" -}}
{{- $ := index . 0 }}
{{- $process := index . 1 }}
{{- $kafka := include "captcha.kafka" $ | fromYaml }}
{{- $clickhouse := include "captcha.clickhouse" $ | fromYaml }}
{{- with index $clickhouse.users $process }}
{{- include "captcha.secretVolume" (list "clickhouse" $.Values.clickhouse.secret .passwordKey "password") }}
{{- end }}
{{- if and (eq $process "serve") $.Values.keys.enabled }}
{{ include "captcha.secretVolume" (list "keys" $.Values.keys.secret "keys.txt" "keys.txt") }}
{{- end }}
{{- if eq $process "report" }}
{{ include "captcha.secretVolume" (list "webhook" $.Values.report.secret "url" "url") }}
{{- $kafka = dict }}
{{- end }}
{{- with $kafka.caSecret }}
{{ include "captcha.secretVolume" (list "kafka-ca" . "ca.crt" "ca.crt") }}
{{- end }}
{{- with $kafka.clientSecret }}
{{ include "captcha.secretVolume" (list "kafka-client" . "tls.crt" "tls.crt" "tls.key" "tls.key") }}
{{- end }}
{{- if $kafka.mechanism }}
{{- with index $kafka.users $process }}
{{ include "captcha.secretVolume" (list "kafka" .secret .passwordKey "password") }}
{{- end }}
{{- end }}
{{- with $clickhouse.caSecret }}
{{ include "captcha.secretVolume" (list "clickhouse-ca" . "ca.crt" "ca.crt") }}
{{- end }}
{{- with $clickhouse.clientSecret }}
{{ include "captcha.secretVolume" (list "clickhouse-client" . "tls.crt" "tls.crt" "tls.key" "tls.key") }}
{{- end }}
{{- end }}

{{- define "captcha.volumes" -}}
{{- include "captcha.secretVolumes" . }}
{{- with (include "captcha.pod" . | fromYaml).extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "captcha.volumeMounts" -}}
{{- range $i, $volume := include "captcha.secretVolumes" . | fromYamlArray }}
{{- if $i }}
{{ end }}- {name: {{ $volume.name }}, mountPath: /run/secrets/{{ $volume.name }}, readOnly: true}
{{- end }}
{{- with (include "captcha.pod" . | fromYaml).extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* helm uninstall leaves what has the data. */}}
{{- define "captcha.keep" -}}
{{- if .keep -}}
annotations: {helm.sh/resource-policy: keep}
{{- end }}
{{- end }}
