package collector

import (
	"cmp"
	"slices"

	dto "github.com/prometheus/client_model/go"

	"github.com/port-exporter/port_exporter/internal/plain"
)

// Output gathers what one collector has to say. It is emitted whole when the
// collector succeeds, and not at all when it fails.
//
// It makes the messages of the exposition itself, out of blocks of memory: a
// const metric and a registry take three times the CPU of all the rest of a
// scrape (docs/performance.md). What the registry would check, the tests check.
type Output struct {
	families map[*Family]*dto.MetricFamily

	metrics  block[dto.Metric]
	gauges   block[dto.Gauge]
	counters block[dto.Counter]
	pairs    block[dto.LabelPair]
	refs     block[*dto.LabelPair]
	texts    block[string]
	values   block[float64]
}

// block hands out memory that was made in pieces, each twice as large as the one
// before: most collectors export a few dozen samples, some ten thousands.
type block[T any] struct {
	free []T
	size int
}

func (b *block[T]) take(n int) []T {
	const least, most = 16, 512
	if len(b.free) < n {
		b.size = min(max(2*b.size, least), most)
		b.free = make([]T, max(n, b.size))
	}
	taken := b.free[:n:n]
	b.free = b.free[n:]
	return taken
}

// add adds a sample. Label values may come from anywhere on the host, so they are
// made plain.
func (o *Output) add(f *Family, value float64, labels ...string) {
	o.addSet(f, value, o.set(f, labels...))
}

// addSet adds a sample whose labels were made before: those of a listener serve
// all of its samples.
func (o *Output) addSet(f *Family, value float64, labels labelSet) {
	m := &o.metrics.take(1)[0]
	m.Label = labels
	number := &o.values.take(1)[0]
	*number = value
	if f.Type == dto.MetricType_COUNTER {
		m.Counter = &o.counters.take(1)[0]
		m.Counter.Value = number
	} else {
		m.Gauge = &o.gauges.take(1)[0]
		m.Gauge.Value = number
	}
	family := o.family(f)
	family.Metric = append(family.Metric, m)
}

// labelSet are the labels of a sample, sorted by name as in every exposition of
// client_golang.
type labelSet []*dto.LabelPair

// set returns the labels of a family, or of any other with the same ones.
func (o *Output) set(f *Family, values ...string) labelSet {
	pairs, refs, texts := o.pairs.take(len(f.names)), o.refs.take(len(f.names)), o.texts.take(len(f.names))
	for i, name := range f.names {
		texts[i] = plain.Line(values[f.order[i]])
		pairs[i].Name, pairs[i].Value = name, &texts[i]
		refs[i] = &pairs[i]
	}
	return refs
}

// join returns the labels of two sets as one. Of a name that both have, the value
// of the first stands. No label is made anew.
func (o *Output) join(a, b labelSet) labelSet {
	if len(a) == 0 {
		return b
	}
	joined := o.refs.take(len(a) + len(b))[:0]
	for len(a) > 0 && len(b) > 0 {
		switch c := cmp.Compare(a[0].GetName(), b[0].GetName()); {
		case c < 0:
			joined, a = append(joined, a[0]), a[1:]
		case c > 0:
			joined, b = append(joined, b[0]), b[1:]
		default:
			b = b[1:]
		}
	}
	return append(append(joined, a...), b...)
}

// pair returns a label of its own.
func (o *Output) pair(name, value string) *dto.LabelPair {
	pair, text := &o.pairs.take(1)[0], o.texts.take(2)
	text[0], text[1] = name, plain.Line(value)
	pair.Name, pair.Value = &text[0], &text[1]
	return pair
}

func (o *Output) family(f *Family) *dto.MetricFamily {
	if o.families == nil {
		o.families = map[*Family]*dto.MetricFamily{}
	}
	family, ok := o.families[f]
	if !ok {
		family = &dto.MetricFamily{Name: &f.Name, Help: &f.Help, Type: &f.Type}
		o.families[f] = family
	}
	return family
}

// fold adds how many label values of a family were folded into "other".
func (o *Output) fold(f *Family, n int) { o.add(foldedSeries, float64(n), f.Name) }

// merge adds what another output holds.
func (o *Output) merge(from *Output) {
	for f, family := range from.families {
		into := o.family(f)
		into.Metric = append(into.Metric, family.Metric...)
	}
}

// sorted returns the families by name.
func (o *Output) sorted() []*dto.MetricFamily {
	families := make([]*dto.MetricFamily, 0, len(o.families))
	for _, family := range o.families {
		families = append(families, family)
	}
	slices.SortFunc(families, func(a, b *dto.MetricFamily) int { return cmp.Compare(a.GetName(), b.GetName()) })
	return families
}
