{{- /* What the operator may do where it looks after installations; the list is that of operator/src/rights.rs. */ -}}
{{- define "ratssaal.rules" -}}
# What is wanted.
- apiGroups: [ratssaal.io]
  resources: [videoconferences]
  verbs: [list, watch]
# What is there.
- apiGroups: [ratssaal.io]
  resources: [videoconferences/status]
  verbs: [patch]
# Bridges, each by itself; Redis leaves a node that is lost.
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch, create, patch, delete]
# Certificates, API keys, Redis' password; reads those that the spec names.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, list, watch, create, patch, delete]
# Ways to bridges, allocators and Redis.
- apiGroups: [""]
  resources: [services]
  verbs: [get, list, watch, create, patch, delete]
# Accounts without rights for all Pods.
- apiGroups: [""]
  resources: [serviceaccounts]
  verbs: [get, list, watch, create, patch]
# Allocators.
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch]
# The managed Redis.
- apiGroups: [apps]
  resources: [statefulsets]
  verbs: [get, list, watch, create, patch]
# A bridge with people on it is not evicted.
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch]
# Only allocators reach Redis.
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, list, watch, create, patch]
# The way in for browsers.
- apiGroups: [networking.k8s.io]
  resources: [ingresses]
  verbs: [get, list, watch, create, patch, delete]
# The way in at a Gateway, where there is one.
- apiGroups: [gateway.networking.k8s.io]
  resources: [httproutes]
  verbs: [get, list, watch, create, patch, delete]
# What Prometheus scrapes, where its operator is.
- apiGroups: [monitoring.coreos.com]
  resources: [podmonitors]
  verbs: [get, list, watch, create, patch, delete]
# The certificate for the host name, where cert-manager is.
- apiGroups: [cert-manager.io]
  resources: [certificates]
  verbs: [get, list, watch, create, patch, delete]
# Says what happened and what to do.
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end -}}
