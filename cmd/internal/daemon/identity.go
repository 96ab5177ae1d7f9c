package daemon

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"

	"github.com/ramhq/ram/pg"
)

// identity is what a ramd knows of its cluster before it has the record: how to
// prove to the others that it belongs to it.
type identity struct {
	ClusterID string `json:"cluster_id"`
	PeerToken string `json:"peer_token"`
	// SystemID is that of the cluster's data, zero until it has some. A node that is
	// removed while it is down never sees the record again, and must still be able to
	// tell its cluster's data from others'.
	SystemID pg.SystemID `json:"system_id,omitempty"`
}

func identityPath(dataDir string) string { return filepath.Join(dataDir, "identity.json") }

// loadIdentity is the zero identity when there is none yet.
func loadIdentity(dataDir string) (identity, error) {
	var id identity
	b, err := os.ReadFile(identityPath(dataDir))
	if errors.Is(err, fs.ErrNotExist) {
		return id, nil
	}
	if err != nil {
		return id, err
	}
	if err := json.Unmarshal(b, &id); err != nil {
		return id, fmt.Errorf("%s is damaged: %w", identityPath(dataDir), err)
	}
	return id, nil
}

func (id identity) save(dataDir string) error {
	b, err := json.Marshal(id)
	if err != nil {
		return err
	}
	return renameio.WriteFile(identityPath(dataDir), b, 0o600, renameio.IgnoreUmask())
}

// newSecret is 32 random bytes in hexadecimal.
func newSecret() string {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails, by its contract
	return hex.EncodeToString(b)
}

// writeSecretFile keeps a secret in a file that only its owner reads; an
// unchanged one is left alone.
func writeSecretFile(path, secret string) error {
	if b, err := os.ReadFile(path); err == nil && string(b) == secret+"\n" {
		return nil
	}
	return renameio.WriteFile(path, []byte(secret+"\n"), 0o600, renameio.IgnoreUmask())
}
