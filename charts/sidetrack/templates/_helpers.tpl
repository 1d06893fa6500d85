{{/* Names: what belongs to the gateway ends in -gateway, what belongs to the controller in -controller. */}}
{{- define "sidetrack.fullname" -}}
{{- if .Values.fullnameOverride }}{{ .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else }}{{- $name := default .Chart.Name .Values.nameOverride }}
{{- if contains $name .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}{{ printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" }}{{ end }}
{{- end }}
{{- end }}
{{- define "sidetrack.gateway" -}}{{ include "sidetrack.fullname" . }}-gateway{{- end }}
{{- define "sidetrack.controller" -}}{{ include "sidetrack.fullname" . }}-controller{{- end }}
{{- define "sidetrack.peers" -}}{{ include "sidetrack.controller" . }}-peers{{- end }}
{{- define "sidetrack.tlsSecret" -}}
{{- .Values.controller.tls.existingSecret | default (printf "%s-tls" (include "sidetrack.controller" .)) }}
{{- end }}

{{/* The secrets that all proxies share. */}}
{{- define "sidetrack.contextSecret" -}}
{{- .Values.context.existingSecret | default (printf "%s-context" (include "sidetrack.controller" .)) }}
{{- end }}

{{/* What proxies inside have in common with the gateways, as JSON. Whom a gateway believes, and where it is told what
inside was decided, is its own business; inside, `require` is asked for where it is meant. */}}
{{- define "sidetrack.shared" -}}
{{- $shared := dict }}
{{- with .Values.gateway.config.carriers }}{{- with omit . "from" }}{{- $_ := set $shared "carriers" . }}{{- end }}{{- end }}
{{- with .Values.gateway.config.context }}
{{- with omit . "keyFile" "require" "reports" "reportsAs" }}{{- $_ := set $shared "context" . }}{{- end }}
{{- end }}
{{- toJson $shared }}
{{- end }}

{{/* Labels that select pods never change over the life of a release. Argument: (list context component). */}}
{{- define "sidetrack.selector" -}}
app.kubernetes.io/name: sidetrack
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}
{{- define "sidetrack.labels" -}}
{{ include "sidetrack.selector" . }}
app.kubernetes.io/version: {{ (index . 0).Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ (index . 0).Release.Service }}
helm.sh/chart: {{ printf "%s-%s" (index . 0).Chart.Name (index . 0).Chart.Version }}
{{- end }}

{{- define "sidetrack.image" -}}
{{- with .Values.image -}}
{{- if .digest }}{{ .repository }}@{{ .digest }}{{ else }}{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end }}
{{- end }}

{{- define "sidetrack.initImage" -}}
{{- .Values.sidecar.inject.initImage | default (printf "%s-init:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion)) }}
{{- end }}

{{/* What every pod of ours is: nobody, who can't become somebody. */}}
{{- define "sidetrack.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end }}
{{- define "sidetrack.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* Where pods go. Argument: (list context component values-of-the-component). */}}
{{- define "sidetrack.placement" -}}
{{- $values := index . 2 -}}
{{- with $values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.affinity }}
affinity: {{- toYaml . | nindent 2 }}
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
      matchLabels: {{- include "sidetrack.selector" $ | nindent 8 }}
{{- end }}
{{- end }}

{{/* A token for the controller and what its certificate is checked by, in one volume. */}}
{{- define "sidetrack.identityVolume" -}}
name: identity
projected:
  defaultMode: 0440
  sources:
    - serviceAccountToken: {audience: sidetrack-controller, path: token, expirationSeconds: 3600}
    - secret:
        name: {{ include "sidetrack.tlsSecret" . }}
        items: [{key: ca.crt, path: ca.crt}]
{{- end }}
