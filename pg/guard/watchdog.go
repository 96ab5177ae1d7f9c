package guard

import (
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"
)

// feedEvery is how often the watchdog hears that the guard's loop runs and that the
// lease holds. Kernel watchdogs wait for 15 to 60 s unless told otherwise, and no
// driver for less than one.
const feedEvery = 500 * time.Millisecond

// watchdog is a kernel watchdog (Documentation/watchdog/watchdog-api.rst): once it is
// open, the machine is reset when it is not written to in time. It belongs to the
// guard's loop. A guard that is killed leaves it armed, on purpose.
type watchdog struct {
	path   string
	logger zerolog.Logger
	tried  bool
	armed  bool
	fd     int
}

// open arms it, once.
func (w *watchdog) open() {
	if w.path == "" || w.tried {
		return
	}
	w.tried = true
	// It must never keep the loop waiting, and no child may hold it.
	fd, err := unix.Open(w.path, unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		w.logger.Warn().Err(err).Str("watchdog", w.path).
			Msg("the kernel watchdog cannot be used: a frozen machine will not be reset; load its driver, free it or configure none")
		return
	}
	w.fd, w.armed = fd, true
	w.logger.Info().Str("watchdog", w.path).Msg("kernel watchdog armed")
	w.feed()
}

func (w *watchdog) feed() {
	if w.armed {
		w.write('.')
	}
}

// close disarms it: the magic character says that the end is wanted.
func (w *watchdog) close() {
	if !w.armed {
		return
	}
	w.write('V')
	_ = unix.Close(w.fd)
	w.armed = false
	w.logger.Info().Msg("kernel watchdog disarmed")
}

func (w *watchdog) write(c byte) {
	if _, err := unix.Write(w.fd, []byte{c}); err != nil {
		w.logger.Warn().Err(err).Str("watchdog", w.path).Msg("kernel watchdog not written")
	}
}
