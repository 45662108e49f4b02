package cli

import (
	"runtime"

	"github.com/spf13/cobra"
)

// VersionDocument is what `creel version --json` prints.
type VersionDocument struct {
	Version  string `json:"version"`
	BuildID  string `json:"build_id"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func (a *app) versionCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "version",
		Short:   "Print the version",
		Long:    "Print which Creel this is. The build id identifies the executable's content.",
		Example: "  creel version\n  creel version --json",
		GroupID: "other",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			v := VersionDocument{Version: a.Build.Version, BuildID: a.Build.ID, Go: runtime.Version(),
				Platform: runtime.GOOS + "/" + runtime.GOARCH}
			if asJSON {
				return a.Streams.JSON(v)
			}
			a.Streams.Print("creel %s (build %s, %s, %s)", v.Version, v.BuildID, v.Go, v.Platform)
			return nil
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

// jsonFlag declares --json with the meaning it has everywhere.
func jsonFlag(cmd *cobra.Command, value *bool) {
	cmd.Flags().BoolVar(value, "json", false, "print exactly one JSON document (docs/json.md)")
}

// yesFlag declares --yes with the meaning it has everywhere.
func yesFlag(cmd *cobra.Command, value *bool) {
	cmd.Flags().BoolVarP(value, "yes", "y", false, "do not ask for confirmation")
}
