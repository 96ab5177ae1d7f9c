package spec

// Severity says whether a Problem makes a spec unusable.
type Severity string

const (
	SeverityError   Severity = "error"
	SeverityWarning Severity = "warning"
)

// Problem is one thing that is wrong with a spec. It names the place by a path,
// which the reader of the syntax turns into file, line and column.
type Problem struct {
	Severity Severity
	// Path leads to the offending value, such as `node.b.ports.postgres`,
	// `postgres.parameters.fsync`, `postgres.hba[2]`, `backup.nightly.schedule`.
	// Names of nodes, repositories and backups stand in it as they are.
	Path string
	// Summary says what is wrong, Detail what to write instead.
	Summary string
	Detail  string
}
