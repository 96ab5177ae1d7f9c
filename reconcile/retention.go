package reconcile

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ramhq/ram/spec"
)

// Expired are the backups of a block that its keep rule no longer wants, oldest first:
// neither among the newest keep.Last nor younger than keep.Days. A backup that is
// known not to restore does not count among the newest, and goes when keep.Last that
// do, or that do not, have come after it: somebody may want to look at it. The newest
// that was proven to restore never expires (S7); nor does anything while now is not known.
func Expired(b spec.Backup, backups []CatalogBackup, now time.Time) []string {
	if now.IsZero() {
		return nil
	}
	var own []CatalogBackup
	for _, c := range backups {
		if c.Name == b.Name {
			own = append(own, c)
		}
	}
	slices.SortStableFunc(own, func(a, b CatalogBackup) int { return a.Started.Compare(b.Started) })
	oldest := now.AddDate(0, 0, -b.Keep.Days)
	kept, broken, proved := 0, 0, false
	var expired []string
	for _, c := range slices.Backward(own) {
		newestProved := !proved && !c.Proved.IsZero() && c.Broken == ""
		proved = proved || newestProved
		stays := kept < b.Keep.Last
		switch {
		case c.Broken != "":
			stays = stays && broken < b.Keep.Last
			broken++
		case stays:
			kept++
		}
		if stays || newestProved || b.Keep.Days > 0 && c.Finished.After(oldest) {
			continue
		}
		expired = append(expired, c.ID)
	}
	slices.Reverse(expired)
	return expired
}

// prune plans the deletion of backups that have expired. What goes because of a change
// of the spec is destroyed by it, and asks for the operator's word; what goes because
// time has passed was agreed to with the spec.
func (d *differ) prune() {
	for _, b := range d.want.Backups {
		expired := Expired(b, d.rec.Catalogs[b.Repository].Backups, d.obs.Now)
		if len(expired) == 0 {
			continue
		}
		s := Step{
			ID: stepID(StepPrune, b.Name), Kind: StepPrune, Node: d.primary.Name,
			Summary: fmt.Sprintf("delete %s of %s: %s", counted(len(expired), "backup"), b.Name, strings.Join(expired, ", ")),
			Reason:  keepWords(b.Keep),
		}
		if early := d.early(b, expired); len(early) > 0 {
			s.Destroys = fmt.Sprintf("%s that the spec in force keeps: %s", counted(len(early), "backup"), strings.Join(early, ", "))
		}
		switch {
		case d.rec.Job != nil && d.rec.Job.Kind == JobPrune && d.rec.Job.Schedule == b.Name:
		case d.rec.Job != nil:
			s.Waits = fmt.Sprintf("job %d (%s)", d.rec.Job.ID, d.rec.Job.Title())
		case !d.obs.Nodes[d.primary.Name].Reachable:
			s.Waits = fmt.Sprintf("ramd on %s to answer", d.primary.Name)
		default:
			s.effect = &Effect{Begin: &BeginJob{Job: Job{
				Kind: JobPrune, Schedule: b.Name, Name: b.Name, Repository: b.Repository, Delete: expired,
				Node: d.primary.Name, By: "retention", Attempt: 1,
			}}}
		}
		d.add(s)
	}
}

// expired are all backups that the spec in force no longer keeps.
func (d *differ) expired() []string {
	var all []string
	if d.rec.Spec == nil {
		return nil
	}
	for _, b := range d.rec.Spec.Backups {
		all = append(all, Expired(b, d.rec.Catalogs[b.Repository].Backups, d.obs.Now)...)
	}
	return all
}

// early are those of expired that would stay with the spec in force.
func (d *differ) early(b spec.Backup, expired []string) []string {
	if d.rec.Spec == nil || d.rec.Spec == d.want {
		return nil
	}
	i := slices.IndexFunc(d.rec.Spec.Backups, func(old spec.Backup) bool { return old.Name == b.Name })
	if i < 0 {
		return expired
	}
	already := Expired(d.rec.Spec.Backups[i], d.rec.Catalogs[b.Repository].Backups, d.obs.Now)
	return slices.DeleteFunc(slices.Clone(expired), func(id string) bool { return slices.Contains(already, id) })
}

func keepWords(k spec.Keep) string {
	words := fmt.Sprintf("the last %d are kept", k.Last)
	if k.Days > 0 {
		words += fmt.Sprintf(", and all of %s", counted(k.Days, "day"))
	}
	return words
}
