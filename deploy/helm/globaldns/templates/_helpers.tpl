{{/* The profile: "", istiocoredns or banzai. */}}
{{- define "globaldns.name" -}}
{{- .Values.name | default (ternary "istiocoredns" "globaldns" (ne .Values.compat "")) -}}
{{- end }}

{{- define "globaldns.serviceAccount" -}}
{{- if .Values.serviceAccount.name -}}
{{- .Values.serviceAccount.name -}}
{{- else if .Values.compat -}}
istiocoredns-service-account
{{- else -}}
{{- include "globaldns.name" . -}}
{{- end -}}
{{- end }}

{{/* A binding's roleRef cannot be changed, so the old names go with the old role's name. */}}
{{- define "globaldns.clusterRoleBinding" -}}
{{- if eq .Values.compat "istiocoredns" -}}
istio-istiocoredns-role-binding-{{ .Release.Namespace }}
{{- else if eq .Values.compat "banzai" -}}
istio-istiocoredns-cluster-role-binding-{{ .Release.Namespace }}
{{- else -}}
{{- include "globaldns.name" . -}}
{{- end -}}
{{- end }}

{{/* What a Deployment's selector has cannot be changed: this, octet for octet, is what the old installs have. */}}
{{- define "globaldns.selector" -}}
{{- if eq .Values.compat "istiocoredns" -}}
app: istiocoredns
{{- else if eq .Values.compat "banzai" -}}
app: istio-istiocoredns
istio: istiocoredns
{{- else -}}
app.kubernetes.io/name: globaldns
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}
{{- range $key, $value := .Values.compatSelector }}
{{ $key }}: {{ $value | quote }}
{{- end }}
{{- end }}

{{/* Banzai's Service and budget select by fewer labels than its Deployment. */}}
{{- define "globaldns.serviceSelector" -}}
{{- if eq .Values.compat "banzai" -}}
app: istio-istiocoredns
{{- range $key, $value := .Values.compatSelector }}
{{ $key }}: {{ $value | quote }}
{{- end }}
{{- else -}}
{{- include "globaldns.selector" . -}}
{{- end -}}
{{- end }}

{{- define "globaldns.labels" -}}
{{- if .Values.compat }}
{{- include "globaldns.selector" . }}
{{- if eq .Values.compat "istiocoredns" }}
release: {{ .Values.compatRelease }}
{{- end }}
app.kubernetes.io/name: globaldns
app.kubernetes.io/instance: {{ .Release.Name }}
{{- else }}
{{- include "globaldns.selector" . }}
{{- end }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version | replace "+" "_" }}
{{- end }}

{{/* No proxy of any mesh: cluster DNS speaks plain DNS, and the proxy would wait for names we serve. */}}
{{- define "globaldns.meshOptOutLabels" -}}
sidecar.istio.io/inject: "false"
istio.io/dataplane-mode: none
{{- end }}

{{/* The same for an Istio that reads annotations only, and for the first ambient versions. */}}
{{- define "globaldns.meshOptOutAnnotations" -}}
sidecar.istio.io/inject: "false"
ambient.istio.io/redirection: disabled
{{- end }}

{{- define "globaldns.image" -}}
{{- $image := .Values.image -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ $image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end }}

{{- define "globaldns.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
{{- with .Values.seccomp.localhostProfile }}
seccompProfile: {type: Localhost, localhostProfile: {{ quote . }}}
{{- else }}
seccompProfile: {type: RuntimeDefault}
{{- end }}
{{- end }}

{{- define "globaldns.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- define "globaldns.autoscaled" -}}
{{- if and (eq .Values.kind "Deployment") (or .Values.autoscaling.enabled .Values.compat) -}}true{{- end -}}
{{- end }}

{{/* The name of everything that is about cluster DNS; the program's Lease and record have it, too. */}}
{{- define "globaldns.stubDomainsName" -}}globaldns-stub-domains{{- end }}

{{- define "globaldns.advertised" -}}
{{- if or .Values.advertiseService .Values.events.enabled (ne .Values.stubDomains.mode "off") -}}true{{- end -}}
{{- end }}

{{- define "globaldns.openshift" -}}
{{- if or .Values.stubDomains.openshift (.Capabilities.APIVersions.Has "operator.openshift.io/v1/DNS") -}}true{{- end -}}
{{- end }}

{{- define "globaldns.alibaba" -}}
{{- if or .Values.stubDomains.alibaba (.Capabilities.APIVersions.Has "networking.alibabacloud.com/v1beta1/CustomDNSConfig") -}}true{{- end -}}
{{- end }}

{{/* The ports of encrypted DNS: in the pod, where an unprivileged process may have them, and of the Service. */}}
{{- define "globaldns.encrypted" -}}
{{- if .Values.encrypted.secretName -}}
{{- $all := list (dict "name" "tls" "port" 853 "protocol" "TCP" "inside" 8853) (dict "name" "https" "port" 443 "protocol" "TCP" "inside" 8443) (dict "name" "quic" "port" 853 "protocol" "UDP" "inside" 8853) -}}
{{- $served := list -}}
{{- range $all -}}
{{- if index $.Values.encrypted .name -}}{{- $served = append $served . -}}{{- end -}}
{{- end -}}
{{- toJson $served -}}
{{- else -}}
[]
{{- end -}}
{{- end }}

{{/* Combinations that a schema cannot refuse. */}}
{{- define "globaldns.validate" -}}
{{- if and .Values.compat (eq .Values.kind "DaemonSet") -}}
{{- fail "compat and kind: DaemonSet exclude each other: the old Deployment would go on beside the DaemonSet; install with compat first, or without" -}}
{{- end -}}
{{- if and .Values.compatSelector (not .Values.compat) -}}
{{- fail "compatSelector is for compat: istiocoredns or banzai" -}}
{{- end -}}
{{- if and (eq .Values.service.internalTrafficPolicy "Local") (ne .Values.kind "DaemonSet") -}}
{{- fail "service.internalTrafficPolicy: Local needs kind: DaemonSet: queries from a node without a pod of ours would be dropped" -}}
{{- end -}}
{{- if and .Values.cookies.secretName (not .Values.cookies.enabled) -}}
{{- fail "cookies.secretName is of no use without cookies.enabled: true" -}}
{{- end -}}
{{- if and .Values.peers.enabled (not .Values.adminPages) -}}
{{- fail "peers.enabled needs adminPages: true, where replicas ask and tell" -}}
{{- end -}}
{{- if eq (int .Values.listenPort) (int .Values.adminPort) -}}
{{- fail "listenPort and adminPort are the same" -}}
{{- end -}}
{{- if and .Values.encrypted.secretName (not (or .Values.encrypted.tls .Values.encrypted.https .Values.encrypted.quic)) -}}
{{- fail "encrypted.secretName is given and tls, https and quic are all false: nothing would be encrypted" -}}
{{- end -}}
{{- range include "globaldns.encrypted" . | fromJsonArray -}}
{{- if has (int .inside) (list (int $.Values.listenPort) (int $.Values.adminPort)) -}}
{{- fail (printf "encrypted.%s takes port %d of the pod, and listenPort or adminPort has it; choose another one there" .name (int .inside)) -}}
{{- end -}}
{{- end -}}
{{- end }}
