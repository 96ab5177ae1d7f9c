package raftstore

import "sync"

// broadcast wakes everybody who waits. The zero broadcast is ready.
type broadcast struct {
	mu sync.Mutex
	ch chan struct{}
}

// changed returns a channel that is closed by the next notify.
func (b *broadcast) changed() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch == nil {
		b.ch = make(chan struct{})
	}
	return b.ch
}

func (b *broadcast) notify() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch != nil {
		close(b.ch)
		b.ch = nil
	}
}
