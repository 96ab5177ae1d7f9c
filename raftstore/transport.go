package raftstore

import (
	"io"
	"sync"

	"github.com/hashicorp/raft"
)

// targetSeparator stands between a member's ID and its address in what the
// transport dials.
const targetSeparator = "@"

// targetOf names the member as well as the address. Raft's requests carry the
// sender's ID but not the receiver's, and its pool knows connections by address
// alone: without this a wiped node would be asked for, and would give, the vote of
// the member that it was before.
func targetOf(id raft.ServerID, address raft.ServerAddress) raft.ServerAddress {
	return raft.ServerAddress(string(id) + targetSeparator + string(address))
}

// transport is raft's network transport, with every request bound to one
// incarnation of its receiver.
type transport struct {
	*raft.NetworkTransport
	heartbeats *heartbeats
}

// heartbeats are answered on the connections' own goroutines, so that a slow disk
// does not hold them up. Raft's Shutdown does not wait for those, and one that
// brings a new term writes to the log's file: they must be over before it is closed.
type heartbeats struct {
	mu   sync.RWMutex // held for reading while one is answered
	over bool
}

func (h *heartbeats) guard(answer func(raft.RPC)) func(raft.RPC) {
	return func(rpc raft.RPC) {
		h.mu.RLock()
		defer h.mu.RUnlock()
		if !h.over {
			answer(rpc)
		}
	}
}

func (h *heartbeats) end() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.over = true
}

// maxPool is how many idle connections are kept per member: replication and heartbeat
// hold their own while they are in use, and votes need one more.
const maxPool = 3

func newTransport(stream *stream, cfg Config, logger *raftLogger) transport {
	network := raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: stream, MaxPool: maxPool, Timeout: cfg.Timeouts.rpcTimeout(), Logger: logger,
	})
	return transport{NetworkTransport: network, heartbeats: &heartbeats{}}
}

// SetHeartbeatHandler implements raft.Transport.
func (t transport) SetHeartbeatHandler(answer func(raft.RPC)) {
	t.NetworkTransport.SetHeartbeatHandler(t.heartbeats.guard(answer))
}

// Close implements raft.WithClose: no connection, and no use of the log by one, is
// left. A second call does nothing.
func (t transport) Close() error {
	t.heartbeats.end()
	return t.NetworkTransport.Close()
}

// AppendEntriesPipeline implements raft.Transport; there is none. When a follower
// refuses an entry, the one goroutine that could close raft's pipeline may wait
// for ever in the pipeline itself: that follower then hears heartbeats but gets no
// entry until the leader's process ends, and Shutdown hangs
// (hashicorp/raft issue 612; seen here with 1.8.0).
func (t transport) AppendEntriesPipeline(raft.ServerID, raft.ServerAddress) (raft.AppendPipeline, error) {
	return nil, raft.ErrPipelineReplicationNotSupported
}

// AppendEntries implements raft.Transport.
func (t transport) AppendEntries(id raft.ServerID, address raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	return t.NetworkTransport.AppendEntries(id, targetOf(id, address), args, resp)
}

// RequestVote implements raft.Transport.
func (t transport) RequestVote(id raft.ServerID, address raft.ServerAddress, args *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	return t.NetworkTransport.RequestVote(id, targetOf(id, address), args, resp)
}

// RequestPreVote implements raft.WithPreVote.
func (t transport) RequestPreVote(id raft.ServerID, address raft.ServerAddress, args *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	return t.NetworkTransport.RequestPreVote(id, targetOf(id, address), args, resp)
}

// InstallSnapshot implements raft.Transport.
func (t transport) InstallSnapshot(id raft.ServerID, address raft.ServerAddress, args *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	return t.NetworkTransport.InstallSnapshot(id, targetOf(id, address), args, resp, data)
}

// TimeoutNow implements raft.Transport.
func (t transport) TimeoutNow(id raft.ServerID, address raft.ServerAddress, args *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	return t.NetworkTransport.TimeoutNow(id, targetOf(id, address), args, resp)
}
