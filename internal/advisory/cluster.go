package advisory

const (
	listContexts = "kubectl config get-contexts"
	askCluster   = "kubectl cluster-info"
	askRights    = "kubectl auth can-i --list"
)

// cluster lists what is wrong with reaching a Kubernetes cluster, and what one
// may refuse.
var cluster = []Advisory{
	{
		ID: "cluster-none", Severity: Error, Layer: "secrets", Title: "No cluster is configured", Blocking: true,
		Reason:   "There is no kubeconfig, and this is no pod: nothing says where the Kubernetes API is.",
		Commands: []string{listContexts},
	},
	{
		ID: "cluster-kubeconfig-missing", Severity: Error, Layer: "secrets", Title: "The kubeconfig does not exist or cannot be read", Blocking: true,
		Reason:   "A file that was named, by a flag or by KUBECONFIG, is not there or not readable. No other cluster is taken instead.",
		Commands: []string{"ls -l FILE", listContexts},
	},
	{
		ID: "cluster-kubeconfig-invalid", Severity: Error, Layer: "secrets", Title: "The kubeconfig cannot be used", Blocking: true,
		Reason:   "It does not parse, or it refers to a file, a cluster or a user that does not exist.",
		Commands: []string{"kubectl config view", listContexts},
	},
	{
		ID: "cluster-context-unknown", Severity: Error, Layer: "secrets", Title: "The kubeconfig has no such context", Blocking: true,
		Reason:   "A context names a cluster and a user. The one that is meant does not exist, or none is selected.",
		Commands: []string{listContexts},
	},
	{
		ID: "cluster-no-server", Severity: Error, Layer: "secrets", Title: "The kubeconfig does not say where the cluster is", Blocking: true,
		Reason:   "The context's cluster does not exist in the kubeconfig, or it has no server.",
		Commands: []string{"kubectl config get-clusters", listContexts},
	},
	{
		ID: "cluster-name-invalid", Severity: Error, Layer: "input", Title: "A Kubernetes name is not usable", Blocking: true,
		Reason:   "Names of namespaces and StatefulSets hold lower-case letters, digits and hyphens.",
		Commands: []string{"kubectl get statefulsets --all-namespaces"},
	},
	{
		ID: "cluster-plugin-missing", Severity: Error, Layer: "secrets", Title: "The program that logs in to the cluster is not installed", Blocking: true,
		Reason:   "The kubeconfig gets its credentials from a program, and that program is not there.",
		Commands: []string{"kubectl config view --minify", askCluster},
	},
	{
		ID: "cluster-plugin-failed", Severity: Error, Layer: "secrets", Title: "The program that logs in to the cluster failed", Blocking: true,
		Reason:   "The kubeconfig gets its credentials from a program, which ended with an error. It often needs a new login.",
		Commands: []string{askCluster},
	},
	{
		ID: "cluster-insecure", Severity: Warning, Layer: "secrets", Title: "The cluster is not verified",
		Reason:   "The kubeconfig turns off TLS or its verification, so whoever is in between can read the gateway's private keys.",
		Commands: []string{"kubectl config view --minify"},
	},
	{
		ID: "cluster-unreachable", Severity: Error, Layer: "secrets", Title: "The cluster cannot be reached", Blocking: true,
		Reason:   "Nothing answers where the Kubernetes API should be. What is in the cluster is unknown, so nothing is done.",
		Commands: []string{askCluster, listContexts},
	},
	{
		ID: "cluster-timeout", Severity: Error, Layer: "secrets", Title: "The cluster does not answer in time", Blocking: true,
		Reason:   "The Kubernetes API took longer than it may. What is in the cluster is unknown, so nothing is done.",
		Commands: []string{askCluster, "creel help budgets"},
	},
	{
		ID: "cluster-tls", Severity: Error, Layer: "secrets", Title: "The cluster's certificate is not accepted", Blocking: true,
		Reason:   "Another authority issued it, it is for another name, or it is not valid now: the wrong cluster, an old kubeconfig, or a wrong clock.",
		Commands: []string{"date", "kubectl config view --minify", askCluster},
	},
	{
		ID: "cluster-not-kubernetes", Severity: Error, Layer: "secrets", Title: "What answers is not a Kubernetes API", Blocking: true,
		Reason:   "A proxy, a login page or another program answers at the cluster's address.",
		Commands: []string{"kubectl config view --minify", "kubectl get --raw /version"},
	},
	{
		ID: "cluster-unhealthy", Severity: Error, Layer: "secrets", Title: "The cluster answers with a failure of its own", Blocking: true,
		Reason:   "The Kubernetes API is overloaded or has lost its store.",
		Commands: []string{"kubectl get --raw '/readyz?verbose'"},
	},
	{
		ID: "cluster-unauthorized", Severity: Error, Layer: "secrets", Title: "The cluster does not know who asks", Blocking: true,
		Reason:   "The credentials in the kubeconfig are not accepted: they have expired, were revoked or are for another cluster.",
		Commands: []string{"kubectl auth whoami", "kubectl config view --minify"},
	},
	{
		ID: "cluster-forbidden", Severity: Error, Layer: "secrets", Title: "The cluster does not allow it", Blocking: true,
		Reason:   "The user or service account lacks a right that is needed. This is asked before anything is written.",
		Commands: []string{askRights},
	},
	{
		ID: "cluster-refused", Severity: Error, Layer: "secrets", Title: "The cluster refuses what should be written", Blocking: true,
		Reason:   "A policy or an admission webhook of the cluster, or the API itself, does not accept the object.",
		Commands: []string{"kubectl get validatingwebhookconfigurations,validatingadmissionpolicies"},
	},
	{
		ID: "cluster-quota", Severity: Error, Layer: "secrets", Title: "A quota of the namespace is used up", Blocking: true,
		Reason:   "A ResourceQuota limits how many secrets there may be, and a backup is one as well.",
		Commands: []string{"kubectl describe resourcequota"},
	},
	{
		ID: "cluster-secret-going", Severity: Error, Layer: "secrets", Title: "A bootstrap secret is being deleted", Blocking: true,
		Reason:   "It was deleted and something in the cluster holds it back with a finalizer. It is neither there nor gone, so nothing is written over it.",
		Commands: []string{"kubectl get secret NAME -o yaml"},
	},
}
