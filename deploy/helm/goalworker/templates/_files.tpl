{{/* Certificates that a pod mounts, by name: their source and files. Arguments: those of goalworker.pod. */}}
{{- define "goalworker.certificates" -}}
{{- $tls := .root.Values.kafka.tls -}}
{{- if .database }}
database-ca: {{ toJson .root.Values.database.ca }}
{{- end }}
{{- if .kafka }}
kafka-ca: {{ toJson $tls.ca }}
kafka-client: {{ toJson (dict "existingSecret" $tls.client.existingSecret "keys" (list $tls.client.certKey $tls.client.keyKey)) }}
{{- end }}
{{- end -}}

{{- define "goalworker.volumeMounts" -}}
{{- range $name, $from := include "goalworker.certificates" . | fromYaml }}
{{- if or $from.existingSecret $from.existingConfigMap }}
- name: {{ $name }}
  mountPath: /etc/goalworker/{{ $name }}
  readOnly: true
{{- end }}
{{- end }}
{{- end -}}

{{- define "goalworker.volumes" -}}
{{- range $name, $from := include "goalworker.certificates" . | fromYaml }}
{{- if $from.existingSecret }}
- name: {{ $name }}
  secret:
    secretName: {{ $from.existingSecret }}
    defaultMode: 0440
    {{- include "goalworker.items" $from | nindent 4 }}
{{- else if $from.existingConfigMap }}
- name: {{ $name }}
  configMap:
    name: {{ $from.existingConfigMap }}
    {{- include "goalworker.items" $from | nindent 4 }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "goalworker.items" -}}
items:
{{- range default (list .key) .keys }}
  - key: {{ . }}
    path: {{ . }}
{{- end }}
{{- end -}}
