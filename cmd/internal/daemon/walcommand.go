package daemon

import (
	"flag"
	"fmt"
	"io"

	"github.com/ramhq/ram/pg/backup/wal"
)

// walCommand makes this program a client of the ramd of its node: PostgreSQL starts it as
// archive_command and as restore_command, for each file.
const walCommand = "wal"

const walUsage = `usage: ramd wal push --socket PATH FILE
       ramd wal fetch --socket PATH [--must-know] FILE TO`

// walMain is ramd wal push and ramd wal fetch. It is kept out of the tree of commands
// because its exit codes are PostgreSQL's, and because it is started very often.
func walMain(args []string, stderr io.Writer) int {
	if len(args) == 0 {
		fmt.Fprintln(stderr, walUsage)
		return exitUsage
	}
	flags := flag.NewFlagSet("ramd wal "+args[0], flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() { fmt.Fprintln(stderr, walUsage) }
	socket := flags.String("socket", "", "socket of the node's ramd")
	mustKnow := flags.Bool("must-know", false, "end recovery rather than guess whether the archive has the file")
	if flags.Parse(args[1:]) != nil {
		return exitUsage
	}
	switch files := flags.Args(); {
	case *socket == "":
	case args[0] == "push" && len(files) == 1:
		return wal.PushVia(*socket, files[0], stderr)
	case args[0] == "fetch" && len(files) == 2:
		return wal.FetchVia(*socket, files[0], files[1], *mustKnow, stderr)
	}
	flags.Usage()
	return exitUsage
}
