package faults

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/jackc/pgx/v5/pgconn"
)

// Operation is one read or write of a register by a client. A read is a transaction
// that also changes something, so that its commit waits for standbys: a primary that
// has been replaced and does not know it yet answers plain reads until its lease ends.
type Operation struct {
	Client   int
	Write    bool
	Value    int64 // written or read
	From, To time.Time
	// Unknown is set for a write whose outcome is not known: it may take effect at any
	// time after From, or never.
	Unknown bool
}

// register is what porcupine checks a history against. A state is the value.
var register = porcupine.Model{
	Init: func() any { return int64(0) },
	Step: func(state, input, output any) (bool, any) {
		if o := input.(Operation); o.Write {
			return true, o.Value
		}
		return output.(int64) == state.(int64), state
	},
	DescribeOperation: func(input, output any) string {
		if o := input.(Operation); o.Write {
			return fmt.Sprintf("write %d", o.Value)
		}
		return fmt.Sprintf("read %d", output)
	},
}

// patience is how long porcupine may search. A history that it cannot decide in
// that time is an error too: the test has to make shorter ones.
const patience = 2 * time.Minute

// CheckRegister looks for an order of operations that each begins to end in turn
// explains, as one register that begins with 0 would have it. Every write has to have
// a value of its own.
func CheckRegister(history []Operation) error {
	settled := settle(history)
	operations := make([]porcupine.Operation, len(settled))
	for i, o := range settled {
		// Times since one of them, so that they stay monotonic.
		begun, ended := o.From.Sub(settled[0].From), o.To.Sub(settled[0].From)
		operations[i] = porcupine.Operation{ClientId: o.Client, Input: o, Output: o.Value, Call: int64(begun), Return: int64(ended)}
	}
	switch porcupine.CheckOperationsTimeout(register, operations, patience) {
	case porcupine.Ok:
		return nil
	case porcupine.Unknown:
		return fmt.Errorf("register: a history of %d operations was not decided within %s", len(operations), patience)
	default:
		return fmt.Errorf("register: a history of %d operations is not linearizable%s", len(operations), staleReads(operations))
	}
}

// settle gives an unknown write its end. One that somebody read took effect before
// that read ended; one that nobody read changes no answer, and is left out. So the
// search is not slowed down by operations that never end.
func settle(history []Operation) []Operation {
	seen := map[int64]time.Time{}
	for _, o := range history {
		if first, ok := seen[o.Value]; !o.Write && (!ok || o.To.Before(first)) {
			seen[o.Value] = o.To
		}
	}
	var settled []Operation
	for i, o := range history {
		if o.Unknown {
			end, ok := seen[o.Value]
			if !ok {
				continue
			}
			// Its client went on meanwhile; to porcupine that is somebody else.
			o.To, o.Client = end, -1-i
			if o.To.Before(o.From) {
				o.To = o.From // read before it was written: left for porcupine to find
			}
		}
		settled = append(settled, o)
	}
	return settled
}

// staleReads names the reads of values that had been overwritten before they began,
// which is what most histories that are wrong have.
func staleReads(history []porcupine.Operation) string {
	written := map[int64]porcupine.Operation{}
	for _, o := range history {
		if in := o.Input.(Operation); in.Write {
			written[in.Value] = o
		}
	}
	var stale []string
	for _, read := range history {
		in := read.Input.(Operation)
		if in.Write {
			continue
		}
		from, known := written[in.Value]
		over := slices.IndexFunc(history, func(o porcupine.Operation) bool {
			return o.Input.(Operation).Write && o.Return < read.Call && (!known && in.Value == 0 || known && from.Return < o.Call)
		})
		if over >= 0 {
			stale = append(stale, fmt.Sprintf("\n  read of %d at %s, after %d was written",
				in.Value, clock(in.To), history[over].Input.(Operation).Value))
		}
	}
	if len(stale) > 10 {
		stale = stale[:10]
	}
	return fmt.Sprint(stale)
}

// RegisterClient reads and writes the register in turn until Stop.
type RegisterClient struct {
	session
	id      int
	clients int
	history []Operation
}

// startRegister starts clients of one new register.
func (c *Cluster) startRegister(clients int) []*RegisterClient {
	c.t.Helper()
	table := c.newTable("register")
	c.Exec(fmt.Sprintf("ALTER TABLE %s ADD value bigint, ADD reads bigint; INSERT INTO %[1]s VALUES (1, 0, 0)", table))
	var all []*RegisterClient
	for id := range clients {
		r := &RegisterClient{id: id, clients: clients}
		r.start(c, Pace{Every: 25 * time.Millisecond, Timeout: time.Second}, table, c.Superuser(), r.run)
		all = append(all, r)
	}
	return all
}

// Stop ends the client and returns what it knows. It may be called again.
func (r *RegisterClient) Stop() []Operation {
	r.end()
	return r.history
}

func (r *RegisterClient) run(ctx context.Context) {
	next := int64(0)
	r.each(ctx, func(conn *pgconn.PgConn) (again bool) {
		next++
		if next%2 == 0 {
			return r.write(conn, next*int64(r.clients)+int64(r.id))
		}
		return r.read(conn)
	})
}

func (r *RegisterClient) write(conn *pgconn.PgConn, value int64) (again bool) {
	a := r.do(conn, fmt.Sprintf("UPDATE %s SET value = %d", r.table, value))
	if !a.refused {
		r.history = append(r.history, Operation{r.id, true, value, a.sent, a.ended, a.reason != ""})
	}
	return a.again
}

func (r *RegisterClient) read(conn *pgconn.PgConn) (again bool) {
	a := r.do(conn, fmt.Sprintf("UPDATE %s SET reads = reads + 1 RETURNING value", r.table))
	if a.reason == "" {
		var value int64
		_, err := fmt.Sscan(a.value, &value)
		if err != nil {
			panic(errors.Join(errors.New("faults: the register holds no number"), err))
		}
		r.history = append(r.history, Operation{r.id, false, value, a.sent, a.ended, false})
	}
	return a.again
}
