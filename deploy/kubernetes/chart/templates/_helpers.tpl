{{/* The name of the release's objects. */}}
{{- define "otel-oom.name" -}}
{{- $name := .Release.Name -}}
{{- if not (contains .Chart.Name $name) -}}{{- $name = printf "%s-%s" $name .Chart.Name -}}{{- end -}}
{{- $name | trunc 45 | trimSuffix "-" -}}
{{- end -}}

{{/* The labels by which a selector finds the pods of a component: (list $ component). */}}
{{- define "otel-oom.selector" -}}
app.kubernetes.io/name: otel-oom
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{/* All labels of an object of a component: (list $ component). */}}
{{- define "otel-oom.labels" -}}
{{- $ := index . 0 -}}
{{ include "otel-oom.selector" . }}
app.kubernetes.io/version: {{ $.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $.Chart.Name $.Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* Metadata of an object: (list $ component name). */}}
{{- define "otel-oom.metadata" -}}
name: {{ index . 2 }}
namespace: {{ (index . 0).Release.Namespace }}
labels:
  {{- include "otel-oom.labels" . | nindent 2 }}
{{- end -}}

{{/* An image reference: (list image default-tag). */}}
{{- define "otel-oom.image" -}}
{{- $image := index . 0 -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ $image.tag | default (index . 1) }}
{{- end -}}
{{- end -}}

{{/* The platform's settings, as YAML. */}}
{{- define "otel-oom.platform" -}}
{{- get (.Files.Get "platforms.yaml" | fromYaml) .Values.platform | toYaml -}}
{{- end -}}

{{/* "true" or nothing: a value, else the platform's: (list $ value key). */}}
{{- define "otel-oom.switch" -}}
{{- $platform := include "otel-oom.platform" (index . 0) | fromYaml -}}
{{- $value := index . 1 -}}
{{- if kindIs "invalid" $value -}}{{- $value = get $platform (index . 2) -}}{{- end -}}
{{- if $value -}}true{{- end -}}
{{- end -}}

{{- define "otel-oom.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (include "otel-oom.name" .) -}}
{{- end -}}

{{- define "otel-oom.endpoint" -}}
{{- if .Values.otlp.endpoint -}}
{{- .Values.otlp.endpoint -}}
{{- else if .Values.gateway.enabled -}}
http://{{ include "otel-oom.name" . }}-gateway.{{ .Release.Namespace }}.svc:{{ if eq .Values.otlp.protocol "grpc" }}4317{{ else }}4318{{ end }}
{{- else -}}
{{- required "Set otlp.endpoint to the URL of an OTLP backend, or gateway.enabled=true." .Values.otlp.endpoint -}}
{{- end -}}
{{- end -}}

{{/* The port of a URL; that of its scheme where it names none. */}}
{{- define "otel-oom.port" -}}
{{- $url := urlParse (ternary . (printf "//%s" .) (contains "://" .)) -}}
{{- $port := regexFind ":[0-9]+$" $url.host | trimPrefix ":" -}}
{{- $port | default (ternary "443" "80" (eq $url.scheme "https")) -}}
{{- end -}}

{{/* The value of OTEL_EXPORTER_OTLP_HEADERS: percent-encoded, as in W3C Baggage. */}}
{{- define "otel-oom.headers" -}}
{{- $pairs := list -}}
{{- range $name, $value := . -}}
{{- $pairs = append $pairs (printf "%s=%s" $name (urlquery $value | replace "+" "%20")) -}}
{{- end -}}
{{- join "," $pairs -}}
{{- end -}}

{{/* The rights of the agent, and of what removes its pins. */}}
{{- define "otel-oom.securityContext" -}}
{{- $platform := include "otel-oom.platform" . | fromYaml -}}
# Root only by its number: of root's rights it has those below.
runAsUser: 0
runAsGroup: 0
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
  # BPF and PERFMON capture; SYSLOG reads the kernel log and the names of its functions;
  # SYS_PTRACE and DAC_READ_SEARCH read /proc of other users, and through it the node's files.
  add: [BPF, PERFMON, SYSLOG, SYS_PTRACE, DAC_READ_SEARCH]
seccompProfile:
  {{- toYaml .Values.seccompProfile | nindent 2 }}
{{- if and .Values.appArmorProfile.type (include "otel-oom.hasAppArmorField" .) }}
appArmorProfile:
  {{- toYaml .Values.appArmorProfile | nindent 2 }}
{{- end }}
{{- with .Values.seLinuxOptions | default (get $platform "seLinuxOptions") }}
seLinuxOptions:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "otel-oom.hasAppArmorField" -}}
{{- if semverCompare ">=1.30-0" .Capabilities.KubeVersion.Version -}}true{{- end -}}
{{- end -}}

{{/* Annotations of a pod: (list $ container). Before Kubernetes 1.30 AppArmor's profile is one. */}}
{{- define "otel-oom.appArmorAnnotation" -}}
{{- $ := index . 0 -}}
{{- $profile := $.Values.appArmorProfile -}}
{{- if and $profile.type (not (include "otel-oom.hasAppArmorField" $)) -}}
{{- $names := dict "Unconfined" "unconfined" "RuntimeDefault" "runtime/default" -}}
container.apparmor.security.beta.kubernetes.io/{{ index . 1 }}: {{ get $names $profile.type | default (printf "localhost/%s" $profile.localhostProfile) }}
{{- end -}}
{{- end -}}

{{/* What a helper of the agent needs: nothing. OpenShift chooses a user of the namespace's own. */}}
{{- define "otel-oom.noRights" -}}
{{- if not (include "otel-oom.switch" (list . .Values.openshift.scc "scc")) -}}
runAsUser: 65532
runAsGroup: 65532
{{ end -}}
runAsNonRoot: true
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "otel-oom.pullSecrets" -}}
{{- with .pullSecrets -}}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end -}}
{{- end -}}

{{/* Where the agent and what removes its pins run. */}}
{{- define "otel-oom.scheduling" -}}
{{- with include "otel-oom.pullSecrets" .Values.image -}}
{{ . }}
{{ end -}}
{{- with .Values.nodeSelector -}}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{ end -}}
{{- with .Values.affinity -}}
affinity:
  {{- toYaml . | nindent 2 }}
{{ end -}}
{{- with .Values.tolerations -}}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end -}}
{{- end -}}

{{/* Annotations of an object that exists only at the end of a release; its weight is given. */}}
{{- define "otel-oom.cleanupHook" -}}
helm.sh/hook: post-delete
helm.sh/hook-weight: {{ . | quote }}
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded,hook-failed
{{- end -}}

{{/* SecurityContextConstraints: (list $ component name service-account); annotations may follow. */}}
{{- define "otel-oom.scc" -}}
{{- $ := index . 0 -}}
apiVersion: security.openshift.io/v1
kind: SecurityContextConstraints
allowHostDirVolumePlugin: true
allowHostIPC: false
allowHostNetwork: false
allowHostPID: true
allowHostPorts: false
allowPrivilegeEscalation: false
allowPrivilegedContainer: false
allowedCapabilities: [BPF, PERFMON, SYSLOG, SYS_PTRACE, DAC_READ_SEARCH]
defaultAddCapabilities: null
requiredDropCapabilities: null
fsGroup: {type: RunAsAny}
runAsUser: {type: RunAsAny}
seLinuxContext: {type: RunAsAny}
supplementalGroups: {type: RunAsAny}
seccompProfiles: ["*"]
readOnlyRootFilesystem: true
volumes: [configMap, hostPath, projected, secret]
users: ["system:serviceaccount:{{ $.Release.Namespace }}:{{ index . 3 }}"]
metadata:
  name: {{ $.Release.Namespace }}-{{ index . 2 }}
  labels:
    {{- include "otel-oom.labels" (list $ (index . 1)) | nindent 4 }}
{{- end -}}

{{- define "otel-oom.egressToDns" -}}
- ports:
    - {port: 53, protocol: UDP}
    - {port: 53, protocol: TCP}
{{- end -}}

{{- define "otel-oom.egressToApi" -}}
# The API, by the port of its service and by those of its servers.
- ports:
    - port: 443
    - port: 6443
{{- end -}}
