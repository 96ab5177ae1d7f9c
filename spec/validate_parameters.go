package spec

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/ramhq/ram/pg"
)

// scope is whom a set of parameters is for.
type scope int

const (
	wholeCluster scope = iota
	oneNode
)

// validateParameters checks a parameters map. Without a version that is known,
// only the rules that hold for every version are checked.
func (c *Cluster) validateParameters(p *problems, at string, parameters map[string]string, who scope) {
	spelled := make(map[string]string, len(parameters))
	for _, name := range slices.Sorted(maps.Keys(parameters)) {
		here := at + "." + name
		lower := strings.ToLower(name)
		if other, twice := spelled[lower]; twice {
			p.errorf(here, "keep one of them", "%s and %s are the same parameter", name, other)
		}
		spelled[lower] = name
		c.validateParameter(p, here, name, parameters[name], who)
	}
}

func (c *Cluster) validateParameter(p *problems, at, name, value string, who scope) {
	if managed, ok := ManagedParameter(name); ok {
		p.errorf(at, managed.Instead, "%s is managed by ramd: %s", name, managed.Reason)
		return
	}
	if who == oneNode && slices.Contains(sameEverywhere, strings.ToLower(name)) {
		p.errorf(at, "write it in postgres { parameters = { ... } }",
			"%s cannot differ between nodes: a standby with less than the primary has would stop", name)
	}
	if strings.ContainsAny(value, "\n\r\x00") {
		p.errorf(at, "write it in one line", "the value of %s has more than one line", name)
		return
	}
	if !c.versionKnown() {
		return
	}
	setting, known := pg.LookupSetting(name, c.Postgres.Version)
	if !known {
		c.unknownParameter(p, at, name)
		return
	}
	if err := setting.Check(value); err != nil {
		summary, detail, found := strings.Cut(err.Error(), "; ")
		if !found {
			detail = fmt.Sprintf("write a value of type %s", setting.Type)
		}
		p.errorf(at, detail, "%s", summary)
		return
	}
	c.validateSafety(p, at, strings.ToLower(name), setting.Normalize(value))
}

func (c *Cluster) unknownParameter(p *problems, at, name string) {
	detail := "remove it; parameters of extensions have a dot in their name, such as pg_stat_statements.max"
	if near := pg.NearestSetting(name, c.Postgres.Version); near != "" {
		detail = fmt.Sprintf("write %s", near)
	} else if since := versionsOf(name); since != "" {
		detail = since
	}
	p.errorf(at, detail, "PostgreSQL %d has no parameter %s", c.Postgres.Version, name)
}

// SpellParameters renames parameters to PostgreSQL's own spelling, such as TimeZone
// for timezone, so that one parameter has one name wherever it is set. It
// expects a spec that is valid; names that PostgreSQL does not know stay.
func (c *Cluster) SpellParameters() {
	spell := func(parameters map[string]string) {
		for name, value := range maps.Clone(parameters) {
			setting, known := pg.LookupSetting(name, c.Postgres.Version)
			if known && !setting.Custom && setting.Name != name {
				delete(parameters, name)
				parameters[setting.Name] = value
			}
		}
	}
	spell(c.Postgres.Parameters)
	for _, n := range c.Nodes {
		spell(n.Parameters)
	}
}

// versionsOf says in which major versions a parameter exists, or nothing.
func versionsOf(name string) string {
	var majors []string
	for major := MinVersion; major <= MaxVersion; major++ {
		if _, known := pg.LookupSetting(name, major); known {
			majors = append(majors, fmt.Sprint(major))
		}
	}
	if len(majors) == 0 {
		return ""
	}
	return "remove it; it exists only in PostgreSQL " + strings.Join(majors, ", ")
}

func validateHBA(p *problems, at string, lines []string) {
	for i, line := range lines {
		here := indexPath(at, i)
		if err := pg.CheckHBA(line); err != nil {
			summary, detail, _ := strings.Cut(err.Error(), "; ")
			if detail == "" {
				detail = `write type, database, user, address and method, such as "host all all 10.0.0.0/8 scram-sha-256"`
			}
			p.errorf(here, detail, "%s", summary)
		} else if trustsTheNetwork(line) {
			p.warnf(here, `write scram-sha-256 instead of trust`, "this line lets anyone on the network in without a password")
		}
	}
}

// trustsTheNetwork reports whether a valid line of pg_hba.conf lets clients from
// other hosts in without proof.
func trustsTheNetwork(line string) bool {
	words := strings.Fields(line)
	if len(words) < 5 || words[0] == "local" || !slices.Contains(words[4:], "trust") {
		return false
	}
	address := words[3]
	return !strings.HasPrefix(address, "127.") && !strings.HasPrefix(address, "::1") && address != "localhost" && address != "samehost"
}
