package hclspec

import (
	"maps"
	"slices"
	"strconv"

	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/hclwrite"
	"github.com/zclconf/go-cty/cty"

	"github.com/ramhq/ram/spec"
)

// Encode writes a cluster as canonical text that Parse reads back to an equal
// cluster. What equals its default is left out, so that the text stays as short as the
// language allows and the same cluster always gives the same bytes.
func Encode(c *spec.Cluster) []byte {
	f := hclwrite.NewEmptyFile()
	w := writer{f.Body().AppendNewBlock("cluster", []string{c.Name}).Body()}
	d := spec.NewCluster(c.Name)
	d.Nodes, d.Replication.Mode = c.Nodes, c.Replication.Mode
	d.Settle()

	encodePostgres(w.block("postgres"), c.Postgres, d.Postgres)
	for i, n := range c.Nodes {
		encodeNode(w.block("node", n.Name), n, spec.NewNode(n.Name, i+1))
	}
	d.Replication.Mode = spec.NewCluster(c.Name).Replication.Mode
	if c.Replication != d.Replication {
		encodeReplication(w.block("replication"), c.Replication, d.Replication)
	}
	if c.Failover != d.Failover {
		encodeFailover(w.block("failover"), c.Failover, d.Failover)
	}
	for _, r := range c.Repositories {
		encodeRepository(w.block("repository", r.Name), r, spec.NewRepository(r.Name))
	}
	if c.Archive != nil {
		w.block("archive").text("repository", c.Archive.Repository)
	}
	for _, b := range c.Backups {
		encodeBackup(w.block("backup", b.Name), b, spec.NewBackup(b.Name))
	}
	if c.Bootstrap != nil {
		encodeBootstrap(w.block("bootstrap"), c.Bootstrap)
	}
	if !slices.Equal(c.Protect, d.Protect) {
		w.body.AppendNewline()
		w.strings("protect", c.Protect)
	}
	return hclwrite.Format(f.Bytes())
}

// writer adds to the body of one block.
type writer struct{ body *hclwrite.Body }

func (w writer) block(kind string, labels ...string) writer {
	if len(w.body.Attributes())+len(w.body.Blocks()) > 0 {
		w.body.AppendNewline()
	}
	return writer{w.body.AppendNewBlock(kind, labels).Body()}
}

func (w writer) value(name string, v cty.Value) { w.body.SetAttributeValue(name, v) }

func (w writer) text(name, value string) { w.value(name, cty.StringVal(value)) }

func (w writer) textUnless(name, value, usual string) {
	if value != usual {
		w.text(name, value)
	}
}

func (w writer) integer(name string, value int) { w.value(name, cty.NumberIntVal(int64(value))) }

func (w writer) integerUnless(name string, value, usual int) {
	if value != usual {
		w.integer(name, value)
	}
}

func (w writer) booleanUnless(name string, value, usual bool) {
	if value != usual {
		w.value(name, cty.BoolVal(value))
	}
}

// strings writes a list with one element a line, or in one line when it is short.
func (w writer) strings(name string, list []string) {
	values := make([]cty.Value, len(list))
	length := 0
	for i, text := range list {
		values[i] = cty.StringVal(text)
		length += len(text)
	}
	if length < 60 {
		w.value(name, cty.TupleVal(values))
		return
	}
	tokens := hclwrite.Tokens{
		{Type: hclsyntax.TokenOBrack, Bytes: []byte("[")},
		{Type: hclsyntax.TokenNewline, Bytes: []byte("\n")},
	}
	for _, v := range values {
		tokens = append(tokens, hclwrite.TokensForValue(v)...)
		tokens = append(tokens,
			&hclwrite.Token{Type: hclsyntax.TokenComma, Bytes: []byte(",")},
			&hclwrite.Token{Type: hclsyntax.TokenNewline, Bytes: []byte("\n")})
	}
	tokens = append(tokens, &hclwrite.Token{Type: hclsyntax.TokenCBrack, Bytes: []byte("]")})
	w.body.SetAttributeRaw(name, tokens)
}

// table writes a map in the order of its keys. Keys with dots are quoted.
func (w writer) table(name string, table map[string]string) {
	if len(table) == 0 {
		return
	}
	var items []hclwrite.ObjectAttrTokens
	for _, key := range slices.Sorted(maps.Keys(table)) {
		keyTokens := hclwrite.TokensForValue(cty.StringVal(key))
		if hclsyntax.ValidIdentifier(key) {
			keyTokens = hclwrite.TokensForIdentifier(key)
		}
		items = append(items, hclwrite.ObjectAttrTokens{Name: keyTokens, Value: hclwrite.TokensForValue(asWritten(table[key]))})
	}
	w.body.SetAttributeRaw(name, hclwrite.TokensForObject(items))
}

// asWritten is a text as people write it in a map: a plain number without quotes.
func asWritten(text string) cty.Value {
	if n, err := strconv.ParseInt(text, 10, 32); err == nil && strconv.FormatInt(n, 10) == text {
		return cty.NumberIntVal(n)
	}
	return cty.StringVal(text)
}

func encodePostgres(w writer, p, usual spec.Postgres) {
	w.integer("version", p.Version)
	w.textUnless("bin_dir", p.BinDir, usual.BinDir)
	w.textUnless("user", p.User, usual.User)
	w.table("parameters", p.Parameters)
	if len(p.HBA) > 0 {
		w.strings("hba", p.HBA)
	}
}

func encodeNode(w writer, n, usual spec.Node) {
	w.integerUnless("id", n.ID, usual.ID)
	w.text("host", n.Host)
	w.textUnless("zone", n.Zone, usual.Zone)
	w.integerUnless("priority", n.Priority, usual.Priority)
	w.textUnless("data_dir", n.DataDir, usual.DataDir)
	w.booleanUnless("witness", n.Witness, usual.Witness)
	w.table("parameters", n.Parameters)
	w.table("tags", n.Tags)
	if n.Ports != usual.Ports {
		ports := w.block("ports")
		ports.integerUnless("postgres", n.Ports.Postgres, usual.Ports.Postgres)
		ports.integerUnless("api", n.Ports.API, usual.Ports.API)
		ports.integerUnless("raft", n.Ports.Raft, usual.Ports.Raft)
		ports.integerUnless("metrics", n.Ports.Metrics, usual.Ports.Metrics)
	}
}

func encodeReplication(w writer, r, usual spec.Replication) {
	w.textUnless("mode", string(r.Mode), string(usual.Mode))
	w.integerUnless("sync_standbys", r.SyncStandbys, usual.SyncStandbys)
	w.textUnless("when_short", string(r.WhenShort), string(usual.WhenShort))
	w.textUnless("max_lag", r.MaxLag.String(), usual.MaxLag.String())
}

func encodeFailover(w writer, f, usual spec.Failover) {
	w.booleanUnless("automatic", f.Automatic, usual.Automatic)
	w.textUnless("detect", f.Detect.String(), usual.Detect.String())
	w.textUnless("lease", f.Lease.String(), usual.Lease.String())
}

func encodeRepository(w writer, r, usual spec.Repository) {
	w.text("url", r.URL)
	w.textUnless("compression", r.Compression, usual.Compression)
	if r.Encryption != nil {
		w.block("encryption").text("key_file", r.Encryption.KeyFile)
	}
}

func encodeBackup(w writer, b, usual spec.Backup) {
	w.text("repository", b.Repository)
	w.text("schedule", b.Schedule)
	w.textUnless("timezone", b.Timezone, usual.Timezone)
	w.textUnless("from", b.From, usual.From)
	if b.Keep != usual.Keep {
		keep := w.block("keep")
		keep.integerUnless("last", b.Keep.Last, usual.Keep.Last)
		keep.integerUnless("days", b.Keep.Days, usual.Keep.Days)
	}
	if b.Verify != nil {
		w.block("verify").text("schedule", b.Verify.Schedule)
	}
}

func encodeBootstrap(w writer, b *spec.Bootstrap) {
	if b.Restore == nil {
		return
	}
	usual := spec.NewRestore()
	restore := w.block("restore")
	restore.text("repository", b.Restore.Repository)
	restore.textUnless("backup", b.Restore.Backup, usual.Backup)
	restore.textUnless("target_time", b.Restore.TargetTime, usual.TargetTime)
}
