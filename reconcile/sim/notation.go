package sim

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/reconcile"
	"github.com/ramhq/ram/spec"
)

// ParseSpec reads a spec in one line: nodes, then clauses after semicolons.
//
//	a b(priority=0,port=5433,work_mem=1MB) w(witness); k=2; max_connections=300; hba host all all 10.0.0.0/8 md5
//	a b c; async
//
// Nodes have the IDs 1, 2, ... in their order, unless id=N says otherwise, and
// addresses 10.0.1.ID, or further on when there are many.
func ParseSpec(text string) (*spec.Cluster, error) {
	c := spec.NewCluster("sim")
	c.Postgres.Version = major
	clauses := strings.Split(text, ";")
	for i, word := range strings.Fields(clauses[0]) {
		n, err := parseNode(word, i+1)
		if err != nil {
			return nil, err
		}
		c.Nodes = append(c.Nodes, n)
	}
	c.Settle()
	for _, clause := range clauses[1:] {
		if err := parseClause(c, strings.TrimSpace(clause)); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func parseNode(word string, position int) (spec.Node, error) {
	name, options, _ := strings.Cut(strings.TrimSuffix(word, ")"), "(")
	n := spec.NewNode(name, position)
	for option := range strings.SplitSeq(options, ",") {
		key, value, _ := strings.Cut(option, "=")
		number, err := strconv.Atoi(value)
		switch key {
		case "":
			err = nil
		case "witness":
			n.Witness, err = true, nil
		case "priority":
			n.Priority = number
		case "port":
			n.Ports.Postgres = number
		case "api":
			n.Ports.API = number
		case "id":
			n.ID = number
		default:
			if n.Parameters == nil {
				n.Parameters = map[string]string{}
			}
			n.Parameters[key], err = value, nil
		}
		if err != nil {
			return n, fmt.Errorf("node %s: %w", word, err)
		}
	}
	n.Host = fmt.Sprintf("10.0.%d.%d", 1+n.ID/250, n.ID%250)
	return n, nil
}

func parseClause(c *spec.Cluster, clause string) error {
	key, value, assigned := strings.Cut(clause, "=")
	line, isHBA := strings.CutPrefix(clause, "hba ")
	switch {
	case isHBA:
		c.Postgres.HBA = append(c.Postgres.HBA, line)
	case clause == "async":
		c.Replication.Mode, c.Replication.SyncStandbys = spec.ModeAsync, 0
	case !assigned:
		return fmt.Errorf("clause %q: neither hba, async nor name=value", clause)
	case key == "name":
		c.Name = value
	case key == "version":
		c.Postgres.Version, _ = strconv.Atoi(value)
	case key == "k":
		k, err := strconv.Atoi(value)
		c.Replication.SyncStandbys = k
		return err
	default:
		if c.Postgres.Parameters == nil {
			c.Postgres.Parameters = map[string]string{}
		}
		c.Postgres.Parameters[key] = value
	}
	return nil
}

// See is what the leader knows, but for what the text says of nodes, such as
//
//	a runs max_connections=300; b stopped, problem no space left; c silent 1m
func (w *World) See(text string) (reconcile.Observed, error) {
	obs := w.Observed()
	for clause := range strings.SplitSeq(text, ";") {
		name, saying, _ := strings.Cut(strings.TrimSpace(clause), " ")
		if name == "" {
			continue
		}
		v := obs.Nodes[name]
		v.Report.Server.Settings = maps.Clone(v.Report.Server.Settings)
		v.Report.Server.Slots = slices.Clone(v.Report.Server.Slots)
		for phrase := range strings.SplitSeq(saying, ",") {
			if err := sees(&v, strings.TrimSpace(phrase)); err != nil {
				return obs, fmt.Errorf("%s: %w", clause, err)
			}
		}
		obs.Nodes[name] = v
	}
	return obs, nil
}

// sees changes one view as a phrase says.
func sees(v *reconcile.NodeView, phrase string) error {
	verb, rest, _ := strings.Cut(phrase, " ")
	r := &v.Report
	switch verb {
	case "silent":
		v.Reachable, v.Silent = false, 5*time.Second
		if rest != "" {
			d, err := time.ParseDuration(rest)
			v.Silent = d
			return err
		}
	case "unheard":
		*v = reconcile.NodeView{}
	case "stopped", "starting", "hung", "stopping":
		r.Server, r.Loaded, r.Started = pg.Server{State: pg.ServerState(verb)}, 0, 0
	case "absent":
		r.Server, r.Data = pg.Server{State: pg.ServerStopped}, pg.DataDirectory{State: pg.DirAbsent}
		r.Loaded, r.Started, r.Written = 0, 0, 0
	case "foreign":
		r.Server, r.Data = pg.Server{State: pg.ServerStopped}, pg.DataDirectory{State: pg.DirForeign}
	case "other-system":
		r.Data.State, r.Data.SystemID = pg.DirCluster, 999
	case "idle":
		r.Server.Receiver = nil
	case "outlived":
		r.Server.Receiver, r.Server.LSN = nil, 1
	case "branched":
		r.Server.Receiver, r.Server.Timeline = nil, 9
	case "pending":
		r.Server.PendingRestart = strings.Fields(rest)
	case "runs":
		key, value, _ := strings.Cut(rest, "=")
		r.Server.Settings[key] = value
	case "drift":
		r.Drift = append(r.Drift, reconcile.Drift{Where: "ALTER SYSTEM", Name: rest, Have: "by hand"})
	case "problem":
		r.Problem = &reconcile.Problem{Text: rest, Attempts: 1}
	case "unwritten":
		r.Written, r.Loaded, r.Settled = r.Written-1, r.Loaded-1, r.Settled-1
	case "unsettled":
		r.Settled--
	case "restarted-before":
		r.Started = 0
	case "retired":
		r.Retired = true
	case "lsn":
		lsn, err := pg.ParseLSN(rest)
		r.Server.LSN = lsn
		return err
	case "slot-lost", "slot-dropped":
		return losesSlot(r, verb, pg.SlotName(rest))
	default:
		return fmt.Errorf("%q says nothing of a node", phrase)
	}
	return nil
}

func losesSlot(r *reconcile.Report, how, slot string) error {
	i := slices.IndexFunc(r.Server.Slots, func(s pg.Slot) bool { return s.Name == slot })
	if i < 0 {
		return fmt.Errorf("there is no slot %s", slot)
	}
	if how == "slot-lost" {
		r.Server.Slots[i].WALStatus = "lost"
		return nil
	}
	r.Server.Slots = slices.Delete(r.Server.Slots, i, i+1)
	return nil
}

// PlanLines writes a plan with one line for each step and what is blocked. A !
// stands behind steps that the leader makes begin now, what comes before a step
// behind a <, what it waits for in brackets.
func PlanLines(p reconcile.Plan) []string {
	var lines []string
	runnable := reconcile.Runnable(p)
	for _, s := range p.Steps {
		line := s.ID
		if slices.ContainsFunc(runnable, func(r reconcile.Step) bool { return r.ID == s.ID }) {
			line += " !"
		}
		if len(s.After) > 0 {
			line += " < " + strings.Join(s.After, " ")
		}
		if s.Waits != "" {
			line += " [" + s.Waits + "]"
		}
		line += ": " + s.Reason
		if s.Destroys != "" {
			line += " -- destroys " + s.Destroys
		}
		if s.Interrupts != "" {
			line += " -- " + s.Interrupts
		}
		lines = append(lines, line)
	}
	for _, b := range p.Blocked {
		line := "blocked " + b.Node + ": " + b.Reason
		if b.Refused {
			line = "refused " + b.Node + ": " + b.Reason
		}
		lines = append(lines, line)
	}
	return lines
}
