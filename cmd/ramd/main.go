// Command ramd runs on every host of a PostgreSQL cluster and makes it what the
// cluster's spec says.
package main

import (
	"os"

	"github.com/ramhq/ram/cmd/internal/daemon"
)

func main() {
	os.Exit(daemon.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
