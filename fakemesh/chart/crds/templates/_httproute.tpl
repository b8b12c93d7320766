{{/* Headers to set or to add. */}}
{{- define "crds.headers" -}}
type: array
maxItems: 16
items:
  type: object
  required: [name, value]
  properties:
    name:
      {{- include "crds.headerName" . | nindent 6 }}
    value: {type: string, minLength: 1, maxLength: 4096}
{{- end }}

{{- define "crds.headerName" -}}
type: string
minLength: 1
maxLength: 256
pattern: ^[A-Za-z0-9!#$%&'*+\-.^_\x60|~]+$
{{- end }}

{{- define "crds.headerChange" -}}
type: object
properties:
  set:
    {{- include "crds.headers" . | nindent 4 }}
  add:
    {{- include "crds.headers" . | nindent 4 }}
  remove:
    type: array
    maxItems: 16
    items: {type: string}
{{- end }}

{{/* What is done to a request. Takes whether it is the Gateway API's. */}}
{{- define "crds.filters" -}}
type: array
maxItems: 16
items:
  type: object
  required: [type]
  properties:
    type:
      type: string
      enum: [RequestHeaderModifier, ResponseHeaderModifier, RequestRedirect{{ if . }}, RequestMirror, URLRewrite, ExtensionRef{{ end }}]
    requestHeaderModifier:
      {{- include "crds.headerChange" . | nindent 6 }}
    responseHeaderModifier:
      {{- include "crds.headerChange" . | nindent 6 }}
    requestRedirect:
      type: object
      properties:
        scheme: {type: string, enum: [http, https]}
        hostname:
          type: string
          minLength: 1
          maxLength: 253
          pattern: ^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$
        path:
          type: object
          required: [type]
          properties:
            type: {type: string, enum: [ReplaceFullPath, ReplacePrefixMatch]}
            replaceFullPath: {type: string, maxLength: 1024}
            replacePrefixMatch: {type: string, maxLength: 1024}
        port:
          {{- include "crds.port" . | nindent 10 }}
        statusCode: {type: integer, enum: [301, 302], default: 302}
    {{- if . }}
    {{- range $other := list "requestMirror" "urlRewrite" "extensionRef" }}
    {{ $other }}:
      type: object
      x-kubernetes-preserve-unknown-fields: true
    {{- end }}
    {{- end }}
{{- end }}

{{/* A value of a header or a query parameter. */}}
{{- define "crds.valueMatches" -}}
type: array
maxItems: 16
items:
  type: object
  required: [name, value]
  properties:
    type: {type: string, enum: [Exact, RegularExpression], default: Exact}
    name:
      {{- include "crds.headerName" . | nindent 6 }}
    value: {type: string, minLength: 1, maxLength: 4096}
{{- end }}

{{/* Takes the group that parents are of when it is not said. */}}
{{- define "crds.parentRef" -}}
type: object
required: [name]
properties:
  group:
    default: {{ . }}
    {{- include "crds.group" . | nindent 4 }}
  kind:
    default: Gateway
    {{- include "crds.kind" . | nindent 4 }}
  namespace:
    {{- include "crds.namespace" . | nindent 4 }}
  name:
    {{- include "crds.name" . | nindent 4 }}
  sectionName:
    {{- include "crds.name" . | nindent 4 }}
  port:
    {{- include "crds.port" . | nindent 4 }}
{{- end }}

{{/* An HTTPRoute of either group. Takes the group. */}}
{{- define "crds.httproute" -}}
{{- $gateway := eq . "gateway.networking.k8s.io" -}}
type: object
description: Requests to a Server or to a Service, and what becomes of them.
required: [spec]
properties:
  apiVersion: {type: string}
  kind: {type: string}
  metadata: {type: object}
  spec:
    type: object
    properties:
      parentRefs:
        type: array
        description: The Servers or Services that the route is attached to.
        maxItems: 32
        items:
          {{- include "crds.parentRef" . | nindent 10 }}
      hostnames:
        type: array
        description: Names that requests are for; "*." begins the end of some.
        maxItems: 16
        items:
          type: string
          minLength: 1
          maxLength: 253
          pattern: ^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$
      rules:
        type: array
        maxItems: 16
        default: [{matches: [{path: {type: PathPrefix, value: /}}]}]
        items:
          type: object
          properties:
            matches:
              type: array
              description: Requests that the rule is for, by any of these.
              maxItems: 8
              default: [{path: {type: PathPrefix, value: /}}]
              items:
                type: object
                properties:
                  path:
                    type: object
                    default: {type: PathPrefix, value: /}
                    properties:
                      type: {type: string, enum: [Exact, PathPrefix, RegularExpression], default: PathPrefix}
                      value: {type: string, maxLength: 1024, default: /}
                  headers:
                    {{- include "crds.valueMatches" . | nindent 20 }}
                  queryParams:
                    {{- include "crds.valueMatches" . | nindent 20 }}
                  method:
                    type: string
                    enum: [GET, HEAD, POST, PUT, DELETE, CONNECT, OPTIONS, TRACE, PATCH]
            filters:
              {{- include "crds.filters" $gateway | nindent 14 }}
            backendRefs:
              type: array
              description: Where requests go, by weight; where they were going when it is not said.
              maxItems: 16
              items:
                type: object
                required: [name]
                properties:
                  group:
                    default: ""
                    {{- include "crds.group" . | nindent 20 }}
                  kind:
                    default: Service
                    {{- include "crds.kind" . | nindent 20 }}
                  name:
                    {{- include "crds.name" . | nindent 20 }}
                  namespace:
                    {{- include "crds.namespace" . | nindent 20 }}
                  port:
                    {{- include "crds.port" . | nindent 20 }}
                  weight: {type: integer, format: int32, minimum: 0, maximum: 1000000, default: 1}
                  filters:
                    {{- include "crds.filters" $gateway | nindent 20 }}
            {{- if not $gateway }}
            timeouts:
              type: object
              properties:
                request:
                  type: string
                  description: How long a request may take in all; 0s is without limit.
                  pattern: ^([0-9]{1,5}(h|m|s|ms)){1,4}$
                backendRequest:
                  type: string
                  description: How long one try may take.
                  pattern: ^([0-9]{1,5}(h|m|s|ms)){1,4}$
            {{- end }}
  status:
    type: object
    properties:
      parents:
        type: array
        maxItems: 32
        items:
          type: object
          required: [controllerName, parentRef]
          properties:
            controllerName: {type: string, minLength: 1, maxLength: 253}
            parentRef:
              {{- include "crds.parentRef" . | nindent 14 }}
            conditions:
              type: array
              maxItems: 8
              x-kubernetes-list-type: map
              x-kubernetes-list-map-keys: [type]
              items:
                type: object
                required: [lastTransitionTime, message, reason, status, type]
                properties:
                  type: {type: string, maxLength: 316}
                  status: {type: string, enum: ["True", "False", Unknown]}
                  reason: {type: string, minLength: 1, maxLength: 1024}
                  message: {type: string, maxLength: 32768}
                  lastTransitionTime: {type: string, format: date-time}
                  observedGeneration: {type: integer, format: int64, minimum: 0}
{{- end }}

{{/* Names, subresource and columns that both groups' routes have. */}}
{{- define "crds.httprouteNames" -}}
scope: Namespaced
names:
  kind: HTTPRoute
  listKind: HTTPRouteList
  plural: httproutes
  singular: httproute
{{- end }}

{{- define "crds.httprouteVersion" -}}
subresources: {status: {}}
additionalPrinterColumns:
- {name: Hostnames, type: string, jsonPath: .spec.hostnames}
- {name: Age, type: date, jsonPath: .metadata.creationTimestamp}
{{- end }}
