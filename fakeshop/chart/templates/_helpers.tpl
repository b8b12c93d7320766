{{/* The services by name, as files/services.yaml declares them. */}}
{{- define "shop.services" -}}
{{- range .Files.Get "files/services.yaml" | fromYamlArray }}
{{ .name }}: {{ toJson . }}
{{- end }}
{{- end }}

{{/* What runs: every service in its first version, and in those beside it, as
a list. The first version has the service's own name. */}}
{{- define "shop.versions" -}}
{{- range $name, $service := include "shop.services" . | fromYaml }}
- {{ dict "name" $name "version" "v1" "deployment" $name "behaviour" (get $.Values.behaviour $name | default dict) | toJson }}
{{- range $version, $canary := get $.Values.canaries $name | default dict }}
- {{ dict "name" $name "version" $version "deployment" (printf "%s-%s" $name $version) "canary" $canary "behaviour" ($canary.behaviour | default dict) | toJson }}
{{- end }}
{{- end }}
{{- end }}

{{- define "shop.labels" -}}
app.kubernetes.io/name: {{ .name }}
app.kubernetes.io/part-of: fakeshop
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{- end }}

{{- define "shop.selector" -}}
app.kubernetes.io/name: {{ .name }}
app.kubernetes.io/part-of: fakeshop
{{- end }}

{{/* The pods of one version of a service. */}}
{{- define "shop.versionSelector" -}}
{{ include "shop.selector" . }}
app.kubernetes.io/version: {{ .version }}
{{- end }}

{{/* The pods that a service's own name leads to. */}}
{{- define "shop.servingSelector" -}}
{{- $serving := get .root.Values.serving .name | default "v1" -}}
{{- if eq $serving "all" }}
{{- include "shop.selector" . }}
{{- else }}
{{- include "shop.versionSelector" (dict "name" .name "version" $serving) }}
{{- end }}
{{- end }}

{{- define "shop.image" -}}
{{- $image := get .root.Values.images .image -}}
{{ required (printf "images.%s.repository is required" .image) $image.repository }}:{{ .tag | default (required (printf "images.%s.tag is required" .image) $image.tag) }}
{{- end }}

{{/* Where the services' secrets are in Vault. */}}
{{- define "shop.kvPath" -}}
{{ .Values.vault.kvPath | default (printf "secret/data/%s" .Release.Namespace) }}
{{- end }}

{{/* A CPU request fitted to the host, in thousandths of a core: never under 5. */}}
{{- define "shop.fittedCPU" -}}
{{ max 5 (floor (mulf .cpuMilli .root.Values.fit.cpu)) | int }}
{{- end }}

{{/* Requests fitted to the host: never under 5m and 24Mi. */}}
{{- define "shop.requests" -}}
cpu: {{ include "shop.fittedCPU" . }}m
memory: {{ max 24 (floor (mulf .memoryMiB .root.Values.fit.memory)) | int }}Mi
{{- end }}

{{/* Pods of one version: of a version beside the first, one unless told. */}}
{{- define "shop.replicas" -}}
{{- $wanted := 1 -}}
{{- if ne .version "v1" -}}
{{- $wanted = get (.canary | default dict) "replicas" | default 1 | int -}}
{{- else -}}
{{- $wanted = required (printf "replicas.%s is required" .name) (get .root.Values.replicas .name) | int -}}
{{- end -}}
{{- $limit := .root.Values.replicaLimit | int -}}
{{- if gt $limit 0 }}{{ min $wanted $limit }}{{ else }}{{ $wanted }}{{ end -}}
{{- end }}

{{/* Says "true" of a version of a service that has an autoscaler. */}}
{{- define "shop.autoscaled" -}}
{{- $scaling := .root.Values.autoscaling -}}
{{- if or $scaling.enabled (and (eq .version "v1") (hasKey $scaling.services .name)) }}true{{ end -}}
{{- end }}

{{/* How many pods a Deployment is told to have. Where an autoscaler decides, that
is as many as there are: without the field an upgrade that brings the autoscaler
would go down to one pod first. */}}
{{- define "shop.replicasNow" -}}
{{- $least := include "shop.replicas" . | int -}}
{{- if include "shop.autoscaled" . -}}
{{- $live := lookup "apps/v1" "Deployment" .root.Release.Namespace .deployment | default dict -}}
{{- max $least (dig "spec" "replicas" 0 $live | int) -}}
{{- else }}{{ $least }}{{ end -}}
{{- end }}

{{/* An autoscaler's target in per cent of the pods' requests. Where those are made
smaller to fit the host, it is as much larger: a pod works no less for it. */}}
{{- define "shop.targetCPU" -}}
{{- $milli := .Values.resources.cpuMilli -}}
{{- $fitted := include "shop.fittedCPU" (dict "root" . "cpuMilli" $milli) | int -}}
{{ ceil (divf (mulf .Values.autoscaling.targetCPUPercent $milli) $fitted) | int }}
{{- end }}

{{- define "shop.podAnnotations" -}}
{{- $mesh := .root.Values.mesh -}}
{{- $state := get .root.Values.services .name | default dict -}}
config.linkerd.io/skip-inbound-ports: "8080,9091"
{{- if $state.inject }}
linkerd.io/inject: enabled
{{- end }}
{{- with $state.inboundPolicy }}
config.linkerd.io/default-inbound-policy: {{ . | quote }}
{{- end }}
{{- if gt (int $mesh.proxyWaitSeconds) 0 }}
config.alpha.linkerd.io/proxy-wait-before-exit-seconds: {{ int $mesh.proxyWaitSeconds | quote }}
{{- end }}
prometheus.io/scrape: "true"
prometheus.io/port: "8081"
prometheus.io/path: /metrics
{{- with .root.Values.podAnnotations }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* What both Ingresses say of the load balancer and its target groups. */}}
{{- define "shop.edgeAnnotations" -}}
{{- $edge := .Values.edge -}}
{{- $group := list (printf "deregistration_delay.timeout_seconds=%d" (int $edge.deregistrationDelaySeconds)) -}}
{{- $group = append $group (printf "slow_start.duration_seconds=%d" (int $edge.slowStartSeconds)) -}}
{{- $group = append $group (printf "load_balancing.algorithm.type=%s" $edge.algorithm) -}}
alb.ingress.kubernetes.io/scheme: internet-facing
alb.ingress.kubernetes.io/group.name: shop
alb.ingress.kubernetes.io/target-type: {{ $edge.targetType }}
alb.ingress.kubernetes.io/load-balancer-attributes: idle_timeout.timeout_seconds={{ int $edge.idleTimeoutSeconds }}
alb.ingress.kubernetes.io/target-group-attributes: {{ join "," $group }}
alb.ingress.kubernetes.io/backend-protocol: HTTP
alb.ingress.kubernetes.io/healthcheck-protocol: HTTP
alb.ingress.kubernetes.io/healthcheck-port: traffic-port
{{- end }}

{{/* What PodSecurity's restricted level asks of a container. */}}
{{- define "shop.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}
