{{/* The services, and what each shows to the outside: its REST paths and its gRPC methods. */}}
{{- define "shop.services" -}}
product-catalog:
  rest: [/api/catalog]
  grpc: [/shop.v1.ProductCatalog/GetProduct, /shop.v1.ProductCatalog/ListProducts, /shop.v1.ProductCatalog/SearchProducts]
inventory-management:
  rest: [/api/inventory]
  grpc: [/shop.v1.InventoryManagement/GetStock]
order-processing:
  rest: [/api/orders]
  grpc: []
customer-profile:
  rest: [/api/customers]
  grpc: []
payment-gateway:
  rest: []
  grpc: []
configuration-engine:
  rest: [/api/configurations]
  grpc: [/shop.v1.ConfigurationEngine/Configure]
recommendation-service:
  rest: [/api/recommendations]
  grpc: [/shop.v1.RecommendationService/Recommend]
analytics-service:
  rest: [/api/analytics]
  grpc: []
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

{{- define "shop.image" -}}
{{- $image := get .root.Values.images .image -}}
{{ required (printf "images.%s.repository is required" .image) $image.repository }}:{{ required (printf "images.%s.tag is required" .image) $image.tag }}
{{- end }}

{{/* Requests fitted to the host: never under 5m and 24Mi. */}}
{{- define "shop.requests" -}}
cpu: {{ max 5 (floor (mulf .cpuMilli .root.Values.fit.cpu)) | int }}m
memory: {{ max 24 (floor (mulf .memoryMiB .root.Values.fit.memory)) | int }}Mi
{{- end }}

{{- define "shop.replicas" -}}
{{- $wanted := required (printf "replicas.%s is required" .name) (get .root.Values.replicas .name) | int -}}
{{- $limit := .root.Values.replicaLimit | int -}}
{{- if gt $limit 0 }}{{ min $wanted $limit }}{{ else }}{{ $wanted }}{{ end -}}
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
