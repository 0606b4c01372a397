"""Values for the chart: each switch in turn, all of them at once, and what has to be refused."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, Dict, List, Tuple

Values = Dict[str, Any]

# tests/it/chart.rs plans them too, as the pods would.
PIPELINES = Path(__file__).resolve().parent / "pipelines"
STATIC_PIPELINE = (PIPELINES / "static.yaml").read_text(encoding="utf-8")
FILES_PIPELINE = (PIPELINES / "files.yaml").read_text(encoding="utf-8")

STATEFULSET = {"mode": "statefulset", "replicas": 3, "pipeline": STATIC_PIPELINE}
JOB = {"mode": "job", "pipeline": FILES_PIPELINE, "job": {"completions": 8, "parallelism": 3}}
KEDA = {
    "keda": {
        "enabled": True,
        "minReplicas": 0,
        "maxReplicas": 12,
        "lagThreshold": 50000000,
        "activationLagThreshold": 5,
        "pollingInterval": 10,
        "cooldownPeriod": 900,
        "scaleDown": {"stabilizationSeconds": 900, "pods": 2, "periodSeconds": 60},
        "authentication": "kafka-scram",
        "metadata": {"sasl": "scram_sha256", "tls": "enable"},
    },
    "kafka": {"brokers": "a:9092,b:9092", "group": "g", "topic": "t"},
}
PEERS = [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kafka"}}}]
GPU = {
    "gpu": {"count": 2, "resource": "nvidia.com/gpu", "runtimeClass": "nvidia"},
    "nodeSelector": {"accelerator": "h100"},
    "tolerations": [{"key": "spot", "operator": "Exists"}],
    "affinity": {
        "podAntiAffinity": {
            "preferredDuringSchedulingIgnoredDuringExecution": [
                {"weight": 1, "podAffinityTerm": {"topologyKey": "kubernetes.io/hostname", "labelSelector": {}}}
            ]
        }
    },
    "topologySpreadConstraints": [
        {"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": {}}
    ],
    "priorityClassName": "embeddings",
    "resources": {"requests": {"cpu": "4", "memory": "8Gi"}, "limits": {"memory": "8Gi"}},
}
SECRETS = {
    "env": {"EMBEDMILL_LOG": "debug", "EMBEDMILL__BATCH__TOKENS": 4096},
    "secretEnv": {"KAFKA_PASSWORD": {"secret": "kafka-user", "key": "password"}},
    "secretFiles": [{"secret": "kafka-ca", "mountPath": "/etc/kafka-ca"}],
    "imagePullSecrets": [{"name": "registry"}],
}
NETWORK = {
    "networkPolicy": {
        "enabled": True,
        "kafkaPorts": [9094],
        "kafkaTo": PEERS,
        "hub": False,
        "metricsFrom": PEERS,
        "extraEgress": [{"ports": [{"port": 3128, "protocol": "TCP"}]}],
    }
}
MONITORING = {
    "serviceMonitor": {"enabled": True, "interval": "30s", "labels": {"release": "prometheus"}},
    "prometheusRule": {"enabled": True, "labels": {"release": "prometheus"}},
    "dashboard": {"enabled": True, "labels": {"grafana_dashboard": "yes"}},
}
TIMES = {
    "startupSeconds": 1200,
    "longestWindowSeconds": 30,
    "drainSeconds": 150,
    "terminationGracePeriodSeconds": 200,
    "probes": {"periodSeconds": 5, "timeoutSeconds": 2, "failureThreshold": 6},
    "observe": {"address": "[::]", "port": 9000},
    "strategy": {"type": "Recreate"},
}

CASES: List[Tuple[str, Values]] = [
    ("defaults", {}),
    ("statefulset", STATEFULSET),
    ("job", JOB),
    (
        "job-limits",
        {
            **JOB,
            "job": {
                "completions": 4,
                "parallelism": 4,
                "backoffLimitPerIndex": 0,
                "maxFailedIndexes": 0,
                "activeDeadlineSeconds": 86400,
                "ttlSecondsAfterFinished": 60,
            },
            "data": [
                {"name": "data", "claim": "documents", "mountPath": "/data"},
                {"name": "more", "claim": "others", "mountPath": "/more", "readOnly": True},
            ],
        },
    ),
    ("job-gpu", {**JOB, **GPU}),
    ("keda", KEDA),
    ("keda-statefulset", {**STATEFULSET, **KEDA}),
    ("gpu", GPU),
    ("secrets", SECRETS),
    ("cache-pvc", {"modelCache": {"kind": "pvc", "size": "20Gi", "storageClass": "fast"}}),
    ("cache-shared", {"replicas": 2, "modelCache": {"kind": "pvc", "accessModes": ["ReadWriteMany"]}}),
    ("cache-claim", {"replicas": 2, "modelCache": {"kind": "claim", "claim": "models", "readOnly": True}}),
    ("cache-image", {"modelCache": {"kind": "image"}}),
    ("network", NETWORK),
    ("network-open", {"networkPolicy": {"enabled": True}}),
    ("monitoring", MONITORING),
    ("times", TIMES),
    ("no-budget", {"podDisruptionBudget": {"enabled": False, "maxUnavailable": 2}}),
    ("account", {"serviceAccount": {"name": "there"}}),
    ("account-made", {"serviceAccount": {"annotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/models"}}}),
    (
        "image",
        {
            "image": {
                "repository": "registry.example/embedmill",
                "tag": "0.1.0-cuda",
                "digest": "sha256:" + "0" * 64,
                "pullPolicy": "Always",
            },
            "podLabels": {"team": "search"},
            "podAnnotations": {"note": "a"},
        },
    ),
    (
        "security",
        {
            "podSecurityContext": {"runAsUser": 1000, "runAsGroup": 1000, "fsGroup": 1000},
            "securityContext": {"privileged": False},
        },
    ),
    ("everything", {**KEDA, **GPU, **SECRETS, **NETWORK, **MONITORING, **TIMES}),
]

# Values, and a part of the message that refuses them.
REFUSED: List[Tuple[Values, str]] = [
    ({"drainSeconds": 60}, "drainSeconds: found 60, less than longestWindowSeconds 20 plus the 90 s"),
    ({"longestWindowSeconds": 31}, "expected at least 121"),
    ({"terminationGracePeriodSeconds": 134}, "expected at least 135"),
    ({"mode": "statefulset"}, "group.instance.id: ${POD_NAME}"),
    ({"pipeline": STATIC_PIPELINE}, "expected mode statefulset"),
    ({**JOB, "keda": {"enabled": True}}, "set job.parallelism instead"),
    ({"keda": {"enabled": True, "minReplicas": 5}}, "keda.minReplicas: found 5; expected at most keda.maxReplicas 4"),
    ({**JOB, "job": {"parallelism": 3}}, "job.parallelism: found 3; expected at most job.completions 1"),
    ({"modelCache": {"kind": "claim"}}, "modelCache.claim: missing"),
    ({"modelCache": {"readOnly": True}}, "modelCache.readOnly: found true with modelCache.kind emptyDir"),
    ({"modelCache": {"kind": "pvc"}, "replicas": 2}, "modelCache.accessModes: one volume for several pods; expected [ReadWriteMany]"),
    ({"env": {"KAFKA_PASSWORD": "x"}}, "expected it in secretEnv"),
    ({"env": {"KAFKA_GROUP": "other"}}, "env.KAFKA_GROUP: set by the chart itself"),
    ({"pipeline": "source: { kafka: { properties: { sasl.password: hunter2 } } }"}, "in plain text"),
    ({"mode": "job"}, "but the pipeline reads Kafka"),
    ({"pipeline": "source: { files: { paths: [a] } }"}, "expected mode job"),
    ({"observe": {"address": "127.0.0.1"}}, "expected 0.0.0.0 or [::]"),
    ({"networkPolicy": {"enabled": True}, "kafka": {"brokers": "a:9092, b:9094"}}, "networkPolicy.kafkaPorts: port 9094 of the broker b:9094 is missing"),
    (
        {"networkPolicy": {"enabled": True}, "pipeline": "source: { kafka: {} }\nobserve: { otlp: { endpoint: http://c:4318 } }"},
        "networkPolicy.extraEgress",
    ),
    ({"keda": {"enabled": True, "activationLagThreshold": 1}}, "activationLagThreshold"),
    ({"replica": 2}, "replica"),
    ({"mode": "daemonset"}, "mode"),
    ({"image": {"digest": "latest"}}, "digest"),
    ({"secretEnv": {"A": "plain"}}, "secretEnv"),
    ({"gpu": {"count": -1}}, "count"),
    ({"pipeline": ""}, "pipeline"),
]


def changed(values: Values) -> Values:
    """The same with another image and a pipeline that says one thing more."""
    values = copy.deepcopy(values)
    values["image"] = {**values.get("image", {}), "tag": "next", "digest": ""}
    return values


def leaves(values: Any, path: str = "") -> List[str]:
    """Dotted paths of all values. A list, and a map that has no keys of the chart's own, is one value."""
    if not isinstance(values, dict) or not values:
        return [path]
    return [leaf for key, value in values.items() for leaf in leaves(value, f"{path}.{key}" if path else key)]
