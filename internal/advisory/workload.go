package advisory

const (
	describeSet  = "kubectl describe statefulset NAME"
	describePod  = "kubectl describe pod NAME"
	deletePod    = "kubectl delete pod NAME"
	startGateway = "creel gateway start"
	gatewayLogs  = "creel gateway logs"
)

// workload lists what keeps a gateway in a cluster from serving, and what is wrong
// with the way to it from this machine.
var workload = []Advisory{
	{
		ID: "gateway-statefulset-absent", Severity: Error, Layer: "gateway", Title: "The gateway is not installed in the cluster", Blocking: true,
		Reason:   "The namespace or the StatefulSet that was named does not exist. Creel judges and mends a gateway in a cluster; it is installed by OpenShell's Helm chart.",
		Commands: []string{"kubectl get statefulsets --all-namespaces", "helm list --all-namespaces"},
	},
	{
		ID: "gateway-scaled-down", Severity: Error, Layer: "gateway", Title: "The gateway is scaled to nothing", Blocking: true,
		Reason:   "The StatefulSet wants no pod. Somebody decided that, so Creel does not change it.",
		Commands: []string{"kubectl scale statefulset NAME --replicas=1"},
	},
	{
		ID: "gateway-secret-missing", Severity: Error, Layer: "gateway", Title: "The gateway's pod waits for a secret",
		Reason:   "The pod's volumes or environment refer to a secret that does not exist or lacks a key. Bootstrap secrets are issued by a repair; others are whose chart or operator makes them.",
		Commands: []string{repairSecrets, describePod}, DependsOn: []string{"secrets-absent", "secrets-incomplete"},
	},
	{
		ID: "gateway-mount-failed", Severity: Error, Layer: "gateway", Title: "A volume of the gateway's pod cannot be mounted",
		Reason:   "A config map is missing, or storage is held by another node, slow or broken.",
		Commands: []string{describePod, "kubectl get pvc"},
	},
	{
		ID: "gateway-image", Severity: Error, Layer: "gateway", Title: "The gateway's image cannot be had",
		Reason:   "The node could not pull it: a wrong name or tag, missing credentials, or no way to the registry. The kubelet tries again with growing pauses; a new pod tries at once.",
		Commands: []string{describePod, deletePod},
	},
	{
		ID: "gateway-crash-loop", Severity: Error, Layer: "gateway", Title: "The gateway ends again and again",
		Reason:   "Its container starts and ends. How it ended and its last words are in the message and in its log.",
		Commands: []string{gatewayLogs, "kubectl logs NAME --previous"},
	},
	{
		ID: "gateway-out-of-memory", Severity: Error, Layer: "gateway", Title: "The gateway uses more memory than it may",
		Reason:   "The kernel ended its container at the memory limit of its specification.",
		Commands: []string{describePod, "kubectl set resources statefulset NAME --limits=memory=1Gi"},
	},
	{
		ID: "gateway-container-refused", Severity: Error, Layer: "gateway", Title: "The gateway's container cannot be made",
		Reason:   "The node's container runtime or network refused it.",
		Commands: []string{describePod},
	},
	{
		ID: "gateway-unschedulable", Severity: Error, Layer: "gateway", Title: "No node takes the gateway's pod",
		Reason:   "Nodes lack what it asks for, or its constraints or their taints keep it off them.",
		Commands: []string{describePod, "kubectl describe nodes"},
	},
	{
		ID: "gateway-volume-unbound", Severity: Error, Layer: "gateway", Title: "The gateway's volume is not there",
		Reason:   "Its PersistentVolumeClaim does not exist or is bound to no volume: no storage class provides one.",
		Commands: []string{"kubectl describe pvc NAME", "kubectl get storageclass"},
	},
	{
		ID: "gateway-quota", Severity: Error, Layer: "gateway", Title: "A quota leaves no room for the gateway's pod",
		Reason:   "A ResourceQuota of the namespace is used up, or wants the pod to name its limits.",
		Commands: []string{"kubectl describe resourcequota"},
	},
	{
		ID: "gateway-pod-refused", Severity: Error, Layer: "gateway", Title: "The cluster refuses the gateway's pod",
		Reason:   "Admission does not let the StatefulSet make it: pod security, a webhook, or a service account that is missing.",
		Commands: []string{describeSet},
	},
	{
		ID: "gateway-pod-absent", Severity: Error, Layer: "gateway", Title: "The gateway has no pod",
		Reason:   "The StatefulSet wants a pod and has none, and no event says why yet.",
		Commands: []string{describeSet},
	},
	{
		ID: "gateway-pod-failed", Severity: Error, Layer: "gateway", Title: "The gateway's pod has ended",
		Reason:   "Its node evicted or lost it, and it was not made again yet.",
		Commands: []string{describePod, deletePod},
	},
	{
		ID: "gateway-pod-stuck", Severity: Error, Layer: "gateway", Title: "The gateway's pod does not go",
		Reason:   "It was deleted and is not gone after its time; a StatefulSet makes no other before that. Its node may be lost, or a finalizer holds it.",
		Commands: []string{describePod, "kubectl get nodes"},
	},
	{
		ID: "gateway-pod-not-ready", Severity: Error, Layer: "gateway", Title: "The gateway's pod is not ready",
		Reason:   "It is on its way up, or its readiness probe fails.",
		Commands: []string{startGateway, gatewayLogs, describePod},
	},
	{
		ID: "gateway-rollout-unseen", Severity: Error, Layer: "gateway", Title: "The cluster does not act on the gateway",
		Reason:   "The controller of StatefulSets has not taken up its latest change.",
		Commands: []string{describeSet, "kubectl get --raw '/readyz?verbose'"},
	},
	{
		ID: "gateway-rolling", Severity: Warning, Layer: "gateway", Title: "The gateway is not wholly as its StatefulSet wants it",
		Reason:   "A pod serves, and others are not ready or are of the revision before the latest change.",
		Commands: []string{"kubectl rollout status statefulset NAME"},
	},
	{
		ID: "gateway-secrets-outdated", Severity: Error, Layer: "gateway", Title: "The gateway's pod uses other secrets than the cluster holds",
		Reason:   "The certificate that it presents, or the authority that it trusts, is not the one in its secrets: they were replaced after the pod began, and it was not started again.",
		Commands: []string{"creel gateway restart", inspectSecrets},
	},
	{
		ID: "gateway-in-cluster", Severity: Error, Layer: "gateway", Title: "The gateway is not Creel's to stop",
		Reason:   "It runs in a cluster, for everybody who uses it there. Creel ends its own port-forward and leaves the StatefulSet as it is.",
		Commands: []string{"kubectl scale statefulset NAME --replicas=0", startGateway},
	},
	{
		ID: "gateway-forward-down", Severity: Error, Layer: "gateway", Title: "The port-forward to the gateway does not run",
		Reason:   "OpenShell clients and people of this machine reach a gateway in a cluster through a forward that Creel keeps, and it was never started, has ended, is stopped, or cannot be told apart from other processes.",
		Commands: []string{startGateway},
	},
	{
		ID: "gateway-forward-waiting", Severity: Error, Layer: "gateway", Title: "The port-forward has no way to the gateway's pod",
		Reason:   "It runs, and could not be joined to a pod that is ready: the pod is moving, or the cluster does not let it.",
		Commands: []string{"creel gateway status", "kubectl auth can-i create pods/portforward"},
	},
	{
		ID: "gateway-forward-failed", Severity: Error, Layer: "gateway", Title: "The port-forward to the gateway did not start", Blocking: true,
		Reason:   "Its process ended, or was not ready in time. Its last words are in the message.",
		Commands: []string{startGateway},
	},
}
