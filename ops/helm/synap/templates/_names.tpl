{{- define "synap.name" -}}
{{- if gt (len .Release.Name) 30 }}{{ fail "the release's name is longer than 30 characters, and names of objects are made of it" }}{{ end -}}
{{ .Release.Name }}
{{- end }}

{{- define "synap.selector" -}}
app.kubernetes.io/name: synap
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "synap.locked" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}
