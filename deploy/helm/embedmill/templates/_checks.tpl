{{/* What values.schema.json cannot say: values that contradict each other. Each message says what to change. */}}
{{- define "embedmill.checks" -}}
{{- $publish := int (include "embedmill.publishSeconds" .) -}}
{{- $leave := int (include "embedmill.leaveSeconds" .) -}}
{{- $drain := int .Values.drainSeconds -}}
{{- $window := add (int .Values.longestWindowSeconds) $publish -}}
{{- if lt $drain (int $window) -}}
{{- fail (printf "drainSeconds is %d: less than longestWindowSeconds %d and the %d s that publishing may take; expected at least %d" $drain (int .Values.longestWindowSeconds) $publish (int $window)) -}}
{{- end -}}
{{- $least := int (add $drain $leave) -}}
{{- if lt (int (include "embedmill.grace" .)) $least -}}
{{- fail (printf "terminationGracePeriodSeconds is %s: the pod would be killed while it drains; expected at least %d, which is drainSeconds %d and %d s to leave the group, or nothing" (include "embedmill.grace" .) $least $drain $leave) -}}
{{- end -}}
{{- $static := contains "group.instance.id" .Values.pipeline -}}
{{- if and (eq .Values.mode "statefulset") (not (and $static (contains "${POD_NAME" .Values.pipeline))) -}}
{{- fail "mode is statefulset, which is for static membership, and the pipeline has none: put `group.instance.id: ${POD_NAME}` under source.kafka.properties, or use mode deployment" -}}
{{- end -}}
{{- if and (eq .Values.mode "deployment") $static -}}
{{- fail "the pipeline sets group.instance.id, and the pods of a deployment have new names each time: the group would wait for members that never come back; use mode statefulset" -}}
{{- end -}}
{{- if and .Values.keda.enabled (eq .Values.mode "job") -}}
{{- fail "keda.enabled scales a stream by its lag, and a job has none; set job.parallelism instead" -}}
{{- end -}}
{{- if and .Values.keda.enabled (gt (int .Values.keda.minReplicas) (int .Values.keda.maxReplicas)) -}}
{{- fail (printf "keda.minReplicas %d is more than keda.maxReplicas %d" (int .Values.keda.minReplicas) (int .Values.keda.maxReplicas)) -}}
{{- end -}}
{{- if gt (int .Values.job.parallelism) (int .Values.job.completions) -}}
{{- fail (printf "job.parallelism %d is more than the %d shards of job.completions" (int .Values.job.parallelism) (int .Values.job.completions)) -}}
{{- end -}}
{{- if and (eq .Values.modelCache.kind "claim") (not .Values.modelCache.claim) -}}
{{- fail "modelCache.kind is claim, and modelCache.claim names none" -}}
{{- end -}}
{{- if and .Values.modelCache.readOnly (ne .Values.modelCache.kind "claim") -}}
{{- fail (printf "modelCache.readOnly needs a claim that has the model already; modelCache.kind is %s" .Values.modelCache.kind) -}}
{{- end -}}
{{- $several := or (gt (int .Values.replicas) 1) .Values.keda.enabled (and (eq .Values.mode "job") (gt (int .Values.job.parallelism) 1)) -}}
{{- if and (eq .Values.modelCache.kind "pvc") $several (not (has "ReadWriteMany" .Values.modelCache.accessModes)) -}}
{{- fail "modelCache.kind pvc is one volume for all pods, and there are several: modelCache.accessModes has to be [ReadWriteMany]; or use emptyDir, or a claim that is read by many" -}}
{{- end -}}
{{- $own := list "KAFKA_BROKERS" "KAFKA_GROUP" "KAFKA_TOPIC" "POD_NAME" "EMBEDMILL__OBSERVE__LISTEN" "EMBEDMILL__DRAIN_MS" "EMBEDMILL__SOURCE__FILES__SHARD__INDEX" "EMBEDMILL__SOURCE__FILES__SHARD__COUNT" -}}
{{- range $name := concat (keys .Values.env) (keys .Values.secretEnv) -}}
{{- if has $name $own -}}
{{- fail (printf "%s is set by the chart itself; see kafka, observe, drainSeconds and job in its values" $name) -}}
{{- end -}}
{{- end -}}
{{- if regexMatch "(?mi)^[^#]*(password|secret|token)[\"']?\\s*:\\s*[\"']?[^\\s\"'$,}]" .Values.pipeline -}}
{{- fail "the pipeline has a password, a secret or a token in plain words, which would lie in a ConfigMap; expected ${NAME:?}, and NAME in secretEnv" -}}
{{- end -}}
{{- $source := dig "source" dict (fromYaml .Values.pipeline) -}}
{{- if and (kindIs "map" $source) (eq .Values.mode "job") (hasKey $source "kafka") -}}
{{- fail "mode is job, which is for files, and the pipeline reads Kafka; use mode deployment or statefulset" -}}
{{- end -}}
{{- if and (kindIs "map" $source) (ne .Values.mode "job") (hasKey $source "files") -}}
{{- fail (printf "mode is %s, whose pods are started again when they end, and the pipeline reads files, which end; use mode job" .Values.mode) -}}
{{- end -}}
{{- if regexMatch "^(127\\.|localhost|\\[::1)" .Values.observe.address -}}
{{- fail (printf "observe.address %s is seen in the pod alone, and the probes and the metrics' readers come from outside; expected 0.0.0.0 or [::]" .Values.observe.address) -}}
{{- end -}}
{{- $policy := .Values.networkPolicy -}}
{{- if and $policy.enabled (not $policy.extraEgress) -}}
{{- if and (kindIs "map" $source) (hasKey $source "kafka") -}}
{{- range $broker := splitList "," .Values.kafka.brokers -}}
{{- $port := $broker | trim | splitList ":" | last | int -}}
{{- $open := eq $port 0 -}}
{{- range $policy.kafkaPorts -}}
{{- if eq (int .) $port -}}{{- $open = true -}}{{- end -}}
{{- end -}}
{{- if not $open -}}
{{- fail (printf "networkPolicy.kafkaPorts leaves out %d of the broker %s in kafka.brokers, which the pods could not reach" $port (trim $broker)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $observe := dig "observe" dict (fromYaml .Values.pipeline) -}}
{{- if and (kindIs "map" $observe) (hasKey $observe "otlp") -}}
{{- fail "the pipeline sends traces, and networkPolicy lets nothing out to a collector; expected its port and peers in networkPolicy.extraEgress" -}}
{{- end -}}
{{- end -}}
{{- range $name, $value := .Values.env -}}
{{- if regexMatch "(?i)(password|secret|(^|_)token$|credential|api_?key)" $name -}}
{{- fail (printf "env.%s would put a secret into the release and the pod's description; expected it in secretEnv, as { secret: NAME, key: KEY }" $name) -}}
{{- end -}}
{{- end -}}
{{- end }}
