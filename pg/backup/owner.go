package backup

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ramhq/ram/pg"
)

// Owner is the cluster that writes to a repository. Others may read it.
type Owner struct {
	Format    int         `json:"format"` // set by Claim and TakeOver
	Cluster   string      `json:"cluster"`
	ClusterID string      `json:"cluster_id"`
	SystemID  pg.SystemID `json:"system_id"`
	At        time.Time   `json:"at"` // when it claimed the repository
}

// Owner is whose repository this is: ErrNotFound when nobody has claimed it.
func (r *Repository) Owner(ctx context.Context) (Owner, error) {
	var o Owner
	err := r.readRecord(ctx, ownerObject, &o)
	if errors.Is(err, errNoDirectory) {
		err = fmt.Errorf("%w: owner: %w", err, ErrNotFound)
	}
	return o, err
}

// Claim makes the repository the cluster's. It is no error when it is already, and
// ErrForeign when it belongs to another system identifier or cluster identifier.
// Of several that claim at once one succeeds.
func (r *Repository) Claim(ctx context.Context, o Owner) error {
	o.Format = formatVersion
	if o.ClusterID == "" || o.SystemID == 0 {
		return errors.New("a cluster without identifiers cannot claim a repository")
	}
	holder, err := r.Owner(ctx)
	if errors.Is(err, ErrNotFound) {
		if err = r.writeRecord(ctx, ownerObject, true, o); err == nil {
			return nil
		}
		if errors.Is(err, ErrExists) {
			holder, err = r.Owner(ctx)
		}
	}
	if err != nil {
		return err
	}
	if holder.SystemID != o.SystemID || holder.ClusterID != o.ClusterID {
		return r.foreign(holder, o)
	}
	return nil
}

func (r *Repository) foreign(holder, o Owner) error {
	whose := fmt.Sprintf("repository %s: %%w: cluster %q (system identifier %s, cluster identifier %s) claimed it at %s",
		r.place, holder.Cluster, holder.SystemID, holder.ClusterID, holder.At.UTC().Format(time.RFC3339))
	if holder.SystemID == o.SystemID {
		return fmt.Errorf(whose+"; it has the same origin as this one: give this cluster a URL of its own, or, if the other is gone for good, take the repository over with ramctrl backup takeover", ErrForeign)
	}
	return fmt.Errorf(whose+"; give this cluster a URL of its own", ErrForeign)
}

// TakeOver makes the repository the cluster's although another holds it, which must
// be gone for good: two that write destroy each other's archive. Only an owner with the same system
// identifier can be replaced; otherwise the error is ErrForeign.
func (r *Repository) TakeOver(ctx context.Context, o Owner) error {
	o.Format = formatVersion
	holder, err := r.Owner(ctx)
	if errors.Is(err, ErrNotFound) {
		return r.Claim(ctx, o)
	}
	if err != nil {
		return err
	}
	if holder.SystemID != o.SystemID {
		return r.foreign(holder, o)
	}
	return r.writeRecord(ctx, ownerObject, false, o)
}
