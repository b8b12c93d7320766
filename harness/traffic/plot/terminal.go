package plot

import (
	"fmt"
	"io"
	"math"
	"strings"
	"unicode/utf8"
)

// Screen is what a figure is drawn on.
type Screen struct {
	Width int  // columns; 80 when 0, at most 160 are used
	Plain bool // ASCII only, for logs
}

const (
	narrowest = 40
	widest    = 160
	rows      = 12
	margin    = 8 // columns left of the plot
)

// Terminal draws the figure in characters, with a table of its phases.
func (f Figure) Terminal(w io.Writer, s Screen) error {
	if s.Width <= 0 {
		s.Width = 80
	}
	c := canvas{screen: s, width: min(max(s.Width, narrowest), widest)}
	c.wrapped(f.Name + ": " + f.Shape)
	c.wrapped(f.summary())
	c.b.WriteString("\n")
	c.plot(f)
	c.axis(f)
	c.names(f)
	c.table(f)
	_, err := io.WriteString(w, c.b.String())
	return err
}

type canvas struct {
	screen Screen
	width  int
	b      strings.Builder
}

// wrapped writes text between words in lines that fit.
func (c *canvas) wrapped(text string) {
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > c.width {
			c.line(line)
			line = ""
		}
		line = strings.TrimPrefix(line+" "+word, " ")
	}
	c.line(line)
}

// line writes a line without blanks at its end, in ASCII where that is wanted.
func (c *canvas) line(text string) {
	text = strings.TrimRight(text, " ")
	if c.screen.Plain {
		text = strings.NewReplacer("×", "x", "→", "->", "±", "+-", "│", "|", "┤", "+", "└", "+", "─", "-", "┬", "+", "…", "~").Replace(text)
	}
	c.b.WriteString(text)
	c.b.WriteString("\n")
}

// plot draws one column for each part of the time; its height is the part's
// mean rate.
func (c *canvas) plot(f Figure) {
	columns := f.columns(c.width - margin)
	high := top(f.Peak)
	for row := rows - 1; row >= 0; row-- {
		label := ""
		if row == rows-1 || row == rows/2-1 {
			label = rate(high * float64(row+1) / rows)
		}
		mark := "│"
		if label != "" {
			mark = "┤"
		}
		var line strings.Builder
		fmt.Fprintf(&line, "%*s %s", margin-2, label, mark)
		for _, v := range columns {
			line.WriteString(c.cell(v/high*rows - float64(row)))
		}
		c.line(line.String())
	}
}

// cell is how a cell looks of which so much is filled: below 0 nothing, above 1
// all.
func (c *canvas) cell(filled float64) string {
	if c.screen.Plain {
		return string(" .:#"[int(math.Round(3*min(max(filled, 0), 1)))])
	}
	return string([]rune(" ▁▂▃▄▅▆▇█")[int(math.Round(8*min(max(filled, 0), 1)))])
}

// axis draws the time below the plot.
func (c *canvas) axis(f Figure) {
	wide := c.width - margin
	line := []rune(strings.Repeat("─", wide))
	labels := []rune(strings.Repeat(" ", c.width+margin))
	for _, at := range ticks(f.Lasts, max(2, wide/12)) {
		x := int(float64(at) / float64(f.Lasts) * float64(wide))
		if f.Lasts == 0 || x >= wide {
			continue
		}
		line[x] = '┬'
		if text := []rune(clock(at)); x+len(text) <= wide+1 {
			copy(labels[x:], text)
		}
	}
	c.line(fmt.Sprintf("%*s └%s", margin-2, "0", string(line)))
	c.line(strings.Repeat(" ", margin) + string(labels))
}

// names writes the phases' names below the times they have.
func (c *canvas) names(f Figure) {
	if len(f.Phases) == 0 || f.Lasts == 0 {
		return
	}
	wide := c.width - margin
	line := []rune(strings.Repeat(" ", wide+1))
	for _, p := range f.Phases {
		x := int(float64(p.From) / float64(f.Lasts) * float64(wide))
		end := int(float64(p.From+p.Lasts) / float64(f.Lasts) * float64(wide))
		if x >= wide || end <= x {
			continue
		}
		line[x] = '│'
		name := []rune(p.Name)
		if room := end - x - 1; len(name) > room {
			name = name[:max(room, 0)]
			if len(name) > 1 {
				name[len(name)-1] = '…'
			}
		}
		copy(line[x+1:], name)
	}
	c.line(strings.Repeat(" ", margin) + string(line))
}

func (c *canvas) table(f Figure) {
	if len(f.Phases) == 0 {
		return
	}
	c.line("")
	c.line(fmt.Sprintf("%-14s %7s %8s %6s %9s %8s %8s %12s", "phase", "from", "lasts", "scale", "requests", "mean/s", "peak/s", "real a day"))
	for _, p := range f.Phases {
		name := []rune(p.Name)
		if len(name) > 14 {
			name = append(name[:13], '…')
		}
		c.line(fmt.Sprintf("%-14s %7s %8s %6.4g %9s %8s %8s %12s", string(name), clock(p.From), clock(p.Lasts), p.Scale,
			count(p.Requests), rate(p.Mean), rate(p.Peak), count(p.RealMean)))
	}
}
