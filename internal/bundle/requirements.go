package bundle

// Generation says which members a gateway mounts.
type Generation int

// The generations of bootstrap secrets.
const (
	Generation1 Generation = 1 // OpenShell up to 0.0.37: four Kubernetes secrets
	Generation2 Generation = 2 // one CA, server, client, sandbox token key
)

// Requirements is what a gateway needs of its set.
type Requirements struct {
	Generation Generation
	// Hosts are further names and addresses that the server certificate must cover.
	Hosts []string
	// Names maps a member to the name it is stored under where a gateway's pod
	// template says otherwise; nil means the generation's own names.
	Names map[string]string
}
