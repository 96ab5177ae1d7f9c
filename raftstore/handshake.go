package raftstore

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
)

// The handshake of a new connection, before raft's own protocol:
//
//	dialer    hello      version, cluster, from, to, nonce
//	acceptor  challenge  version, verdict, nonce, proof over all of it
//	dialer    proof      over all of it
//	acceptor  verdict
//
// Each side proves that it knows the secret without showing it; a proof is bound
// to both nonces, both identities, the cluster and the side that gives it, so
// that none can be replayed or reflected. The dialer names the very incarnation
// that it wants: a wiped node answers at the old address, and must not vote or
// acknowledge in the name of the member that it once was.
const (
	handshakeMagic   = "ram-raft"
	handshakeVersion = 1
	nonceSize        = 32
	proofSize        = sha256.Size
)

// verdict is the acceptor's answer.
type verdict byte

const (
	accepted verdict = iota + 1
	otherVersion
	otherCluster
	otherMember
	noSecretYet
	wrongSecret
)

// What goes wrong in a handshake, as the operator reads them in the log of either side.
var (
	errNoSecret     = errors.New("this node has not learned the cluster's raft secret yet")
	errWrongSecret  = errors.New("the other side does not know this cluster's raft secret")
	errNotHandshake = errors.New("the other side does not speak ramd's raft protocol")
)

func (v verdict) err() error {
	switch v {
	case accepted:
		return nil
	case otherVersion:
		return errors.New("the other ramd speaks another version of the raft handshake; run the same version everywhere")
	case otherCluster:
		return errors.New("the other ramd belongs to another cluster; check the raft addresses in the spec")
	case otherMember:
		return errors.New("another member, or another incarnation of it, answers at this address")
	case noSecretYet:
		return errors.New("the other ramd has not learned the raft secret yet")
	case wrongSecret:
		return errWrongSecret
	default:
		return errNotHandshake
	}
}

// refusedError is a connection that was not made because of who is at the other
// end, or because of what this end does not know yet.
type refusedError struct {
	peer string
	err  error
}

func (e *refusedError) Error() string {
	return fmt.Sprintf("raft connection with %s refused: %v", e.peer, e.err)
}

func (e *refusedError) Unwrap() error { return e.err }

// hello is who wants to talk to whom.
type hello struct {
	cluster, from, to string
	nonce             [nonceSize]byte
}

func (h hello) write(w io.Writer) error {
	message := append([]byte(handshakeMagic), handshakeVersion)
	for _, field := range []string{h.cluster, h.from, h.to} {
		message = append(append(message, byte(len(field))), field...)
	}
	_, err := w.Write(append(message, h.nonce[:]...))
	return err
}

func readHello(r io.Reader) (h hello, version byte, err error) {
	start := make([]byte, len(handshakeMagic)+1)
	if _, err := io.ReadFull(r, start); err != nil {
		return h, 0, err
	}
	if string(start[:len(handshakeMagic)]) != handshakeMagic {
		return h, 0, errNotHandshake
	}
	if version = start[len(handshakeMagic)]; version != handshakeVersion {
		return h, version, nil
	}
	for _, field := range []*string{&h.cluster, &h.from, &h.to} {
		if *field, err = readString(r); err != nil {
			return h, version, err
		}
	}
	_, err = io.ReadFull(r, h.nonce[:])
	return h, version, err
}

func readString(r io.Reader) (string, error) {
	var length [1]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return "", err
	}
	text := make([]byte, length[0])
	_, err := io.ReadFull(r, text)
	return string(text), err
}

// challenge is the acceptor's first answer; nonce and proof are zero unless the
// verdict is accepted.
type challenge struct {
	version byte
	verdict verdict
	nonce   [nonceSize]byte
	proof   [proofSize]byte
}

func (c challenge) write(w io.Writer) error {
	message := append([]byte{c.version, byte(c.verdict)}, c.nonce[:]...)
	_, err := w.Write(append(message, c.proof[:]...))
	return err
}

func readChallenge(r io.Reader) (c challenge, err error) {
	message := make([]byte, 2+nonceSize+proofSize)
	if _, err := io.ReadFull(r, message); err != nil {
		return c, err
	}
	c.version, c.verdict = message[0], verdict(message[1])
	copy(c.nonce[:], message[2:])
	copy(c.proof[:], message[2+nonceSize:])
	return c, nil
}

// side tells the two proofs of one handshake apart.
type side string

const (
	dialerSide   side = "dialer"
	acceptorSide side = "acceptor"
)

// prove is what only who knows the secret can say about this handshake.
func (s side) prove(secret []byte, h hello, answer [nonceSize]byte) (proof [proofSize]byte) {
	mac := hmac.New(sha256.New, secret)
	for _, field := range []string{handshakeMagic, string(s), h.cluster, h.from, h.to, string(h.nonce[:]), string(answer[:])} {
		// Each field's length goes first, so that no two handshakes hash the same text.
		mac.Write([]byte{byte(len(field))})
		mac.Write([]byte(field))
	}
	mac.Sum(proof[:0])
	return proof
}

// endpoint is one node's side of every handshake.
type endpoint struct {
	cluster, id string
	secret      func() []byte
}

// knownSecret is nil until there is one that cannot be guessed.
func (e endpoint) knownSecret() []byte {
	if secret := e.secret(); len(secret) >= minSecret {
		return secret
	}
	return nil
}

// greet is the dialer's part.
func (e endpoint) greet(conn io.ReadWriter, to string, secret []byte) error {
	h := hello{cluster: e.cluster, from: e.id, to: to}
	_, _ = rand.Read(h.nonce[:]) // never fails
	if err := h.write(conn); err != nil {
		return err
	}
	answer, err := readChallenge(conn)
	if err != nil {
		return fmt.Errorf("%w: %w", errNotHandshake, err)
	}
	if err := answer.verdict.err(); err != nil {
		return err
	}
	if want := acceptorSide.prove(secret, h, answer.nonce); !hmac.Equal(want[:], answer.proof[:]) {
		return errWrongSecret
	}
	proof := dialerSide.prove(secret, h, answer.nonce)
	if _, err := conn.Write(proof[:]); err != nil {
		return err
	}
	var last [1]byte
	if _, err := io.ReadFull(conn, last[:]); err != nil {
		return err
	}
	return verdict(last[0]).err()
}

// welcome is the acceptor's part. It returns who dialed, as far as it said so.
func (e endpoint) welcome(conn io.ReadWriter) (from string, err error) {
	h, version, err := readHello(conn)
	if err != nil {
		return h.from, err
	}
	secret := e.knownSecret()
	answer := challenge{version: handshakeVersion, verdict: e.judge(h, version, secret)}
	if answer.verdict != accepted {
		_ = answer.write(conn)
		return h.from, refusal(answer.verdict, h, e)
	}
	_, _ = rand.Read(answer.nonce[:]) // never fails
	answer.proof = acceptorSide.prove(secret, h, answer.nonce)
	if err := answer.write(conn); err != nil {
		return h.from, err
	}
	var proof [proofSize]byte
	if _, err := io.ReadFull(conn, proof[:]); err != nil {
		// The dialer leaves here when the acceptor's proof is not its own.
		return h.from, fmt.Errorf("%w: %w", errWrongSecret, err)
	}
	if want := dialerSide.prove(secret, h, answer.nonce); !hmac.Equal(want[:], proof[:]) {
		_, _ = conn.Write([]byte{byte(wrongSecret)})
		return h.from, errWrongSecret
	}
	_, err = conn.Write([]byte{byte(accepted)})
	return h.from, err
}

func (e endpoint) judge(h hello, version byte, secret []byte) verdict {
	switch {
	case version != handshakeVersion:
		return otherVersion
	case h.cluster != e.cluster:
		return otherCluster
	case h.to != e.id:
		return otherMember
	case secret == nil:
		return noSecretYet
	default:
		return accepted
	}
}

// refusal is the acceptor's own word for what it told the dialer.
func refusal(v verdict, h hello, e endpoint) error {
	switch v {
	case otherCluster:
		return fmt.Errorf("it belongs to cluster %q, this node to %q", h.cluster, e.cluster)
	case otherMember:
		return fmt.Errorf("it wants member %s, this node is %s", h.to, e.id)
	case noSecretYet:
		return errNoSecret
	default:
		return v.err()
	}
}
