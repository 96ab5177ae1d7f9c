// Command ramctrl is the operator's hand on a cluster of ramd daemons.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/ramhq/ram/cmd/internal/ctl"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := ctl.Main(ctx, ctl.OS())
	stop()
	os.Exit(code)
}
