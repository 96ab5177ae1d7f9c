package take

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/ramhq/ram/pg/backup"
)

// errPromoted is returned when the server's timeline changes during the backup.
var errPromoted = errors.New("the server's timeline changed during the backup (a failover or promotion)")

// advise adds the next action to what the server, the connection to it, or the
// repository says. Role is whom the server knows us as.
func advise(err error, role string) error {
	if err == nil {
		return nil
	}
	if action := nextAction(err, role); action != "" {
		return fmt.Errorf("%w; %s", err, action)
	}
	return err
}

func nextAction(err error, role string) string {
	// Before anything about networks: a repository has its own.
	if errors.Is(err, backup.ErrUnavailable) {
		return "see that the repository can be reached and has room, then take another backup"
	}
	var fromServer *pgconn.PgError
	if errors.As(err, &fromServer) {
		return serverAction(fromServer, role)
	}
	var network net.Error
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed), errors.As(err, &network):
		return "see that the server runs (its log says why it ended) and take another backup"
	}
	return ""
}

// serverAction goes by SQLSTATE, which does not depend on the server's language; only
// the promotion shares its code with others.
func serverAction(err *pgconn.PgError, role string) string {
	switch err.Code {
	case "28P01", "28000":
		return fmt.Sprintf("check the password of role %s and that pg_hba.conf lets it in for replication", role)
	case "53300":
		return "raise max_wal_senders, or wait until another backup or standby has gone"
	case "53400":
		return "raise max_replication_slots, or drop a slot that nobody needs"
	case "42501":
		return fmt.Sprintf("give role %s the attribute REPLICATION", role)
	case "57P01":
		return "its log says whether it was stopped or the backup kept more WAL than max_slot_wal_keep_size allows; raise that if so, and take another backup"
	case "57P02", "57P03":
		return "take another backup when the server is up"
	case "XX001":
		return "pages of the server are damaged, see its log and the warnings above; restore them from an older backup or another node"
	case "55000":
		if strings.Contains(err.Message, "promoted") {
			return "take another backup: this one was of a standby that is a primary now"
		}
	}
	if err.Hint != "" {
		return err.Hint
	}
	return ""
}
