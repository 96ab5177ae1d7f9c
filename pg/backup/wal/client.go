package wal

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"time"
)

// Exit codes of the client. PostgreSQL takes what is above 128, like death by a signal,
// for a reason to end the process that asked, and not to ask again.
const (
	exitDone = 0
	// exitAgain: not done, PostgreSQL asks again; of restore_command: the file is not there.
	exitAgain = 1
	exitEnd   = 255
)

const (
	dialWait = 5 * time.Second
	// mustKnowFor is how long a client that must know keeps asking, every askAgain.
	mustKnowFor = time.Minute
	askAgain    = 500 * time.Millisecond
)

// PushVia is archive_command: it has the ramd that listens on a socket archive a file, and
// returns the exit code. What went wrong goes to stderr in one line, which PostgreSQL puts
// into its log.
func PushVia(socket, file string, stderr io.Writer) int {
	a, err := visit{socket, silence}.exchange(request{V: protocolVersion, Op: opPush, File: file}, nil)
	switch {
	case err != nil:
		complain(stderr, "push", file, err.Error()+"; PostgreSQL keeps the file and asks again")
		return exitAgain
	case a.Code == codeOK:
		return exitDone
	case a.Code == codeStopping:
		complain(stderr, "push", file, a.Error)
		return exitEnd
	}
	complain(stderr, "push", file, a.Error)
	return exitAgain
}

// FetchVia is restore_command: it gets a file of the archive through the ramd that listens
// on a socket, puts it at a path, and returns the exit code. That the archive does not
// have the file is quite usual, and said in the exit code only. When it cannot be known,
// mustKnow decides: without it that counts as not there, with it the client says why, keeps
// asking for a minute, and then has the server stop.
func FetchVia(socket, file, to string, mustKnow bool, stderr io.Writer) int {
	said := ""
	for end := time.Now().Add(mustKnowFor); ; time.Sleep(askAgain) {
		a, err := visit{socket, silence}.exchange(request{V: protocolVersion, Op: opFetch, File: file}, func(content io.Reader) error {
			return placeFile(to, content)
		})
		why := a.Error
		switch {
		case err != nil:
			why = err.Error()
		case a.Code == codeOK:
			return exitDone
		case a.Code == codeMissing:
			return exitAgain
		}
		if !mustKnow {
			complain(stderr, "fetch", file, why)
			return exitAgain
		}
		if why != said {
			complain(stderr, "fetch", file, why+"; trying again")
			said = why
		}
		if time.Now().After(end) {
			complain(stderr, "fetch", file, why+"; recovery stops here rather than to take the WAL for over: start it again when the archive can be reached")
			return exitEnd
		}
	}
}

func complain(stderr io.Writer, op, file, why string) {
	fmt.Fprintf(stderr, "ramd wal %s: %s: %s\n", op, file, why)
}

// visit is one connection to ramd, which is given up when nothing is heard for silence.
type visit struct {
	socket  string
	silence time.Duration
}

// exchange sends a request and waits for the answer; content takes what comes after it.
func (v visit) exchange(r request, content func(io.Reader) error) (answer, error) {
	conn, err := net.DialTimeout("unix", v.socket, dialWait)
	if err != nil {
		return answer{}, fmt.Errorf("ramd cannot be reached, is it running? (%w)", err)
	}
	defer conn.Close()
	if err := send(conn, r); err != nil {
		return answer{}, fmt.Errorf("ask ramd: %w", err)
	}
	lines := bufio.NewReader(conn)
	for {
		a, err := v.receive(conn, lines)
		if err != nil {
			return answer{}, fmt.Errorf("ramd ended or hangs before it answered: %w", err)
		}
		if a.Code == codeWait {
			continue
		}
		if a.Code == codeOK && content != nil {
			if err := conn.SetReadDeadline(time.Now().Add(3 * sendWait)); err != nil {
				return answer{}, err
			}
			return a, content(&exactly{lines, a.Size})
		}
		return a, nil
	}
}

func (v visit) receive(conn net.Conn, lines *bufio.Reader) (answer, error) {
	if err := conn.SetReadDeadline(time.Now().Add(v.silence)); err != nil {
		return answer{}, err
	}
	line, err := lines.ReadBytes('\n')
	if err != nil {
		return answer{}, err
	}
	var a answer
	return a, json.Unmarshal(line, &a)
}

// exactly reads so many bytes, fewer of which are an error.
type exactly struct {
	from io.Reader
	left int64
}

func (e *exactly) Read(p []byte) (int, error) {
	if e.left == 0 {
		return 0, io.EOF
	}
	n, err := e.from.Read(p[:min(int64(len(p)), e.left)])
	e.left -= int64(n)
	if err == io.EOF && e.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}
