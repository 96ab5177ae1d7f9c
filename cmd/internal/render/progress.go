package render

import (
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/ramhq/ram/cmd/internal/api"
	"github.com/ramhq/ram/reconcile"
)

// ProgressConfig says how a Progress looks.
type ProgressConfig struct {
	Style Style
	// Live redraws the lines of what goes on now; otherwise every line is
	// written once, as logs want it.
	Live bool
	// Size is that of the terminal, in characters; nil or zeros when unknown.
	Size func() (width, height int)
	// Title is what the last line calls what goes on; empty means the run's number.
	Title string
	// Uncounted is set when how many steps there are is not known before the end.
	Uncounted bool
	// Every is the time between two lines about the same long step when Live is not set.
	Every time.Duration
}

// Progress shows a run while it goes on. Steps that end leave a line behind;
// those that go on are redrawn below. It is used by one goroutine.
type Progress struct {
	w      io.Writer
	screen strings.Builder // what the next flush writes in one piece
	config ProgressConfig

	states   map[string]reconcile.StepState // what has been told of each step
	told     map[string]string              // other lines that have been told, by what they are about
	reported map[string]time.Time           // when a long step was last told about
	since    map[string]time.Time           // when a trouble that lasts was first seen
	live     int                            // lines that the next draw replaces
	lost     time.Time                      // since when no answer came; zero while they come
}

// NewProgress shows a run on w.
func NewProgress(w io.Writer, config ProgressConfig) *Progress {
	p := &Progress{
		w: w, config: config,
		states: map[string]reconcile.StepState{},
		told:   map[string]string{}, reported: map[string]time.Time{}, since: map[string]time.Time{},
	}
	return p
}

// Update shows the run as it is now.
func (p *Progress) Update(now time.Time, answer api.RunAnswer) {
	defer p.flush()
	p.erase()
	if !p.lost.IsZero() && !p.config.Live {
		p.line("the cluster answers again")
	}
	p.lost = time.Time{}
	for i, s := range answer.Run.Steps {
		p.settled(s, elapsedOf(answer, i), answer)
	}
	if p.config.Live {
		p.draw(p.current(answer))
		return
	}
	p.log(now, answer)
}

// Lost shows that the cluster gives no answer.
func (p *Progress) Lost(now time.Time, err error) {
	defer p.flush()
	first := p.lost.IsZero()
	if first {
		p.lost = now
	}
	text := "the cluster gives no answer, trying again: " + oneLine(err.Error())
	if p.config.Live {
		p.erase()
		p.draw([]string{p.config.Style.Notice(text) + took(now.Sub(p.lost))})
	} else if first {
		p.line(text)
	}
}

// End removes what was only for the moment. What is written next begins on a
// line of its own.
func (p *Progress) End() {
	p.erase()
	p.flush()
}

// flush writes in one piece, so that nothing flickers. A terminal that has gone
// is no reason to stop following.
func (p *Progress) flush() {
	_, _ = io.WriteString(p.w, p.screen.String())
	p.screen.Reset()
}

func (p *Progress) line(text string) { fmt.Fprintf(&p.screen, "  %s\n", text) }

func elapsedOf(answer api.RunAnswer, step int) time.Duration {
	if step < len(answer.StepElapsed) {
		return answer.StepElapsed[step]
	}
	return 0
}

func took(d time.Duration) string { return " [" + Elapsed(d) + "]" }

// settled leaves a line behind for a step that has ended since the last look.
func (p *Progress) settled(s reconcile.RunStep, elapsed time.Duration, answer api.RunAnswer) {
	if p.states[s.ID] == s.State {
		return
	}
	style := p.config.Style
	switch s.State {
	case reconcile.StepDone:
		p.line(style.Good("done ") + " " + p.ended(s) + style.Faint(took(elapsed)))
	case reconcile.StepDropped:
		p.line(style.Faint("skip  " + summary(s) + " (no longer needed)"))
	case reconcile.StepRunning:
		if !p.config.Live {
			p.line("start " + p.going(s, answer))
		}
	}
	p.states[s.ID] = s.State
}

// current are the lines about what goes on now, as many as fit.
func (p *Progress) current(answer api.RunAnswer) []string {
	style := p.config.Style
	var lines []string
	done, all := 0, 0
	for i, s := range answer.Run.Steps {
		if s.State == reconcile.StepDropped {
			continue
		}
		all++
		switch s.State {
		case reconcile.StepDone:
			done++
		case reconcile.StepRunning:
			lines = append(lines, style.Notice("...  ")+" "+p.going(s, answer)+took(elapsedOf(answer, i)))
		case reconcile.StepPending:
			if waits := answer.Waits[s.ID]; waits != "" {
				lines = append(lines, style.Faint("wait  "+subject(s)+"waits for "+oneLine(waits)))
			}
		}
	}
	for _, trouble := range troubles(answer) {
		lines = append(lines, style.Bad("!    ")+" "+trouble.text)
	}
	lines = p.fit(lines)
	title := p.config.Title
	if title == "" {
		title = fmt.Sprintf("run %d", answer.Run.ID)
	}
	if !p.config.Uncounted {
		title += fmt.Sprintf(": %d of %s", done, count(all, "step"))
	}
	return append(lines, style.Faint(title+took(answer.Elapsed)))
}

// fit keeps the lines within the height of the terminal.
func (p *Progress) fit(lines []string) []string {
	_, height := p.size()
	if height == 0 || len(lines) <= height-3 {
		return lines
	}
	room := max(height-4, 1)
	return append(lines[:room:room], fmt.Sprintf("      and %d more", len(lines)-room))
}

func (p *Progress) size() (width, height int) {
	if p.config.Size == nil {
		return 0, 0
	}
	return p.config.Size()
}

func (p *Progress) draw(lines []string) {
	width, _ := p.size()
	for _, text := range lines {
		fmt.Fprintf(&p.screen, "  %s\n", clip(text, width-3))
	}
	p.live = len(lines)
}

func (p *Progress) erase() {
	if p.live > 0 {
		fmt.Fprintf(&p.screen, "\x1b[%dA\x1b[J", p.live)
		p.live = 0
	}
}

// log writes what is new since the last look, and now and then how far long
// steps have come.
func (p *Progress) log(now time.Time, answer api.RunAnswer) {
	for i, s := range answer.Run.Steps {
		if s.State == reconcile.StepPending && answer.Waits[s.ID] != "" {
			p.once("waits "+s.Node+answer.Waits[s.ID], "wait  "+subject(s)+"waits for "+oneLine(answer.Waits[s.ID]))
		}
		if s.State != reconcile.StepRunning {
			continue
		}
		last, known := p.reported[s.ID]
		if known && now.Sub(last) >= p.config.Every {
			p.line("...   " + p.going(s, answer) + took(elapsedOf(answer, i)))
		}
		if !known || now.Sub(last) >= p.config.Every {
			p.reported[s.ID] = now
		}
	}
	p.lasting(now, troubles(answer))
}

// settling is how long a trouble lasts before a log has a line about it: a
// leader that was just elected has not heard of anybody yet.
const settling = 2 * time.Second

func (p *Progress) lasting(now time.Time, list []trouble) {
	since := map[string]time.Time{}
	for _, t := range list {
		begun, known := p.since[t.about]
		if !known {
			begun = now
		}
		since[t.about] = begun
		if now.Sub(begun) >= settling {
			p.once(t.about, "!     "+t.text)
		}
	}
	p.since = since
}

// once writes a line unless it is the last one about the same thing.
func (p *Progress) once(about, text string) {
	if p.told[about] != text {
		p.told[about] = text
		p.line(text)
	}
}

// clip cuts a line to a width, escapes not counted. Width 0 or less cuts nothing.
func clip(text string, width int) string {
	if width <= 0 || visible(text) <= width {
		return text
	}
	var out strings.Builder
	room, escape, colored := width-1, false, false
	for _, r := range text {
		switch {
		case r == '\x1b':
			escape, colored = true, true
		case escape:
			escape = r != 'm'
		case room == 0:
			continue
		default:
			room--
		}
		out.WriteRune(r)
	}
	out.WriteString("…")
	if colored {
		out.WriteString(reset)
	}
	return out.String()
}

func visible(text string) int {
	n, escape := 0, false
	for _, r := range text {
		switch {
		case r == '\x1b':
			escape = true
		case escape:
			escape = r != 'm'
		default:
			n++
		}
	}
	return min(n, utf8.RuneCountInString(text))
}
