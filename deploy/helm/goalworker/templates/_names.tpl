{{- define "goalworker.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* Names are truncated to leave room for the longest suffix. */}}
{{- define "goalworker.fullname" -}}
{{- $name := include "goalworker.name" . -}}
{{- $default := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- default $default .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "goalworker.serviceAccount" -}}
{{- default (ternary (include "goalworker.fullname" .) "default" .Values.serviceAccount.create) .Values.serviceAccount.name -}}
{{- end -}}

{{- define "goalworker.image" -}}
{{- with .Values.image -}}
{{- .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ default $.Chart.AppVersion .tag }}{{ end -}}
{{- end -}}
{{- end -}}

{{- define "goalworker.selector" -}}
app.kubernetes.io/name: {{ include "goalworker.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "goalworker.labels" -}}
{{ include "goalworker.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name (.Chart.Version | replace "+" "_") }}
{{- end -}}

{{/* The operations port (health and metrics) of a component. */}}
{{- define "goalworker.opsPort" -}}
{{- get (dict "worker" "9464" "api" "9465" "insight" "9466") . -}}
{{- end -}}

{{/* Processes that keep running. */}}
{{- define "goalworker.deployments" -}}
worker{{ if .Values.api.enabled }} api{{ end }}{{ if .Values.insight.enabled }} insight{{ end -}}
{{- end -}}
