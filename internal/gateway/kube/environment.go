package kube

import (
	"path/filepath"

	"creel/internal/budget"
)

// inherited are the variables that the port-forward gets of its launcher's
// environment, besides the budgets: where state is, where the cluster is and how it
// is reached, and which profile a login program takes. What holds a credential
// itself stays behind.
var inherited = []string{"PATH", "HOME", "LANG", "TZ", "CREEL_HOME",
	"XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR", "XDG_DATA_HOME", "XDG_CACHE_HOME",
	"KUBECONFIG", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT", "SSL_CERT_FILE", "SSL_CERT_DIR",
	"HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "ALL_PROXY", "https_proxy", "http_proxy", "no_proxy", "all_proxy",
	"AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE",
	"GOOGLE_APPLICATION_CREDENTIALS", "CLOUDSDK_CONFIG", "CLOUDSDK_ACTIVE_CONFIG_NAME", "USE_GKE_GCLOUD_AUTH_PLUGIN",
	"AZURE_CONFIG_DIR", "AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_FEDERATED_TOKEN_FILE"}

// environment is that of the port-forward. It runs in another directory, so relative
// paths are made absolute.
func (r *Runtime) environment() []string {
	var env []string
	add := func(name string) {
		v := r.cfg.Getenv(name)
		switch {
		case v == "":
			return
		case name == "CREEL_HOME":
			v = absolute(v)
		case name == "KUBECONFIG":
			list := filepath.SplitList(v)
			v = ""
			for i, path := range list {
				if i > 0 {
					v += string(filepath.ListSeparator)
				}
				if path != "" {
					v += absolute(path)
				}
			}
		}
		env = append(env, name+"="+v)
	}
	for _, name := range inherited {
		add(name)
	}
	for _, b := range budget.Table() {
		add(b.Name.Variable())
	}
	return env
}

func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}
