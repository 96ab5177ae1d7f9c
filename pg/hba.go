package pg

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// CheckHBA reports why PostgreSQL would refuse a line of pg_hba.conf, if it
// would. A blank line or a comment is fine. Where versions differ the line passes
// when any of 13 to 18 takes it, since the server has the last word
// (pg_hba_file_rules); build options such as GSSAPI or LDAP support are not
// known here. Refused beyond that, because they lead outside the spec or hide a
// slip: include directives, lists in other files (@file), quotes that do
// not end, abbreviated IP addresses (10/8) and host names with odd characters.
//
// Errors do not repeat the values of options, which may be secret.
func CheckHBA(line string) error {
	fields, err := hbaFields(line)
	if err != nil || len(fields) == 0 {
		return err
	}
	rule := hbaRule{fields: fields}
	for _, check := range []func() error{
		rule.checkType, rule.checkLists, rule.checkAddress, rule.checkMethod, rule.checkOptions, rule.checkTogether,
	} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

// hbaToken is one item of a list, without its quotes.
type hbaToken struct {
	text   string
	quoted bool // it began with a quote: keywords lose their meaning
}

// hbaField is a list of tokens joined by commas.
type hbaField []hbaToken

// hbaFields cuts a line at white space; commas join their neighbours, also
// across white space.
func hbaFields(line string) ([]hbaField, error) {
	if strings.ContainsAny(line, "\n\x00") {
		return nil, errors.New("an hba entry is one line; make each line an entry of its own")
	}
	if strings.HasSuffix(line, `\`) {
		return nil, errors.New("an hba entry cannot be continued; remove the backslash at the end")
	}
	var fields []hbaField
	joined := false
	for {
		line = strings.TrimLeft(line, " \t\r,")
		if line == "" || line[0] == '#' {
			return fields, nil
		}
		token, rest, comma, err := hbaNextToken(line)
		if err != nil {
			return nil, err
		}
		if joined {
			last := len(fields) - 1
			fields[last] = append(fields[last], token)
		} else {
			fields = append(fields, hbaField{token})
		}
		line, joined = rest, comma
	}
}

// hbaNextToken reads up to white space, a comma or a comment outside quotes. Two
// quotes within quotes are one.
func hbaNextToken(line string) (token hbaToken, rest string, comma bool, err error) {
	var text strings.Builder
	quoting, wasQuote := false, false
	i := 0
	for ; i < len(line); i++ {
		c := line[i]
		if !quoting && strings.IndexByte(" \t\r#,", c) >= 0 {
			break
		}
		if c != '"' || wasQuote {
			text.WriteByte(c)
		}
		wasQuote = quoting && c == '"' && !wasQuote
		if c == '"' {
			quoting = !quoting
			token.quoted = token.quoted || i == 0
		}
	}
	if quoting {
		return token, "", false, errors.New("a quoted name does not end; add the closing double quote")
	}
	token.text = text.String()
	if strings.HasPrefix(token.text, "@") && !token.quoted {
		return token, "", false, errors.New("lists in other files (@file) are not supported; write the names in the line, or quote a name that begins with @")
	}
	if i < len(line) && line[i] == ',' {
		return token, line[i+1:], true, nil
	}
	return token, line[i:], false, nil
}

// hbaRule is a line on its way through the checks; each takes the fields that it
// understands from the front.
type hbaRule struct {
	fields  []hbaField
	kind    string // local, host, hostssl, ...
	method  string
	options map[string]string
}

// next takes the one token of the next field.
func (r *hbaRule) next(what string) (hbaToken, error) {
	if len(r.fields) == 0 {
		return hbaToken{}, fmt.Errorf("the line ends before its %s; %s", what, r.form())
	}
	field := r.fields[0]
	r.fields = r.fields[1:]
	if len(field) > 1 {
		return hbaToken{}, fmt.Errorf("only one %s is possible in a line; make each an entry of its own", what)
	}
	return field[0], nil
}

func (r *hbaRule) form() string {
	if r.kind == "local" {
		return "write: local DATABASE USER METHOD [OPTIONS]"
	}
	return "write: host DATABASE USER ADDRESS METHOD [OPTIONS]"
}

// Word lists are functions where a variable would be shared state.
func hbaKinds() []string {
	return []string{"local", "host", "hostssl", "hostnossl", "hostgssenc", "hostnogssenc"}
}

func hbaMethods() []string {
	return []string{
		"trust", "reject", "scram-sha-256", "md5", "password", "peer", "ident",
		"cert", "gss", "ldap", "radius", "pam", "oauth", "sspi", "bsd",
	}
}

func (r *hbaRule) checkType() error {
	token, err := r.next("connection type")
	if err != nil {
		return err
	}
	switch token.text {
	case "include", "include_if_exists", "include_dir":
		return fmt.Errorf("%s is not supported; write the lines themselves", token.text)
	}
	if !slices.Contains(hbaKinds(), token.text) {
		return fmt.Errorf("unknown connection type %q; use one of %s", token.text, strings.Join(hbaKinds(), ", "))
	}
	r.kind = token.text
	return nil
}

func (r *hbaRule) checkLists() error {
	for _, what := range []string{"database", "user"} {
		if len(r.fields) == 0 {
			return fmt.Errorf("the line ends before its %s; %s", what, r.form())
		}
		r.fields = r.fields[1:]
	}
	return nil
}

func (r *hbaRule) checkAddress() error {
	if r.kind == "local" {
		return nil
	}
	token, err := r.next("address")
	if err != nil {
		return err
	}
	switch {
	case !token.quoted && slices.Contains([]string{"all", "samehost", "samenet"}, token.text):
		return nil
	case strings.Contains(token.text, "/"):
		return checkCIDR(token.text)
	}
	addr, err := netip.ParseAddr(token.text)
	if err != nil {
		return checkHostname(token.text)
	}
	return r.checkMask(addr)
}

func checkCIDR(text string) error {
	host, bits, _ := strings.Cut(text, "/")
	addr, err := netip.ParseAddr(host)
	if err != nil {
		if checkHostname(host) == nil {
			return fmt.Errorf("address %q: a host name takes no mask; leave out /%s", text, bits)
		}
		return fmt.Errorf("address %q is not an IP address with a mask length, such as 10.0.0.0/8", text)
	}
	n, err := strconv.ParseUint(bits, 10, 16)
	if err != nil || int(n) > addr.BitLen() {
		return fmt.Errorf("address %q: the mask length is a number from 0 to %d", text, addr.BitLen())
	}
	return nil
}

func checkHostname(name string) error {
	for _, c := range []byte(name) {
		if !confLetter(c) && !decimalDigit(c) && c != '-' && c != '.' || c >= 0x80 {
			return fmt.Errorf("address %q is neither an IP address nor a host name", name)
		}
	}
	if name == "" || abbreviatedIP(name) {
		return fmt.Errorf("address %q is not a complete IP address; write all its parts, such as 10.0.0.0/8", name)
	}
	return nil
}

// abbreviatedIP reports whether a resolver would take a name for an address, as
// it does with 10.1 and 0x7f.1.
func abbreviatedIP(name string) bool {
	return !slices.ContainsFunc(strings.Split(name, "."), func(label string) bool {
		_, rest, err := scanInteger(label)
		return err != nil || rest != ""
	})
}

func (r *hbaRule) checkMask(addr netip.Addr) error {
	if len(r.fields) > 0 && slices.Contains(hbaMethods(), r.fields[0][0].text) || len(r.fields) == 0 {
		return fmt.Errorf("address %q has no mask; write %s/%d for this address alone", addr, addr, addr.BitLen())
	}
	token, err := r.next("mask")
	if err != nil {
		return err
	}
	mask, err := netip.ParseAddr(token.text)
	if err != nil {
		return fmt.Errorf("mask %q is not an IP address; write the address as %s/%d, or a mask such as 255.0.0.0", token.text, addr, addr.BitLen())
	}
	if mask.Is4() != addr.Is4() {
		return fmt.Errorf("address %s and mask %s are not of one family; use IPv4 or IPv6 for both", addr, mask)
	}
	return nil
}

func (r *hbaRule) checkMethod() error {
	token, err := r.next("method")
	if err != nil {
		return err
	}
	r.method = token.text
	switch {
	case r.method == "sspi" || r.method == "bsd":
		return fmt.Errorf("method %s does not exist on Linux; use scram-sha-256", r.method)
	case !slices.Contains(hbaMethods(), r.method):
		return fmt.Errorf("unknown method %q; use one of %s", r.method, strings.Join(hbaMethods()[:13], ", "))
	case r.kind == "local" && r.method == "ident":
		r.method = "peer" // as the server takes it
	case r.kind == "local" && r.method == "gss":
		return errors.New("method gss does not work on local sockets; use peer")
	case r.kind != "local" && r.method == "peer":
		return errors.New("method peer works on local sockets only; use scram-sha-256")
	case r.kind != "hostssl" && r.method == "cert":
		return errors.New("method cert works with hostssl only; begin the line with hostssl")
	}
	return nil
}
