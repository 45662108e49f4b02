package kube

import "creel/internal/gateway/launch"

// reaching are the variables that the port-forward gets beside every process of
// Creel's own: where the cluster is and how it is reached, and which profile a login
// program takes. What holds a credential itself stays behind.
var reaching = []string{
	"KUBECONFIG", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT", "SSL_CERT_FILE", "SSL_CERT_DIR",
	"HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "ALL_PROXY", "https_proxy", "http_proxy", "no_proxy", "all_proxy",
	"AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE",
	"GOOGLE_APPLICATION_CREDENTIALS", "CLOUDSDK_CONFIG", "CLOUDSDK_ACTIVE_CONFIG_NAME", "USE_GKE_GCLOUD_AUTH_PLUGIN",
	"AZURE_CONFIG_DIR", "AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_FEDERATED_TOKEN_FILE",
}

// environment is that of the port-forward.
func (r *Runtime) environment() []string { return launch.Environment(r.cfg.Getenv, reaching...) }
