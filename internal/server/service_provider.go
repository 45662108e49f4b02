package server

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	datamodelv1 "creel/api/openshell/datamodel/v1"
	openshellv1 "creel/api/openshell/v1"
	"creel/internal/credential"
	"creel/internal/server/store"
)

// The keys under which a model provider's address and key are kept.
const (
	baseURLKey = "OPENAI_BASE_URL"
	apiKeyKey  = "OPENAI_API_KEY"
)

// maxCredential bounds one credential or configuration value.
const maxCredential = 64 << 10

var providerName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

// providerTo shows a provider; its credentials are write-only.
func providerTo(o store.Object[store.Provider]) *datamodelv1.Provider {
	p := &datamodelv1.Provider{Metadata: metaTo(o, nil), Type: o.Value.Type, Config: o.Value.Config,
		CredentialExpiresAtMs: o.Value.ExpiresAtMS, Credentials: map[string]string{}}
	for key := range o.Value.Credentials {
		p.Credentials[key] = credential.Redacted
	}
	return p
}

// seal encrypts credentials. A value "REDACTED" is what a client read back: it
// keeps what is stored, if anything is.
func (d *daemon) seal(into map[string][]byte, plain map[string]string) (map[string][]byte, error) {
	out := maps.Clone(into)
	if out == nil {
		out = map[string][]byte{}
	}
	for key, value := range plain {
		switch {
		case !variableName.MatchString(key):
			return nil, status.Errorf(codes.InvalidArgument, "%q cannot name a credential", key)
		case len(value) > maxCredential:
			return nil, status.Errorf(codes.InvalidArgument, "credential %s is longer than %d bytes", key, maxCredential)
		case value == "":
			delete(out, key)
		case value == credential.Redacted:
			if _, have := out[key]; !have {
				return nil, status.Errorf(codes.InvalidArgument, "credential %s has the value that stands for a hidden one", key)
			}
		default:
			sealed, err := d.keyring.Seal(credential.NewSecret(value))
			if err != nil {
				return nil, err
			}
			out[key] = sealed
		}
	}
	return out, nil
}

func checkConfig(config map[string]string) error {
	for key, value := range config {
		if !variableName.MatchString(key) || len(value) > maxCredential {
			return status.Errorf(codes.InvalidArgument, "configuration %q has a name that cannot be, or is too long", key)
		}
	}
	return nil
}

func (s *openShell) CreateProvider(ctx context.Context, r *openshellv1.CreateProviderRequest) (*openshellv1.ProviderResponse, error) {
	if err := checkWorkspace(r.GetWorkspace()); err != nil {
		return nil, err
	}
	name := r.GetProvider().GetMetadata().GetName()
	if !providerName.MatchString(name) {
		return nil, invalid(fmt.Errorf("provider name %q is not a DNS label", name))
	}
	if r.GetProvider().GetType() == "" {
		return nil, invalid(errors.New("provider has no type"))
	}
	if err := checkConfig(r.GetProvider().GetConfig()); err != nil {
		return nil, err
	}
	sealed, err := s.d.seal(nil, r.GetProvider().GetCredentials())
	if err != nil {
		return nil, err
	}
	o, err := s.d.store.Providers.Create(ctx, store.Object[store.Provider]{ID: uuid.NewString(), Name: name,
		Labels: r.GetProvider().GetMetadata().GetLabels(), Value: store.Provider{Type: r.GetProvider().GetType(),
			Config: r.GetProvider().GetConfig(), Credentials: sealed, ExpiresAtMS: r.GetProvider().GetCredentialExpiresAtMs()}})
	if err != nil {
		return nil, err
	}
	return &openshellv1.ProviderResponse{Provider: providerTo(o)}, nil
}

func (s *openShell) GetProvider(ctx context.Context, r *openshellv1.GetProviderRequest) (*openshellv1.ProviderResponse, error) {
	o, err := s.d.store.Providers.Get(ctx, r.GetWorkspace(), r.GetName())
	if err != nil {
		return nil, err
	}
	return &openshellv1.ProviderResponse{Provider: providerTo(o)}, nil
}

func (s *openShell) ListProviders(ctx context.Context, r *openshellv1.ListProvidersRequest) (*openshellv1.ListProvidersResponse, error) {
	limit, offset := page(r.GetLimit(), r.GetOffset())
	found, err := s.d.store.Providers.List(ctx, store.Query{Workspace: r.GetWorkspace(), All: r.GetAllWorkspaces(), Limit: limit, Offset: offset})
	if err != nil {
		return nil, err
	}
	out := &openshellv1.ListProvidersResponse{}
	for _, o := range found {
		out.Providers = append(out.Providers, providerTo(o))
	}
	return out, nil
}

// UpdateProvider merges: what the request does not name stays, an empty value
// removes. A resource version in the request must be the present one.
func (s *openShell) UpdateProvider(ctx context.Context, r *openshellv1.UpdateProviderRequest) (*openshellv1.ProviderResponse, error) {
	asked := r.GetProvider()
	o, err := s.d.store.Providers.Get(ctx, r.GetWorkspace(), asked.GetMetadata().GetName())
	if err != nil {
		return nil, err
	}
	if v := asked.GetMetadata().GetResourceVersion(); v != 0 && v != o.Version {
		return nil, fmt.Errorf("update provider %s: %w", o.Name, store.ErrConflict)
	}
	if err := checkConfig(asked.GetConfig()); err != nil {
		return nil, err
	}
	if o.Value.Credentials, err = s.d.seal(o.Value.Credentials, asked.GetCredentials()); err != nil {
		return nil, err
	}
	if t := asked.GetType(); t != "" {
		o.Value.Type = t
	}
	config := map[string]string{}
	maps.Copy(config, o.Value.Config)
	maps.Copy(config, asked.GetConfig())
	maps.DeleteFunc(config, func(_, v string) bool { return v == "" })
	o.Value.Config = config
	expires := map[string]int64{}
	maps.Copy(expires, o.Value.ExpiresAtMS)
	maps.Copy(expires, r.GetCredentialExpiresAtMs())
	o.Value.ExpiresAtMS = expires
	if o, err = s.d.store.Providers.Update(ctx, o); err != nil {
		return nil, err
	}
	return &openshellv1.ProviderResponse{Provider: providerTo(o)}, nil
}

func (s *openShell) DeleteProvider(ctx context.Context, r *openshellv1.DeleteProviderRequest) (*openshellv1.DeleteProviderResponse, error) {
	o, err := s.d.store.Providers.Get(ctx, r.GetWorkspace(), r.GetName())
	if errors.Is(err, store.ErrNotFound) {
		return &openshellv1.DeleteProviderResponse{}, nil
	}
	if err != nil {
		return nil, err
	}
	routes, err := s.d.store.Routes.List(ctx, store.Query{All: true})
	if err != nil {
		return nil, err
	}
	for _, route := range routes {
		if route.Value.Provider == o.Name {
			return nil, status.Errorf(codes.FailedPrecondition, "provider %q answers for an inference route; delete the route first", o.Name)
		}
	}
	deleted, err := s.d.store.Providers.Delete(ctx, o.ID)
	return &openshellv1.DeleteProviderResponse{Deleted: deleted}, err
}
