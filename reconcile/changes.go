package reconcile

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/ramhq/ram/spec"
)

// specChanges compares two specs object by object; before is nil for a cluster
// that has none yet.
func specChanges(before, after *spec.Cluster) []Change {
	var changes []Change
	old, want, usual := specObjects(before), specObjects(after), usualObjects(after)
	for _, name := range objectOrder(before, after) {
		c := Change{Object: name, Action: ActionUpdate}
		_, existed := old[name]
		_, wanted := want[name]
		switch {
		case !existed:
			c.Action = ActionCreate
		case !wanted:
			c.Action = ActionDestroy
		}
		c.Attributes = attributeChanges(old[name], want[name])
		if c.Action == ActionCreate {
			c.Attributes = unusual(c.Attributes, usual[name])
		}
		if len(c.Attributes) == 0 {
			continue
		}
		major := after.Postgres.Version
		for i := range c.Attributes {
			c.Attributes[i].Forces = forces(c.Object, c.Attributes[i].Name, c.Action, major)
		}
		changes = append(changes, c)
	}
	return changes
}

// usualObjects are the objects of a spec as they are when nothing is said of
// them: what a new object has of that is not worth a line.
func usualObjects(c *spec.Cluster) map[string]attributes {
	plain := spec.NewCluster(c.Name)
	for _, n := range c.Nodes {
		plain.Nodes = append(plain.Nodes, spec.NewNode(n.Name, n.ID))
	}
	plain.Settle()
	objects := specObjects(plain)
	for _, n := range c.Nodes {
		delete(objects["node "+n.Name], "id")
	}
	return objects
}

// unusual are the attributes that are not at their default.
func unusual(list []Attribute, usual attributes) []Attribute {
	return slices.DeleteFunc(list, func(a Attribute) bool {
		v, known := usual[a.Name]
		return known && v == a.New
	})
}

// forces says what a change to a parameter of a running server costs.
func forces(object, attribute string, action Action, major int) string {
	if action != ActionUpdate {
		return ""
	}
	name, isParameter := strings.CutPrefix(attribute, "parameters.")
	switch {
	case attribute == "ports.postgres":
		return "restart"
	case strings.HasPrefix(attribute, "hba["):
		return "reload"
	case !isParameter:
		return ""
	case needsRestart(name, major):
		return "restart"
	}
	return "reload"
}

type attributes map[string]string

// specObjects cuts a spec into objects with flat attributes.
func specObjects(c *spec.Cluster) map[string]attributes {
	if c == nil {
		return nil
	}
	objects := map[string]attributes{}
	put := func(name string, v any) { objects[name] = flatten(v) }
	put("cluster", map[string]any{"name": c.Name, "protect": c.Protect})
	put("postgres", c.Postgres)
	put("replication", c.Replication)
	put("failover", c.Failover)
	for _, n := range c.Nodes {
		put("node "+n.Name, n)
	}
	for _, r := range c.Repositories {
		put("repository "+r.Name, r)
	}
	if c.Archive != nil {
		put("archive", c.Archive)
	}
	for _, b := range c.Backups {
		put("backup "+b.Name, b)
	}
	if c.Bootstrap != nil {
		put("bootstrap", c.Bootstrap)
	}
	return objects
}

// objectOrder is the order in which a plan lists objects: cluster-wide ones,
// then nodes by ID with those that leave at the end, then the rest by name.
func objectOrder(before, after *spec.Cluster) []string {
	order := []string{"cluster", "postgres", "replication", "failover"}
	for _, n := range byID(after.Nodes) {
		order = append(order, "node "+n.Name)
	}
	if before != nil {
		for _, n := range byID(before.Nodes) {
			order = append(order, "node "+n.Name)
		}
	}
	rest := slices.Collect(maps.Keys(specObjects(before)))
	rest = slices.AppendSeq(rest, maps.Keys(specObjects(after)))
	order = append(order, sorted(rest)...)
	seen := map[string]bool{}
	return slices.DeleteFunc(order, func(name string) bool {
		was := seen[name]
		seen[name] = true
		return was
	})
}

func attributeChanges(old, want attributes) []Attribute {
	names := slices.Collect(maps.Keys(old))
	for name := range want {
		if _, both := old[name]; !both {
			names = append(names, name)
		}
	}
	var list []Attribute
	for _, name := range sorted(names) {
		a := Attribute{Action: ActionUpdate, Name: name, Old: old[name], New: want[name]}
		_, existed := old[name]
		_, wanted := want[name]
		switch {
		case existed && wanted && a.Old == a.New:
			continue
		case !existed:
			a.Action = ActionCreate
		case !wanted:
			a.Action = ActionDestroy
		}
		if sensitiveSetting(name) || sensitiveValue(a.Old) || sensitiveValue(a.New) {
			a.Sensitive = true
			a.Old, a.New = mask(a.Old), mask(a.New)
		}
		list = append(list, a)
	}
	return list
}

// sensitiveSetting reports whether a value may hold a secret: the spec language
// refuses literal secrets, but parameters of extensions have names of their own.
func sensitiveSetting(name string) bool {
	name = strings.ToLower(name)
	for _, part := range []string{"password", "passphrase", "secret", "token", "credential"} {
		if strings.Contains(name, part) && !strings.HasSuffix(name, "password_encryption") {
			return true
		}
	}
	return false
}

// sensitiveValue reports whether a value has a secret among other things, as
// connection strings and lines of pg_hba.conf may.
func sensitiveValue(v string) bool {
	v = strings.ToLower(v)
	for _, part := range []string{"password=", "passwd=", "radiussecrets="} {
		if strings.Contains(v, part) {
			return true
		}
	}
	return false
}

func mask(v string) string {
	if v == "" {
		return ""
	}
	return "(sensitive)"
}

// flatten is the JSON form of v as paths and texts: ports.api = 8080, hba[0] = ....
func flatten(v any) attributes {
	b, err := json.Marshal(v)
	if err != nil {
		panic("reconcile: a spec always encodes: " + err.Error())
	}
	decoder := json.NewDecoder(bytes.NewReader(b))
	decoder.UseNumber()
	var tree any
	if err := decoder.Decode(&tree); err != nil {
		panic("reconcile: a spec always decodes: " + err.Error())
	}
	out := attributes{}
	flattenInto(out, "", tree)
	delete(out, "name")
	return out
}

func flattenInto(out attributes, path string, v any) {
	switch v := v.(type) {
	case map[string]any:
		for key, child := range v {
			name := key
			if path != "" {
				name = path + "." + key
			}
			flattenInto(out, name, child)
		}
	case []any:
		for i, child := range v {
			flattenInto(out, fmt.Sprintf("%s[%d]", path, i), child)
		}
	case nil:
	default:
		out[path] = fmt.Sprint(v)
	}
}
