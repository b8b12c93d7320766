{{/* The database, as the primary or as its replica: account, Service and
StatefulSet. Wants root, name, service (its name), role. */}}
{{- define "shop.postgres" -}}
{{- $root := .root -}}
{{- $values := $root.Values.postgres -}}
{{- $image := $root.Values.images.postgres -}}
{{- $replica := eq .role "replica" -}}
{{- $fitted := ternary $values.replica $values $replica -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ .name }}
  namespace: {{ $root.Release.Namespace }}
  labels:
    {{- include "shop.labels" . | nindent 4 }}
automountServiceAccountToken: false
---
apiVersion: v1
kind: Service
metadata:
  name: {{ .service }}
  namespace: {{ $root.Release.Namespace }}
  labels:
    {{- include "shop.labels" . | nindent 4 }}
  {{- if $values.meshed }}
  annotations:
    config.linkerd.io/opaque-ports: "5432"
  {{- end }}
spec:
  type: ClusterIP
  selector:
    {{- include "shop.selector" . | nindent 4 }}
  ports:
  - name: tcp-postgres
    port: 5432
    targetPort: postgres
---
apiVersion: apps/v1
kind: StatefulSet
metadata:
  name: {{ .name }}
  namespace: {{ $root.Release.Namespace }}
  labels:
    {{- include "shop.labels" . | nindent 4 }}
spec:
  serviceName: {{ .service }}
  replicas: 1
  selector:
    matchLabels:
      {{- include "shop.selector" . | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "shop.selector" . | nindent 8 }}
      annotations:
        {{- if $values.meshed }}
        linkerd.io/inject: enabled
        config.linkerd.io/opaque-ports: "5432"
        {{- with $values.inboundPolicy }}
        config.linkerd.io/default-inbound-policy: {{ . | quote }}
        {{- end }}
        {{- else }}
        linkerd.io/inject: disabled
        {{- end }}
        checksum/entry: {{ $root.Files.Get "files/postgres-entry.sh" | sha256sum }}
    spec:
      serviceAccountName: {{ .name }}
      automountServiceAccountToken: false
      enableServiceLinks: false
      terminationGracePeriodSeconds: 60
      securityContext:
        runAsNonRoot: true
        runAsUser: {{ int $image.uid }}
        runAsGroup: {{ int $image.gid }}
        fsGroup: {{ int $image.gid }}
        fsGroupChangePolicy: OnRootMismatch
        seccompProfile:
          type: RuntimeDefault
      {{- if $replica }}
      affinity:
        podAntiAffinity:
          preferredDuringSchedulingIgnoredDuringExecution:
          - weight: 100
            podAffinityTerm:
              topologyKey: topology.kubernetes.io/zone
              labelSelector:
                matchLabels:
                  {{- include "shop.selector" (dict "root" $root "name" "postgres") | nindent 18 }}
      {{- end }}
      containers:
      - name: postgres
        image: {{ include "shop.image" (dict "root" $root "image" "postgres") }}
        imagePullPolicy: {{ $root.Values.images.pullPolicy }}
        command: [/bin/sh, /etc/postgres-entry/entry.sh]
        env:
        - name: PG_BIN
          value: {{ $image.binDir | default (printf "/usr/lib/postgresql/%v/bin" $image.major) }}
        - name: PG_DATA
          value: /var/lib/postgresql/data/{{ $image.major }}
        - name: PG_RUN
          value: /var/run/postgresql
        - name: PG_SECRETS
          value: /etc/shop-secrets
        {{- if $values.replica.enabled }}
        - name: PG_REPLICATION
          value: /etc/postgres-replication
        {{- end }}
        {{- if $replica }}
        - name: PG_ROLE
          value: replica
        - name: PG_PRIMARY
          value: postgres
        {{- end }}
        - name: PG_MAX_CONNECTIONS
          value: {{ int $values.maxConnections | quote }}
        ports:
        - {name: postgres, containerPort: 5432}
        readinessProbe:
          exec:
            command: [/bin/sh, /etc/postgres-entry/entry.sh, ready]
          periodSeconds: {{ ternary 15 5 $replica }}
          timeoutSeconds: 5
          failureThreshold: 3
        livenessProbe:
          tcpSocket: {port: postgres}
          initialDelaySeconds: 60
          periodSeconds: 20
          timeoutSeconds: 5
          failureThreshold: 6
        resources:
          requests:
            {{- include "shop.requests" (dict "root" $root "cpuMilli" $fitted.cpuMilli "memoryMiB" $fitted.memoryMiB) | nindent 12 }}
          limits:
            memory: {{ int $fitted.memoryLimitMiB }}Mi
        securityContext:
          {{- include "shop.containerSecurity" . | nindent 10 }}
        volumeMounts:
        - {name: data, mountPath: /var/lib/postgresql/data}
        - {name: run, mountPath: /var/run/postgresql}
        - {name: tmp, mountPath: /tmp}
        - {name: entry, mountPath: /etc/postgres-entry, readOnly: true}
        {{- if not $replica }}
        - {name: secrets, mountPath: /etc/shop-secrets, readOnly: true}
        {{- end }}
        {{- if $values.replica.enabled }}
        - {name: replication, mountPath: /etc/postgres-replication, readOnly: true}
        {{- end }}
      volumes:
      - name: run
        emptyDir: {}
      - name: tmp
        emptyDir: {}
      - name: entry
        configMap:
          name: postgres-entry
      {{- if not $replica }}
      # Needed only to initialise an empty volume, so it may be gone later.
      - name: secrets
        secret:
          secretName: {{ $root.Values.secrets.existingSecret }}
          optional: true
          defaultMode: 0440
          items:
          - {key: db-user, path: db-user}
          - {key: db-password, path: db-password}
      {{- end }}
      {{- if $values.replica.enabled }}
      - name: replication
        secret:
          secretName: {{ $values.replica.existingSecret }}
          defaultMode: 0440
          items:
          - {key: password, path: password}
      {{- end }}
  volumeClaimTemplates:
  - metadata:
      name: data
    spec:
      accessModes: [ReadWriteOnce]
      storageClassName: {{ $values.storageClass }}
      resources:
        requests:
          storage: {{ int $values.storageGiB }}Gi
{{- end }}
