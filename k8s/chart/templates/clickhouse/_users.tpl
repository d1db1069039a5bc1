{{- /* The least grants of each process in ClickHouse, as in k8s/components/clickhouse/users.yaml, which is tested by
       tests/e2e/secure_clickhouse.rs. serve and consume have two users each, so that a password can be replaced before
       any pod logs in with it (docs/operations.md, Rotating secrets). */}}
{{- define "captcha.clickhouseUsers" -}}
{{- $clickhouse := .Values.clickhouse }}
{{- $database := $clickhouse.database -}}
default/networks/ip: ["127.0.0.1", "::1"]

{{- range tuple "" "_2" }}

{{ include "captcha.clickhouseUser" (list $ $clickhouse.users.serve .) }}
  - GRANT SELECT ON {{ $database }}.*
  - GRANT SELECT ON system.parts

{{ include "captcha.clickhouseUser" (list $ $clickhouse.users.consume .) }}
  - GRANT SELECT ON {{ $database }}.*
  - GRANT INSERT ON {{ $database }}.events
  - GRANT INSERT ON {{ $database }}.claims
  - GRANT SELECT ON system.parts
  - GRANT SELECT ON system.processes
{{- end }}

{{ include "captcha.clickhouseUser" (list . $clickhouse.users.migrate "") }}
  - GRANT SELECT ON {{ $database }}.*
  - GRANT INSERT ON {{ $database }}.*
  - GRANT CREATE DATABASE ON {{ $database }}.*
  - GRANT CREATE TABLE ON {{ $database }}.*
  - GRANT ALTER TABLE ON {{ $database }}.*
  - GRANT TABLE ENGINE ON MergeTree
  - GRANT TABLE ENGINE ON ReplacingMergeTree
  - GRANT SELECT ON system.mutations
  - GRANT SELECT ON system.parts
  - GRANT SELECT ON system.processes

{{ include "captcha.clickhouseUser" (list . $clickhouse.users.report "") }}
  - GRANT SELECT ON {{ $database }}.*
  - GRANT SELECT ON system.parts
{{- end }}

{{- /* One user, up to its grants: (list . USER SUFFIX). */}}
{{- define "captcha.clickhouseUser" -}}
{{- $name := printf "%s%s" (index . 1).name (index . 2) -}}
{{ $name }}/password:
  valueFrom: {secretKeyRef: {name: {{ (index . 0).Values.clickhouse.secret }}, key: {{ (index . 1).passwordKey }}{{ index . 2 }}}}
{{ $name }}/networks/ip: ["::/0"]
{{ $name }}/profile: default
{{ $name }}/grants/query:
{{- end }}
