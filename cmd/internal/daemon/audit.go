package daemon

import (
	"encoding/json"
	"fmt"
	"os"
	"sync"

	"github.com/ramhq/ram/cmd/internal/api"
)

// auditLog keeps a JSON line of every mutating request that this ramd answered.
type auditLog struct {
	mu   sync.Mutex
	file *os.File // guarded by mu
}

func openAudit(path string) (*auditLog, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("audit log: %w", err)
	}
	return &auditLog{file: f}, nil
}

// Audit is api.Auditor's.
func (a *auditLog) Audit(entry api.AuditEntry) {
	b, err := json.Marshal(entry)
	if err != nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	_, _ = a.file.Write(append(b, '\n'))
}

// Close closes the file.
func (a *auditLog) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.file.Close()
}
