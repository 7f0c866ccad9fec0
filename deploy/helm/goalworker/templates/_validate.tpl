{{/* Each template returns a JSON list of sentences, one for each fault. */}}

{{- define "goalworker.databaseProblems" -}}
{{- $problems := list -}}
{{- $roles := list "worker" -}}
{{- if .Values.api.enabled }}{{ $roles = append $roles "api" }}{{ end -}}
{{- if .Values.migration.enabled }}{{ $roles = append $roles "migration" }}{{ end -}}
{{- range $role := $roles -}}
{{- if not (or $.Values.database.existingSecret (get $.Values.database $role).existingSecret) -}}
{{- $problems = append $problems (printf "database.existingSecret is empty and so is database.%s.existingSecret: name the Secret that holds the database's URL" $role) -}}
{{- end -}}
{{- end -}}
{{- with .Values.database.ca -}}
{{- if and .existingSecret .existingConfigMap -}}
{{- $problems = append $problems "database.ca names both a Secret and a ConfigMap: it is read from one of them" -}}
{{- end -}}
{{- end -}}
{{- toJson $problems -}}
{{- end -}}

{{- define "goalworker.sizeProblems" -}}
{{- $problems := list -}}
{{- $partitions := int .Values.kafka.partitions -}}
{{- $why := "a worker more than a topic has partitions would find nothing of it to read" -}}
{{- with .Values.keda -}}
{{- if .enabled -}}
{{- if gt (int .minReplicas) (int .maxReplicas) -}}
{{- $problems = append $problems (printf "keda.minReplicas is %d and keda.maxReplicas is %d: the minimum is over the maximum" (int .minReplicas) (int .maxReplicas)) -}}
{{- end -}}
{{- if gt (int .maxReplicas) $partitions -}}
{{- $problems = append $problems (printf "keda.maxReplicas is %d, but kafka.partitions is %d: %s" (int .maxReplicas) $partitions $why) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and (not .Values.keda.enabled) (gt (int .Values.worker.replicas) $partitions) -}}
{{- $problems = append $problems (printf "worker.replicas is %d, but kafka.partitions is %d: %s" (int .Values.worker.replicas) $partitions $why) -}}
{{- end -}}
{{- if and .Values.insight.enabled (gt (int .Values.insight.replicas) $partitions) -}}
{{- $problems = append $problems (printf "insight.replicas is %d, but kafka.partitions is %d: a process more than a topic has partitions would find nothing of it to read" (int .Values.insight.replicas) $partitions) -}}
{{- end -}}
{{- toJson $problems -}}
{{- end -}}

{{- define "goalworker.kafkaProblems" -}}
{{- $problems := list -}}
{{- with .Values.kafka -}}
{{- if not .bootstrapServers -}}
{{- $problems = append $problems "kafka.bootstrapServers is empty: name the brokers to ask first, as host:port" -}}
{{- end -}}
{{- $hasLogin := and .sasl.username .sasl.existingSecret -}}
{{- if and (hasPrefix "SASL_" .securityProtocol) (not $hasLogin) -}}
{{- $problems = append $problems (printf "kafka.securityProtocol is %s, which needs kafka.sasl.username and kafka.sasl.existingSecret" .securityProtocol) -}}
{{- end -}}
{{- if and (not (hasPrefix "SASL_" .securityProtocol)) (or .sasl.mechanism .sasl.username .sasl.existingSecret) -}}
{{- $problems = append $problems (printf "kafka.sasl is set, but kafka.securityProtocol is %s, which logs in nowhere: SASL_SSL does" .securityProtocol) -}}
{{- end -}}
{{- $hasFiles := or .tls.ca.existingSecret .tls.ca.existingConfigMap .tls.client.existingSecret -}}
{{- if and (not (hasSuffix "SSL" .securityProtocol)) $hasFiles -}}
{{- $problems = append $problems (printf "kafka.tls is set, but kafka.securityProtocol is %s, which encrypts nothing: SSL and SASL_SSL do" .securityProtocol) -}}
{{- end -}}
{{- if and .tls.ca.existingSecret .tls.ca.existingConfigMap -}}
{{- $problems = append $problems "kafka.tls.ca names both a Secret and a ConfigMap: it is read from one of them" -}}
{{- end -}}
{{- end -}}
{{- toJson $problems -}}
{{- end -}}

{{- define "goalworker.settingProblems" -}}
{{- $problems := list -}}
{{- $own := include "goalworker.ownSettings" . | fromYaml -}}
{{- range $name, $instead := $own -}}
{{- if hasKey $.Values.settings $name -}}
{{- $problems = append $problems (printf "settings.%s is for the chart to set; what decides it is %s" $name $instead) -}}
{{- end -}}
{{- end -}}
{{- range .Values.extraEnv -}}
{{- $name := trimPrefix "GOALWORKER_" .name -}}
{{- if and (ne $name .name) (or (hasKey $own $name) (hasKey $.Values.settings $name)) -}}
{{- $problems = append $problems (printf "extraEnv has %s, which is set already by %s" .name (default (printf "settings.%s" $name) (get $own $name))) -}}
{{- end -}}
{{- end -}}
{{- toJson $problems -}}
{{- end -}}

{{- define "goalworker.tokenProblems" -}}
{{- $problems := list -}}
{{- $secret := and .Values.api.enabled .Values.api.jwt.existingSecret -}}
{{- $given := list -}}
{{- range .Values.extraEnv }}{{ $given = append $given (trimPrefix "GOALWORKER_" .name) }}{{ end -}}
{{- range $name, $_ := .Values.settings }}{{ $given = append $given $name }}{{ end -}}
{{- $url := has "API__JWKS_URL" $given -}}
{{- if and $secret $url -}}
{{- $problems = append $problems "api.jwt.existingSecret and API__JWKS_URL are both set: leave out the one that your tokens are not signed with" -}}
{{- end -}}
{{- if or $secret $url -}}
{{- range list "API__JWT_ISSUER" "API__JWT_AUDIENCE" -}}
{{- if not (has . $given) -}}
{{- $problems = append $problems (printf "settings.%s is not set, and tokens are checked against it" .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toJson $problems -}}
{{- end -}}
