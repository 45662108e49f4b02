// Package client speaks the gateway's API (openshell.v1 and creel.v1) and shows
// it in the project's own terms. Generated types do not leave it.
package client

import (
	"context"
	"crypto/tls"
	"errors"

	"creel/internal/gateway"
)

// Dial returns a client of the gateway at endpoint. It connects with the first
// call, not here; tlsConfig carries the client certificate and the pinned CA.
func Dial(ctx context.Context, endpoint gateway.Endpoint, tlsConfig *tls.Config) (gateway.Client, error) {
	return nil, errors.ErrUnsupported
}
