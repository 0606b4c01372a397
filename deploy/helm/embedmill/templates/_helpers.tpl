{{/* Times that the binary needs, equal to its constants; tests/it/chart.rs compares them.
publish: FLUSH_MAX in kafka/librdkafka/publisher.rs and TRANSACTION_CALL_MAX in kafka/librdkafka/limits.rs.
leave: LEAVE_MAX in kafka/librdkafka/group.rs and DELIVERY_STOP_MAX in pipeline/mod.rs. */}}
{{- define "embedmill.publishSeconds" }}90{{ end }}
{{- define "embedmill.leaveSeconds" }}15{{ end }}

{{- define "embedmill.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{- define "embedmill.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "embedmill.labels" -}}
{{ include "embedmill.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "embedmill.image" -}}
{{- $flavour := ternary "cuda" "cpu" (gt (int .Values.gpu.count) 0) -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default (printf "%s-%s" $.Chart.AppVersion $flavour) }}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "embedmill.serviceAccount" -}}
{{ .Values.serviceAccount.name | default (include "embedmill.fullname" .) }}
{{- end }}

{{/* Long enough for the drain, for aborting after it, and for leaving the group. */}}
{{- define "embedmill.grace" -}}
{{- $min := add (int .Values.drainSeconds) (int (include "embedmill.leaveSeconds" .)) -}}
{{- .Values.terminationGracePeriodSeconds | default (add $min 15) -}}
{{- end }}
