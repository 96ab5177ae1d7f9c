package pg

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Conninfo is what a client of libpq needs to connect, by keyword: host, port,
// user, application_name, ... Several hosts are one value with commas, and so
// are their ports. The nil Conninfo leaves all to libpq's defaults.
type Conninfo map[string]string

// conninfoOrder is the order in which people expect the first keywords; the
// others follow in alphabetical order.
func conninfoOrder() []string {
	return []string{"host", "hostaddr", "port", "user", "dbname", "password", "passfile", "application_name"}
}

// keywords lists the keywords that are set, in the order of rendering.
func (c Conninfo) keywords() []string {
	var first, rest []string
	for _, keyword := range conninfoOrder() {
		if _, ok := c[keyword]; ok {
			first = append(first, keyword)
		}
	}
	for keyword := range c {
		if !slices.Contains(first, keyword) {
			rest = append(rest, keyword)
		}
	}
	slices.Sort(rest)
	return append(first, rest...)
}

// String renders keyword=value pairs as libpq reads them, quoted where needed,
// in an order that does not change. It includes a password when there is one.
func (c Conninfo) String() string {
	var pairs []string
	for _, keyword := range c.keywords() {
		pairs = append(pairs, keyword+"="+quoteConninfo(c[keyword]))
	}
	return strings.Join(pairs, " ")
}

// Redacted is String for logs and plans: without what is secret.
func (c Conninfo) Redacted() string {
	shown := Conninfo{}
	for keyword, value := range c {
		switch keyword {
		case "password", "sslpassword", "oauth_client_secret":
			value = "********"
		}
		shown[keyword] = value
	}
	return shown.String()
}

func quoteConninfo(value string) string {
	if value != "" && !strings.ContainsAny(value, `'\`+cSpace) {
		return value
	}
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(value) + "'"
}

// ParseConninfo reads keyword=value pairs as libpq does; a keyword that comes
// twice counts the last time. URIs are not read. Errors do not repeat values.
func ParseConninfo(text string) (Conninfo, error) {
	c := Conninfo{}
	for {
		text = strings.TrimLeft(text, cSpace)
		if text == "" {
			return c, nil
		}
		keyword, rest, found := strings.Cut(text, "=")
		keyword = strings.TrimRight(keyword, cSpace)
		if !found || keyword == "" || strings.ContainsAny(keyword, cSpace) {
			return nil, errors.New("connection string is not made of keyword=value pairs")
		}
		value, rest, err := conninfoValue(strings.TrimLeft(rest, cSpace))
		if err != nil {
			return nil, fmt.Errorf("connection string: %s %w", keyword, err)
		}
		c[keyword], text = value, rest
	}
}

// conninfoValue reads up to white space, or up to the quote that ends a quoted
// value. A backslash makes any character stand for itself.
func conninfoValue(text string) (value, rest string, err error) {
	end := cSpace
	quoted := strings.HasPrefix(text, "'")
	if quoted {
		end, text = "'", text[1:]
	}
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		switch {
		case strings.IndexByte(end, text[i]) >= 0:
			return b.String(), text[i+1:], nil
		case text[i] == '\\' && i+1 < len(text):
			i++
			b.WriteByte(text[i])
		case text[i] == '\\': // at the very end it stands for nothing
		default:
			b.WriteByte(text[i])
		}
	}
	if quoted {
		return "", "", errors.New("has a quoted value that does not end")
	}
	return b.String(), "", nil
}

// URI renders what libpq and drivers read as a URI, for any number of hosts:
//
//	postgresql://ram@a:5432,b:5433/postgres?target_session_attrs=read-write
//
// Socket directories go into the query, where every driver finds them. It
// includes a password when there is one.
func (c Conninfo) URI() string {
	var uri strings.Builder
	uri.WriteString("postgresql://")
	inPlace := []string{"user", "password", "dbname"}
	if user := c["user"]; user != "" {
		uri.WriteString(percent(user, ""))
		if password := c["password"]; password != "" {
			uri.WriteString(":" + percent(password, ""))
		}
		uri.WriteString("@")
	}
	if hosts, ok := c.authority(); ok {
		uri.WriteString(hosts)
		inPlace = append(inPlace, "host", "port")
	}
	if name := c["dbname"]; name != "" {
		uri.WriteString("/" + percent(name, ""))
	} else {
		uri.WriteString("/")
	}
	separator := "?"
	for _, keyword := range c.keywords() {
		if slices.Contains(inPlace, keyword) && (keyword != "password" || c["user"] != "") {
			continue
		}
		uri.WriteString(separator + percent(keyword, "") + "=" + percent(c[keyword], "/,:"))
		separator = "&"
	}
	return uri.String()
}

// authority joins hosts and ports, one port for each host or one for all. It is
// not to be had for socket directories, nor without hosts.
func (c Conninfo) authority() (text string, ok bool) {
	hosts, ports := strings.Split(c["host"], ","), strings.Split(c["port"], ",")
	if len(ports) != 1 && len(ports) != len(hosts) {
		return "", false
	}
	for i, host := range hosts {
		if host == "" || strings.HasPrefix(host, "/") || strings.HasPrefix(host, "@") {
			return "", false
		}
		hosts[i] = percent(host, "")
		if strings.Contains(host, ":") {
			hosts[i] = "[" + percent(host, ":") + "]"
		}
		if port := ports[min(i, len(ports)-1)]; port != "" {
			hosts[i] += ":" + port
		}
	}
	return strings.Join(hosts, ","), true
}

// percent encodes all but letters, digits, - . _ ~ and the given bytes; libpq
// takes a plus sign for itself, so a space is %20.
func percent(text, also string) string {
	var b strings.Builder
	for _, c := range []byte(text) {
		plain := decimalDigit(c) || 'a' <= c|0x20 && c|0x20 <= 'z' && c < 0x80 || strings.IndexByte("-._~"+also, c) >= 0
		if plain {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// PassfileEntry is a line of a password file. An empty field other than Password
// matches anything. Host is as in the connection string, and localhost for the
// default socket directory.
type PassfileEntry struct {
	Host, Port, Database, User, Password string
}

// Line renders the entry with its line end. A line end inside a field is an error,
// which does not repeat the field: the format cannot hold it.
func (e PassfileEntry) Line() (string, error) {
	fields := []string{e.Host, e.Port, e.Database, e.User, e.Password}
	for i, field := range fields {
		if strings.ContainsAny(field, "\r\n\x00") {
			return "", errors.New("password file entry: a field contains a line end; choose another password or name")
		}
		if field == "" && i < len(fields)-1 {
			fields[i] = "*"
			continue
		}
		fields[i] = strings.NewReplacer(`\`, `\\`, `:`, `\:`).Replace(field)
	}
	// A line that begins with # is a comment, and a lone * matches anything.
	for i, field := range fields[:4] {
		original := []string{e.Host, e.Port, e.Database, e.User}[i]
		if original == "*" || i == 0 && strings.HasPrefix(field, "#") {
			fields[i] = `\` + field
		}
	}
	return strings.Join(fields, ":") + "\n", nil
}
