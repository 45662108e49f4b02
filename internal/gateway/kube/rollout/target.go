package rollout

import (
	"slices"
	"strconv"
	"strings"
)

// defaultPort is where every version of the gateway listens unless told otherwise.
const defaultPort = 8080

// Gateway is the container of a pod that is the gateway: the one that is called so
// or has OpenShell's settings, else the first.
func Gateway(pod PodSpec) ContainerSpec {
	configured := func(c ContainerSpec) bool {
		return slices.ContainsFunc(c.Env, func(e EnvVar) bool { return strings.HasPrefix(e.Name, "OPENSHELL_") })
	}
	named := func(c ContainerSpec) bool { return c.Name == "openshell" || c.Name == "gateway" }
	for _, is := range []func(ContainerSpec) bool{named, configured} {
		if i := slices.IndexFunc(pod.Containers, is); i >= 0 {
			return pod.Containers[i]
		}
	}
	if len(pod.Containers) == 0 {
		return ContainerSpec{}
	}
	return pod.Containers[0]
}

// Port is where the gateway listens inside of its pod: the port that is named for
// its API, else what its environment says, else the first that is neither for
// health checks nor for metrics.
func Port(pod PodSpec) int {
	c := Gateway(pod)
	for _, name := range []string{"grpc", "https", "api", "gateway", "http"} {
		for _, p := range c.Ports {
			if p.Name == name {
				return p.ContainerPort
			}
		}
	}
	for _, e := range c.Env {
		if n, err := strconv.ParseUint(e.Value, 10, 16); e.Name == "OPENSHELL_SERVER_PORT" && err == nil && n > 0 {
			return int(n)
		}
	}
	for _, p := range c.Ports {
		if !strings.Contains(p.Name, "health") && !strings.Contains(p.Name, "metrics") {
			return p.ContainerPort
		}
	}
	return defaultPort
}
