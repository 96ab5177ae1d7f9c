package reconcile

// Watched is what to do about the content of a watched spec file.
type Watched string

const (
	WatchedSame    Watched = "same"    // the version in force
	WatchedPropose Watched = "propose" // an edit of the version in force
	WatchedStale   Watched = "stale"   // an older version that nobody went back to
	WatchedUnknown Watched = "unknown" // changed from a version that is not in force
)

// Agreement is what a host's copy held when it was last seen to be the version in
// force. The zero Agreement is that of a copy of which this is not known.
type Agreement struct {
	Digest string `json:"digest,omitempty"`
	// Revision is the one that was in force then, as far as the host knew: contents come
	// back, revisions do not.
	Revision uint64 `json:"revision,omitempty"`
}

// WatchFile decides about a file with the digest now. An edit of the version in force
// is proposed, also one that goes back to older content, such as a git revert; a
// copy that lags behind is not, whichever host it lies on. One that holds what came into
// force after it last agreed, and is in force no more, lags behind.
func WatchFile(rec *Record, before Agreement, now string) Watched {
	if rec.Spec == nil {
		return WatchedPropose
	}
	inForce := rec.Spec.Digest()
	if now == inForce {
		return WatchedSame
	}
	edited := before.Digest == inForce
	known := false
	for _, revision := range rec.History {
		if revision.Digest == now {
			known = true
			edited = edited && revision.Number <= before.Revision
		}
	}
	switch {
	case edited:
		return WatchedPropose
	case known:
		return WatchedStale
	}
	return WatchedUnknown
}
