package advisory

var host = []Advisory{
	{
		ID: "disk-full", Severity: Error, Layer: "host", Title: "The disk is full",
		Reason:   "Nothing more can be written where Creel keeps its state. What was there is as it was: files are replaced whole or not at all.",
		Commands: []string{"df -h", "creel status"}, Blocking: true,
	},
	{
		ID: "disk-read-only", Severity: Error, Layer: "host", Title: "The file system is read-only",
		Reason:   "Creel writes its state below its home. Linux also mounts a disk read-only after it found errors on it.",
		Commands: []string{"findmnt --target FILE", "CREEL_HOME=/another/path creel onboard"}, Blocking: true,
	},
	{
		ID: "state-not-directory", Severity: Error, Layer: "host", Title: "Creel's home is not a directory",
		Reason:   "CREEL_HOME, or an XDG directory, or something on the way there, is a file. Creel never replaces it.",
		Commands: []string{"ls -ld FILE", "CREEL_HOME=/another/path creel onboard"}, Blocking: true,
	},
	{
		ID: "state-permission", Severity: Error, Layer: "host", Title: "Creel's home may not be used by this user",
		Reason:   "The directories of Creel belong to the user who runs it. They may have been made by another one, for instance with sudo.",
		Commands: []string{"ls -ld FILE", "CREEL_HOME=/another/path creel onboard"}, Blocking: true,
	},
	{
		ID: "socket-path-too-long", Severity: Error, Layer: "host", Title: "The path of a Unix socket is too long",
		Reason:   "The kernel keeps a socket's path in 108 bytes. Supervisors reach the gateway over such a socket below the run directory.",
		Commands: []string{"CREEL_HOME=/another/path creel onboard"}, Blocking: true,
	},
	{
		ID: "disk-space-low", Severity: Warning, Layer: "host", Title: "Little disk space is left",
		Reason:   "The database, the logs and the sandboxes' workspaces grow; a full disk stops them.",
		Commands: []string{"df -h"},
	},
	{
		ID: "memory-low", Severity: Warning, Layer: "host", Title: "Little memory is free",
		Reason:   "The gateway and a supervisor need about 60 MiB together; the agent comes on top. Under pressure the kernel ends processes.",
		Commands: []string{"free -h"},
	},
	{
		ID: "home-on-network", Severity: Warning, Layer: "host", Title: "Creel's home is on a network file system",
		Reason:   "Locks, SQLite's write-ahead log and Unix sockets are not dependable there.",
		Commands: []string{"CREEL_HOME=/another/path creel onboard"},
	},
	{
		ID: "port-in-use", Severity: Error, Layer: "host", Title: "A port is taken",
		Reason:   "Another process listens on a port that was asked for by number, so no other was chosen.",
		Commands: []string{"ss -ltnp", "creel onboard --gateway-port PORT"}, Blocking: true,
	},
	{
		ID: "os-unsupported", Severity: Error, Layer: "host", Title: "This needs Linux",
		Reason:   "The gateway and its sandboxes use namespaces, Landlock, seccomp and pidfds. On other systems the command line can only reach a gateway elsewhere.",
		Commands: []string{"creel version"}, Blocking: true,
	},
}
