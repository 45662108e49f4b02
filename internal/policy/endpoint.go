package policy

import (
	"net/netip"
	"regexp"
	"strings"
)

// inspected are the protocols whose requests are looked into; without one there
// is nothing that a rule could match.
func inspected() []string {
	return []string{"rest", "websocket", "graphql", "sql", "mcp", "json-rpc"}
}

func (c *checker) rule(here []any, name string, r Rule) {
	c.named(here, name)
	c.text(at(here, "name"), r.Name)
	if len(r.Endpoints) == 0 {
		c.add(at(here, "endpoints"), "none is given")
	}
	for i, e := range r.Endpoints {
		c.endpoint(at(here, "endpoints", i), e)
	}
	for i, b := range r.Binaries {
		c.path(at(here, "binaries", i, "path"), b.Path)
	}
}

func (c *checker) endpoint(here []any, e Endpoint) {
	c.host(at(here, "host"), e.Host)
	c.ports(here, e)
	c.oneOf(at(here, "protocol"), e.Protocol, append([]string{"", "tcp"}, inspected()...)...)
	c.oneOf(at(here, "tls"), e.TLS, "", "auto", "skip", "terminate", "passthrough")
	c.oneOf(at(here, "enforcement"), e.Enforcement, "", "audit", "enforce")
	c.oneOf(at(here, "access"), e.Access, "", "read-only", "read-write", "full")
	c.texts(here, map[string]string{"path": e.Path, "credential_signing": e.CredentialSigning,
		"signing_service": e.SigningService, "signing_region": e.SigningRegion, "persisted_queries": e.PersistedQueries})
	c.rules(here, e)
	for i, ip := range e.AllowedIPs {
		c.allowedIP(at(here, "allowed_ips", i), ip)
	}
	if e.CredentialSigning == "" && (e.SigningService != "" || e.SigningRegion != "") {
		c.add(at(here, "credential_signing"), "is missing, and signing_service or signing_region is given")
	}
	if e.CredentialBinding != nil && strings.TrimSpace(e.CredentialBinding.Provider) == "" {
		c.add(at(here, "credential_binding", "provider"), "is missing")
	}
	if e.MCP != nil && e.Protocol != "mcp" {
		c.add(at(here, "mcp"), "is only for the protocol mcp")
	}
	if e.JSONRPC != nil && e.Protocol != "json-rpc" {
		c.add(at(here, "json_rpc"), "is only for the protocol json-rpc")
	}
	if e.Protocol != "graphql" && (e.GraphQLMaxBodyBytes != 0 || len(e.GraphQLPersistedQueries) > 0 || e.PersistedQueries != "") {
		c.add(at(here, "protocol"), "is not graphql, and options of graphql are given")
	}
	for _, key := range sortedKeys(e.GraphQLPersistedQueries) {
		c.named(at(here, "graphql_persisted_queries", key), key)
	}
}

func (c *checker) ports(here []any, e Endpoint) {
	switch {
	case e.Port == 0 && len(e.Ports) == 0:
		c.add(at(here, "port"), "is missing")
	case e.Port != 0 && len(e.Ports) > 0:
		c.add(at(here, "ports"), "excludes port")
	}
	check := func(where []any, port int) {
		if port < 1 || port > 65535 {
			c.add(where, "%d is not between 1 and 65535", port)
		}
	}
	if e.Port != 0 {
		check(at(here, "port"), e.Port)
	}
	for i, p := range e.Ports {
		check(at(here, "ports", i), p)
	}
}

func (c *checker) rules(here []any, e Endpoint) {
	if e.Rules != nil && len(e.Rules) == 0 {
		c.add(at(here, "rules"), "is empty: leave it out, or say what is allowed")
	}
	if e.DenyRules != nil && len(e.DenyRules) == 0 {
		c.add(at(here, "deny_rules"), "is empty: leave it out, or say what is denied")
	}
	if e.Access != "" && len(e.Rules) > 0 {
		c.add(at(here, "access"), "excludes rules")
	}
	if e.Access != "" && (e.Protocol == "mcp" || e.Protocol == "json-rpc") {
		c.add(at(here, "access"), "is not for the protocol %s", e.Protocol)
	}
	if (e.Protocol == "" || e.Protocol == "tcp") && (len(e.Rules) > 0 || len(e.DenyRules) > 0) {
		c.add(at(here, "protocol"), "rules need one of %s", strings.Join(inspected(), ", "))
	}
	for i, r := range e.Rules {
		c.matching(at(here, "rules", i, "allow"), r.Allow)
	}
	for i, r := range e.DenyRules {
		c.matching(at(here, "deny_rules", i), r)
	}
}

func (c *checker) matching(here []any, m Matching) {
	if m.Method == "" && m.Path == "" && m.Command == "" && len(m.Query) == 0 && m.OperationType == "" &&
		m.OperationName == "" && len(m.Fields) == 0 && m.Tool == "" && len(m.Params) == 0 {
		c.add(here, "says nothing about a request")
	}
	c.texts(here, map[string]string{"method": m.Method, "path": m.Path, "command": m.Command,
		"operation_type": m.OperationType, "operation_name": m.OperationName, "tool": m.Tool})
	for i, f := range m.Fields {
		c.text(at(here, "fields", i), f)
	}
	c.matchers(at(here, "query"), m.Query)
	c.matchers(at(here, "params"), m.Params)
}

func (c *checker) matchers(here []any, matchers map[string]Matcher) {
	for _, key := range sortedKeys(matchers) {
		m, where := matchers[key], at(here, key)
		c.named(where, key)
		c.text(where, m.Glob)
		for i, glob := range m.Any {
			c.text(at(where, "any", i), glob)
		}
		switch {
		case m.Glob == "" && len(m.Any) == 0:
			c.add(where, "is empty: give a glob, or any with at least one")
		case m.Glob != "" && len(m.Any) > 0:
			c.add(where, "glob excludes any")
		}
	}
}

// label is one part of a host name; underscores occur in practice.
var label = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?$`)

// host accepts an address, a name, or a pattern whose first label is a wildcard
// over at least two more: "*.com" would allow half the world.
func (c *checker) host(here []any, host string) {
	if host == "" {
		c.add(here, "is missing")
		return
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return
	}
	first, rest, _ := strings.Cut(host, ".")
	name := host
	if strings.Contains(first, "*") {
		suffix, found := strings.CutPrefix(first, "*-")
		if first != "*" && first != "**" && (!found || !label.MatchString(suffix)) {
			c.add(here, "%q: a wildcard is \"*\", \"**\" or \"*-\" and a word", host)
			return
		}
		if !strings.Contains(rest, ".") {
			c.add(here, "%q: a wildcard needs at least two labels after it", host)
			return
		}
		name = rest
	}
	for _, l := range strings.Split(name, ".") {
		if strings.Contains(l, "*") {
			c.add(here, "%q: only the first label may be a wildcard", host)
			return
		}
		if !label.MatchString(l) {
			c.add(here, "%q is not a host name", host)
			return
		}
	}
	if len(host) > 253 {
		c.add(here, "a host name of %d characters is longer than 253", len(host))
	}
}

// forbidden are networks that no policy opens: this machine's own, and the ones
// that cloud metadata lives in.
func forbidden() []netip.Prefix {
	var all []netip.Prefix
	for _, p := range []string{"127.0.0.0/8", "169.254.0.0/16", "0.0.0.0/32", "::1/128", "::/128", "fe80::/10", "::ffff:0:0/96"} {
		all = append(all, netip.MustParsePrefix(p))
	}
	return all
}

func (c *checker) allowedIP(here []any, text string) {
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		ip, err := netip.ParseAddr(text)
		if err != nil || ip.Zone() != "" {
			c.add(here, "%q is neither an address nor a network such as 10.0.0.0/8", text)
			return
		}
		prefix = netip.PrefixFrom(ip, ip.BitLen())
	}
	for _, f := range forbidden() {
		if f.Overlaps(prefix) {
			c.add(here, "%s reaches %s, which no policy opens", text, f)
			return
		}
	}
}
