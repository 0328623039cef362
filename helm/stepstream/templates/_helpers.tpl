{{- define "stepstream.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* A StatefulSet adds -<revision hash> to its name in a label of at most 63 characters. */}}
{{- define "stepstream.fullname" -}}
{{- $name := include "stepstream.name" . -}}
{{- $full := contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name) -}}
{{- default $full .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{- define "stepstream.selector" -}}
app.kubernetes.io/name: {{ include "stepstream.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* Labels of the pods of a hook, or of other pods beside the consumers, a list of the root and a name:
not the selector's, no service, budget or policy of the consumers is meant for them. */}}
{{- define "stepstream.labelsBeside" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ include "stepstream.name" $root }}-{{ index . 1 }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
{{- end -}}

{{/* Annotations of what the topics job needs. */}}
{{- define "stepstream.beforeTopicsJob" -}}
helm.sh/hook: pre-install,pre-upgrade
helm.sh/hook-weight: "-10"
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end -}}

{{- define "stepstream.labels" -}}
{{ include "stepstream.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: stepstream
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.labels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The annotations of an object of a kind that has some of its own in the values. */}}
{{- define "stepstream.annotations" -}}
{{- with . }}
annotations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "stepstream.image" -}}
{{- with .Values.image -}}
{{- with $.Values.global.imageRegistry }}{{ . | trimSuffix "/" }}/{{ end -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ default $.Chart.AppVersion .tag }}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "stepstream.pullSecrets" -}}
{{- $names := list -}}
{{- range concat (.Values.global.imagePullSecrets | default list) .Values.image.pullSecrets -}}
{{- $names = append $names (kindIs "map" . | ternary (get (kindIs "map" . | ternary . dict) "name") .) -}}
{{- end -}}
{{- with $names | uniq }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end -}}

{{/*
A list of the root, a kind and the value that asks for it: refused by a cluster that doesn't know
the kind. Where helm asks no cluster, it knows no kinds at all, not even those of every cluster.
*/}}
{{- define "stepstream.needsKind" -}}
{{- $root := index . 0 -}}
{{- $kind := index . 1 -}}
{{- $versions := $root.Capabilities.APIVersions -}}
{{- if and ($versions.Has "apps/v1/StatefulSet") (not ($versions.Has $kind)) -}}
{{- fail (printf "%s is set, but this cluster has no %s: install the operator that brings it first, or unset it" (index . 2) $kind) -}}
{{- end -}}
{{- end -}}

{{/* All partitions of the readings topics. */}}
{{- define "stepstream.partitions" -}}
{{- $topics := .Values.settings.topics | default dict -}}
{{- mul (dig "partitions" 4 $topics) (len (dig "readings" (list "sensor-readings") $topics)) -}}
{{- end -}}

{{/* As many pods as there are partitions for; each worker is a consumer. */}}
{{- define "stepstream.usefulPods" -}}
{{- $workers := .Values.settings.workers | default 1 | int -}}
{{- div (add (include "stepstream.partitions" .) $workers -1) $workers -}}
{{- end -}}

{{/* Why more would be refused. */}}
{{- define "stepstream.idle" -}}
the readings topics have {{ include "stepstream.partitions" . }} partitions (settings.topics.partitions for each)
{{- with .Values.settings.workers }}{{ if gt (int .) 1 }}, and a pod has {{ . }} consumers (settings.workers){{ end }}{{ end -}}
: more consumers would be idle
{{- end -}}

{{/* Values that contradict each other. */}}
{{- define "stepstream.check" -}}
{{- $kafka := .Values.settings.kafka -}}
{{- if and (not .Values.autoscaling.kind) (not (include "stepstream.hasPatterns" .)) (gt (.Values.replicas | int) (include "stepstream.usefulPods" . | int)) -}}
{{- fail (printf "replicas is %d, but %s" (.Values.replicas | int) (include "stepstream.idle" .)) -}}
{{- end -}}
{{- $names := list -}}
{{- range .Values.extraEnv }}{{ $names = append $names .name }}{{ end -}}
{{- $isOurs := or (has "STEPSTREAM_KAFKA__SASL_PASSWORD" $names) (has "STEPSTREAM_KAFKA__SASL_PASSWORD_FILE" $names) .Values.extraEnvFrom -}}
{{- $hasPassword := or $isOurs (and .Values.kafkaSecret.name .Values.kafkaSecret.passwordKey) -}}
{{- $mechanism := dig "sasl_mechanism" "" $kafka -}}
{{- if and (hasPrefix "sasl_" (dig "security_protocol" "" $kafka)) (or (hasPrefix "SCRAM" $mechanism) (eq $mechanism "PLAIN")) (not $hasPassword) -}}
{{- fail (printf "settings.kafka asks for SASL with %s, but there is no password: name a Secret in kafkaSecret (name, passwordKey), or set STEPSTREAM_KAFKA__SASL_PASSWORD in extraEnv" $mechanism) -}}
{{- end -}}
{{- if and .Values.kafkaSecret.name (not (include "stepstream.kafkaEnv" (dict "root" . "secret" .Values.kafkaSecret.name) | trim)) -}}
{{- fail "kafkaSecret.name is set, but none of its keys: name those that are used (passwordKey, caKey and so on)" -}}
{{- end -}}
{{- end -}}

{{- define "stepstream.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{ default (include "stepstream.fullname" .) .Values.serviceAccount.name }}
{{- else -}}
{{ default "default" .Values.serviceAccount.name }}
{{- end -}}
{{- end -}}

{{- define "stepstream.port" -}}
{{- dig "port" 8080 (.Values.settings.http | default dict) -}}
{{- end -}}

{{- define "stepstream.group" -}}
{{- dig "group_id" "stepstream" .Values.settings.kafka -}}
{{- end -}}

{{- /* What the consumers make of it. */ -}}
{{- define "stepstream.consumerGroup" -}}
{{- include "stepstream.group" . -}}{{- with .Values.settings.into }}.{{ . }}{{ end -}}
{{- end -}}

{{- define "stepstream.bootstrapServers" -}}
{{- required "settings.kafka.bootstrap_servers is not set: the brokers to start from, as host:port" .Values.settings.kafka.bootstrap_servers -}}
{{- end -}}

{{/* Settings as environment variables; numbers as JSON, since Go would print a million as 1e+06. */}}
{{- define "stepstream.environment" -}}
{{- $_ := include "stepstream.bootstrapServers" . -}}
{{- range $group, $settings := .Values.settings }}
{{- if and (kindIs "map" $settings) (ne $group "inputs") }}
{{- range $name, $value := $settings }}
{{- include "stepstream.variable" (dict "name" (printf "%s__%s" $group $name) "value" $value) }}
{{- end }}
{{- else }}
{{- include "stepstream.variable" (dict "name" $group "value" $settings) }}
{{- end }}
{{- end }}
{{- end -}}

{{/* One setting as a variable, on a line of its own; takes name and value. */}}
{{- define "stepstream.variable" -}}
{{- if not (kindIs "invalid" .value) }}
{{ printf "STEPSTREAM_%s" .name | upper }}: {{ if kindIs "string" .value -}}
{{ .value | quote }}
{{- else if kindIs "slice" .value -}}
{{ join "," .value | quote }}
{{- else -}}
{{ toJson .value | quote }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "stepstream.kafkaFolder" -}}/etc/stepstream/kafka{{- end -}}

{{/* Keys of kafkaSecret that are files, and the settings that name them. */}}
{{- define "stepstream.kafkaFiles" -}}
passwordKey: SASL_PASSWORD_FILE
caKey: SSL_CA_LOCATION
certificateKey: SSL_CERTIFICATE_LOCATION
privateKeyKey: SSL_KEY_LOCATION
privateKeyPasswordKey: SSL_KEY_PASSWORD_FILE
{{- end -}}

{{/* Environment of a container that uses kafkaSecret; takes root and secret (its name). */}}
{{- define "stepstream.kafkaEnv" -}}
{{- $secret := .secret -}}
{{- $keys := .root.Values.kafkaSecret -}}
{{- if $secret }}
{{- with $keys.usernameKey }}
- name: STEPSTREAM_KAFKA__SASL_USERNAME
  valueFrom: {secretKeyRef: {name: {{ $secret }}, key: {{ . }}}}
{{- end }}
{{- range $key, $setting := include "stepstream.kafkaFiles" . | fromYaml }}
{{- with index $keys $key }}
- name: STEPSTREAM_KAFKA__{{ $setting }}
  value: {{ printf "%s/%s" (include "stepstream.kafkaFolder" $) . }}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{/* The files of kafkaSecret, if it has any: a volume. */}}
{{- define "stepstream.kafkaVolume" -}}
{{- $keys := .root.Values.kafkaSecret -}}
{{- $files := list -}}
{{- range $key, $_ := include "stepstream.kafkaFiles" . | fromYaml -}}
{{- with index $keys $key }}{{ $files = append $files . }}{{ end -}}
{{- end -}}
{{- if and .secret $files }}
- name: kafka
  secret:
    secretName: {{ .secret }}
    defaultMode: 0440
    items:
      {{- range $files | uniq }}
      - {key: {{ . }}, path: {{ . }}}
      {{- end }}
{{- end }}
{{- end -}}

{{- define "stepstream.tokenFolder" -}}/etc/stepstream/http{{- end -}}
{{- define "stepstream.tlsFolder" -}}/etc/stepstream/tls{{- end -}}

{{- define "stepstream.scheme" -}}
{{- empty .Values.tls.existingSecret | ternary "http" "https" -}}
{{- end -}}

{{/* What a probe asks for, a list of the root and the path. */}}
{{- define "stepstream.probe" -}}
{{- $scheme := include "stepstream.scheme" (index . 0) -}}
httpGet: {path: {{ index . 1 }}, port: http{{ if eq $scheme "https" }}, scheme: HTTPS{{ end }}}
{{- end -}}

{{/* Rules for what goes out: DNS, the brokers' ports, and what else is asked for. */}}
{{- define "stepstream.egress" -}}
{{- $ports := list -}}
{{- range splitList "," (include "stepstream.bootstrapServers" .) -}}
{{- $ports = append $ports (regexFind ":[0-9]+$" (trim .) | trimPrefix ":" | default "9092" | int) -}}
{{- end -}}
{{- range .Values.networkPolicy.kafkaPorts }}{{ $ports = append $ports (int .) }}{{ end -}}
- ports:
    - {protocol: UDP, port: 53}
    - {protocol: TCP, port: 53}
- ports:
    {{- range $ports | uniq }}
    - {protocol: TCP, port: {{ . }}}
    {{- end }}
{{- with .Values.networkPolicy.egress }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Which series in Prometheus are of the release's consumers. */}}
{{- define "stepstream.series" -}}
{{- .Values.prometheusRule.selector | default (printf "namespace=%q, job=%q" .Release.Namespace .Release.Name) -}}
{{- end -}}

{{/* What scrapes the consumers: the end of a monitor's endpoint. */}}
{{- define "stepstream.endpoint" -}}
path: /metrics
{{- if eq .scheme "https" }}
scheme: https
# Whoever scrapes asks for addresses, which no certificate names.
tlsConfig: {{- toYaml (.tlsConfig | default (dict "insecureSkipVerify" true)) | nindent 2 }}
{{- end }}
{{- with .interval }}
interval: {{ . }}
{{- end }}
{{- with .scrapeTimeout }}
scrapeTimeout: {{ . }}
{{- end }}
relabelings:
  # Series of several groups don't mix.
  - {targetLabel: group, replacement: {{ .group | quote }}}
  {{- with .relabelings }}{{ toYaml . | nindent 2 }}{{ end }}
{{- with .metricRelabelings }}
metricRelabelings: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Whether topics are read that match a pattern: how many, nobody knows in advance. */}}
{{- define "stepstream.hasPatterns" -}}
{{- range dig "readings" (list "sensor-readings") (.Values.settings.topics | default dict) -}}
{{- if hasPrefix "^" . }}yes{{ end -}}
{{- end -}}
{{- end -}}

{{/* More consumers than partitions would be idle. */}}
{{- define "stepstream.maxReplicas" -}}
{{- $useful := include "stepstream.usefulPods" . | int -}}
{{- $hasPatterns := include "stepstream.hasPatterns" . -}}
{{- if and $hasPatterns (not (.Values.autoscaling.maxReplicas | int)) -}}
{{- fail "autoscaling.maxReplicas must be set: how many partitions the topics have that match a pattern in settings.topics.readings isn't known in advance" -}}
{{- end -}}
{{- $most := .Values.autoscaling.maxReplicas | int | default $useful -}}
{{- if and (not $hasPatterns) (gt $most $useful) -}}
{{- fail (printf "autoscaling.maxReplicas is %d, but %s" $most (include "stepstream.idle" .)) -}}
{{- end -}}
{{- if lt $most (.Values.autoscaling.minReplicas | int) -}}
{{- fail (printf "autoscaling.minReplicas is %d, above the %d pods that may run at most (autoscaling.maxReplicas, settings.topics.partitions)" (.Values.autoscaling.minReplicas | int) $most) -}}
{{- end -}}
{{- $most -}}
{{- end -}}

{{/* Whether files of Secrets or a model are mounted that all pods which serve HTTP have. */}}
{{- define "stepstream.hasServedFiles" -}}
{{- if or .Values.model.configMap .Values.model.volume .Values.apiToken.existingSecret .Values.tls.existingSecret }}yes{{ end -}}
{{- end -}}

{{/* Environment of a container that serves HTTP with the model: where their files are. */}}
{{- define "stepstream.servedEnv" -}}
{{- if or .Values.model.configMap .Values.model.volume }}
- name: STEPSTREAM_MODEL__PATH
  value: /etc/stepstream/model/{{ .Values.model.file }}
{{- end }}
{{- with .Values.apiToken.existingSecret }}
- name: STEPSTREAM_HTTP__TOKEN_FILE
  value: {{ include "stepstream.tokenFolder" $ }}/{{ $.Values.apiToken.key }}
{{- end }}
{{- if .Values.tls.existingSecret }}
- name: STEPSTREAM_HTTP__TLS_CERT
  value: {{ include "stepstream.tlsFolder" . }}/{{ .Values.tls.certificateKey }}
- name: STEPSTREAM_HTTP__TLS_KEY
  value: {{ include "stepstream.tlsFolder" . }}/{{ .Values.tls.privateKeyKey }}
{{- end }}
{{- end -}}

{{/* Where these files are mounted. */}}
{{- define "stepstream.servedMounts" -}}
{{- if or .Values.model.configMap .Values.model.volume }}
- {name: model, mountPath: /etc/stepstream/model, readOnly: true}
{{- end }}
{{- if .Values.apiToken.existingSecret }}
- {name: http-token, mountPath: {{ include "stepstream.tokenFolder" . }}, readOnly: true}
{{- end }}
{{- if .Values.tls.existingSecret }}
- {name: http-tls, mountPath: {{ include "stepstream.tlsFolder" . }}, readOnly: true}
{{- end }}
{{- end -}}

{{/* Their volumes. */}}
{{- define "stepstream.servedVolumes" -}}
{{- with .Values.apiToken.existingSecret }}
- name: http-token
  secret:
    secretName: {{ . }}
    defaultMode: 0440
    items: [{key: {{ $.Values.apiToken.key }}, path: {{ $.Values.apiToken.key }}}]
{{- end }}
{{- with .Values.tls }}
{{- if .existingSecret }}
- name: http-tls
  secret:
    secretName: {{ .existingSecret }}
    defaultMode: 0440
    items:
      - {key: {{ .certificateKey }}, path: {{ .certificateKey }}}
      - {key: {{ .privateKeyKey }}, path: {{ .privateKeyKey }}}
{{- end }}
{{- end }}
{{- with .Values.model.configMap }}
- {name: model, configMap: {name: {{ . }}}}
{{- end }}
{{- with .Values.model.volume }}
- name: model
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Where the pods of a workload run; a list of the root and the workload's selector. */}}
{{- define "stepstream.placement" -}}
{{- $root := index . 0 -}}
{{- $selector := index . 1 -}}
{{- with $root.Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $root.Values.dnsPolicy }}
dnsPolicy: {{ . }}
{{- end }}
{{- with $root.Values.dnsConfig }}
dnsConfig: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $root.Values.podSecurityContext }}
securityContext: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $root.Values.topologySpreadConstraints }}
topologySpreadConstraints:
  {{- range . }}
  - {{ toYaml . | nindent 4 | trim }}
    {{- if not .labelSelector }}
    labelSelector:
      matchLabels: {{- $selector | nindent 8 }}
    {{- end }}
  {{- end }}
{{- end }}
{{- with $root.Values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $root.Values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $root.Values.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
