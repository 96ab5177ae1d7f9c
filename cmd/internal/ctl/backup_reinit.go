package ctl

import (
	"context"
	"errors"
	"strings"

	"github.com/ramhq/ram/cmd/internal/api"
	"github.com/ramhq/ram/reconcile"
)

// What reinit --from takes, beside backup:ID.
const (
	sourcePrimary = "primary"
	sourceBackup  = "backup"
)

// reinitOrder is the backup that --from names; nil for the primary.
func reinitOrder(from, repository string) (*reconcile.RestoreOrder, error) {
	source, id, named := strings.Cut(from, ":")
	switch {
	case from == sourcePrimary && repository != "":
		return nil, usagef("--repository goes with --from backup: the primary is none")
	case from == sourcePrimary:
		return nil, nil
	case source != sourceBackup:
		return nil, usagef("--from %q: write primary, backup or backup:ID", from)
	case !named:
		id = reconcile.BackupLatest
	}
	if err := checkID(id, true); err != nil {
		return nil, err
	}
	return &reconcile.RestoreOrder{Repository: repository, Backup: id}, nil
}

// findRepository makes the only repository of the spec the order's when it names none.
func findRepository(ctx context.Context, client *api.Client, order *reconcile.RestoreOrder) error {
	if order == nil {
		return nil
	}
	c, err := specInForce(ctx, client)
	if err != nil {
		return err
	}
	var names []string
	for _, r := range c.Repositories {
		names = append(names, r.Name)
		if r.Name == order.Repository {
			return nil
		}
	}
	switch {
	case len(names) == 0:
		return errors.New("the spec names no repository, so there is no backup: add repository and archive blocks, and apply it")
	case order.Repository != "":
		return usagef("there is no repository %q: the spec has %s", order.Repository, strings.Join(names, ", "))
	case len(names) > 1:
		return usagef("the spec has several repositories: name one of %s with --repository", strings.Join(names, ", "))
	}
	order.Repository = names[0]
	return nil
}

func (a *app) reinitSources(ctx context.Context, client *api.Client) ([]string, error) {
	sources := []string{sourcePrimary, sourceBackup + "\tthe latest"}
	ids, err := a.backupIDs(ctx, client)
	if err != nil {
		return sources, nil
	}
	for _, id := range ids {
		sources = append(sources, sourceBackup+":"+id)
	}
	return sources, nil
}
