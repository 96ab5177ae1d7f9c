package daemon

import (
	"fmt"
	"io"
	"net/http"

	"github.com/VictoriaMetrics/metrics"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/reconcile"
)

// metricsHandler answers Prometheus. What is about this node comes from every
// ramd; what is about the cluster from the leader only, so that sums are right.
func (d *Daemon) metricsHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		if l := d.life.Load(); l != nil {
			l.writeMetrics(w)
		}
		metrics.WriteProcessMetrics(w)
	})
	return mux
}

func (l *life) writeMetrics(w io.Writer) {
	labels := fmt.Sprintf("cluster=%q,node=%q", l.start.spec.Name, l.start.node.Name)
	gauge := func(name string, value float64) {
		metrics.WriteGaugeFloat64(w, fmt.Sprintf("%s{%s}", name, labels), value)
	}
	rec := l.machine.Record()
	gauge("ram_member", truth(l.store.IsMember()))
	gauge("ram_raft_leader", truth(l.leader.Leads()))
	gauge("ram_raft_quorum", truth(l.store.HasQuorum()))
	gauge("ram_raft_applied_index", float64(l.store.Applied()))
	gauge("ram_spec_revision", float64(rec.Revision))
	gauge("ram_term", float64(rec.Term))
	gauge("ram_paused", truth(rec.Pause != nil))
	if l.host != nil {
		r := l.agent.Last()
		writeServer(gauge, r)
		if a := r.Archive; a != nil {
			gauge("ram_archive_backlog_files", float64(a.Backlog))
			gauge("ram_archive_backlog_bytes", float64(a.Bytes))
			gauge("ram_archive_backlog_seconds", a.Oldest.Seconds())
			gauge("ram_archive_failing_seconds", a.Failing.Seconds())
		}
	}
	if l.leader.Leads() {
		writeCluster(w, l.status())
	}
}

func writeServer(gauge func(string, float64), r reconcile.Report) {
	runs := r.Server.State == pg.ServerRunning
	gauge("ram_postgres_running", truth(runs))
	gauge("ram_postgres_primary", truth(runs && !r.Server.Recovery))
	gauge("ram_postgres_streaming", truth(r.Server.Receiver.Streaming()))
	gauge("ram_postgres_timeline", float64(r.Server.Timeline))
	gauge("ram_postgres_wal_bytes", float64(r.Server.LSN))
	gauge("ram_postgres_pending_restart", truth(len(r.Server.PendingRestart) > 0))
	gauge("ram_postgres_drift", float64(len(r.Drift)))
	gauge("ram_agent_problem", truth(r.Problem != nil))
}

func writeCluster(w io.Writer, s reconcile.Status) {
	metrics.WriteGaugeFloat64(w, fmt.Sprintf("ram_converged{cluster=%q}", s.Cluster), truth(s.Converged))
	if s.Backups != nil {
		writeBackups(w, s.Cluster, *s.Backups)
	}
	for _, n := range s.Nodes {
		labels := fmt.Sprintf("{cluster=%q,peer=%q}", s.Cluster, n.Name)
		metrics.WriteGaugeFloat64(w, "ram_node_healthy"+labels, truth(n.Healthy))
		metrics.WriteGaugeFloat64(w, "ram_node_lag_bytes"+labels, float64(n.LagBytes))
	}
}

// writeBackups tells when the latest backup and the latest proof were made, so that
// their age can be watched; zero while there is none.
func writeBackups(w io.Writer, cluster string, b reconcile.BackupStatus) {
	labels := fmt.Sprintf("{cluster=%q}", cluster)
	gauge := func(name string, value float64) { metrics.WriteGaugeFloat64(w, name+labels, value) }
	last := 0.0
	if b.Last != nil {
		last = float64(b.Last.Finished.Unix())
		gauge("ram_backup_last_stored_bytes", float64(b.Last.Stored))
	}
	proof := 0.0
	if !b.LastProof.IsZero() {
		proof = float64(b.LastProof.Unix())
	}
	gauge("ram_backup_last_timestamp_seconds", last)
	gauge("ram_backup_last_proof_timestamp_seconds", proof)
	gauge("ram_backups", float64(b.Count))
	gauge("ram_backup_failed", truth(b.Failed != nil))
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
