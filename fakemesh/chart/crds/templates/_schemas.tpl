{{/* Metadata of a CRD. Takes a list: root, name. */}}
{{- define "crds.metadata" -}}
{{- $root := index . 0 -}}
name: {{ index . 1 }}
labels:
  app.kubernetes.io/part-of: fakemesh
  app.kubernetes.io/version: {{ $root.Chart.AppVersion }}
  linkerd.io/control-plane-ns: {{ $root.Release.Namespace }}
{{- end }}

{{/* Names of objects and of the things that references point at. */}}
{{- define "crds.group" -}}
type: string
maxLength: 253
pattern: ^$|^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$
{{- end }}

{{- define "crds.kind" -}}
type: string
minLength: 1
maxLength: 63
pattern: ^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?$
{{- end }}

{{- define "crds.name" -}}
type: string
minLength: 1
maxLength: 253
{{- end }}

{{- define "crds.namespace" -}}
type: string
minLength: 1
maxLength: 63
pattern: ^[a-z0-9]([-a-z0-9]*[a-z0-9])?$
{{- end }}

{{- define "crds.port" -}}
type: integer
format: int32
minimum: 1
maximum: 65535
{{- end }}

{{- define "crds.selector" -}}
type: object
properties:
  matchLabels:
    type: object
    additionalProperties: {type: string}
  matchExpressions:
    type: array
    items:
      type: object
      required: [key, operator]
      properties:
        key: {type: string}
        operator: {type: string, enum: [In, NotIn, Exists, DoesNotExist]}
        values:
          type: array
          items: {type: string}
{{- end }}

{{- define "crds.networks" -}}
type: array
items:
  type: object
  required: [cidr]
  properties:
    cidr:
      type: string
      description: A network, or an address.
    except:
      type: array
      description: Parts of the network that are not meant.
      items: {type: string}
{{- end }}

{{- define "crds.identities" -}}
type: array
description: Names of service accounts in the mesh; "*" is any, and "*." begins the end of some.
items:
  type: string
  pattern: ^(\*|[a-z0-9]([-a-z0-9]*[a-z0-9])?)(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$
{{- end }}
