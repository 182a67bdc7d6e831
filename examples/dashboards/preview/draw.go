package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"html"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

func (p panel) draw(all []series, marks []mark, err error) string {
	at := fmt.Sprintf("grid-area:%d/%d/span %d/span %d", p.GridPos.Y+1, p.GridPos.X+1, p.GridPos.H, p.GridPos.W)
	body := ""
	switch {
	case p.Type == "row":
		return fmt.Sprintf("<h2 style='%s'>%s</h2>", at, html.EscapeString(p.Title))
	case err != nil:
		body = html.EscapeString(err.Error())
	case len(all) == 0:
		body = "<p>" + cmp.Or(p.FieldConfig.Defaults.NoValue, "No data")
	case p.Type == "stat":
		body = p.stat(all)
	case p.Type == "table":
		body = p.table(all)
	default:
		body = p.chart(all, marks)
	}
	return fmt.Sprintf("<section style='%s' title='%s'><h3>%s</h3>%s</section>", at, html.EscapeString(p.Description), html.EscapeString(p.Title), body)
}

func (p panel) stat(all []series) string {
	var body strings.Builder
	for _, s := range all {
		v, class := number(s.Value[1]), ""
		for _, step := range p.FieldConfig.Defaults.Thresholds.Steps {
			if step.Value == nil || v >= *step.Value {
				class = step.Color
			}
		}
		fmt.Fprintf(&body, "<div>%s<br><b class=%s>%s</b></div>", html.EscapeString(s.Name), class, p.format(v))
	}
	return "<div class=stat>" + body.String() + "</div>"
}

func (p panel) table(all []series) string {
	o, present := p.Transformations[0].Options, map[string]bool{"Value": true}
	for _, s := range all {
		for name := range s.Metric {
			present[name] = true
		}
	}
	maps.DeleteFunc(present, func(name string, _ bool) bool { return o.ExcludeByName[name] })
	columns := slices.SortedFunc(maps.Keys(present), func(a, b string) int { return cmp.Compare(o.IndexByName[a], o.IndexByName[b]) })
	var body strings.Builder
	cells := map[string]cell{}
	for _, c := range columns {
		title := cmp.Or(o.RenameByName[c], c)
		body.WriteString("<th>" + html.EscapeString(title))
		cells[c] = p.cell(title)
	}
	for _, s := range all {
		body.WriteString("<tr>")
		for _, c := range columns {
			value := s.Metric[c]
			if c == "Value" {
				value = fmt.Sprint(s.Value[1])
			}
			body.WriteString(cells[c].draw(value, c == "Value", p.format))
		}
	}
	return "<table class=full><tr>" + body.String() + "</table>"
}

// cell is how the values of a column look.
type cell struct {
	linked bool
	mapped mapping
}

func (p panel) cell(title string) (out cell) {
	for _, o := range p.FieldConfig.Overrides {
		for _, property := range o.Properties {
			switch {
			case o.Matcher.Options != title:
			case property.ID == "links":
				out.linked = true
			case property.ID == "mappings":
				mapped := []mapping{}
				if json.Unmarshal(property.Value, &mapped) == nil && len(mapped) > 0 {
					out.mapped = mapped[0]
				}
			}
		}
	}
	return out
}

func (c cell) draw(value string, figure bool, format func(float64) string) string {
	if m, ok := c.mapped.Options[value]; ok {
		return fmt.Sprintf("<td class='filled %s'>%s", m.Color, html.EscapeString(m.Text))
	}
	if figure {
		value = format(number(value))
	}
	value = html.EscapeString(value)
	if c.linked && value != "" {
		return "<td><a>" + value + "</a>"
	}
	return "<td>" + value
}

// palette has the first of Grafana's classic colours.
var palette = []string{"#73bf69", "#f2cc0c", "#5794f2", "#ff780a", "#f2495c", "#b877d9", "#8ab8ff", "#fade2a", "#ffa6b0", "#96d98d", "#ca95e5", "#ffb357"}

type point struct{ t, v, base float64 }

// points puts lines on top of each other where the panel stacks them.
func (p panel) points(all []series) (lines [][]point) {
	below := map[float64]float64{}
	for _, s := range all {
		var line []point
		for _, v := range s.Values {
			t := v[0].(float64)
			line = append(line, point{t, number(v[1]) + below[t], below[t]})
			if p.stacked() {
				below[t] += number(v[1])
			}
		}
		lines = append(lines, line)
	}
	return lines
}

func (p panel) stacked() bool { return p.FieldConfig.Defaults.Custom.Stacking.Mode == "normal" }

// chart draws the axes, the threshold, the lines, and a legend with the last and
// the highest value of each. The grid has columns of 60 and rows of 38 pixels.
func (p panel) chart(all []series, marks []mark) string {
	slices.SortFunc(all, func(a, b series) int { return cmp.Compare(a.Name, b.Name) })
	lines := p.points(all)
	first, last, top := math.Inf(1), math.Inf(-1), 0.0
	for _, pt := range slices.Concat(lines...) {
		first, last, top = min(first, pt.t), max(last, pt.t), max(top, pt.v)
	}
	step := tick(top)
	width, height, top := float64(36*p.GridPos.W), float64(38*p.GridPos.H-45), math.Ceil(max(top/step, 0.1)*1.05)*step
	x := func(t float64) float64 { return 60 + (t-first)/max(1, last-first)*(width-60) }
	y := func(v float64) float64 { return height - 22 - v/top*(height-32) }
	svg, legend := "", ""
	for v := 0.0; v <= top*1.001; v += step {
		svg += fmt.Sprintf("<path class=grid d='M60 %.1fH%g'/><text x=55 y=%.1f text-anchor=end>%s</text>", y(v), width, y(v)+4, p.format(v))
	}
	every := max(60, math.Ceil((last-first)/360)*60)
	for t := math.Ceil(first/every) * every; t <= last; t += every {
		svg += fmt.Sprintf("<text x=%.1f y=%g text-anchor=middle>%s</text>", x(t), height-4, time.Unix(int64(t), 0).Format("15:04"))
	}
	for _, s := range p.FieldConfig.Defaults.Thresholds.Steps {
		if s.Value != nil && *s.Value <= top {
			svg += fmt.Sprintf("<path class=limit d='M60 %.1fH%g'/>", y(*s.Value), width)
		}
	}
	for _, m := range marks {
		if m.t >= first && m.t <= last {
			svg += fmt.Sprintf("<path class='mark %s' d='M%.1f 4V%g'><title>%s</title></path>", m.color, x(m.t), height-22, html.EscapeString(m.text))
		}
	}
	for i, line := range lines {
		color := palette[i%len(palette)]
		svg += fmt.Sprintf("<path style='stroke:%s' d='%s'/>", color, trace(line, x, y))
		if opacity := p.FieldConfig.Defaults.Custom.FillOpacity; opacity > 0 {
			svg += fmt.Sprintf("<path style='fill:%s;fill-opacity:%g;stroke:none' d='%s'/>", color, opacity/100, outline(line, x, y))
		}
		highest := slices.MaxFunc(line, func(a, b point) int { return cmp.Compare(a.v-a.base, b.v-b.base) })
		end := line[len(line)-1]
		legend += fmt.Sprintf("<tr><td style='max-width:%dpx'><i style='background:%s'></i>%s<td>%s<td>%s", 15*p.GridPos.W, color, html.EscapeString(all[i].Name), p.format(end.v-end.base), p.format(highest.v-highest.base))
	}
	return fmt.Sprintf("<div class=chart><svg width=%g height=%g>%s</svg><table><tr><th><th>Last<th>Max%s</table></div>", width, height, svg, legend)
}

// trace is the line, with gaps where there are no values.
func trace(line []point, x, y func(float64) float64) (d string) {
	gap := math.Inf(1)
	for i := 1; i < len(line); i++ {
		gap = min(gap, 1.5*(line[i].t-line[i-1].t))
	}
	for i, pt := range line {
		if i == 0 || pt.t-line[i-1].t > gap {
			d += fmt.Sprintf("M%.1f %.1fh1", x(pt.t), y(pt.v))
		}
		d += fmt.Sprintf("L%.1f %.1f", x(pt.t), y(pt.v))
	}
	return d
}

// outline is the area between the line and the one below.
func outline(line []point, x, y func(float64) float64) string {
	there, back := "M", ""
	for i, pt := range line {
		end := line[len(line)-1-i]
		there += fmt.Sprintf("%.1f %.1fL", x(pt.t), y(pt.v))
		back += fmt.Sprintf("%.1f %.1fL", x(end.t), y(end.base))
	}
	return there + strings.TrimSuffix(back, "L") + "Z"
}

func number(v any) float64 {
	text, _ := v.(string)
	f, _ := strconv.ParseFloat(text, 64)
	return f
}

// tick is the distance of round numbers that divide an axis into about four.
func tick(top float64) float64 {
	if top == 0 {
		return 1
	}
	size := math.Pow(10, math.Floor(math.Log10(top/4)))
	for _, times := range []float64{1, 2, 5} {
		if top/(size*times) <= 5 {
			return size * times
		}
	}
	return size * 10
}

// format writes a value in one of Grafana's units.
func (p panel) format(v float64) string {
	short := func(v float64) string { return strconv.FormatFloat(v, 'g', 3, 64) }
	unit := p.FieldConfig.Defaults.Unit
	suffix := map[string]string{"cps": "/s", "pps": "/s", "bytes": "B"}[unit]
	switch {
	case unit == "percentunit":
		return short(v*100) + "%"
	case unit == "bool_yes_no":
		return map[bool]string{true: "Yes", false: "No"}[v != 0]
	case unit == "s" && math.Abs(v) >= 2*86400:
		return fmt.Sprintf("%.0f days", v/86400)
	case unit == "s" && math.Abs(v) >= 1:
		return short(v) + " s"
	case unit == "s":
		return short(v*1000) + " ms"
	case unit == "none" || math.Abs(v) < 1000:
		return strconv.FormatFloat(math.Round(v*100)/100, 'f', -1, 64) + suffix
	case math.Abs(v) < 1e6:
		return short(v/1e3) + " k" + suffix
	default:
		return short(v/1e6) + " M" + suffix
	}
}
