package guard

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// lease is how long the postmaster may run. It is counted on CLOCK_BOOTTIME, which
// goes on while the machine is suspended; CLOCK_MONOTONIC, Go's own, does not.
//
// Invariant: until only moves by renew, and renew is only called while the lease
// holds. All but rings belongs to the guard's loop.
type lease struct {
	term  uint64
	until time.Duration // on the clock of bootTime; zero while there is no lease
	alarm *os.File      // a timerfd
	// rings holds one value when until may have come. ring sends.
	rings chan struct{}
}

func newLease() (*lease, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_BOOTTIME, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("make a timer for the lease: %w", err)
	}
	l := &lease{alarm: os.NewFile(uintptr(fd), "lease timer"), rings: make(chan struct{}, 1)}
	go l.ring()
	return l, nil
}

// ring passes the timer on until close.
func (l *lease) ring() {
	count := make([]byte, 8)
	for {
		if _, err := l.alarm.Read(count); err != nil {
			return
		}
		select {
		case l.rings <- struct{}{}:
		default:
		}
	}
}

func (l *lease) close() { l.alarm.Close() }

// bootTime is the time since the machine was started. All processes of the machine
// have the same.
func bootTime() time.Duration {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		panic("CLOCK_BOOTTIME: " + err.Error()) // Linux has it since 2.6.39
	}
	return time.Duration(now.Nano())
}

// heldAt reports whether there is a lease that has not run out.
func (l *lease) heldAt(now time.Duration) bool { return l.until > now }

// ranOutAt reports whether there was a lease and it is over.
func (l *lease) ranOutAt(now time.Duration) bool { return l.until != 0 && l.until <= now }

// left is nil without a lease.
func (l *lease) left(now time.Duration) *Lease {
	if l.until == 0 {
		return nil
	}
	return &Lease{Term: l.term, Left: max(0, l.until-now)}
}

// renew sets the lease to end ttl after asked, and at the latest ttl from now. asked
// is when ramd asked, as bootTime; zero is now. The newest request counts, also
// when it ends the lease earlier than the one before.
func (l *lease) renew(now time.Duration, term uint64, ttl, asked time.Duration) *Error {
	if term < l.term {
		return &Error{CodeStaleTerm, fmt.Sprintf("the lease is for term %d already and cannot be renewed for term %d", l.term, term)}
	}
	if asked == 0 || asked > now {
		asked = now
	}
	until := asked + ttl
	if ttl <= 0 || until <= now {
		return &Error{CodeLate, fmt.Sprintf("a renewal for %s came %s after it was sent", ttl, now-asked)}
	}
	if err := l.setAlarm(until); err != nil { // the lease that was there goes on
		return &Error{CodeTimer, "set the lease's timer: " + err.Error()}
	}
	l.term, l.until = term, until
	return nil
}

func (l *lease) setAlarm(at time.Duration) error {
	setting := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(at))}
	raw, err := l.alarm.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		failed = unix.TimerfdSettime(int(fd), unix.TFD_TIMER_ABSTIME, &setting, nil)
	})
	return errors.Join(err, failed)
}
