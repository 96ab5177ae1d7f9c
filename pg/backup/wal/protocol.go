package wal

import (
	"encoding/json"
	"fmt"
	"net"
	"time"
)

// request is the one line that a client sends on a connection.
type request struct {
	V    int    `json:"v"`
	Op   string `json:"op"`
	File string `json:"file"`
}

// answer is a line that the service sends: any number with CodeWait, then one more. After
// an OK to a fetch, Size bytes of content follow.
type answer struct {
	Code  code   `json:"code"`
	Error string `json:"error,omitempty"`
	Size  int64  `json:"size,omitempty"`
}

type code string

const (
	opPush  = "push"
	opFetch = "fetch"

	// codeWait says that the service is alive and at work.
	codeWait code = "wait"
	codeOK   code = "ok"
	// codeMissing: the archive does not have the file.
	codeMissing code = "missing"
	// codeFailed: not done, and PostgreSQL should ask again.
	codeFailed code = "failed"
	// codeStopping: PostgreSQL's archiver should end.
	codeStopping code = "stopping"
	// codeRefused: the request itself is wrong.
	codeRefused code = "refused"
)

const (
	protocolVersion = 1
	// requestLimit is the longest request in bytes, and requestWait how long it may take.
	requestLimit = 4096
	requestWait  = 5 * time.Second
	// waitEvery is how often a service at work says so; a client that hears nothing for
	// silence gives up.
	waitEvery = 3 * time.Second
	silence   = 20 * time.Second
	// sendWait is how long the other side may take to accept a piece of what is sent.
	sendWait = 20 * time.Second
	// socketPathLimit is the longest path of a unix socket on Linux.
	socketPathLimit = 107
)

// send writes one line.
func send(conn net.Conn, v any) error {
	line, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if err := conn.SetWriteDeadline(time.Now().Add(sendWait)); err != nil {
		return err
	}
	_, err = conn.Write(append(line, '\n'))
	return err
}

// CheckSocketPath refuses a path that the system cannot have a socket at.
func CheckSocketPath(path string) error {
	if len(path) > socketPathLimit {
		return fmt.Errorf("the path of the socket for WAL has %d bytes, and %d are possible: %s; give ramd a shorter --data-dir", len(path), socketPathLimit, path)
	}
	return nil
}
