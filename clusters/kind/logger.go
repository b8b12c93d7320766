package kind

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	kindlog "sigs.k8s.io/kind/pkg/log"
)

// kindLogger writes what kind says to a file, and its steps to a progress line.
type kindLogger struct {
	mu   sync.Mutex
	file io.Writer
	step func(text string)
	now  func() time.Time
}

var _ kindlog.Logger = (*kindLogger)(nil)

func (l *kindLogger) write(level, text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	// A log that cannot be written must not stop the work it tells of.
	_, _ = fmt.Fprintf(l.file, "%s %s %s\n", l.now().UTC().Format("15:04:05.000"), level, strings.TrimRight(text, "\n"))
}

func (l *kindLogger) Warn(message string)               { l.write("W", message) }
func (l *kindLogger) Warnf(format string, args ...any)  { l.Warn(fmt.Sprintf(format, args...)) }
func (l *kindLogger) Error(message string)              { l.write("E", message) }
func (l *kindLogger) Errorf(format string, args ...any) { l.Error(fmt.Sprintf(format, args...)) }

// V implements kindlog.Logger.
func (l *kindLogger) V(level kindlog.Level) kindlog.InfoLogger { return kindInfo{l, level} }

type kindInfo struct {
	logger *kindLogger
	level  kindlog.Level
}

func (i kindInfo) Enabled() bool { return i.level <= 3 }

func (i kindInfo) Infof(format string, args ...any) { i.Info(fmt.Sprintf(format, args...)) }

func (i kindInfo) Info(message string) {
	if !i.Enabled() {
		return
	}
	i.logger.write("I", message)
	if i.level == 0 && i.logger.step != nil {
		if step, ok := strings.CutPrefix(strings.TrimSpace(message), "• "); ok {
			i.logger.step(plainStep(step))
		}
	}
}

// plainStep is kind's step without its pictures and dots.
func plainStep(text string) string {
	words := strings.Map(func(r rune) rune {
		if r > 0x2000 {
			return -1
		}
		return r
	}, text)
	return strings.ToLower(strings.TrimRight(strings.Join(strings.Fields(words), " "), " ."))
}
