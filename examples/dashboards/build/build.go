package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/cog/variants"
	"github.com/grafana/grafana-foundation-sdk/go/common"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/stat"
	"github.com/grafana/grafana-foundation-sdk/go/table"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
)

// board is a dashboard. choices are its variables besides those of the hosts.
type board struct {
	file, uid, title, text string
	choices                []string
	rows                   []row
}

type row struct {
	title     string
	collapsed bool
	panels    []panel
}

// kind is what a panel looks like: the last value, rows, lines, or lines on top of
// each other.
type kind string

const (
	single  kind = "stat"
	rows    kind = "table"
	chart   kind = "timeseries"
	stacked kind = "stacked"
)

// panel is 12 wide and 8 high, or 4 and 4 with a single value, unless it says so.
type panel struct {
	kind              kind
	width, height     uint32
	title, text, unit string

	// red is where the colour changes from green, and green where it does from red.
	red, green float64
	most       float64 // of the axis
	negative   bool    // values may be below 0
	none       string  // in place of "No data"
	mapped     []mapping

	queries []query
	columns []column
	hidden  []string // labels without a column
}

type query struct{ expr, legend string }

// column is a label, or "Value", and its heading if that is another.
type column struct{ label, heading string }

func (c column) title() string {
	if c.heading != "" {
		return c.heading
	}
	return c.label
}

const listener = "job, instance, netns, protocol, address, port, interface"

// byListener sums a metric of listeners, with the process where one is known.
func byListener(metric string) string {
	return strings.NewReplacer("L", listener, "X", metric).Replace(
		"(sum by (L) (X) > 0) * on (L) group_left (process) topk by (L) (1, port_listener_info) or on (L) (sum by (L) (X) > 0)")
}

var source = common.DataSourceRef{Type: cog.ToPtr("prometheus"), Uid: cog.ToPtr("${datasource}")}

// build makes the dashboard of Grafana 10.3, which later ones read as well.
func (b board) build(labels families) (dashboard.Dashboard, error) {
	builder := dashboard.NewDashboardBuilder(b.title).Uid(b.uid).Description(b.text).Tags([]string{"port_exporter"}).
		Timezone("browser").Tooltip(dashboard.DashboardCursorSyncCrosshair).Time("now-3h", "now").Refresh("1m").
		Link(dashboard.NewDashboardLinkBuilder("Ports and sockets").Type(dashboard.DashboardLinkTypeDashboards).
			Tags([]string{"port_exporter"}).IncludeVars(true).KeepTime(true))
	for _, v := range b.variables() {
		builder.WithVariable(v)
	}
	for _, a := range b.annotations(labels) {
		builder.Annotation(a)
	}
	built, err := builder.Build()
	built.SchemaVersion = 39
	shown(built.Links)
	for i := range built.Annotations.List {
		built.Annotations.List[i].Placement = nil
	}
	place := placing{}
	for _, r := range b.rows {
		heading := dashboard.RowPanel{Type: "row", Title: cog.ToPtr(r.title), Collapsed: r.collapsed, Id: place.id(), GridPos: place.at(24, 1), Panels: []dashboard.Panel{}}
		var panels []dashboard.PanelOrRowPanel
		for _, p := range r.panels {
			made, failed := p.build(b, labels)
			if failed != nil {
				return built, failed
			}
			made.Id, made.GridPos = cog.ToPtr(place.id()), place.at(p.size())
			if r.collapsed {
				heading.Panels = append(heading.Panels, made)
			} else {
				panels = append(panels, dashboard.PanelOrRowPanel{Panel: &made})
			}
		}
		if r.collapsed {
			place.fold(*heading.GridPos)
		}
		built.Panels = append(append(built.Panels, dashboard.PanelOrRowPanel{RowPanel: &heading}), panels...)
	}
	return built, err
}

// shown takes links out of the menu that the SDK puts them into.
func shown(links []dashboard.DashboardLink) {
	for i := range links {
		links[i].Placement = nil
	}
}

// placing puts panels side by side, 24 columns wide.
type placing struct {
	last             uint32
	x, y, lineHeight uint32
}

func (p *placing) id() uint32 { p.last++; return p.last }

func (p *placing) at(width, height uint32) *dashboard.GridPos {
	if p.x+width > 24 {
		p.x, p.y, p.lineHeight = 0, p.y+p.lineHeight, 0
	}
	at := &dashboard.GridPos{X: p.x, Y: p.y, W: width, H: height}
	p.x, p.lineHeight = p.x+width, max(p.lineHeight, height)
	return at
}

// fold gives the place of a closed row's panels back.
func (p *placing) fold(heading dashboard.GridPos) {
	p.x, p.y, p.lineHeight = 24, heading.Y, heading.H
}

func (p panel) size() (width, height uint32) {
	width, height = 12, 8
	if p.kind == single {
		width, height = 4, 4
	}
	if p.width > 0 {
		width = p.width
	}
	if p.height > 0 {
		height = p.height
	}
	return width, height
}

func (p panel) build(b board, labels families) (dashboard.Panel, error) {
	var made dashboard.Panel
	var err error
	switch p.kind {
	case single:
		made, err = stat.NewPanelBuilder().GraphMode(common.BigValueGraphModeNone).Orientation(common.VizOrientationAuto).
			ReduceOptions(common.NewReduceDataOptionsBuilder().Calcs([]string{"lastNotNull"})).Build()
	case rows:
		made, err = p.table()
	default:
		made, err = p.chart()
	}
	if err != nil {
		return made, err
	}
	if made.FieldConfig == nil {
		made.FieldConfig = dashboard.NewFieldConfigSource()
	}
	made.Title, made.Description, made.Datasource = &p.title, &p.text, &source
	defaults := &made.FieldConfig.Defaults
	defaults.Unit = &p.unit
	shown(defaults.Links)
	if !p.negative {
		defaults.Min = cog.ToPtr(0.0)
	}
	if p.most > 0 {
		defaults.Max = &p.most
	}
	if p.none != "" {
		defaults.NoValue = &p.none
	}
	if p.mapped != nil {
		defaults.Mappings = valueMap(p.mapped)
	}
	defaults.Thresholds = p.thresholds()
	if made.FieldConfig.Overrides == nil {
		made.FieldConfig.Overrides = []dashboard.DashboardFieldConfigSourceOverrides{}
	}
	made.Targets, err = p.targets(b, labels)
	return made, err
}

func (p panel) targets(b board, labels families) (out []variants.Dataquery, err error) {
	for i, q := range p.queries {
		builder := prometheus.NewDataqueryBuilder().RefId(string(rune('A' + i))).Expr(labels.choose(q.expr, b.offered())).Datasource(source)
		if q.legend != "" {
			builder.LegendFormat(q.legend)
		}
		switch p.kind {
		case single:
			builder.Instant()
		case rows:
			builder.Instant().Format(prometheus.PromQueryFormatTable)
		default:
			builder.Range()
		}
		made, failed := builder.Build()
		if failed != nil {
			return nil, failed
		}
		out = append(out, made)
	}
	return out, nil
}

func (p panel) thresholds() *dashboard.ThresholdsConfig {
	step := func(color string, from *float64) dashboard.Threshold {
		return dashboard.Threshold{Color: color, Value: from}
	}
	steps := []dashboard.Threshold{step("text", nil)}
	switch {
	case p.red > 0:
		steps = []dashboard.Threshold{step("green", nil), step("red", &p.red)}
	case p.green > 0:
		steps = []dashboard.Threshold{step("red", nil), step("green", &p.green)}
	case p.kind != single:
		return nil
	}
	return &dashboard.ThresholdsConfig{Mode: dashboard.ThresholdsModeAbsolute, Steps: steps}
}

// chart has lines, with a legend that has the last and the highest value of each.
func (p panel) chart() (dashboard.Panel, error) {
	builder := timeseries.NewPanelBuilder().ShowPoints(common.VisibilityModeNever).FillOpacity(10).
		Legend(common.NewVizLegendOptionsBuilder().ShowLegend(true).DisplayMode(common.LegendDisplayModeTable).
			Placement(common.LegendPlacementRight).Calcs([]string{"lastNotNull", "max"})).
		Tooltip(common.NewVizTooltipOptionsBuilder().Mode(common.TooltipDisplayModeMulti).Sort(common.SortOrderDescending))
	if p.kind == stacked {
		builder.FillOpacity(30).Stacking(common.NewStackingConfigBuilder().Mode(common.StackingModeNormal).Group("A"))
	}
	if p.red > 0 {
		builder.ThresholdsStyle(common.NewGraphThresholdsStyleConfigBuilder().Mode(common.GraphThresholdsStyleModeDashed))
	}
	var links []cog.Builder[dashboard.DashboardLink]
	for _, l := range linked {
		if slices.ContainsFunc(p.queries, func(q query) bool { return l.in(q.legend) }) {
			links = append(links, l.to("${__field.labels."+l.label+"}", "${__field.labels.instance}"))
		}
	}
	if links != nil {
		builder.DataLinks(links)
	}
	return builder.Build()
}

// table has a column for each label that is asked for, in their order.
func (p panel) table() (dashboard.Panel, error) {
	excluded, index, names := map[string]bool{"Time": true, "__name__": true, "job": true, "cluster": true, "Value": true}, map[string]int{}, map[string]string{}
	for _, label := range p.hidden {
		excluded[label] = true
	}
	builder := table.NewPanelBuilder().Footer(common.NewTableFooterOptionsBuilder().Show(false).Reducer([]string{}))
	for i, c := range p.columns {
		delete(excluded, c.label)
		index[c.label] = i
		if c.heading != "" {
			names[c.label] = c.heading
		}
		if properties := c.properties(); properties != nil {
			builder.OverrideByName(c.title(), properties)
		}
	}
	return builder.WithTransformation(dashboard.DataTransformerConfig{Id: "organize", Options: map[string]any{
		"excludeByName": excluded, "indexByName": index, "renameByName": names,
	}}).Build()
}

// properties are the links of a cell, and its colours and words.
func (c column) properties() (out []dashboard.DynamicConfigValue) {
	for _, l := range linked {
		if c.label == l.label {
			link, _ := l.to("${__data.fields."+c.label+"}", "${__data.fields.instance}").Build() // cannot fail
			links := []dashboard.DashboardLink{link}
			shown(links)
			out = append(out, dashboard.DynamicConfigValue{Id: "links", Value: links})
		}
	}
	if values := meanings[c.title()]; values != nil {
		out = append(out,
			dashboard.DynamicConfigValue{Id: "mappings", Value: valueMap(values)},
			dashboard.DynamicConfigValue{Id: "custom.cellOptions", Value: map[string]any{"type": "color-background", "mode": "basic"}})
	}
	return out
}

// link leads from a series or a row to the board of what it is about.
type link struct{ label, title, uid, variable string }

var linked = []link{
	{"instance", "Listeners of ${%s}", "port-exporter-listeners", "instance"},
	{"port", "Connections of this service", "port-exporter-connections", "service"},
	{"target", "Probes of this target", "port-exporter-probes", "target"},
}

// in says whether a legend has the label.
func (l link) in(legend string) bool { return strings.Contains(legend, "{{"+l.label+"}}") }

// to links to a value of the label. The host goes along.
func (l link) to(value, instance string) *dashboard.DashboardLinkBuilder {
	address := fmt.Sprintf("/d/%s?var-%s=%s&${datasource:queryparam}&${cluster:queryparam}&${job:queryparam}&${__url_time_range}", l.uid, l.variable, value)
	if l.variable == "service" {
		address += "&var-instance=" + instance
	}
	title := strings.ReplaceAll(l.title, "${%s}", value)
	return dashboard.NewDashboardLinkBuilder(title).Type(dashboard.DashboardLinkTypeLink).Url(address)
}
