package launch

import (
	"errors"

	"creel/internal/advisory"
	"creel/internal/state"
)

// UnusableMarker says what is wrong with the marker at path, which could be read and
// not understood.
func UnusableMarker(path string, err error) error {
	var newer state.NewerError
	if errors.As(err, &newer) {
		return advisory.New("gateway-marker-newer", path+" cannot be understood", err)
	}
	return advisory.New("gateway-marker-invalid", path+" is not what Creel wrote there", err)
}
