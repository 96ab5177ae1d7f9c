package reconcile

import (
	"time"

	"github.com/ramhq/ram/pg"
)

// Beat is what the agent of a primary says to every voter, several times within
// the time after which it would be suspected. It asks for the lease to be renewed.
type Beat struct {
	Node        string `json:"node"`
	Incarnation string `json:"incarnation"`
	Term        uint64 `json:"term"`
	// LSN is the end of WAL as it was last seen.
	LSN pg.LSN `json:"lsn,omitempty"`
}

// Confirmation is a voter's answer to a Beat.
type Confirmation struct {
	// Term is the highest that the voter knows of.
	Term uint64 `json:"term"`
	// Voter is set when it confirms the beat's term as one voter, Leader when it
	// does so as the leader whom a majority follows.
	Voter  bool `json:"voter,omitempty"`
	Leader bool `json:"leader,omitempty"`
	// Age is how long ago, at the most, the leader knew that a majority follows it.
	Age time.Duration `json:"age_ns,omitempty"`
}

// Confirmed reports whether the answers of the voters, of which there are so many,
// renew a lease: those of a majority, or that of the leader alone, which knows of
// every term that a majority has agreed to. Age is how much older than the question
// what confirms it may be.
func Confirmed(answers []Confirmation, voters int) (confirmed bool, age time.Duration) {
	have := 0
	for _, a := range answers {
		if a.Voter {
			have++
		}
		if a.Leader {
			confirmed, age = true, a.Age
		}
	}
	if 2*have > voters {
		return true, 0
	}
	return confirmed, age
}
