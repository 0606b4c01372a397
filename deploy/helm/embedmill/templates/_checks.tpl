{{/* Checks that values.schema.json cannot express: contradictions between values. Each message says what was expected. */}}
{{- define "embedmill.checks" -}}
{{- $publish := int (include "embedmill.publishSeconds" .) -}}
{{- $leave := int (include "embedmill.leaveSeconds" .) -}}
{{- $drain := int .Values.drainSeconds -}}
{{- $window := add (int .Values.longestWindowSeconds) $publish -}}
{{- if lt $drain (int $window) -}}
{{- fail (printf "drainSeconds: found %d, less than longestWindowSeconds %d plus the %d s that publishing may take; expected at least %d" $drain (int .Values.longestWindowSeconds) $publish (int $window)) -}}
{{- end -}}
{{- $min := int (add $drain $leave) -}}
{{- if lt (int (include "embedmill.grace" .)) $min -}}
{{- fail (printf "terminationGracePeriodSeconds: found %s, so the pod would be killed while it drains; expected at least %d, which is drainSeconds %d plus %d s to leave the group, or null" (include "embedmill.grace" .) $min $drain $leave) -}}
{{- end -}}
{{- $static := contains "group.instance.id" .Values.pipeline -}}
{{- if and (eq .Values.mode "statefulset") (not (and $static (contains "${POD_NAME" .Values.pipeline))) -}}
{{- fail "mode: found statefulset, which is for static membership; expected `group.instance.id: ${POD_NAME}` under source.kafka.properties of the pipeline, or mode deployment" -}}
{{- end -}}
{{- if and (eq .Values.mode "deployment") $static -}}
{{- fail "mode: found deployment with group.instance.id in the pipeline; expected mode statefulset (the pods of a deployment get new names, and the group would wait for members that never return)" -}}
{{- end -}}
{{- if and .Values.keda.enabled (eq .Values.mode "job") -}}
{{- fail "keda.enabled: found true with mode job, which has no lag to scale by; expected false (set job.parallelism instead)" -}}
{{- end -}}
{{- if and .Values.keda.enabled (gt (int .Values.keda.minReplicas) (int .Values.keda.maxReplicas)) -}}
{{- fail (printf "keda.minReplicas: found %d; expected at most keda.maxReplicas %d" (int .Values.keda.minReplicas) (int .Values.keda.maxReplicas)) -}}
{{- end -}}
{{- if gt (int .Values.job.parallelism) (int .Values.job.completions) -}}
{{- fail (printf "job.parallelism: found %d; expected at most job.completions %d, the number of shards" (int .Values.job.parallelism) (int .Values.job.completions)) -}}
{{- end -}}
{{- if and (eq .Values.modelCache.kind "claim") (not .Values.modelCache.claim) -}}
{{- fail "modelCache.claim: missing; expected the name of a claim, because modelCache.kind is claim" -}}
{{- end -}}
{{- if and .Values.modelCache.readOnly (ne .Values.modelCache.kind "claim") -}}
{{- fail (printf "modelCache.readOnly: found true with modelCache.kind %s; expected kind claim, with a claim that contains the model" .Values.modelCache.kind) -}}
{{- end -}}
{{- $several := or (gt (int .Values.replicas) 1) .Values.keda.enabled (and (eq .Values.mode "job") (gt (int .Values.job.parallelism) 1)) -}}
{{- if and (eq .Values.modelCache.kind "pvc") $several (not (has "ReadWriteMany" .Values.modelCache.accessModes)) -}}
{{- fail "modelCache.accessModes: one volume for several pods; expected [ReadWriteMany] with modelCache.kind pvc (or use emptyDir, or a claim that many pods can read)" -}}
{{- end -}}
{{- $own := list "KAFKA_BROKERS" "KAFKA_GROUP" "KAFKA_TOPIC" "POD_NAME" "EMBEDMILL__OBSERVE__LISTEN" "EMBEDMILL__DRAIN_MS" "EMBEDMILL__SOURCE__FILES__SHARD__INDEX" "EMBEDMILL__SOURCE__FILES__SHARD__COUNT" -}}
{{- range $name := concat (keys .Values.env) (keys .Values.secretEnv) -}}
{{- if has $name $own -}}
{{- fail (printf "env.%s: set by the chart itself; expected another name (use the values kafka, observe, drainSeconds and job instead)" $name) -}}
{{- end -}}
{{- end -}}
{{- if regexMatch "(?mi)^[^#]*(password|secret|token)[\"']?\\s*:\\s*[\"']?[^\\s\"'$,}]" .Values.pipeline -}}
{{- fail "pipeline: a password, secret or token in plain text would be stored in a ConfigMap; expected ${NAME:?}, and NAME in secretEnv" -}}
{{- end -}}
{{- $source := dig "source" dict (fromYaml .Values.pipeline) -}}
{{- if and (kindIs "map" $source) (eq .Values.mode "job") (hasKey $source "kafka") -}}
{{- fail "mode: found job, which is for files, but the pipeline reads Kafka; expected deployment or statefulset" -}}
{{- end -}}
{{- if and (kindIs "map" $source) (ne .Values.mode "job") (hasKey $source "files") -}}
{{- fail (printf "mode: found %s, whose pods restart when they exit, but the pipeline reads files and exits; expected mode job" .Values.mode) -}}
{{- end -}}
{{- if regexMatch "^(127\\.|localhost|\\[::1)" .Values.observe.address -}}
{{- fail (printf "observe.address: found %s, which probes and scrapers outside the pod cannot reach; expected 0.0.0.0 or [::]" .Values.observe.address) -}}
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
{{- fail (printf "networkPolicy.kafkaPorts: port %d of the broker %s is missing, so pods could not reach it; expected the ports of all kafka.brokers" $port (trim $broker)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $observe := dig "observe" dict (fromYaml .Values.pipeline) -}}
{{- if and (kindIs "map" $observe) (hasKey $observe "otlp") -}}
{{- fail "networkPolicy.extraEgress: empty, but the pipeline exports traces; expected the port and peers of the collector" -}}
{{- end -}}
{{- end -}}
{{- range $name, $value := .Values.env -}}
{{- if regexMatch "(?i)(password|secret|(^|_)token$|credential|api_?key)" $name -}}
{{- fail (printf "env.%s: a secret here would be visible in the release and in the pod's description; expected it in secretEnv, as { secret: NAME, key: KEY }" $name) -}}
{{- end -}}
{{- end -}}
{{- end }}
