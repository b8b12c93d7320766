{{/* Where pods are found: by Prometheus itself, or by the sidecar, with the same labels. */}}
{{- define "monitoring.discovery" -}}
{{- if .Values.sidecar.repository -}}
http_sd_configs:
- url: http://127.0.0.1:9095/targets
  refresh_interval: {{ .Values.scrapeInterval }}
{{- else -}}
kubernetes_sd_configs:
- role: pod
{{- end -}}
{{- end -}}
