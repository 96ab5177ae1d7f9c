package pg

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// hbaOptionMethods says for which methods an option is made; an empty list means
// any method of a hostssl line.
func hbaOptionMethods(name string) (methods []string, known bool) {
	switch name {
	case "map":
		return []string{"ident", "peer", "gss", "cert", "oauth"}, true
	case "clientcert", "clientname":
		return nil, true
	case "include_realm", "krb_realm":
		return []string{"gss"}, true
	case "pamservice", "pam_use_hostname":
		return []string{"pam"}, true
	case "ldapserver", "ldapport", "ldapscheme", "ldaptls", "ldapurl", "ldapprefix", "ldapsuffix",
		"ldapbasedn", "ldapbinddn", "ldapbindpasswd", "ldapsearchattribute", "ldapsearchfilter":
		return []string{"ldap"}, true
	case "radiusservers", "radiusports", "radiussecrets", "radiusidentifiers":
		return []string{"radius"}, true
	case "issuer", "scope", "validator", "delegate_ident_mapping":
		return []string{"oauth"}, true
	}
	return nil, false
}

func (r *hbaRule) checkOptions() error {
	r.options = map[string]string{}
	for _, field := range r.fields {
		for _, token := range field {
			name, value, found := strings.Cut(token.text, "=")
			if !found {
				return fmt.Errorf("%q after the method is not an option; write options as name=value", token.text)
			}
			if err := r.checkOption(name, value); err != nil {
				return err
			}
			r.options[name] = value
		}
	}
	return nil
}

func (r *hbaRule) checkOption(name, value string) error {
	methods, known := hbaOptionMethods(name)
	switch {
	case !known:
		return fmt.Errorf("unknown option %q; see the options of method %s in PostgreSQL's manual", name, r.method)
	case methods == nil && r.kind != "hostssl":
		return fmt.Errorf("option %s works with hostssl only; begin the line with hostssl", name)
	case methods != nil && !slices.Contains(methods, r.method):
		return fmt.Errorf("option %s belongs to method %s, not to %s; remove it", name, strings.Join(methods, ", "), r.method)
	}
	return r.checkOptionValue(name, value)
}

func (r *hbaRule) checkOptionValue(name, value string) error {
	switch name {
	case "clientcert":
		if value != "verify-full" && (value != "verify-ca" || r.method == "cert") {
			return oneOf(name, "verify-full", "verify-ca (not with method cert)")
		}
	case "clientname":
		if value != "CN" && value != "DN" {
			return oneOf(name, "CN", "DN")
		}
	case "ldapscheme":
		if value != "ldap" && value != "ldaps" {
			return oneOf(name, "ldap", "ldaps")
		}
	case "ldapurl":
		if !ldapURL(value) {
			return fmt.Errorf("option ldapurl is not an LDAP URL; write ldap://HOST/BASEDN or ldaps://HOST/BASEDN")
		}
	case "ldapport":
		if !portNumber(value) {
			return fmt.Errorf("option ldapport is not a port; use 1 to 65535")
		}
	case "radiusports":
		if slices.ContainsFunc(hbaList(value), func(port string) bool { return !portNumber(port) }) {
			return fmt.Errorf("option radiusports is not a list of ports; use 1 to 65535 for each")
		}
	}
	return nil
}

// ldapURL is a rough check of ldap://host:port/base?attribute?scope?filter.
func ldapURL(text string) bool {
	scheme, rest, found := strings.Cut(text, "://")
	parts := strings.Split(rest, "?")
	return found && (scheme == "ldap" || scheme == "ldaps") && len(parts) <= 4 &&
		(len(parts) < 3 || slices.Contains([]string{"", "base", "one", "sub"}, parts[2]))
}

func oneOf(name string, values ...string) error {
	return fmt.Errorf("option %s has no such value; use %s", name, strings.Join(values, " or "))
}

func portNumber(text string) bool {
	port, err := strconv.ParseUint(text, 10, 16)
	return err == nil && port > 0
}

// hbaList cuts an option's value at commas.
func hbaList(value string) []string {
	items := strings.Split(value, ",")
	for i := range items {
		items[i] = strings.TrimSpace(items[i])
	}
	return items
}

// checkTogether checks what options need or exclude of each other.
func (r *hbaRule) checkTogether() error {
	switch r.method {
	case "ldap":
		return r.checkLDAP()
	case "radius":
		return r.checkRADIUS()
	case "oauth":
		if err := r.need("issuer", "scope"); err != nil {
			return err
		}
		if r.options["delegate_ident_mapping"] == "1" && r.options["map"] != "" {
			return fmt.Errorf("method oauth takes map or delegate_ident_mapping; remove one of them")
		}
	}
	return nil
}

func (r *hbaRule) need(names ...string) error {
	for _, name := range names {
		if r.options[name] == "" {
			return fmt.Errorf("method %s needs the option %s; add it", r.method, name)
		}
	}
	return nil
}

// checkLDAP keeps apart the two ways: bind with prefix and suffix, or search first.
func (r *hbaRule) checkLDAP() error {
	direct := r.has("ldapprefix", "ldapsuffix")
	search := r.has("ldapbasedn", "ldapbinddn", "ldapbindpasswd", "ldapsearchattribute", "ldapsearchfilter")
	switch {
	case direct && (search || r.has("ldapurl")):
		return fmt.Errorf("method ldap either searches (ldapbasedn, ...) or binds directly (ldapprefix, ldapsuffix); remove the options of one way")
	case !direct && !r.has("ldapbasedn", "ldapurl"):
		return fmt.Errorf("method ldap needs the option ldapbasedn, ldapprefix or ldapsuffix; add one")
	case r.has("ldapsearchattribute") && r.has("ldapsearchfilter"):
		return fmt.Errorf("method ldap takes ldapsearchattribute or ldapsearchfilter; remove one of them")
	}
	return nil
}

func (r *hbaRule) has(names ...string) bool {
	return slices.ContainsFunc(names, func(name string) bool {
		_, ok := r.options[name]
		return ok
	})
}

func (r *hbaRule) checkRADIUS() error {
	if err := r.need("radiusservers", "radiussecrets"); err != nil {
		return err
	}
	servers := len(hbaList(r.options["radiusservers"]))
	for _, name := range []string{"radiussecrets", "radiusports", "radiusidentifiers"} {
		if n := len(hbaList(r.options[name])); r.has(name) && n != 1 && n != servers {
			return fmt.Errorf("option %s has %d items for %d servers; write one, or one for each server", name, n, servers)
		}
	}
	return nil
}
