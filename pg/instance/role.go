package instance

import (
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"golang.org/x/text/secure/precis"
)

// EnsureReplicationRole makes a role that may log in and replicate and has this
// password. What is right already is not written again. The password itself never
// reaches the server, nor its log: it gets a SCRAM-SHA-256 verifier.
func (i *Instance) EnsureReplicationRole(ctx context.Context, name, password string) error {
	return i.withSession(ctx, func(conn *pgx.Conn) error {
		state, err := lookUpRole(ctx, conn, name, password)
		if err != nil || state == RoleRight {
			return err
		}
		verifier, err := makeVerifier(password)
		if err != nil {
			return err
		}
		verb := "ALTER"
		if state == RoleMissing {
			verb = "CREATE"
		}
		statement := fmt.Sprintf("%s ROLE %s LOGIN REPLICATION VALID UNTIL 'infinity' PASSWORD '%s'", verb, pgx.Identifier{name}.Sanitize(), verifier)
		if _, err := conn.Exec(ctx, statement); err != nil {
			return fmt.Errorf("%s role %s: %w", strings.ToLower(verb), name, err)
		}
		i.logger.Info().Str("role", name).Msg("replication role written")
		return nil
	})
}

// RoleState is how a role is that EnsureReplicationRole made.
type RoleState string

const (
	RoleRight   RoleState = "as made by ramd"
	RoleMissing RoleState = "dropped"
	// RoleChanged may not log in, may not replicate, has expired or has another password.
	RoleChanged RoleState = "changed"
)

// ReplicationRole looks at a role without changing it.
func (i *Instance) ReplicationRole(ctx context.Context, name, password string) (state RoleState, err error) {
	err = i.withSession(ctx, func(conn *pgx.Conn) error {
		state, err = lookUpRole(ctx, conn, name, password)
		return err
	})
	return state, err
}

func lookUpRole(ctx context.Context, conn *pgx.Conn, name, password string) (RoleState, error) {
	var have *string
	var right bool
	err := conn.QueryRow(ctx, `SELECT rolpassword, rolcanlogin AND rolreplication AND (rolvaliduntil IS NULL OR rolvaliduntil = 'infinity')
		FROM pg_authid WHERE rolname = $1`, name).Scan(&have, &right)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return RoleMissing, nil
	case err != nil:
		return "", fmt.Errorf("look up role %s: %w", name, err)
	case right && have != nil && verifies(*have, password):
		return RoleRight, nil
	}
	return RoleChanged, nil
}

const (
	scramMethod     = "SCRAM-SHA-256"
	scramIterations = 4096
	scramSaltSize   = 16
)

// makeVerifier is what PostgreSQL stores for a password (RFC 5803 as PostgreSQL
// writes it): SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey.
func makeVerifier(password string) (string, error) {
	salt := make([]byte, scramSaltSize)
	if _, err := rand.Read(salt); err != nil {
		return "", err
	}
	return verifierWith(password, salt, scramIterations)
}

func verifierWith(password string, salt []byte, iterations int) (string, error) {
	salted, err := pbkdf2.Key(sha256.New, prepared(password), salt, iterations, sha256.Size)
	if err != nil {
		return "", err
	}
	stored := sha256.Sum256(sign(salted, "Client Key"))
	encode := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("%s$%d:%s$%s:%s", scramMethod, iterations, encode(salt), encode(stored[:]), encode(sign(salted, "Server Key"))), nil
}

func sign(key []byte, text string) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(text))
	return mac.Sum(nil)
}

// prepared normalises a password as clients do; one that cannot be is used as it is.
func prepared(password string) string {
	text, err := precis.OpaqueString.String(password)
	if err != nil {
		return password
	}
	return text
}

// verifies reports whether a stored verifier is that of a password.
func verifies(verifier, password string) bool {
	method, rest, found := strings.Cut(verifier, "$")
	if !found || method != scramMethod {
		return false
	}
	parameters, _, _ := strings.Cut(rest, "$")
	count, saltText, _ := strings.Cut(parameters, ":")
	iterations, err := strconv.Atoi(count)
	if err != nil || iterations < 1 {
		return false
	}
	salt, err := base64.StdEncoding.DecodeString(saltText)
	if err != nil {
		return false
	}
	want, err := verifierWith(password, salt, iterations)
	return err == nil && hmac.Equal([]byte(want), []byte(verifier))
}
