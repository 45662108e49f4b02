package policy

// Rule lets programs reach endpoints. A connection needs a rule that names its
// program, its host and its port; everything else is refused.
type Rule struct {
	Name      string     `yaml:"name,omitempty" json:"name,omitempty"`
	Endpoints []Endpoint `yaml:"endpoints" json:"endpoints"`
	Binaries  []Binary   `yaml:"binaries,omitempty" json:"binaries,omitempty"`
}

// Binary is a program by the glob of its path.
type Binary struct {
	Path    string `yaml:"path" json:"path"`
	Harness bool   `yaml:"harness,omitempty" json:"harness,omitempty"`
}

// Endpoint is a host, its ports, and what may be said to it.
type Endpoint struct {
	// Host is a name, an address, or a pattern whose first label is "*", "**" or
	// begins with "*-".
	Host  string `yaml:"host" json:"host"`
	Port  int    `yaml:"port,omitempty" json:"port,omitempty"` // or Ports
	Ports []int  `yaml:"ports,omitempty" json:"ports,omitempty"`
	// Path chooses among endpoints of one host and port, as a glob.
	Path        string `yaml:"path,omitempty" json:"path,omitempty"`
	Protocol    string `yaml:"protocol,omitempty" json:"protocol,omitempty"`
	TLS         string `yaml:"tls,omitempty" json:"tls,omitempty"`
	Enforcement string `yaml:"enforcement,omitempty" json:"enforcement,omitempty"`
	// Access stands for a set of rules; it excludes Rules.
	Access    string     `yaml:"access,omitempty" json:"access,omitempty"`
	Rules     []Allow    `yaml:"rules,omitempty" json:"rules,omitempty"`
	DenyRules []Matching `yaml:"deny_rules,omitempty" json:"deny_rules,omitempty"` // deny beats allow
	// AllowedIPs are private networks (CIDR) or addresses that Host may resolve to.
	AllowedIPs                   []string           `yaml:"allowed_ips,omitempty" json:"allowed_ips,omitempty"`
	AllowEncodedSlash            bool               `yaml:"allow_encoded_slash,omitempty" json:"allow_encoded_slash,omitempty"`
	WebsocketCredentialRewrite   bool               `yaml:"websocket_credential_rewrite,omitempty" json:"websocket_credential_rewrite,omitempty"`
	RequestBodyCredentialRewrite bool               `yaml:"request_body_credential_rewrite,omitempty" json:"request_body_credential_rewrite,omitempty"`
	AllowUninspectedCredentials  bool               `yaml:"allow_uninspected_credentials,omitempty" json:"allow_uninspected_credentials,omitempty"`
	CredentialSigning            string             `yaml:"credential_signing,omitempty" json:"credential_signing,omitempty"`
	SigningService               string             `yaml:"signing_service,omitempty" json:"signing_service,omitempty"`
	SigningRegion                string             `yaml:"signing_region,omitempty" json:"signing_region,omitempty"`
	CredentialBinding            *CredentialBinding `yaml:"credential_binding,omitempty" json:"credential_binding,omitempty"`
	PersistedQueries             string             `yaml:"persisted_queries,omitempty" json:"persisted_queries,omitempty"`
	GraphQLPersistedQueries      map[string]GraphQL `yaml:"graphql_persisted_queries,omitempty" json:"graphql_persisted_queries,omitempty"`
	GraphQLMaxBodyBytes          uint32             `yaml:"graphql_max_body_bytes,omitempty" json:"graphql_max_body_bytes,omitempty"`
	MCP                          *MCP               `yaml:"mcp,omitempty" json:"mcp,omitempty"`
	JSONRPC                      *JSONRPC           `yaml:"json_rpc,omitempty" json:"json_rpc,omitempty"`
}

// Allow is one rule of an endpoint.
type Allow struct {
	Allow Matching `yaml:"allow" json:"allow"`
}

// Matching describes requests. Fields that are empty match anything.
type Matching struct {
	Method        string             `yaml:"method,omitempty" json:"method,omitempty"`
	Path          string             `yaml:"path,omitempty" json:"path,omitempty"`
	Command       string             `yaml:"command,omitempty" json:"command,omitempty"`
	Query         map[string]Matcher `yaml:"query,omitempty" json:"query,omitempty"`
	OperationType string             `yaml:"operation_type,omitempty" json:"operation_type,omitempty"`
	OperationName string             `yaml:"operation_name,omitempty" json:"operation_name,omitempty"`
	Fields        []string           `yaml:"fields,omitempty" json:"fields,omitempty"`
	Tool          string             `yaml:"tool,omitempty" json:"tool,omitempty"`
	Params        map[string]Matcher `yaml:"params,omitempty" json:"params,omitempty"`
}

// Matcher matches a value: by one glob, or by any of several.
type Matcher struct {
	Glob string   `yaml:"glob,omitempty" json:"glob,omitempty"`
	Any  []string `yaml:"any,omitempty" json:"any,omitempty"`
}

// UnmarshalYAML also takes a plain string, which is a glob.
func (m *Matcher) UnmarshalYAML(unmarshal func(any) error) error {
	var glob string
	if unmarshal(&glob) == nil {
		*m = Matcher{Glob: glob}
		return nil
	}
	var w struct {
		Glob string   `yaml:"glob"`
		Any  []string `yaml:"any"`
	}
	if err := unmarshal(&w); err != nil {
		return err
	}
	*m = Matcher{Glob: w.Glob, Any: w.Any}
	return nil
}

// GraphQL describes an operation that was agreed on beforehand.
type GraphQL struct {
	OperationType string   `yaml:"operation_type,omitempty" json:"operation_type,omitempty"`
	OperationName string   `yaml:"operation_name,omitempty" json:"operation_name,omitempty"`
	Fields        []string `yaml:"fields,omitempty" json:"fields,omitempty"`
}

// CredentialBinding binds a provider's credential to an endpoint.
type CredentialBinding struct {
	Provider string `yaml:"provider" json:"provider"`
}

// MCP are options of the protocol "mcp".
type MCP struct {
	MaxBodyBytes            uint32 `yaml:"max_body_bytes,omitempty" json:"max_body_bytes,omitempty"`
	StrictToolNames         *bool  `yaml:"strict_tool_names,omitempty" json:"strict_tool_names,omitempty"`
	AllowAllKnownMCPMethods *bool  `yaml:"allow_all_known_mcp_methods,omitempty" json:"allow_all_known_mcp_methods,omitempty"`
}

// JSONRPC are options of the protocol "json-rpc".
type JSONRPC struct {
	MaxBodyBytes uint32 `yaml:"max_body_bytes,omitempty" json:"max_body_bytes,omitempty"`
}
