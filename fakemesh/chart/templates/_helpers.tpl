{{- define "fakemesh.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag }}
{{- end }}

{{- define "fakemesh.trustDomain" -}}
{{ .Values.identityTrustDomain | default .Values.clusterDomain }}
{{- end }}

{{/* Labels of one component. Takes a list: root, component. */}}
{{- define "fakemesh.labels" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ index . 1 }}
app.kubernetes.io/part-of: fakemesh
app.kubernetes.io/version: {{ $root.Chart.AppVersion }}
linkerd.io/control-plane-component: {{ index . 1 }}
linkerd.io/control-plane-ns: {{ $root.Release.Namespace }}
{{- end }}

{{- define "fakemesh.selector" -}}
{{- $root := index . 0 -}}
linkerd.io/control-plane-component: {{ index . 1 }}
linkerd.io/control-plane-ns: {{ $root.Release.Namespace }}
{{- end }}

{{- define "fakemesh.containerSecurity" -}}
allowPrivilegeEscalation: false
capabilities: {drop: [ALL]}
readOnlyRootFilesystem: true
runAsNonRoot: true
runAsUser: 2103
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{/* What every Deployment of the control plane has alike. Takes a list: root, component. */}}
{{- define "fakemesh.scheduling" -}}
{{- $root := index . 0 -}}
{{- with $root.Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $root.Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if $root.Values.enablePodAntiAffinity }}
affinity:
  podAntiAffinity:
    requiredDuringSchedulingIgnoredDuringExecution:
    - topologyKey: kubernetes.io/hostname
      labelSelector:
        matchLabels:
          linkerd.io/control-plane-component: {{ index . 1 }}
    preferredDuringSchedulingIgnoredDuringExecution:
    - weight: 100
      podAffinityTerm:
        topologyKey: topology.kubernetes.io/zone
        labelSelector:
          matchLabels:
            linkerd.io/control-plane-component: {{ index . 1 }}
{{- end }}
{{- end }}

{{/* A disruption budget. Takes a list: root, component, name. */}}
{{- define "fakemesh.budget" -}}
{{- $root := index . 0 -}}
{{- if $root.Values.enablePodDisruptionBudget }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ index . 2 }}
  namespace: {{ $root.Release.Namespace }}
  labels:
    {{- include "fakemesh.labels" (list $root (index . 1)) | nindent 4 }}
spec:
  maxUnavailable: 1
  selector:
    matchLabels:
      {{- include "fakemesh.selector" (list $root (index . 1)) | nindent 6 }}
{{- end }}
{{- end }}
