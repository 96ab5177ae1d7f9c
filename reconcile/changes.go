package reconcile

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/ramhq/ram/spec"
)

// specChanges compares two specs object by object; before is nil for a cluster
// that has none yet.
func specChanges(before, after *spec.Cluster) []Change {
	var changes []Change
	old, want := specObjects(before), specObjects(after)
	usual := usualObjects(after)
	for _, name := range objectOrder(before, after, old, want) {
		was, existed := old[name]
		is, wanted := want[name]
		if existed && wanted && reflect.DeepEqual(was, is) {
			continue
		}
		c := Change{Object: name, Action: ActionUpdate, Attributes: attributeChanges(flatten(was), flatten(is))}
		switch {
		case !existed:
			c.Action = ActionCreate
			c.Attributes = unusual(c.Attributes, usual(name))
		case !wanted:
			c.Action = ActionDestroy
		}
		if len(c.Attributes) == 0 {
			continue
		}
		for i := range c.Attributes {
			c.Attributes[i].Forces = forces(c.Attributes[i].Name, c.Action, after.Postgres.Version)
		}
		changes = append(changes, c)
	}
	return changes
}

// usualObjects gives objects of a spec as they are when nothing is said of them:
// what a new object has of that is not worth a line.
func usualObjects(c *spec.Cluster) func(name string) attributes {
	plain := spec.NewCluster(c.Name)
	for _, n := range c.Nodes {
		plain.Nodes = append(plain.Nodes, spec.NewNode(n.Name, n.ID))
	}
	plain.Settle()
	plain.Nodes = nil
	objects := specObjects(plain)
	node := flatten(spec.NewNode("", 0))
	delete(node, "id")
	return func(name string) attributes {
		if strings.HasPrefix(name, nodeObject) {
			return node
		}
		return flatten(objects[name])
	}
}

// unusual are the attributes that are not at their default.
func unusual(list []Attribute, usual attributes) []Attribute {
	return slices.DeleteFunc(list, func(a Attribute) bool {
		v, known := usual[a.Name]
		return known && v == a.New
	})
}

// forces says what a change to a parameter of a running server costs.
func forces(attribute string, action Action, major int) string {
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

// nodeObject begins the names of nodes' objects.
const nodeObject = "node "

// specObjects cuts a spec into objects.
func specObjects(c *spec.Cluster) map[string]any {
	if c == nil {
		return nil
	}
	objects := map[string]any{
		"cluster":     map[string]any{"name": c.Name, "protect": c.Protect},
		"postgres":    c.Postgres,
		"replication": c.Replication,
		"failover":    c.Failover,
	}
	for _, n := range c.Nodes {
		objects[nodeObject+n.Name] = n
	}
	for _, r := range c.Repositories {
		objects["repository "+r.Name] = r
	}
	if c.Archive != nil {
		objects["archive"] = *c.Archive
	}
	for _, b := range c.Backups {
		objects["backup "+b.Name] = b
	}
	if c.Bootstrap != nil {
		objects["bootstrap"] = *c.Bootstrap
	}
	return objects
}

// objectOrder is the order in which a plan lists objects: cluster-wide ones,
// then nodes by ID with those that leave at the end, then the rest by name.
func objectOrder(before, after *spec.Cluster, old, want map[string]any) []string {
	order := []string{"cluster", "postgres", "replication", "failover"}
	for _, n := range byID(after.Nodes) {
		order = append(order, nodeObject+n.Name)
	}
	if before != nil {
		for _, n := range byID(before.Nodes) {
			order = append(order, nodeObject+n.Name)
		}
	}
	rest := slices.AppendSeq(slices.Collect(maps.Keys(old)), maps.Keys(want))
	order = append(order, sorted(rest)...)
	seen := make(map[string]bool, len(order))
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
// Nothing has no attributes.
func flatten(v any) attributes {
	if v == nil {
		return nil
	}
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
