package pg

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// hbaCases are lines with the error that CheckHBA gives, and what it has in
// common with the server: the server agrees unless stricter is set.
var hbaCases = []struct {
	line, want string
	stricter   bool
}{
	{line: ""},
	{line: "# a comment"},
	{line: "  \t# a comment"},
	{line: "local all all peer"},
	{line: "local all all trust # with a comment"},
	{line: "local all all ident"},
	{line: "host all all 10.0.0.0/8 scram-sha-256"},
	{line: "host all all 10.0.0.0 255.0.0.0 md5"},
	{line: "host\tall\tall\t::1/128\tscram-sha-256"},
	{line: "host all all fe80::  ffff:: reject"},
	{line: "host all all all reject"},
	{line: "host all all samehost trust"},
	{line: "host all all samenet trust"},
	{line: "host all all .example.com scram-sha-256"},
	{line: "host all all db-1.example.com scram-sha-256"},
	{line: "host all all 0.0.0.0/0 password"},
	{line: "host all all 0.0.0.0/00 password"},
	{line: "host replication repl 127.0.0.1/32 scram-sha-256"},
	{line: `host "replication","a b", orders "all",+admins,bob 127.0.0.1/32 scram-sha-256`},
	{line: `host "a""b" "#x" 127.0.0.1/32 trust`},
	{line: `host sameuser,samerole "@home" 127.0.0.1/32 trust`},
	{line: "hostnossl all all 10.0.0.0/8 reject"},
	{line: "hostssl all all 10.0.0.0/8 cert"},
	{line: "hostssl all all 10.0.0.0/8 cert clientcert=verify-full map=m"},
	{line: "hostssl all all 10.0.0.0/8 scram-sha-256 clientcert=verify-ca"},
	{line: "hostgssenc all all 10.0.0.0/8 gss include_realm=1 krb_realm=EXAMPLE.COM map=m"},
	{line: "hostnogssenc all all 10.0.0.0/8 reject"},
	{line: "host all all 10.0.0.0/8 ident map=m"},
	{line: "host all all 10.0.0.0/8 pam pamservice=pg pam_use_hostname=1"},
	{line: `host all all 10.0.0.0/8 ldap ldapserver=h ldapport=389 ldapprefix="cn=" ldapsuffix=", dc=x"`},
	{line: `host all all 10.0.0.0/8 ldap ldapserver=h ldapbasedn="dc=x" ldapsearchfilter="(|(uid=$username)(mail=$username))"`},
	{line: "host all all 10.0.0.0/8 ldap ldapurl=ldap://h/dc=x?uid?sub"},
	{line: "host all all 10.0.0.0/8 ldap ldapserver=h ldapbasedn=x ldapscheme=ldaps ldaptls=1 ldapbinddn=b ldapbindpasswd=p"},
	{line: "host all all 10.0.0.0/8 radius radiusservers=127.0.0.1 radiussecrets=s radiusports=1812 radiusidentifiers=i"},
	{line: `host all all 10.0.0.0/8 radius radiusservers="127.0.0.1,127.0.0.2" radiussecrets="s,t"`},

	{line: "hosts all all 10.0.0.0/8 trust", want: `unknown connection type "hosts"; use one of local, host, hostssl, hostnossl, hostgssenc, hostnogssenc`},
	{line: "HOST all all 10.0.0.0/8 trust", want: `unknown connection type "HOST"; use one of local, host, hostssl, hostnossl, hostgssenc, hostnogssenc`},
	{line: "host,local all all 10.0.0.0/8 trust", want: "only one connection type is possible in a line; make each an entry of its own"},
	{line: "host", want: "the line ends before its database; write: host DATABASE USER ADDRESS METHOD [OPTIONS]"},
	{line: "local all", want: "the line ends before its user; write: local DATABASE USER METHOD [OPTIONS]"},
	{line: "local all all", want: "the line ends before its method; write: local DATABASE USER METHOD [OPTIONS]"},
	{line: "host all all", want: "the line ends before its address; write: host DATABASE USER ADDRESS METHOD [OPTIONS]"},
	{line: "host all all 10.0.0.0/8", want: "the line ends before its method; write: host DATABASE USER ADDRESS METHOD [OPTIONS]"},
	{line: "host all all 10.0.0.0/8,11.0.0.0/8 trust", want: "only one address is possible in a line; make each an entry of its own"},
	{line: "host all all 10.0.0.1 trust", want: `address "10.0.0.1" has no mask; write 10.0.0.1/32 for this address alone`},
	{line: "host all all 10.0.0.1", want: `address "10.0.0.1" has no mask; write 10.0.0.1/32 for this address alone`},
	{line: "host all all 10.0.0.1 24 trust", want: `mask "24" is not an IP address; write the address as 10.0.0.1/32, or a mask such as 255.0.0.0`, stricter: true},
	{line: "host all all 10.0.0.0 ffff:: trust", want: "address 10.0.0.0 and mask ffff:: are not of one family; use IPv4 or IPv6 for both"},
	{line: "host all all 10.0.0.0/33 trust", want: `address "10.0.0.0/33": the mask length is a number from 0 to 32`},
	{line: "host all all ::/129 trust", want: `address "::/129": the mask length is a number from 0 to 128`},
	{line: "host all all 10.0.0.0/ trust", want: `address "10.0.0.0/": the mask length is a number from 0 to 32`},
	{line: "host all all 10.0.0.0/255.0.0.0 trust", want: `address "10.0.0.0/255.0.0.0": the mask length is a number from 0 to 32`},
	{line: "host all all db.example.com/32 trust", want: `address "db.example.com/32": a host name takes no mask; leave out /32`},
	{line: "host all all 10.0.0.256/32 trust", want: `address "10.0.0.256/32" is not an IP address with a mask length, such as 10.0.0.0/8`},
	{line: "host all all 10/8 trust", want: `address "10/8" is not an IP address with a mask length, such as 10.0.0.0/8`, stricter: true},
	{line: "host all all 10.1 trust", want: `address "10.1" is not a complete IP address; write all its parts, such as 10.0.0.0/8`},
	{line: "host all all 10.0.0.256 trust", want: `address "10.0.0.256" is not a complete IP address; write all its parts, such as 10.0.0.0/8`, stricter: true},
	{line: "host all all a:b:c trust", want: `address "a:b:c" is neither an IP address nor a host name`, stricter: true},
	{line: `host all all "all" trust`},
	{line: "host all all 10.0.0.0/8 scram", want: `unknown method "scram"; use one of trust, reject, scram-sha-256, md5, password, peer, ident, cert, gss, ldap, radius, pam, oauth`},
	{line: "host all all 10.0.0.0/8 sspi", want: "method sspi does not exist on Linux; use scram-sha-256"},
	{line: "host all all 10.0.0.0/8 bsd", want: "method bsd does not exist on Linux; use scram-sha-256"},
	{line: "host all all 10.0.0.0/8 md5,trust", want: "only one method is possible in a line; make each an entry of its own"},
	{line: "host all all 10.0.0.0/8 peer", want: "method peer works on local sockets only; use scram-sha-256"},
	{line: "host all all 10.0.0.0/8 cert", want: "method cert works with hostssl only; begin the line with hostssl"},
	{line: "local all all gss", want: "method gss does not work on local sockets; use peer"},
	{line: "local all all trust please", want: `"please" after the method is not an option; write options as name=value`},
	{line: "local all all peer mapp=x", want: `unknown option "mapp"; see the options of method peer in PostgreSQL's manual`},
	{line: "local all all md5 map=x", want: "option map belongs to method ident, peer, gss, cert, oauth, not to md5; remove it"},
	{line: "host all all 10.0.0.0/8 md5 clientcert=verify-ca", want: "option clientcert works with hostssl only; begin the line with hostssl"},
	{line: "hostssl all all 10.0.0.0/8 md5 clientcert=1", want: "option clientcert has no such value; use verify-full or verify-ca (not with method cert)"},
	{line: "hostssl all all 10.0.0.0/8 cert clientcert=verify-ca", want: "option clientcert has no such value; use verify-full or verify-ca (not with method cert)"},
	{line: "hostssl all all 10.0.0.0/8 cert clientname=UID", want: "option clientname has no such value; use CN or DN"},
	{line: "host all all 10.0.0.0/8 ldap ldapserver=h", want: "method ldap needs the option ldapbasedn, ldapprefix or ldapsuffix; add one"},
	{line: "host all all 10.0.0.0/8 ldap ldapserver=h ldapprefix=x ldapbasedn=y", want: "method ldap either searches (ldapbasedn, ...) or binds directly (ldapprefix, ldapsuffix); remove the options of one way"},
	{line: "host all all 10.0.0.0/8 ldap ldapserver=h ldapbasedn=y ldapsearchattribute=a ldapsearchfilter=b", want: "method ldap takes ldapsearchattribute or ldapsearchfilter; remove one of them"},
	{line: "host all all 10.0.0.0/8 ldap ldapbasedn=y ldapport=x", want: "option ldapport is not a port; use 1 to 65535"},
	{line: "host all all 10.0.0.0/8 ldap ldapurl=http://h/", want: "option ldapurl is not an LDAP URL; write ldap://HOST/BASEDN or ldaps://HOST/BASEDN"},
	{line: "host all all 10.0.0.0/8 ldap ldapurl=ldap://h/dc=x?uid?all", want: "option ldapurl is not an LDAP URL; write ldap://HOST/BASEDN or ldaps://HOST/BASEDN"},
	{line: "host all all 10.0.0.0/8 radius radiusservers=127.0.0.1", want: "method radius needs the option radiussecrets; add it"},
	{line: `host all all 10.0.0.0/8 radius radiusservers="127.0.0.1,127.0.0.2" radiussecrets="s,t,u"`, want: "option radiussecrets has 3 items for 2 servers; write one, or one for each server", stricter: true}, // 13 takes it
	{line: "include other.conf", want: "include is not supported; write the lines themselves"},
	{line: "host @names all 10.0.0.0/8 trust", want: "lists in other files (@file) are not supported; write the names in the line, or quote a name that begins with @", stricter: true},
	{line: `host "all all 10.0.0.0/8 trust`, want: "a quoted name does not end; add the closing double quote"},
	{line: `local all all peer map="x`, want: "a quoted name does not end; add the closing double quote", stricter: true},
}

func TestCheckHBASaysWhatIsWrong(t *testing.T) {
	for _, c := range hbaCases {
		t.Run(c.line, func(t *testing.T) {
			got := ""
			if err := CheckHBA(c.line); err != nil {
				got = err.Error()
			}
			if got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestAnHBAEntryIsOneLine(t *testing.T) {
	for line, want := range map[string]string{
		"local all all peer\nlocal all all trust": "an hba entry is one line; make each line an entry of its own",
		"local all all \\":                        "an hba entry cannot be continued; remove the backslash at the end",
	} {
		if err := CheckHBA(line); err == nil || err.Error() != want {
			t.Errorf("%q: %v", line, err)
		}
	}
}

func TestOAuthIsALineOf18(t *testing.T) {
	for line, want := range map[string]string{
		`host all all 10.0.0.0/8 oauth issuer="https://i" scope=openid map=m`:     "<nil>",
		`host all all 10.0.0.0/8 oauth issuer="https://i"`:                        "method oauth needs the option scope; add it",
		`host all all ::/0 oauth issuer=i scope=s delegate_ident_mapping=1 map=m`: "method oauth takes map or delegate_ident_mapping; remove one of them",
	} {
		if got := fmt.Sprint(CheckHBA(line)); got != want {
			t.Errorf("%s: %s", line, got)
		}
	}
}

func TestErrorsOfCheckHBAKeepSecrets(t *testing.T) {
	for _, line := range []string{
		"host all all 10.0.0.0/8 md5 ldapbindpasswd=hush",
		"host all all 10.0.0.0/8 radius radiussecrets=hush",
		"host all all 10.0.0.0/8 ldap ldapbindpasswd=hush",
	} {
		if err := CheckHBA(line); err == nil || strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: %v", line, err)
		}
	}
}

// checkHBA lets the server read the lines, and mutations of them, and compares.
func (s *scratch) checkHBA(t *testing.T) {
	lines, exact := []string{}, len(hbaCases)
	for _, c := range hbaCases {
		lines = append(lines, c.line)
	}
	random := rand.New(rand.NewPCG(5, 6))
	for len(lines) < 3000 {
		lines = append(lines, hbaMutation(random, hbaCases[random.IntN(exact)].line))
	}
	refusals := s.hbaRefusals(t, lines)
	for i, line := range lines {
		err := CheckHBA(line)
		refusal, refused := refusals[i+1]
		// What a build leaves out or a setting turns off is not the line's
		// fault, and it hides what else may be wrong.
		masked := strings.Contains(refusal, "not supported by this build") || strings.Contains(refusal, "cannot match because")
		switch {
		case err == nil && refused && !masked:
			t.Errorf("%s\nthe server: %s", line, refusal)
		case err != nil && !refused && i < exact && !hbaCases[i].stricter:
			t.Errorf("%s\nonly CheckHBA says: %v", line, err)
		}
	}
}

// hbaMutation exchanges the words of two places, or puts a character somewhere.
func hbaMutation(random *rand.Rand, line string) string {
	words := strings.Split(line, " ")
	if random.IntN(2) == 0 {
		i, j := random.IntN(len(words)), random.IntN(len(words))
		words[i], words[j] = words[j], words[i]
	}
	b := []byte(strings.Join(words, " "))
	const alphabet = "a1.0=/, #+-_x:\"\t"
	return string(slices.Insert(b, random.IntN(len(b)+1), alphabet[random.IntN(len(alphabet))]))
}

// hbaRefusals gives the server's errors by line number.
func (s *scratch) hbaRefusals(t *testing.T, lines []string) map[int]string {
	file := filepath.Join(s.data(), "pg_hba.conf")
	if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	rows, err := s.conn.Query(t.Context(), "SELECT line_number, error FROM pg_hba_file_rules WHERE error IS NOT NULL")
	if err != nil {
		t.Fatal(err)
	}
	refusals := map[int]string{}
	var number int
	var refusal string
	_, err = pgx.ForEachRow(rows, []any{&number, &refusal}, func() error {
		refusals[number] = refusal
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return refusals
}

func FuzzCheckHBATakesAnyLine(f *testing.F) {
	for _, c := range hbaCases {
		f.Add(c.line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		err := CheckHBA(line)
		if again := CheckHBA(line + " # comment"); err == nil && !strings.HasSuffix(line, `\`) && again != nil {
			t.Fatalf("with a comment: %v", again)
		}
	})
}
