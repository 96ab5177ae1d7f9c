package reconcile

// Watched is what to do about the content of a watched spec file.
type Watched string

const (
	WatchedSame    Watched = "same"    // the version in force
	WatchedPropose Watched = "propose" // an edit of the version in force
	WatchedStale   Watched = "stale"   // an older version that nobody went back to
	WatchedUnknown Watched = "unknown" // changed from a version that is not in force
)

// WatchFile decides about a file with the digest now, that this host last knew
// to hold before (empty when it never looked). An edit of the version in force
// is proposed, also one that goes back to older content, such as a git revert; a
// copy that lags behind is not, whichever host it lies on.
func WatchFile(rec *Record, before, now string) Watched {
	if rec.Spec == nil {
		return WatchedPropose
	}
	inForce := rec.Spec.Digest()
	switch {
	case now == inForce:
		return WatchedSame
	case before == inForce && before != now:
		return WatchedPropose
	}
	for _, revision := range rec.History {
		if revision.Digest == now {
			return WatchedStale
		}
	}
	return WatchedUnknown
}
