package raftstore

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-hclog"
	"github.com/rs/zerolog"
)

func TestRaftsLogIsForDebuggingExceptErrorsOncePerPeer(t *testing.T) {
	refused := fmt.Errorf("dial: %w", &refusedError{peer: "b", err: errWrongSecret})
	cases := []struct {
		name string
		say  func(hclog.Logger)
		want []string
	}{
		{"an info", func(l hclog.Logger) { l.Info("entering follower state", "term", 7) }, []string{"debug term=7 raft: entering follower state"}},
		{"a warning", func(l hclog.Logger) { l.Warn("heartbeat timeout reached") }, []string{"debug raft: heartbeat timeout reached"}},
		{"details", func(l hclog.Logger) { l.Debug("votes"); l.Trace("more") }, []string{"trace raft: votes", "trace raft: more"}},
		{"an error of each peer", func(l hclog.Logger) {
			l.Error("failed", "peer", "b")
			l.Error("failed", "peer", "c")
			l.Error("failed", "peer", "b")
		}, []string{"warn peer=b raft: failed", "warn peer=c raft: failed", "debug peer=b raft: failed"}},
		{"a refusal, which is logged elsewhere", func(l hclog.Logger) { l.Error("failed", "error", refused) }, []string{"debug error=" + refused.Error() + " raft: failed"}},
		{"an error of something else", func(l hclog.Logger) { l.Error("failed", "error", errors.New("disk")) }, []string{"warn error=disk raft: failed"}},
		{"a format", func(l hclog.Logger) { l.Info("got", "bytes", hclog.Fmt("%d / %d", 1, 2)) }, []string{`debug bytes="1 / 2" raft: got`}},
		{"a child", func(l hclog.Logger) { l.With("id", 1).Named("snapshot").Info("done") }, []string{"debug id=1 raft.snapshot: done"}},
		{"a standard logger", func(l hclog.Logger) { l.StandardLogger(nil).Print("words") }, []string{"trace raft: words"}},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			var out bytes.Buffer
			logger := newRaftLogger(zerolog.New(plain(&out)))
			tc.say(logger)
			logger.mute()
			tc.say(logger)
			got := strings.Split(strings.TrimSpace(out.String()), "\n")
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("log (-want +got):\n%s", diff)
			}
		})
	}
}

// plain writes "level key=value message" lines.
func plain(out *bytes.Buffer) zerolog.ConsoleWriter {
	return zerolog.ConsoleWriter{
		Out: out, NoColor: true,
		PartsOrder:  []string{zerolog.LevelFieldName},
		FormatLevel: func(level any) string { return fmt.Sprint(level) },
		FormatExtra: func(fields map[string]any, line *bytes.Buffer) error {
			_, err := fmt.Fprintf(line, " %v", fields[zerolog.MessageFieldName])
			return err
		},
		FormatFieldName:     func(name any) string { return fmt.Sprintf("%s=", name) },
		FormatFieldValue:    func(value any) string { return fmt.Sprint(value) },
		FormatErrFieldName:  func(name any) string { return fmt.Sprintf("%s=", name) },
		FormatErrFieldValue: func(value any) string { return strings.Trim(fmt.Sprint(value), `"`) },
	}
}
