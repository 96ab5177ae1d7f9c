package ctl

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/ramhq/ram/cmd/internal/api"
)

const defaultAddr = "127.0.0.1:" + api.DefaultPort

// client is the cluster that flags and environment name.
func (a *app) client() (*api.Client, error) {
	token, err := a.token()
	if err != nil {
		return nil, err
	}
	client, err := api.NewClient(api.ClientConfig{
		Addrs: a.addrs(), Token: token, Patience: a.pace.election, Transport: a.transport,
	})
	if err != nil {
		return nil, usageError{err.Error()}
	}
	return client, nil
}

func (a *app) addrs() []string {
	text := a.addr
	if text == "" {
		text = a.sys.env("RAM_ADDR")
	}
	var addrs []string
	for addr := range strings.SplitSeq(text, ",") {
		if addr = strings.TrimSpace(addr); addr != "" {
			addrs = append(addrs, addr)
		}
	}
	if len(addrs) == 0 {
		return []string{defaultAddr}
	}
	return addrs
}

// token is the bearer token: of the flag, then of the environment.
func (a *app) token() (string, error) {
	path := a.tokenFile
	if path == "" {
		if token := strings.TrimSpace(a.sys.env("RAM_TOKEN")); token != "" {
			return token, nil
		}
		path = a.sys.env("RAM_TOKEN_FILE")
	}
	if path == "" {
		return "", errors.New("no token: name ramd's DATA_DIR/admin.token with --token-file or RAM_TOKEN_FILE, or set RAM_TOKEN")
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrPermission) {
		return "", fmt.Errorf("the token in %s may not be read by this user: run ramctrl as the user of ramd, or copy the file", path)
	}
	if err != nil {
		return "", fmt.Errorf("read the token: %w; ramd writes it to admin.token in its --data-dir", err)
	}
	token := strings.TrimSpace(string(text))
	if token == "" || strings.ContainsAny(token, " \t\r\n") {
		return "", fmt.Errorf("%s does not hold a token: name admin.token in ramd's --data-dir", path)
	}
	return token, nil
}

// explained adds the next action to errors whose ramd did not know it.
func explained(err error) error {
	if errors.Is(err, api.ErrUnauthorized) {
		return fmt.Errorf("the token is not accepted (%w): name this cluster's DATA_DIR/admin.token with --token-file", err)
	}
	return err
}
