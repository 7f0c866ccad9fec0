{{/* Settings that the chart sets itself, each with the value that it comes from. */}}
{{- define "goalworker.ownSettings" -}}
DATABASE__URL: database.existingSecret
KAFKA__BOOTSTRAP_SERVERS: kafka.bootstrapServers
KAFKA__GROUP_ID: kafka.groupId
KAFKA__SECURITY_PROTOCOL: kafka.securityProtocol
KAFKA__SASL_MECHANISM: kafka.sasl.mechanism
KAFKA__SASL_USERNAME: kafka.sasl.username
KAFKA__SASL_PASSWORD: kafka.sasl.existingSecret
KAFKA__SSL_CAFILE: kafka.tls.ca
KAFKA__SSL_CERTFILE: kafka.tls.client
KAFKA__SSL_KEYFILE: kafka.tls.client
API__HOST: listenHost
API__PORT: api.service.port
API__JWT_SECRET: api.jwt.existingSecret
OPS__HOST: listenHost
OPS__PORT: nothing, for probes and metrics rely on it
{{- end -}}

{{/* A number in plain digits: templates render 1048576 as 1.048576e+06. */}}
{{- define "goalworker.scalar" -}}
{{- if and (kindIs "float64" .) (eq . (floor .)) }}{{ printf "%.0f" . }}{{ else }}{{ toString . }}{{ end -}}
{{- end -}}

{{/* Arguments: root, and role (migration, worker or api). */}}
{{- define "goalworker.databaseSecret" -}}
{{- $own := get .root.Values.database .role -}}
name: {{ default .root.Values.database.existingSecret $own.existingSecret }}
key: {{ default .root.Values.database.secretKey $own.secretKey }}
{{- end -}}

{{- define "goalworker.kafkaEnv" -}}
{{- with .Values.kafka -}}
- name: GOALWORKER_KAFKA__BOOTSTRAP_SERVERS
  value: {{ .bootstrapServers | quote }}
- name: GOALWORKER_KAFKA__GROUP_ID
  value: {{ .groupId | quote }}
- name: GOALWORKER_KAFKA__SECURITY_PROTOCOL
  value: {{ .securityProtocol }}
{{- with .sasl.mechanism }}
- name: GOALWORKER_KAFKA__SASL_MECHANISM
  value: {{ . }}
{{- end }}
{{- if .sasl.existingSecret }}
- name: GOALWORKER_KAFKA__SASL_USERNAME
  value: {{ .sasl.username | quote }}
- name: GOALWORKER_KAFKA__SASL_PASSWORD
  valueFrom:
    secretKeyRef:
      name: {{ .sasl.existingSecret }}
      key: {{ .sasl.secretKey }}
{{- end }}
{{- if or .tls.ca.existingSecret .tls.ca.existingConfigMap }}
- name: GOALWORKER_KAFKA__SSL_CAFILE
  value: /etc/goalworker/kafka-ca/{{ .tls.ca.key }}
{{- end }}
{{- if .tls.client.existingSecret }}
- name: GOALWORKER_KAFKA__SSL_CERTFILE
  value: /etc/goalworker/kafka-client/{{ .tls.client.certKey }}
- name: GOALWORKER_KAFKA__SSL_KEYFILE
  value: /etc/goalworker/kafka-client/{{ .tls.client.keyKey }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "goalworker.apiEnv" -}}
- name: GOALWORKER_API__HOST
  value: {{ .Values.listenHost | quote }}
{{- with .Values.api.jwt }}
{{- if .existingSecret }}
- name: GOALWORKER_API__JWT_SECRET
  valueFrom:
    secretKeyRef:
      name: {{ .existingSecret }}
      key: {{ .secretKey }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Arguments: those of goalworker.pod. */}}
{{- define "goalworker.env" -}}
{{- with .database }}
- name: GOALWORKER_DATABASE__URL
  valueFrom:
    secretKeyRef:
      {{- include "goalworker.databaseSecret" (dict "root" $.root "role" .) | nindent 6 }}
{{- end }}
{{- if .kafka }}
{{ include "goalworker.kafkaEnv" .root }}
{{- end }}
{{- if .serves }}
- name: GOALWORKER_OPS__HOST
  value: {{ .root.Values.listenHost | quote }}
{{- end }}
{{- if eq .component "api" }}
{{ include "goalworker.apiEnv" .root }}
{{- end }}
{{- range $name, $value := .root.Values.settings }}
- name: GOALWORKER_{{ $name }}
  value: {{ include "goalworker.scalar" $value | quote }}
{{- end }}
{{- with .root.Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}
