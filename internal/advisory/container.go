package advisory

// container lists what is wrong with reaching what runs in a container.
var container = []Advisory{
	{
		ID: "engine-missing", Severity: Error, Layer: "host", Title: "There is no container engine",
		Reason:   "A gateway that runs in a container is reached through Docker or Podman, and neither has a socket here. Podman's serves only when its socket unit is enabled.",
		Commands: []string{"systemctl start docker", "systemctl enable --now podman.socket"},
	},
	{
		ID: "engine-unreachable", Severity: Error, Layer: "host", Title: "The container engine does not answer", Blocking: true,
		Reason:   "Its socket refused the connection or the user, or nothing came back in time. That says nothing about the containers, so nothing is done to them.",
		Commands: []string{"docker version", "systemctl status docker", "id -nG"},
	},
	{
		ID: "container-missing", Severity: Error, Layer: "gateway", Title: "The gateway's container does not exist",
		Reason:   "The container engine knows no container of that name. It may be known to another engine, or to another user's. Creel makes no gateways in containers: its own takes the place of one that is gone.",
		Commands: []string{"docker ps --all", "podman ps --all", "creel onboard --gateway OTHER --runtime embedded"}, DependsOn: []string{"engine-missing", "engine-unreachable"},
	},
	{
		ID: "container-not-running", Severity: Error, Layer: "gateway", Title: "The gateway's container does not run",
		Reason:   "It is paused, stopped or on its way, so what is inside can neither be read nor mended.",
		Commands: []string{"creel gateway start", "docker ps --all"},
	},
	{
		ID: "container-out-of-memory", Severity: Error, Layer: "gateway", Title: "The gateway's container ran out of memory", Blocking: true,
		Reason:   "The kernel ended its main program because the container, or the machine, had no memory left.",
		Commands: []string{"free -m", "docker inspect NAME", "creel gateway start"},
	},
	{
		ID: "container-refused", Severity: Error, Layer: "gateway", Title: "The container engine does not start or stop the container", Blocking: true,
		Reason:   "The engine answered, and would not: a port or a mount of the container is gone or taken, it is paused, or this user may not.",
		Commands: []string{"docker inspect NAME", "docker logs --tail 50 NAME"},
	},
	{
		ID: "container-program-missing", Severity: Error, Layer: "gateway", Title: "A program is missing in the gateway's container",
		Reason:   "What Creel works the cluster with, or asks for its health with, cannot be run in there: the image is not that of a gateway, or of another version.",
		Commands: []string{"docker inspect NAME"},
	},
}
