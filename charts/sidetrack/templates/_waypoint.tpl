{{/* The waypoints of a namespace, without it: a list of objects. Argument: (list context values configuration). */}}
{{- define "sidetrack.waypointLabels" -}}
app.kubernetes.io/name: sidetrack-waypoint
sidetrack.dev/waypoint: "true"
{{- end }}
{{- define "sidetrack.waypoint" -}}
{{- $context := index . 0 }}{{- $values := index . 1 }}{{- $config := toYaml (index . 2) }}
{{- with $context }}
- apiVersion: v1
  kind: ServiceAccount
  metadata:
    name: sidetrack-waypoint
    labels: {{- include "sidetrack.waypointLabels" . | nindent 6 }}
  automountServiceAccountToken: false
- apiVersion: v1
  kind: ConfigMap
  metadata:
    name: sidetrack-waypoint
    labels: {{- include "sidetrack.waypointLabels" . | nindent 6 }}
  data:
    ca.crt: $(CONTROLLER_CA)
    sidetrack.yaml: {{ $config | quote }}
{{- if $values.podDisruptionBudget.enabled }}
- apiVersion: policy/v1
  kind: PodDisruptionBudget
  metadata:
    name: sidetrack-waypoint
    labels: {{- include "sidetrack.waypointLabels" . | nindent 6 }}
  spec:
    maxUnavailable: 1
    selector:
      matchLabels: {{- include "sidetrack.waypointLabels" . | nindent 8 }}
{{- end }}
- apiVersion: apps/v1
  kind: Deployment
  metadata:
    name: sidetrack-waypoint
    labels: {{- include "sidetrack.waypointLabels" . | nindent 6 }}
  spec:
    replicas: {{ $values.replicas }}
    strategy: {type: RollingUpdate, rollingUpdate: {maxUnavailable: 0, maxSurge: 1}}
    selector:
      matchLabels: {{- include "sidetrack.waypointLabels" . | nindent 8 }}
    template:
      metadata:
        labels:
          {{- include "sidetrack.waypointLabels" . | nindent 10 }}
          {{- with $values.podLabels }}{{ toYaml . | nindent 10 }}{{ end }}
        annotations:
          # What can't be changed while it runs asks for another pod; the rest is read from the file.
          checksum/config: {{ $config | sha256sum }}
          {{- with $values.podAnnotations }}{{ toYaml . | nindent 10 }}{{ end }}
      spec:
        serviceAccountName: sidetrack-waypoint
        automountServiceAccountToken: false
        enableServiceLinks: false
        terminationGracePeriodSeconds: {{ add $values.preStopSeconds $values.drainSeconds 5 }}
        {{- with $values.imagePullSecrets }}
        imagePullSecrets: {{- toYaml . | nindent 10 }}
        {{- end }}
        securityContext: {{- include "sidetrack.podSecurity" . | nindent 10 }}
        containers:
          - name: waypoint
            image: {{ include "sidetrack.image" . }}
            imagePullPolicy: {{ .Values.image.pullPolicy }}
            args:
              - gateway
              - --config=/etc/sidetrack/sidetrack.yaml
              - --controller=https://{{ include "sidetrack.controller" . }}.{{ .Release.Namespace }}.svc:8443
              - --controller-ca=/var/run/sidetrack/ca.crt
              - --controller-token=/var/run/sidetrack/token
              - --node=$(POD_NAME)
            env:
              - name: POD_NAME
                valueFrom: {fieldRef: {fieldPath: metadata.name}}
            ports:
              - {name: admin, containerPort: 9901}
            # Not ready before its first table, which says what ports it has.
            readinessProbe: {httpGet: {path: /readyz, port: admin}, periodSeconds: 2, failureThreshold: 2}
            livenessProbe: {httpGet: {path: /livez, port: admin}, periodSeconds: 10, failureThreshold: 3}
            {{- if and $values.preStopSeconds (semverCompare ">=1.30.0-0" .Capabilities.KubeVersion.Version) }}
            lifecycle: {preStop: {sleep: {seconds: {{ $values.preStopSeconds }}}}}
            {{- end }}
            securityContext: {{- include "sidetrack.containerSecurity" . | nindent 14 }}
            resources: {{- toYaml $values.resources | nindent 14 }}
            volumeMounts:
              - {name: config, mountPath: /etc/sidetrack, readOnly: true}
              - {name: identity, mountPath: /var/run/sidetrack, readOnly: true}
              - {name: state, mountPath: /var/lib/sidetrack}
        volumes:
          - name: config
            configMap:
              name: sidetrack-waypoint
              items: [{key: sidetrack.yaml, path: sidetrack.yaml}]
          - name: identity
            projected:
              defaultMode: 0440
              sources:
                - serviceAccountToken: {audience: sidetrack-controller, path: token, expirationSeconds: 3600}
                - configMap:
                    name: sidetrack-waypoint
                    items: [{key: ca.crt, path: ca.crt}]
          - name: state
            emptyDir: {sizeLimit: {{ $values.stateSize }}}
        {{- with $values.nodeSelector }}
        nodeSelector: {{- toYaml . | nindent 10 }}
        {{- end }}
        {{- with $values.tolerations }}
        tolerations: {{- toYaml . | nindent 10 }}
        {{- end }}
        {{- with $values.affinity }}
        affinity: {{- toYaml . | nindent 10 }}
        {{- end }}
        {{- with $values.priorityClassName }}
        priorityClassName: {{ . }}
        {{- end }}
        topologySpreadConstraints:
        {{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
          - maxSkew: 1
            topologyKey: {{ . }}
            whenUnsatisfiable: ScheduleAnyway
            labelSelector:
              matchLabels: {{- include "sidetrack.waypointLabels" $ | nindent 16 }}
        {{- end }}
{{- end }}
{{- end }}
