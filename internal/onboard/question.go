package onboard

import (
	"strings"

	"creel/internal/inference"
)

// Key names one answer that settling needs.
type Key string

// The answers.
const (
	Name          Key = "name"
	Agent         Key = "agent"
	Runtime       Key = "runtime"
	Driver        Key = "driver"
	Provider      Key = "provider"
	EndpointURL   Key = "endpoint-url"
	Model         Key = "model"
	CredentialEnv Key = "credential-env"
	PolicyFile    Key = "policy"
	DashboardPort Key = "dashboard-port"
	DashboardBind Key = "dashboard-bind"
	PublicURL     Key = "public-url"
	AgentPort     Key = "agent-port"
	HealthPath    Key = "health-path"
	GatewayPort   Key = "gateway-port"
	GatewayTLS    Key = "gateway-tls"
	Confinement   Key = "confinement"
	AcceptRisk    Key = "accept-risk"
	Restart       Key = "restart"

	GatewayEndpoint Key = "gateway-endpoint"
	TrustedProxies  Key = "trusted-proxies"

	Kubeconfig  Key = "kubeconfig"
	KubeContext Key = "context"
	Namespace   Key = "namespace"
	StatefulSet Key = "statefulset"
	Container   Key = "container"
)

// Erasable reports whether an empty answer takes a recorded one back.
func (k Key) Erasable() bool {
	return k == DashboardBind || k == PublicURL || k == TrustedProxies || k == GatewayEndpoint
}

// Question is where an answer may come from, beside the flag named like the key.
type Question struct {
	Key     Key
	Env     []string // variables, in the order asked
	Meaning string   // for help and documentation
}

// Questions is the table of everything that onboard can be told.
func Questions() []Question {
	return []Question{
		{Name, []string{"CREEL_SANDBOX_NAME", "NEMOCLAW_SANDBOX_NAME"}, "name of the sandbox"},
		{Agent, []string{"CREEL_AGENT", "NEMOCLAW_AGENT"}, "agent: console, openclaw, or command with a program after --"},
		{Runtime, []string{"CREEL_RUNTIME"}, "how the gateway is run: embedded, openshell, k3s, kubernetes or external"},
		{Driver, []string{"CREEL_DRIVER"}, "how sandboxes are run: process on runtime embedded"},
		{Provider, []string{"CREEL_PROVIDER", "NEMOCLAW_PROVIDER"}, "model provider: " + oneOf(inference.Names())},
		{EndpointURL, []string{"CREEL_ENDPOINT_URL", "NEMOCLAW_ENDPOINT_URL"}, "base URL of the provider"},
		{Model, []string{"CREEL_MODEL", "NEMOCLAW_MODEL"}, "model id"},
		{CredentialEnv, []string{"CREEL_CREDENTIAL_ENV"}, "name of the environment variable that holds the provider's key"},
		{PolicyFile, []string{"CREEL_POLICY"}, "policy document for the sandbox"},
		{DashboardPort, []string{"CREEL_DASHBOARD_PORT", "NEMOCLAW_DASHBOARD_PORT"}, "port of the dashboard on this machine"},
		{DashboardBind, []string{"CREEL_DASHBOARD_BIND", "NEMOCLAW_DASHBOARD_BIND"}, "address the dashboard is bound to: 127.0.0.1, or 0.0.0.0 for every one; empty goes by the rest; a variable can only be 0.0.0.0"},
		{PublicURL, []string{"CREEL_PUBLIC_URL", "CHAT_UI_URL"}, "URL under which people open the dashboard, as behind a reverse proxy; empty takes it back"},
		{TrustedProxies, []string{"CREEL_TRUSTED_PROXIES"}, "networks of proxies whose X-Forwarded headers are believed, separated by commas; empty takes them back"},
		{AgentPort, []string{"CREEL_AGENT_PORT"}, "port that the agent's own web page listens on inside (agent command)"},
		{HealthPath, []string{"CREEL_HEALTH_PATH"}, "path that says whether the agent is healthy (agent command)"},
		{GatewayPort, []string{"CREEL_GATEWAY_PORT", "NEMOCLAW_GATEWAY_PORT"}, "port of the gateway"},
		{GatewayEndpoint, []string{"CREEL_GATEWAY_ENDPOINT"}, "URL of the gateway (runtime external, or in place of a port-forward on kubernetes); empty takes it back"},
		{Kubeconfig, []string{"CREEL_KUBECONFIG"}, "kubeconfig of the cluster (runtime kubernetes); else what kubectl would take"},
		{KubeContext, []string{"CREEL_KUBE_CONTEXT"}, "context of the kubeconfig (runtime kubernetes)"},
		{Namespace, []string{"CREEL_NAMESPACE"}, "namespace of the gateway in its cluster (runtimes kubernetes, k3s)"},
		{StatefulSet, []string{"CREEL_STATEFULSET"}, "StatefulSet of the gateway in its cluster (runtimes kubernetes, k3s)"},
		{Container, []string{"CREEL_CONTAINER"}, "container that the cluster runs in (runtime k3s); else openshell-cluster-GATEWAY"},
		{GatewayTLS, []string{"CREEL_GATEWAY_TLS"}, "how the gateway is reached: mtls, or plaintext (runtime openshell)"},
		{Confinement, []string{"CREEL_CONFINEMENT"}, "confinement tier: auto, namespaces or landlock; unconfined also needs accept-risk"},
		{AcceptRisk, []string{"CREEL_ACCEPT_RISK"}, "risk to accept where nothing stronger works; the only one is unconfined"},
		{Restart, []string{"CREEL_RESTART"}, "when the agent is restarted: always, on-failure or never"},
	}
}

// oneOf is a list of which one is to be chosen, e.g. "a, b or c".
func oneOf(names []string) string {
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " or " + names[last]
}

// KeyVariables hold the provider's key itself when no credential-env is named.
func KeyVariables() []string { return []string{"CREEL_PROVIDER_KEY", "NEMOCLAW_PROVIDER_KEY"} }
