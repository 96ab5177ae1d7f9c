package raftstore

import (
	"io"

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
}

// maxPool is how many idle connections are kept per member: replication and heartbeat
// hold their own while they are in use, and votes need one more.
const maxPool = 3

func newTransport(stream *stream, cfg Config, logger *raftLogger) transport {
	return transport{raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: stream, MaxPool: maxPool, Timeout: cfg.Timeouts.rpcTimeout(), Logger: logger,
	})}
}

// AppendEntriesPipeline implements raft.Transport.
func (t transport) AppendEntriesPipeline(id raft.ServerID, address raft.ServerAddress) (raft.AppendPipeline, error) {
	return t.NetworkTransport.AppendEntriesPipeline(id, targetOf(id, address))
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
