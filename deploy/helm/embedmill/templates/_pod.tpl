{{/* The pod of every mode: metadata and spec. */}}
{{- define "embedmill.pod" -}}
metadata:
  annotations:
    checksum/config: {{ .Values.pipeline | sha256sum }}
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  labels:
    {{- include "embedmill.selector" . | nindent 4 }}
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "embedmill.serviceAccount" . }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ include "embedmill.grace" . }}
  {{- if eq .Values.mode "job" }}
  restartPolicy: Never
  {{- end }}
  securityContext:
    {{- toYaml .Values.podSecurityContext | nindent 4 }}
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.gpu.runtimeClass }}
  runtimeClassName: {{ . }}
  {{- end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.topologySpreadConstraints }}
  topologySpreadConstraints:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if or .Values.tolerations (gt (int .Values.gpu.count) 0) }}
  tolerations:
    {{- if gt (int .Values.gpu.count) 0 }}
    - { key: {{ .Values.gpu.resource }}, operator: Exists, effect: NoSchedule }
    {{- end }}
    {{- with .Values.tolerations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- end }}
  containers:
    - name: embedmill
      image: {{ include "embedmill.image" . }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args: [run, /etc/embedmill/pipeline.yaml]
      securityContext:
        {{- toYaml .Values.securityContext | nindent 8 }}
      env:
        {{- include "embedmill.env" . | nindent 8 }}
      ports:
        - { name: observe, containerPort: {{ .Values.observe.port }} }
      {{- include "embedmill.probes" . | nindent 6 }}
      resources:
        {{- include "embedmill.resources" . | nindent 8 }}
      volumeMounts:
        {{- include "embedmill.mounts" . | nindent 8 }}
  volumes:
    {{- include "embedmill.volumes" . | nindent 4 }}
{{- end }}

{{- define "embedmill.env" -}}
{{- if ne .Values.mode "job" -}}
- { name: KAFKA_BROKERS, value: {{ .Values.kafka.brokers | quote }} }
- { name: KAFKA_GROUP, value: {{ .Values.kafka.group | quote }} }
- { name: KAFKA_TOPIC, value: {{ .Values.kafka.topic | quote }} }
{{ end -}}
- { name: POD_NAME, valueFrom: { fieldRef: { fieldPath: metadata.name } } }
- { name: EMBEDMILL__OBSERVE__LISTEN, value: "{{ .Values.observe.address }}:{{ .Values.observe.port }}" }
- { name: EMBEDMILL__DRAIN_MS, value: {{ mul 1000 (int .Values.drainSeconds) | quote }} }
{{- if eq .Values.mode "job" }}
- name: EMBEDMILL__SOURCE__FILES__SHARD__INDEX
  valueFrom: { fieldRef: { fieldPath: "metadata.annotations['batch.kubernetes.io/job-completion-index']" } }
- { name: EMBEDMILL__SOURCE__FILES__SHARD__COUNT, value: {{ .Values.job.completions | quote }} }
{{- end }}
{{- if ne .Values.modelCache.kind "image" }}
- { name: HF_HOME, value: /var/cache/embedmill/huggingface }
{{- end }}
{{- if or .Values.modelCache.readOnly (eq .Values.modelCache.kind "image") }}
- { name: HF_HUB_OFFLINE, value: "1" }
{{- end }}
{{- range $name, $value := .Values.env }}
- { name: {{ $name }}, value: {{ $value | quote }} }
{{- end }}
{{- range $name, $from := .Values.secretEnv }}
- { name: {{ $name }}, valueFrom: { secretKeyRef: { name: {{ $from.secret }}, key: {{ $from.key }} } } }
{{- end }}
{{- end }}

{{/* /live answers from the first second, also while a model is fetched, so the startup probe only bounds how long the
endpoint may take to come. /ready is of no use for it: while no broker can be reached it says no, and pods that start over and
over help nobody. */}}
{{- define "embedmill.probes" -}}
startupProbe:
  httpGet: { path: /live, port: observe }
  periodSeconds: 5
  timeoutSeconds: {{ .Values.probes.timeoutSeconds }}
  failureThreshold: {{ div (add (int .Values.startupSeconds) 4) 5 }}
livenessProbe:
  httpGet: { path: /live, port: observe }
  periodSeconds: {{ .Values.probes.periodSeconds }}
  timeoutSeconds: {{ .Values.probes.timeoutSeconds }}
  failureThreshold: {{ .Values.probes.failureThreshold }}
readinessProbe:
  httpGet: { path: /ready, port: observe }
  periodSeconds: {{ .Values.probes.periodSeconds }}
  timeoutSeconds: {{ .Values.probes.timeoutSeconds }}
  failureThreshold: {{ .Values.probes.failureThreshold }}
{{- end }}

{{- define "embedmill.resources" -}}
{{- $resources := deepCopy .Values.resources -}}
{{- if gt (int .Values.gpu.count) 0 -}}
{{- $_ := set $resources "limits" (merge (dict .Values.gpu.resource (.Values.gpu.count | toString)) ($resources.limits | default dict)) -}}
{{- end -}}
{{- toYaml $resources -}}
{{- end }}

{{- define "embedmill.mounts" -}}
- { name: pipeline, mountPath: /etc/embedmill, readOnly: true }
- { name: tmp, mountPath: /tmp }
{{- if ne .Values.modelCache.kind "image" }}
- { name: models, mountPath: /var/cache/embedmill, readOnly: {{ .Values.modelCache.readOnly }} }
{{- end }}
{{- range .Values.data }}
- { name: {{ .name }}, mountPath: {{ .mountPath }}, readOnly: {{ .readOnly | default false }} }
{{- end }}
{{- range $index, $secret := .Values.secretFiles }}
- { name: secret-{{ $index }}, mountPath: {{ $secret.mountPath }}, readOnly: true }
{{- end }}
{{- end }}

{{- define "embedmill.volumes" -}}
- { name: pipeline, configMap: { name: {{ include "embedmill.fullname" . }} } }
- { name: tmp, emptyDir: {} }
{{- if eq .Values.modelCache.kind "emptyDir" }}
- { name: models, emptyDir: { sizeLimit: {{ .Values.modelCache.size }} } }
{{- else if ne .Values.modelCache.kind "image" }}
- name: models
  persistentVolumeClaim:
    claimName: {{ ternary (printf "%s-models" (include "embedmill.fullname" .)) .Values.modelCache.claim (eq .Values.modelCache.kind "pvc") }}
    readOnly: {{ .Values.modelCache.readOnly }}
{{- end }}
{{- range .Values.data }}
- { name: {{ .name }}, persistentVolumeClaim: { claimName: {{ .claim }}, readOnly: {{ .readOnly | default false }} } }
{{- end }}
{{- range $index, $secret := .Values.secretFiles }}
- { name: secret-{{ $index }}, secret: { secretName: {{ $secret.secret }}, defaultMode: 0440 } }
{{- end }}
{{- end }}
