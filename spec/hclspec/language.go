package hclspec

import (
	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"

	"github.com/ramhq/ram/spec"
)

// The functions of this file are the grammar of the cluster block, in the order of
// the language's documentation.

func (r *reader) readCluster(name string, b *block) *spec.Cluster {
	c := spec.NewCluster(name)
	b.block("postgres", func(b *block) { readPostgres(b, &c.Postgres) })
	position := 0
	b.named("node", func(name string, b *block) {
		position++
		n := spec.NewNode(name, position)
		readNode(b, &n)
		c.Nodes = append(c.Nodes, n)
	})
	syncWritten := false
	b.block("replication", func(b *block) { syncWritten = readReplication(b, &c.Replication) })
	b.block("failover", func(b *block) { readFailover(b, &c.Failover) })
	b.named("repository", func(name string, b *block) {
		repository := spec.NewRepository(name)
		readRepository(b, &repository)
		c.Repositories = append(c.Repositories, repository)
	})
	b.block("archive", func(b *block) {
		c.Archive = &spec.Archive{}
		b.text("repository", &c.Archive.Repository)
		b.require("repository", `repository = "main"`)
	})
	b.named("backup", func(name string, b *block) {
		backup := spec.NewBackup(name)
		readBackup(b, &backup)
		c.Backups = append(c.Backups, backup)
	})
	b.block("bootstrap", func(b *block) {
		c.Bootstrap = &spec.Bootstrap{}
		b.one("restore", func(b *block) {
			restore := spec.NewRestore()
			readRestore(b, &restore)
			c.Bootstrap.Restore = &restore
		})
	})
	b.strings("protect", &c.Protect, `protect = ["data", "backups"]`, nil)
	b.close()
	if !syncWritten {
		c.Settle()
	}
	return c
}

// block reads a block directly inside the cluster and notes that it is written.
func (b *block) block(kind string, read func(*block)) {
	if b.one(kind, read) {
		b.r.written = append(b.r.written, kind)
	}
}

func readPostgres(b *block, p *spec.Postgres) {
	b.integer("version", &p.Version)
	b.require("version", "the major version, such as version = 15")
	b.text("bin_dir", &p.BinDir)
	b.text("user", &p.User)
	b.table("parameters", &p.Parameters, `parameters = { work_mem = "64MB" }`, parameterText)
	b.strings("hba", &p.HBA, `hba = ["host all all 10.0.0.0/8 scram-sha-256"]`, func(path string, at hcl.Range, line string, v cty.Value) {
		b.refuseHBASecret(path, at, line, v)
	})
	if len(p.HBA) == 0 {
		p.HBA = nil // an empty list says what none says
	}
}

func readNode(b *block, n *spec.Node) {
	b.integer("id", &n.ID)
	b.text("host", &n.Host)
	b.require("host", `the address that the other nodes reach, such as host = "10.0.0.11"`)
	b.text("zone", &n.Zone)
	b.integer("priority", &n.Priority)
	b.text("data_dir", &n.DataDir)
	b.boolean("witness", &n.Witness)
	b.one("ports", func(b *block) {
		b.integer("postgres", &n.Ports.Postgres)
		b.integer("api", &n.Ports.API)
		b.integer("raft", &n.Ports.Raft)
		b.integer("metrics", &n.Ports.Metrics)
	})
	b.table("parameters", &n.Parameters, `parameters = { work_mem = "64MB" }`, parameterText)
	b.table("tags", &n.Tags, `tags = { rack = "r1" }`, plainText)
	// The rules cannot tell a written default from an absent one.
	if attr := b.attrs["priority"]; attr != nil && n.Witness && n.Priority == spec.DefaultPriority {
		b.wrong("priority", attr, "remove it, or remove witness = true", "%s is a witness and never primary, so it has no priority", b.what)
	}
}

func readReplication(b *block, r *spec.Replication) (syncWritten bool) {
	mode, whenShort := string(r.Mode), string(r.WhenShort)
	b.text("mode", &mode)
	syncWritten = b.integer("sync_standbys", &r.SyncStandbys)
	b.text("when_short", &whenShort)
	b.size("max_lag", &r.MaxLag)
	r.Mode, r.WhenShort = spec.Mode(mode), spec.WhenShort(whenShort)
	return syncWritten
}

func readFailover(b *block, f *spec.Failover) {
	b.boolean("automatic", &f.Automatic)
	b.duration("detect", &f.Detect)
	b.duration("lease", &f.Lease)
}

func readRepository(b *block, r *spec.Repository) {
	b.text("url", &r.URL)
	b.require("url", `url = "file:///srv/backups" or another of its forms`)
	b.text("compression", &r.Compression)
	b.one("encryption", func(b *block) {
		r.Encryption = &spec.Encryption{}
		b.text("key_file", &r.Encryption.KeyFile)
		b.require("key_file", `key_file = "/etc/ram/backup.key"`)
	})
}

func readBackup(b *block, backup *spec.Backup) {
	b.text("repository", &backup.Repository)
	b.require("repository", `repository = "main"`)
	b.text("schedule", &backup.Schedule)
	b.require("schedule", `a cron line, such as schedule = "0 2 * * *"`)
	b.text("timezone", &backup.Timezone)
	b.text("from", &backup.From)
	b.one("keep", func(b *block) {
		b.integer("last", &backup.Keep.Last)
		b.integer("days", &backup.Keep.Days)
	})
	b.one("verify", func(b *block) {
		backup.Verify = &spec.Verify{}
		b.text("schedule", &backup.Verify.Schedule)
		b.require("schedule", `a cron line, such as schedule = "0 5 * * 0"`)
	})
}

func readRestore(b *block, restore *spec.Restore) {
	b.text("repository", &restore.Repository)
	b.require("repository", `repository = "main"`)
	b.text("backup", &restore.Backup)
	b.text("target_time", &restore.TargetTime)
}
