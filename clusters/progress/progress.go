// Package progress tells a person how long work is going: one live line on a
// terminal, plain lines anywhere else.
package progress

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/term"
)

// Reporter shows tasks. Its methods may be called from several goroutines.
type Reporter struct {
	w     io.Writer
	width func() int // of the terminal, in columns; nil when w is none
	now   func() time.Time

	mu     sync.Mutex
	active []*Task // newest last; the newest owns the live line
	tick   *time.Ticker
	done   chan struct{}
}

// New writes to w; a live line is drawn only when w is a terminal.
func New(w io.Writer) *Reporter {
	r := &Reporter{w: w, now: time.Now}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		r.width = func() int {
			width, _, err := term.GetSize(int(f.Fd()))
			if err != nil {
				return 80
			}
			return width
		}
	}
	return r
}

// Discard shows nothing.
func Discard() *Reporter { return New(io.Discard) }

// Task is one thing under way.
type Task struct {
	r      *Reporter
	name   string
	detail string
	start  time.Time
}

// Start announces a task. End it with Done or Fail.
func (r *Reporter) Start(name string) *Task {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := &Task{r: r, name: name, start: r.now()}
	r.active = append(r.active, t)
	if r.width != nil {
		r.startTicker()
		r.draw()
	} else {
		fmt.Fprintf(r.w, "… %s\n", name)
	}
	return t
}

// Say prints a line that stays.
func (r *Reporter) Say(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.line(fmt.Sprintf(format, args...))
}

// Detail changes the text after the task's name on a live line; elsewhere it is silent.
func (t *Task) Detail(format string, args ...any) {
	t.r.mu.Lock()
	defer t.r.mu.Unlock()
	t.detail = fmt.Sprintf(format, args...)
	t.r.draw()
}

// Done ends the task well; note may be "".
func (t *Task) Done(note string) { t.end("✓", note) }

// Fail ends the task badly.
func (t *Task) Fail(err error) { t.end("✗", err.Error()) }

func (t *Task) end(mark, note string) {
	r := t.r
	r.mu.Lock()
	defer r.mu.Unlock()
	found := false
	for i, a := range r.active {
		if a == t {
			r.active = append(r.active[:i], r.active[i+1:]...)
			found = true
			break
		}
	}
	if !found {
		return
	}
	if len(r.active) == 0 && r.tick != nil {
		r.tick.Stop()
		close(r.done)
		r.tick = nil
	}
	text := fmt.Sprintf("%s %s (%s)", mark, t.name, r.now().Sub(t.start).Round(100*time.Millisecond))
	if note != "" {
		text += ": " + note
	}
	r.line(text)
}

// line prints one full line and redraws the live one below it.
func (r *Reporter) line(text string) {
	if r.width != nil {
		fmt.Fprint(r.w, "\r\x1b[K")
	}
	fmt.Fprintln(r.w, text)
	r.draw()
}

// draw paints the live line for the newest task, cut to the terminal's width.
func (r *Reporter) draw() {
	if r.width == nil || len(r.active) == 0 {
		return
	}
	t := r.active[len(r.active)-1]
	text := fmt.Sprintf("… %s %s", t.name, r.now().Sub(t.start).Round(time.Second))
	if t.detail != "" {
		text += "  " + t.detail
	}
	if runes, room := []rune(text), max(r.width()-1, 0); len(runes) > room {
		text = string(runes[:room])
	}
	fmt.Fprintf(r.w, "\r\x1b[K%s", text)
}

func (r *Reporter) startTicker() {
	if r.tick != nil {
		return
	}
	r.tick, r.done = time.NewTicker(time.Second), make(chan struct{})
	go func(tick *time.Ticker, done chan struct{}) {
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				r.mu.Lock()
				r.draw()
				r.mu.Unlock()
			}
		}
	}(r.tick, r.done)
}
