package raftstore

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// meet lets two endpoints shake hands over a pipe.
func meet(dialer, acceptor endpoint, to string) (dialed, welcomed error) {
	near, far := net.Pipe()
	var both sync.WaitGroup
	both.Go(func() {
		defer near.Close()
		dialed = dialer.greet(near, to, dialer.knownSecret())
	})
	both.Go(func() {
		defer far.Close()
		_, welcomed = acceptor.welcome(far)
	})
	both.Wait()
	return dialed, welcomed
}

func secret(text string) func() []byte {
	return func() []byte { return []byte(text) }
}

func TestHandshake(t *testing.T) {
	good, other := secret("0123456789abcdef"), secret("fedcba9876543210")
	a := endpoint{cluster: "demo", id: "a#1", secret: good}
	b := endpoint{cluster: "demo", id: "b#1", secret: good}
	with := func(e endpoint, change func(*endpoint)) endpoint {
		change(&e)
		return e
	}
	cases := []struct {
		name             string
		dialer, acceptor endpoint
		to               string
		dialed, welcomed string
	}{
		{"of members that share the secret succeeds", a, b, "b#1", "", ""},
		{"with a dialer of another secret fails", with(a, func(e *endpoint) { e.secret = other }), b, "b#1", errWrongSecret.Error(), errWrongSecret.Error()},
		{"with an acceptor of another secret fails", a, with(b, func(e *endpoint) { e.secret = other }), "b#1", errWrongSecret.Error(), errWrongSecret.Error()},
		{"with an acceptor without secret fails", a, with(b, func(e *endpoint) { e.secret = secret("") }), "b#1", "has not learned", errNoSecret.Error()},
		{"with an acceptor of a guessable secret fails", a, with(b, func(e *endpoint) { e.secret = secret("short") }), "b#1", "has not learned", errNoSecret.Error()},
		{"with another incarnation fails", a, b, "b#2", "another incarnation", "it wants member b#2, this node is b#1"},
		{"with another cluster fails", a, with(b, func(e *endpoint) { e.cluster = "orders" }), "b#1", "another cluster", `it belongs to cluster "demo", this node to "orders"`},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			dialed, welcomed := meet(tc.dialer, tc.acceptor, tc.to)
			wantText(t, "dialer", dialed, tc.dialed)
			wantText(t, "acceptor", welcomed, tc.welcomed)
		})
	}
}

// wantText checks an error by a part of its text; none is wanted for no text.
func wantText(t *testing.T, who string, err error, text string) {
	t.Helper()
	switch {
	case err == nil && text == "":
	case err == nil || text == "" || !bytes.Contains([]byte(err.Error()), []byte(text)):
		t.Errorf("%s says %v, want %q", who, err, text)
	}
}

// script plays one side of a handshake from memory and keeps what the other says.
type script struct {
	io.Reader
	bytes.Buffer
}

func (s *script) Read(p []byte) (int, error) { return s.Reader.Read(p) }

func TestOverheardHandshakeCannotBeReplayed(t *testing.T) {
	a := endpoint{cluster: "demo", id: "a#1", secret: secret("0123456789abcdef")}
	b := endpoint{cluster: "demo", id: "b#1", secret: secret("0123456789abcdef")}
	near, far := net.Pipe()
	overheard := &bytes.Buffer{}
	done := make(chan error, 1)
	go func() {
		_, err := b.welcome(struct {
			io.Reader
			io.Writer
		}{io.TeeReader(far, overheard), far})
		done <- err
	}()
	must(t, a.greet(near, "b#1", a.knownSecret()))
	must(t, <-done)
	replay := &script{Reader: bytes.NewReader(overheard.Bytes())}
	if _, err := b.welcome(replay); !errors.Is(err, errWrongSecret) {
		t.Errorf("what a said before was answered with %v", err)
	}
	if last := replay.Bytes()[replay.Len()-1]; verdict(last) != wrongSecret {
		t.Errorf("the replay's verdict is %d", last)
	}
}

func TestProofOfOneSideIsNoneOfTheOther(t *testing.T) {
	h, answer := hello{cluster: "demo", from: "a#1", to: "b#1"}, [nonceSize]byte{1}
	key := []byte("0123456789abcdef")
	if dialerSide.prove(key, h, answer) == acceptorSide.prove(key, h, answer) {
		t.Error("an acceptor's proof can be reflected")
	}
	shifted := hello{cluster: "dem", from: "oa#1", to: "b#1"}
	if dialerSide.prove(key, h, answer) == dialerSide.prove(key, shifted, answer) {
		t.Error("a proof does not tell where the cluster's name ends")
	}
}

func TestHandshakeOfAnotherVersionIsRefused(t *testing.T) {
	b := endpoint{cluster: "demo", id: "b#1", secret: secret("0123456789abcdef")}
	future := &script{Reader: bytes.NewReader(append([]byte(handshakeMagic), handshakeVersion+1))}
	_, err := b.welcome(future)
	wantText(t, "acceptor", err, "run the same version everywhere")
	answer, err := readChallenge(&future.Buffer)
	must(t, err)
	if answer.verdict != otherVersion || answer.version != handshakeVersion {
		t.Errorf("answer is %+v", answer)
	}
	stranger := &script{Reader: bytes.NewReader([]byte("GET / HTTP/1.1\r\n\r\n"))}
	if _, err := b.welcome(stranger); !errors.Is(err, errNotHandshake) {
		t.Errorf("a browser gets %v", err)
	}
}

func TestNodeOfAnotherSecretNeitherReachesNorIsReached(t *testing.T) {
	c := bootstrapped(t, "a")
	stranger := c.add("s")
	stranger.config.Secret = secret("a secret of somebody else's tests")
	c.reopen(stranger)
	a := c.nodes["a"]
	dial := func(from, to *node) error {
		conn, err := from.stream.Dial(targetOf(to.id, raft.ServerAddress(to.Address())), patience)
		if err == nil {
			conn.Close()
		}
		return err
	}
	for range 3 {
		if err := dial(stranger, a); !errors.Is(err, errWrongSecret) {
			t.Errorf("a stranger reaches a member: %v", err)
		}
		if err := dial(a, stranger); !errors.Is(err, errWrongSecret) {
			t.Errorf("a member reaches a stranger: %v", err)
		}
	}
	c.eventually("each refusal to be logged", func() bool { return c.log.count("raft connection refused") >= 4 })
	if n := c.log.count("raft connection refused"); n != 4 {
		t.Errorf("%d refusals are logged for two pairs with two ends each", n)
	}
	// Even as a member on paper it takes part in nothing.
	must(t, a.AddNonvoter(t.Context(), stranger.Self()))
	c.propose("one")
	if has, err := stranger.HasState(); has || err != nil {
		t.Errorf("the stranger has state (%v)", err)
	}
}

func TestMemberWithoutSecretJoinsWhenItLearnsIt(t *testing.T) {
	c := bootstrapped(t, "a")
	b := c.add("b")
	var mu sync.Mutex
	var learned []byte
	b.config.Secret = func() []byte {
		mu.Lock()
		defer mu.Unlock()
		return learned
	}
	c.reopen(b)
	must(t, c.leader().AddNonvoter(t.Context(), b.Self()))
	c.propose("one")
	c.eventually("the refusal to be logged", func() bool { return c.log.count("has not learned") > 0 })
	if got := b.machine.commands(); got != nil {
		t.Errorf("without the secret b has %v", got)
	}
	mu.Lock()
	learned = testSecret
	mu.Unlock()
	c.converge("one")
	c.eventually("the change to be logged", func() bool { return c.log.count("accepted again") > 0 })
}

func TestSilentStrangersDoNotHoldUpMembers(t *testing.T) {
	c := bootstrapped(t, "a")
	a := c.nodes["a"]
	for range 10 {
		conn, err := net.Dial("tcp", a.Address())
		must(t, err)
		defer conn.Close()
	}
	b := c.add("b")
	must(t, c.leader().AddNonvoter(t.Context(), b.Self()))
	c.propose("one")
	c.converge("one")
}

func TestSilentStrangerIsHungUpOn(t *testing.T) {
	c := newCluster(t, "a")
	a := c.nodes["a"]
	a.config.Timeouts.Handshake = 20 * time.Millisecond
	c.reopen(a)
	conn, err := net.Dial("tcp", a.Address())
	must(t, err)
	defer conn.Close()
	must(t, conn.SetDeadline(time.Now().Add(patience)))
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("a silent connection ended with %v", err)
	}
}
