package status

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/port-exporter/port_exporter/internal/policy"
	"github.com/port-exporter/port_exporter/internal/probe/schedule"
	"github.com/port-exporter/port_exporter/internal/socket"
)

// tone is how something is: the class of its style.
type tone string

// The tones, the worst first.
const (
	bad     tone = "bad"
	warn    tone = "warn"
	unknown tone = "unknown"
	plainly tone = "plain"
	good    tone = "good"
)

// symbol is what shows a tone without its colour.
func (t tone) symbol() string {
	switch t {
	case bad:
		return "✗"
	case warn:
		return "!"
	case unknown:
		return "?"
	case plainly:
		return "–"
	case good:
		return "✓"
	default:
		return ""
	}
}

// mark is a word with its tone.
type mark struct {
	Tone tone
	Text string
}

// Symbol returns the symbol of the tone.
func (m mark) Symbol() string { return m.Tone.symbol() }

// reach says in words from where an address can be reached.
func reach(s socket.Scope) string {
	switch s {
	case socket.ScopeAny:
		return "every address"
	case socket.ScopePublic:
		return "public address"
	case socket.ScopePrivate:
		return "private network"
	case socket.ScopeLinkLocal:
		return "link-local network"
	case socket.ScopeLoopback:
		return "this host only"
	case socket.ScopeMulticast:
		return "multicast group"
	default:
		return s.String()
	}
}

func verdictTone(k policy.Kind) tone {
	switch k {
	case policy.Unexpected, policy.Forbidden:
		return bad
	case policy.Unverified:
		return warn
	case policy.Undecided:
		return plainly
	case policy.Expected:
		return good
	default:
		return unknown
	}
}

func stateTone(s schedule.State) tone {
	switch s {
	case schedule.Failing:
		return bad
	case schedule.Untried:
		return warn
	case schedule.Passing:
		return good
	case schedule.Unknown:
		return unknown
	default:
		return unknown
	}
}

// number writes a number in groups of three digits.
func number(n uint64) string {
	digits := strconv.FormatUint(n, 10)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

func count[N ~int | ~uint32 | ~uint64](n N) string { return number(uint64(n)) }

// counted returns a number with the noun behind it: 1 queue, 2 queues.
func counted(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return count(n) + " " + noun + "s"
}

func is(n int) string {
	if n == 1 {
		return "is"
	}
	return "are"
}

func was(n int) string {
	if n == 1 {
		return "was"
	}
	return "were"
}

// size writes bytes as people do.
func size(bytes float64) string {
	units := []string{"B", "kB", "MB", "GB", "TB"}
	unit := 0
	for bytes >= 1000 && unit < len(units)-1 {
		bytes, unit = bytes/1000, unit+1
	}
	if unit == 0 || bytes >= 100 {
		return fmt.Sprintf("%.0f %s", bytes, units[unit])
	}
	return fmt.Sprintf("%.1f %s", bytes, units[unit])
}

// moment is a time for people and for programs.
type moment struct{ ISO, Text, Ago string }

func momentOf(t, now time.Time) moment {
	t = t.UTC()
	return moment{t.Format(time.RFC3339), t.Format("2006-01-02 15:04:05") + " UTC", ago(now.Sub(t))}
}

// ago writes how long ago something was, in one unit.
func ago(d time.Duration) string {
	switch {
	case d < 0:
		return "now"
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	default:
		return fmt.Sprintf("%d days", int(d.Hours()/24))
	}
}

// took writes a duration of a probe.
func took(d time.Duration) string {
	if d >= time.Second {
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
}

// capital returns a text with a capital letter in front.
func capital(text string) string {
	if text == "" {
		return ""
	}
	return strings.ToUpper(text[:1]) + text[1:]
}
