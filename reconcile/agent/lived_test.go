package agent

import (
	"testing"
	"time"
)

func TestLivedStandsStillWhileTheProcessDoes(t *testing.T) {
	var l lived
	begun := time.Now()
	for _, look := range []struct{ after, want time.Duration }{
		{0, 0},
		{time.Second, time.Second},
		{500 * time.Millisecond, time.Second}, // of another goroutine that was overtaken
		{2 * time.Second, 2 * time.Second},
		{time.Minute, 2 * time.Second},
		{time.Minute + time.Second, 3 * time.Second},
	} {
		if got := l.at(begun.Add(look.after), time.Second); got != look.want {
			t.Errorf("after %s it has lived %s, want %s", look.after, got, look.want)
		}
	}
}
