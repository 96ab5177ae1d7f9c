package devcluster

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/ramhq/ram/cmd/internal/render"
	"github.com/ramhq/ram/reconcile"
)

// report is dev status -o json, one for each dev cluster.
type report struct {
	Format  int    `json:"format"`
	Cluster string `json:"cluster"`
	Dir     string `json:"dir"`
	Spec    string `json:"spec"`
	// Ramds are those that were ever started, in the order of the spec.
	Ramds []ramdReport `json:"ramds"`
	// Status is the cluster's own; absent, with the reason, when no ramd answers.
	Status *reconcile.Status `json:"status,omitempty"`
	Reason string            `json:"reason,omitempty"`
}

type ramdReport struct {
	Node string `json:"node"`
	// PID is zero when it does not run.
	PID     int    `json:"pid"`
	UpMS    int64  `json:"up_ms"`
	Address string `json:"address"`
	Log     string `json:"log"`
}

const reportFormat = 1

func (d *dev) status(ctx context.Context, args []string) error {
	places, err := d.shown(args)
	if err != nil {
		return err
	}
	for i, p := range places {
		r := p.report(ctx)
		if d.JSON() {
			encoder := json.NewEncoder(d.Stdout)
			encoder.SetIndent("", "  ")
			err = encoder.Encode(r)
		} else {
			if i > 0 {
				d.say("")
			}
			err = d.show(r)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// shown are the dev clusters to show: the one that is named, or all.
func (d *dev) shown(args []string) ([]*place, error) {
	if d.dir == "" && len(args) == 0 {
		if places, err := d.all(nil); err != nil || len(places) > 0 {
			return places, err
		}
	}
	p, err := d.find(args)
	return []*place{p}, err
}

func (p *place) report(ctx context.Context) report {
	r := report{Format: reportFormat, Cluster: p.Cluster, Dir: p.dir, Spec: p.Spec}
	running := p.ramds()
	for _, m := range p.Nodes {
		line := ramdReport{Node: m.Name, Address: m.Address, Log: p.log(m.Name)}
		if q, runs := running[m.Name]; runs {
			line.PID, line.UpMS = q.pid, age(q.pid).Milliseconds()
		}
		r.Ramds = append(r.Ramds, line)
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	switch client, err := p.client(); {
	case len(running) == 0:
		r.Reason = "no ramd runs"
	case err != nil:
		r.Reason = "the ramds have not formed a cluster yet"
	default:
		status, err := client.Status(ctx)
		if err != nil {
			r.Reason = err.Error()
			break
		}
		r.Status = &status
	}
	return r
}

func (d *dev) show(r report) error {
	style := d.Style()
	d.say("Dev cluster %s  %s", style.Bold(r.Cluster), r.Dir)
	d.say("  of %s\n", near(r.Spec))
	var text strings.Builder
	table := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "  NODE\tPID\tUP\tADDRESS\tLOG")
	stopped := false
	for _, m := range r.Ramds {
		pid, up := "-", "stopped"
		if m.PID != 0 {
			pid, up = fmt.Sprint(m.PID), render.Elapsed(time.Duration(m.UpMS)*time.Millisecond)
		}
		stopped = stopped || m.PID == 0
		fmt.Fprintf(table, "  %s\t%s\t%s\t%s\t%s\n", m.Node, pid, up, m.Address, m.Log)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	d.say("%s", text.String())
	if stopped {
		d.say("%s\n", style.Notice("Not all ramds run; start what is missing with: "+d.command("dev", "up", near(r.Spec))))
	}
	if r.Status == nil {
		d.say("%s", style.Notice("The cluster does not answer: "+r.Reason))
		return nil
	}
	return render.Status(d.Stdout, *r.Status, style)
}

// env prints what leads ramctrl to the dev cluster, for a shell's eval.
func (d *dev) env(args []string) error {
	p, err := d.find(args)
	if err != nil {
		return err
	}
	if !p.formed() {
		return fmt.Errorf("the ramds of dev cluster %s have not formed the cluster: %s", p.Cluster, d.command("dev", "up", near(p.Spec)))
	}
	_, err = fmt.Fprintf(d.Stdout, "export RAM_ADDR=%s\nexport RAM_TOKEN_FILE=%s\n", shellWord(strings.Join(p.addresses(), ",")), shellWord(p.tokenFile()))
	return err
}
