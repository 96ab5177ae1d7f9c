package sim

import (
	"slices"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/reconcile"
)

// beforeAct checks what an agent is about to do.
func (w *World) beforeAct(h *host, act reconcile.Act) {
	rec := w.Record
	if act.Kind != reconcile.ActFail && h.disk.state == pg.DirForeign {
		w.breaks("%s: %s on a directory that is not PostgreSQL's", h.name, act.Kind)
	}
	foreign := h.disk.state == pg.DirCluster && rec.SystemID != 0 && h.disk.system != rec.SystemID
	if act.Kind != reconcile.ActFail && foreign {
		w.breaks("%s: %s on data of another cluster", h.name, act.Kind)
	}
	switch act.Kind {
	case reconcile.ActInit:
		if w.initdbs > 0 || rec.SystemID != 0 || rec.Primary != h.name {
			w.breaks("%s: initdb, after %d, system identifier %s, primary %s", h.name, w.initdbs, rec.SystemID, rec.Primary)
		}
	case reconcile.ActClone:
		w.beforeClone(h)
	case reconcile.ActSetAside:
		if _, wanted := rec.Spec.Node(h.name); wanted || rec.Primary == h.name {
			w.breaks("%s: its data is put aside, and the spec has it", h.name)
		}
		w.leaves(h.name)
	case reconcile.ActStop:
		w.beforeStop(h, act.Step)
	}
}

func (w *World) beforeClone(h *host) {
	if h.name == w.Record.Primary {
		w.breaks("%s: the primary's data is about to be replaced", h.name)
	}
	if w.meddled {
		return // a slot that was there when the leader decided may be gone
	}
	up := w.at(h.assignment.Upstream.Host)
	if _, there := up.disk.slots[h.assignment.Upstream.Slot]; !there {
		w.breaks("%s: clone begins before its slot is on %s", h.name, up.name)
	}
}

// beforeStop checks that ramd does not take a second server down.
func (w *World) beforeStop(h *host, step reconcile.StepKind) {
	if step != reconcile.StepRestart && step != reconcile.StepClone {
		return
	}
	for name, other := range w.down {
		if name != h.name && !w.serves(w.hosts[name]) && (step == reconcile.StepRestart || other == reconcile.StepRestart) {
			w.breaks("%s is stopped to %s while %s is down to %s", h.name, step, name, other)
		}
	}
	w.down[h.name] = step
}

// serves reports whether a server is back from a restart: a standby streams, or
// has nothing to stream from.
func (w *World) serves(h *host) bool {
	if h.server == nil {
		return false
	}
	up := w.hosts[w.Record.Primary]
	return !h.server.recovery || h.server.receiver.Streaming() || up == nil || up.server == nil
}

// leaves checks that no commit waits for a node that goes.
func (w *World) leaves(name string) {
	sync := w.Record.Sync
	if slices.Contains(sync.Current.Members, name) || sync.Next != nil && slices.Contains(sync.Next.Members, name) {
		w.breaks("%s leaves and is in a sync set: %+v", name, sync)
	}
	if p := w.hosts[w.Record.Primary]; p != nil && p.server != nil {
		names, err := pg.ParseSyncNames(p.server.settings["synchronous_standby_names"])
		if err != nil || slices.Contains(names.Members, name) {
			w.breaks("%s leaves and commits wait for it: %+v %v", name, names, err)
		}
	}
}

// checkTransition checks what the leader has made of the record.
func (w *World) checkTransition(before, after *reconcile.Record, cmd reconcile.Command) {
	if cmd.Advance == nil {
		return
	}
	e := cmd.Advance.Effect
	if e.Sync != nil && !e.Settle {
		w.entersSync(before, *e.Sync)
	}
	if e.Settle {
		w.settlesSync(after)
	}
	if e.Leave != "" {
		w.leaves(e.Leave)
	}
	if after.Primary != before.Primary && before.Primary != "" {
		w.breaks("a step moved primaryship from %s to %s", before.Primary, after.Primary)
	}
}

func (w *World) entersSync(before *reconcile.Record, set reconcile.SyncSet) {
	if len(set.Members) < set.K {
		w.breaks("sync set %+v has too few members", set)
	}
	for _, name := range set.Members {
		if slices.Contains(before.Sync.Current.Members, name) {
			continue
		}
		if !w.heard[name].report.Server.Receiver.Streaming() {
			w.breaks("%s enters the sync set and does not stream", name)
		}
	}
}

func (w *World) settlesSync(after *reconcile.Record) {
	p := w.hosts[after.Primary]
	if p.server == nil || p.server.recovery {
		return
	}
	names, err := pg.ParseSyncNames(p.server.settings["synchronous_standby_names"])
	if err != nil || names.K != after.Sync.Current.K || !slices.Equal(names.Members, after.Sync.Current.Members) {
		w.breaks("sync set %+v settles and %s runs %+v %v", after.Sync.Current, p.name, names, err)
	}
}

// checkServers checks what runs after every event.
func (w *World) checkServers() {
	for name := range w.down {
		if w.serves(w.hosts[name]) {
			delete(w.down, name)
		}
	}
	p := w.hosts[w.Record.Primary]
	if p == nil || p.server == nil || p.server.recovery {
		return
	}
	for _, h := range w.all() {
		if h == p || h.server == nil || h.disk.system != p.disk.system {
			continue
		}
		if !h.server.recovery {
			if !w.meddled {
				w.breaks("%s and %s both accept writes", p.name, h.name)
			}
			continue
		}
		if h.server.term < w.Record.Term {
			// It was started when another was the primary: replay waits until it has restarted.
			continue
		}
		for _, name := range floor() {
			if h.server.number(name) < p.server.number(name) {
				w.breaks("%s: standby %s runs %d, primary %s %d", name, h.name, h.server.number(name), p.name, p.server.number(name))
			}
		}
	}
}

// checkPlan checks now and then that a plan depends on nothing but its input.
func (w *World) checkPlan(plan reconcile.Plan, rec *reconcile.Record, obs reconcile.Observed) {
	if w.rounds%16 != 0 || w.unchecked {
		return
	}
	want := encode(plan)
	if got := encode(reconcile.Diff(rec.Spec, rec, obs)); string(got) != string(want) {
		w.breaks("the same input gave two plans:\n%s\n%s", want, got)
	}
	permuted := *rec.Spec
	permuted.Nodes = slices.Clone(permuted.Nodes)
	w.random.Shuffle(len(permuted.Nodes), func(i, j int) {
		permuted.Nodes[i], permuted.Nodes[j] = permuted.Nodes[j], permuted.Nodes[i]
	})
	w.random.Shuffle(len(obs.Raft), func(i, j int) { obs.Raft[i], obs.Raft[j] = obs.Raft[j], obs.Raft[i] })
	again := reconcile.Diff(&permuted, rec, obs)
	// The digest is of the text's order, and with it the number of the revision.
	again.Spec, again.Revision = plan.Spec, plan.Revision
	if got := encode(again); string(got) != string(want) {
		w.breaks("permuted nodes gave another plan:\n%s\n%s", want, got)
	}
}

// CheckReplay applies all commands again from nothing and compares the bytes of
// the two records, and of the record and what a snapshot of it would restore.
func (w *World) CheckReplay() {
	rec := &reconcile.Record{}
	for _, b := range w.commands {
		cmd, err := reconcile.DecodeCommand(b)
		if err != nil {
			w.breaks("decode: %v", err)
			return
		}
		rec, _ = reconcile.Transition(rec, cmd) // a command that was refused is refused again
	}
	if string(encode(rec)) != string(encode(w.Record)) {
		w.breaks("replay gave another record:\n%s\n%s", encode(w.Record), encode(rec))
	}
	restored, err := decodeRecord(encode(w.Record))
	if err != nil || string(encode(restored)) != string(encode(w.Record)) {
		w.breaks("a restored record differs: %v", err)
	}
}
