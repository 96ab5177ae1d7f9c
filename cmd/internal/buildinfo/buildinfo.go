// Package buildinfo says which build of ram is running.
//
// `make build` sets the variables through the linker; a binary that was built
// any other way calls itself "dev". Nothing writes to them at run time.
package buildinfo

// Stamps of the build. Commit and Date are empty when unknown.
var (
	// Version is the release that this build is or follows, as git describe
	// prints it, or "dev".
	Version = "dev"

	// Commit is the abbreviated git commit, with "-dirty" appended when the
	// tree held changes that were not committed.
	Commit string

	// Date is the moment of that commit in UTC, RFC 3339. It is not the moment
	// of the build, so that the same commit gives the same bytes.
	Date string
)

// String is the build in one line, for version commands and start-up logs:
// "v1.2.0 (commit 0123456789ab, 2026-11-22T00:47:00Z)". Unknown parts are left out.
func String() string {
	return describe(Version, Commit, Date)
}

func describe(version, commit, date string) string {
	switch {
	case commit == "":
		return version
	case date == "":
		return version + " (commit " + commit + ")"
	default:
		return version + " (commit " + commit + ", " + date + ")"
	}
}
