{{/*
The template of every pod. Arguments: root; component; values (of the component); args (of goalworker); database (the role
of its login, if it uses the database); kafka (whether it uses Kafka); serves (whether it has an operations port, as all
pods but those of Jobs have).
*/}}
{{- define "goalworker.pod" -}}
{{- $values := .root.Values -}}
metadata:
  labels:
    {{- with $values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
    # Without the chart's version, so that a new version alone does not restart the group.
    {{- include "goalworker.selector" .root | nindent 4 }}
    app.kubernetes.io/component: {{ .component }}
  {{- with $values.podAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  {{- if .serves }}
  serviceAccountName: {{ include "goalworker.serviceAccount" .root }}
  {{- else }}
  # The chart's ServiceAccount does not exist yet when the first install runs this.
  restartPolicy: Never
  {{- end }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: 60
  securityContext:
    runAsNonRoot: true
    runAsUser: 10001
    runAsGroup: 10001
    fsGroup: 10001
    seccompProfile:
      type: RuntimeDefault
  {{- with $values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- range $field := list "nodeSelector" "tolerations" "affinity" }}
  {{- with get $values $field }}
  {{ $field }}:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- end }}
  {{- with .values.topologySpread }}
  topologySpreadConstraints:
    {{- range . }}
    - {{ toYaml . | nindent 6 | trim }}
      labelSelector:
        matchLabels:
          {{- include "goalworker.selector" $.root | nindent 10 }}
          app.kubernetes.io/component: {{ $.component }}
      matchLabelKeys: [pod-template-hash]
    {{- end }}
  {{- end }}
  containers:
    - name: {{ .component }}
      image: {{ include "goalworker.image" .root | quote }}
      imagePullPolicy: {{ $values.image.pullPolicy }}
      command: [goalworker]
      args: {{ toJson .args }}
      env:
        {{- include "goalworker.env" . | trim | nindent 8 }}
      {{- if .serves }}
      {{- include "goalworker.ports" . | nindent 6 }}
      {{- include "goalworker.probes" . | nindent 6 }}
      {{- end }}
      resources:
        {{- toYaml .values.resources | nindent 8 }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities:
          drop: [ALL]
      {{- with include "goalworker.volumeMounts" . | trim }}
      volumeMounts:
        {{- . | nindent 8 }}
      {{- end }}
  {{- with include "goalworker.volumes" . | trim }}
  volumes:
    {{- . | nindent 4 }}
  {{- end }}
{{- end -}}

{{- define "goalworker.ports" -}}
ports:
  {{- if eq .component "api" }}
  - name: http
    containerPort: 8080
  {{- end }}
  - name: ops
    containerPort: {{ include "goalworker.opsPort" .component }}
{{- if eq .component "api" }}
# For a moment after its SIGTERM a pod still gets new connections.
lifecycle:
  preStop:
    sleep:
      seconds: 5
{{- end }}
{{- end -}}

{{- define "goalworker.probes" -}}
startupProbe:
  httpGet:
    path: /healthz/startup
    port: ops
  periodSeconds: 5
  timeoutSeconds: 5
  # Five minutes to load the goals and join the group.
  failureThreshold: 60
livenessProbe:
  httpGet:
    path: /healthz/live
    port: ops
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet:
    path: /healthz/ready
    port: ops
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: 3
{{- end -}}
