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

{{/* A validating webhook that the Deployment linkerd-destination serves. Takes
     a list: root, name of its Service, its values, the certificates that were
     made here, API group, resources. */}}
{{- define "fakemesh.validator" -}}
{{- $root := index . 0 -}}
{{- $name := index . 1 -}}
{{- $values := index . 2 -}}
{{- $certificate := get (index . 3) $name -}}
{{- $group := index . 4 -}}
{{- if $certificate }}
---
apiVersion: v1
kind: Secret
metadata:
  name: {{ $name }}-k8s-tls
  namespace: {{ $root.Release.Namespace }}
  labels:
    {{- include "fakemesh.labels" (list $root "destination") | nindent 4 }}
type: kubernetes.io/tls
data:
  tls.crt: {{ $certificate.Cert | b64enc }}
  tls.key: {{ $certificate.Key | b64enc }}
{{- end }}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata:
  name: {{ $name }}-webhook-config
  labels:
    {{- include "fakemesh.labels" (list $root "destination") | nindent 4 }}
  {{- with $values.injectCaFrom }}
  annotations:
    cert-manager.io/inject-ca-from: {{ . }}
  {{- end }}
webhooks:
- name: {{ $name }}.linkerd.io
  admissionReviewVersions: [v1]
  sideEffects: None
  failurePolicy: {{ $root.Values.webhookFailurePolicy }}
  timeoutSeconds: 10
  namespaceSelector:
    {{- toYaml $values.namespaceSelector | nindent 4 }}
  rules:
  - operations: [CREATE, UPDATE]
    apiGroups: [{{ $group }}]
    apiVersions: ["*"]
    resources: [{{ index . 5 | join ", " }}]
    scope: Namespaced
  {{- if eq $group "policy.linkerd.io" }}
  - operations: [CREATE, UPDATE]
    apiGroups: [gateway.networking.k8s.io]
    apiVersions: ["*"]
    resources: [httproutes]
    scope: Namespaced
  {{- end }}
  clientConfig:
    service:
      name: {{ $name }}
      namespace: {{ $root.Release.Namespace }}
      path: /
    {{- if $values.caBundle }}
    caBundle: {{ $values.caBundle | trim | b64enc }}
    {{- else if $certificate }}
    caBundle: {{ $certificate.Cert | b64enc }}
    {{- end }}
{{- end }}

{{- /* fakemesh.strategy: how a Deployment of the control plane is rolled. A part
     that is there once has its successor ready before it goes. */}}
{{- define "fakemesh.strategy" -}}
{{- if .Values.deploymentStrategy -}}
{{ toYaml .Values.deploymentStrategy }}
{{- else -}}
rollingUpdate: {maxUnavailable: {{ if gt (int .Values.controllerReplicas) 1 }}1{{ else }}0{{ end }}}
{{- end }}
{{- end }}
