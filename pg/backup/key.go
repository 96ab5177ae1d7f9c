package backup

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"filippo.io/age"
)

// maxKeyFile is far more than any key file has: a slip, such as a device, ends there.
const maxKeyFile = 1 << 20

// keyring is what opens and seals encrypted objects. The zero keyring has no key.
type keyring struct {
	file       string
	identities []age.Identity
	recipient  age.Recipient
}

// readKey reads and checks a key file. Its errors wrap ErrKey and never repeat
// what is in it.
func readKey(path string) (keyring, error) {
	if path == "" {
		return keyring{}, nil
	}
	text, err := readPrivateFile(path)
	if err != nil {
		return keyring{}, fmt.Errorf("key file %s: %w: %w", path, ErrKey, err)
	}
	identities, err := age.ParseIdentities(bytes.NewReader(text))
	if err != nil {
		return keyring{}, fmt.Errorf("key file %s: %w: it has to hold age identities (lines that begin with AGE-SECRET-KEY-1), as age-keygen writes them", path, ErrKey)
	}
	recipient, err := recipientOf(identities[0])
	if err != nil {
		return keyring{}, fmt.Errorf("key file %s: %w: %w", path, ErrKey, err)
	}
	return keyring{file: path, identities: identities, recipient: recipient}, nil
}

func recipientOf(identity age.Identity) (age.Recipient, error) {
	switch identity := identity.(type) {
	case *age.X25519Identity:
		return identity.Recipient(), nil
	case *age.HybridIdentity:
		return identity.Recipient(), nil
	}
	return nil, errors.New("nothing can be encrypted for its first identity; use one that age-keygen has made")
}

// readPrivateFile reads a regular file that only its owner can read.
func readPrivateFile(path string) ([]byte, error) {
	// O_NONBLOCK: a named pipe must not hold ramd up.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errors.New("there is no such file; copy it from another node, or make a first one with `ramctrl backup keygen`")
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	switch {
	case !info.Mode().IsRegular():
		return nil, errors.New("it is not a regular file")
	case info.Mode().Perm()&0o077 != 0:
		return nil, fmt.Errorf("others than its owner can read it (mode %04o); run: chmod 0600 %s", info.Mode().Perm(), path)
	case info.Size() > maxKeyFile:
		return nil, errors.New("it is too large for a key file")
	}
	text := make([]byte, info.Size())
	n, err := f.ReadAt(text, 0)
	if n < len(text) {
		return nil, err
	}
	return text, nil
}
