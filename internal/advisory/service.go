package advisory

// service is about the unit of a service manager that keeps a gateway.
var service = []Advisory{
	{
		ID: "service-no-systemd", Severity: Error, Layer: "gateway", Title: "This machine has no systemd to keep the gateway",
		Reason: "A service that starts the gateway at boot is a unit of systemd, and systemd is not what runs this machine (a container, WSL without it, another init). " +
			"The gateway works all the same and has to be started by something else: in a container \"creel gateway serve\" as the container's command, elsewhere a line \"@reboot creel gateway start\" in the user's crontab.",
		Commands: []string{"creel gateway start", "creel gateway serve", "crontab -e"},
	},
	{
		ID: "service-manager-unreachable", Severity: Error, Layer: "gateway", Title: "The service manager does not answer",
		Reason:   "systemd runs this machine, and the manager that keeps this user's services could not be asked. That says nothing about the gateway, so nothing is done to it.",
		Commands: []string{"systemctl --user status", "loginctl enable-linger", "creel gateway status"},
	},
	{
		ID: "service-unknown", Severity: Error, Layer: "gateway", Title: "Whether a service keeps the gateway could not be told",
		Reason:   "A question about the unit, its record or the user's lingering had no usable answer. Nothing is changed on what is not known.",
		Commands: []string{"creel gateway status"},
	},
	{
		ID: "service-not-installed", Severity: Info, Layer: "gateway", Title: "No service keeps the gateway",
		Reason:   "It was started by a command: after a reboot it has to be started by one again, and sandboxes with it.",
		Commands: []string{"creel gateway install-service"},
	},
	{
		ID: "service-runtime", Severity: Error, Layer: "gateway", Title: "Creel's service keeps embedded gateways only",
		Reason:   "A gateway of another runtime is somebody else's program, or somebody else's to run.",
		Commands: []string{"creel gateway status"}, Blocking: true,
	},
	{
		ID: "service-path-unusable", Severity: Error, Layer: "gateway", Title: "systemd runs no program from this path",
		Reason:   "A unit can name no program whose path holds a quotation mark, a backslash or a control character, and the gateway's lies in its state directory.",
		Commands: []string{"CREEL_HOME=/another/path creel onboard"}, Blocking: true,
	},
	{
		ID: "service-unit-foreign", Severity: Error, Layer: "gateway", Title: "A unit of this name is not Creel's",
		Reason:   "Somebody else wrote it, or Creel did for a gateway of the same name with its state elsewhere. It is neither overwritten, nor started, nor removed.",
		Commands: []string{"systemctl cat creel-gateway-NAME.service", "creel gateway install-service"}, Blocking: true,
	},
	{
		ID: "service-unit-edited", Severity: Error, Layer: "gateway", Title: "The unit was changed since Creel wrote it",
		Reason:   "What somebody wrote into it is not overwritten or removed. Settings of one's own belong into a drop-in, which Creel leaves alone.",
		Commands: []string{"systemctl cat creel-gateway-NAME.service", "systemctl edit creel-gateway-NAME.service"}, Blocking: true,
	},
	{
		ID: "service-unit-missing", Severity: Error, Layer: "gateway", Title: "The unit is gone",
		Reason:   "A service was installed for this gateway, and its unit file is there no more: nothing starts the gateway at boot.",
		Commands: []string{"creel gateway install-service", "creel gateway uninstall-service"},
	},
	{
		ID: "service-unit-stale", Severity: Error, Layer: "gateway", Title: "The service manager has another unit than the file says",
		Reason:   "It has not read the unit file again since that was changed or removed.",
		Commands: []string{"systemctl --user daemon-reload", "creel gateway install-service"},
	},
	{
		ID: "service-masked", Severity: Error, Layer: "gateway", Title: "The unit is masked",
		Reason:   "Somebody forbade the service manager to start a unit of this name.",
		Commands: []string{"systemctl --user unmask creel-gateway-NAME.service", "creel gateway install-service"}, Blocking: true,
	},
	{
		ID: "service-not-enabled", Severity: Error, Layer: "gateway", Title: "Nothing starts the unit at boot",
		Reason:   "The unit is there and not enabled.",
		Commands: []string{"creel gateway install-service"},
	},
	{
		ID: "service-not-active", Severity: Error, Layer: "gateway", Title: "The service does not run",
		Reason:   "The unit is not active: it was stopped, or it failed too often and is left for a person to look at.",
		Commands: []string{"creel gateway start", "creel gateway logs"},
	},
	{
		ID: "service-other-process", Severity: Error, Layer: "gateway", Title: "The gateway runs outside of its service",
		Reason:   "The gateway that answers is not the unit's main process: nothing starts it again when it dies. A restart hands it over; sandboxes go on.",
		Commands: []string{"creel gateway restart"},
	},
	{
		ID: "service-linger-off", Severity: Error, Layer: "gateway", Title: "This user's services end with the last login session",
		Reason:   "Without lingering, systemd ends a user's manager when the user logs out, and what it keeps with it, and starts none at boot.",
		Commands: []string{"sudo loginctl enable-linger USER", "creel gateway install-service"},
	},
	{
		ID: "service-exec-refused", Severity: Error, Layer: "gateway", Title: "The service manager could not execute the program",
		Reason:   "It was refused (203/EXEC): a file system mounted with noexec, or SELinux, which lets no service of the system run a program that is labelled as a file of a home.",
		Commands: []string{"ausearch -m avc -ts recent", "chcon -t bin_t FILE", "creel gateway start"}, Blocking: true,
	},
}
