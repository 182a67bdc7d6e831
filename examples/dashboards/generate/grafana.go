package main

import (
	"strings"
)

// This file is the part of Grafana's dashboard format that the boards need.
// What is left out here, Grafana fills with its defaults.

// schemaVersion 39 is read by Grafana 10.3 and newer.
const schemaVersion = 39

type dashboard struct {
	Annotations   annotations `json:"annotations"`
	Description   string      `json:"description"`
	Editable      bool        `json:"editable"`
	GraphTooltip  int         `json:"graphTooltip"`
	Links         []link      `json:"links"`
	Panels        []panelJSON `json:"panels"`
	Refresh       string      `json:"refresh"`
	SchemaVersion int         `json:"schemaVersion"`
	Tags          []string    `json:"tags"`
	Templating    templating  `json:"templating"`
	Time          timeRange   `json:"time"`
	Timezone      string      `json:"timezone"`
	Title         string      `json:"title"`
	UID           string      `json:"uid"`
}

// link leads to every dashboard with the tags.
type link struct {
	Type        string   `json:"type"`
	Title       string   `json:"title"`
	Tags        []string `json:"tags"`
	AsDropdown  bool     `json:"asDropdown"`
	IncludeVars bool     `json:"includeVars"`
	KeepTime    bool     `json:"keepTime"`
}

type annotations struct {
	List []struct{} `json:"list"`
}

type timeRange struct {
	From string `json:"from"`
	To   string `json:"to"`
}

type templating struct {
	List []variable `json:"list"`
}

type variable struct {
	Name       string      `json:"name"`
	Label      string      `json:"label"`
	Type       string      `json:"type"`
	Datasource *datasource `json:"datasource,omitempty"`
	Definition string      `json:"definition,omitempty"`
	Query      any         `json:"query"`
	Refresh    int         `json:"refresh"`
	Sort       int         `json:"sort,omitempty"`
	Multi      bool        `json:"multi"`
	IncludeAll bool        `json:"includeAll"`
	AllValue   string      `json:"allValue,omitempty"`
	Current    any         `json:"current"`
}

type variableQuery struct {
	QueryType int    `json:"qryType"`
	Query     string `json:"query"`
	RefID     string `json:"refId"`
}

type datasource struct {
	Type string `json:"type"`
	UID  string `json:"uid"`
}

type panelJSON struct {
	ID              int              `json:"id"`
	Type            string           `json:"type"`
	Title           string           `json:"title"`
	Description     string           `json:"description,omitempty"`
	Datasource      *datasource      `json:"datasource,omitempty"`
	GridPos         gridPos          `json:"gridPos"`
	FieldConfig     *fieldConfig     `json:"fieldConfig,omitempty"`
	Options         any              `json:"options,omitempty"`
	Targets         []target         `json:"targets,omitempty"`
	Transformations []transformation `json:"transformations,omitempty"`
	Collapsed       *bool            `json:"collapsed,omitempty"` // rows only
	Panels          *[]panelJSON     `json:"panels,omitempty"`    // rows only
}

type gridPos struct {
	H int `json:"h"`
	W int `json:"w"`
	X int `json:"x"`
	Y int `json:"y"`
}

type target struct {
	RefID        string     `json:"refId"`
	Datasource   datasource `json:"datasource"`
	EditorMode   string     `json:"editorMode"`
	Expr         string     `json:"expr"`
	LegendFormat string     `json:"legendFormat,omitempty"`
	Format       string     `json:"format,omitempty"`
	Instant      bool       `json:"instant,omitempty"`
	Range        bool       `json:"range,omitempty"`
}

type fieldConfig struct {
	Defaults  fieldDefaults `json:"defaults"`
	Overrides []struct{}    `json:"overrides"`
}

type fieldDefaults struct {
	Unit       string     `json:"unit"`
	Min        *float64   `json:"min,omitempty"`
	Max        *float64   `json:"max,omitempty"`
	NoValue    string     `json:"noValue,omitempty"`
	Color      colorMode  `json:"color"`
	Thresholds thresholds `json:"thresholds"`
	Custom     any        `json:"custom,omitempty"`
}

type colorMode struct {
	Mode string `json:"mode"`
}

type thresholds struct {
	Mode  string `json:"mode"`
	Steps []step `json:"steps"`
}

type step struct {
	Color string   `json:"color"`
	Value *float64 `json:"value"`
}

type transformation struct {
	ID      string          `json:"id"`
	Options organizeOptions `json:"options"`
}

type organizeOptions struct {
	ExcludeByName map[string]bool   `json:"excludeByName"`
	IndexByName   map[string]int    `json:"indexByName"`
	RenameByName  map[string]string `json:"renameByName"`
}

func prometheus() datasource { return datasource{Type: "prometheus", UID: "${datasource}"} }

// tag is what the dashboards know each other by.
const tag = "port_exporter"

func (b board) json() dashboard {
	return dashboard{
		Annotations:   annotations{List: []struct{}{}},
		Description:   b.about,
		Editable:      true,
		GraphTooltip:  1,
		Links:         []link{{Type: "dashboards", Title: "Ports and sockets", Tags: []string{tag}, IncludeVars: true, KeepTime: true}},
		Panels:        b.layOut(),
		Refresh:       "1m",
		SchemaVersion: schemaVersion,
		Tags:          []string{tag},
		Templating:    templating{List: append([]variable{sourceVariable()}, b.variables...)},
		Time:          timeRange{From: "now-3h", To: "now"},
		Timezone:      "browser",
		Title:         b.title,
		UID:           b.uid,
	}
}

func sourceVariable() variable {
	return variable{
		Name: "datasource", Label: "Data source", Type: "datasource",
		Query: "prometheus", Refresh: 1, Current: struct{}{},
	}
}

// labelVariable lists the values of a label anew whenever the time range
// changes, since hosts come and go. All of them is what the expression all
// matches.
func labelVariable(name, label, all, query string) variable {
	const byLabelValues, onTimeRange, alphabetical = 1, 2, 1
	source := prometheus()
	return variable{
		Name: name, Label: label, Type: "query", Datasource: &source,
		Definition: query,
		Query:      variableQuery{QueryType: byLabelValues, Query: query, RefID: "PrometheusVariableQueryEditor-VariableQuery"},
		Refresh:    onTimeRange, Sort: alphabetical,
		Multi: true, IncludeAll: true, AllValue: all,
		Current: map[string]any{"text": []string{"All"}, "value": []string{"$__all"}},
	}
}

// layOut gives every panel its number and place: from left to right, and on to
// the next line when the width is used up. The panels of a collapsed row are
// inside it, at the place that they take when it is opened.
func (b board) layOut() []panelJSON {
	const fullWidth = 24
	var out []panelJSON
	id, y := 0, 0
	for _, s := range b.sections {
		id++
		row, inside := rowJSON(id, s, gridPos{H: 1, W: fullWidth, Y: y}), []panelJSON{}
		y++
		x, tallest := 0, 0
		for _, p := range s.panels {
			if x+p.width > fullWidth {
				x, y, tallest = 0, y+tallest, 0
			}
			id++
			at := gridPos{H: p.height(), W: p.width, X: x, Y: y}
			inside = append(inside, p.json(id, at, b.host))
			x, tallest = x+p.width, max(tallest, at.H)
		}
		y += tallest
		if s.collapsed {
			row.Panels, y = &inside, row.GridPos.Y+1
			out = append(out, row)
			continue
		}
		out = append(append(out, row), inside...)
	}
	return out
}

func rowJSON(id int, s section, at gridPos) panelJSON {
	return panelJSON{ID: id, Type: "row", Title: s.title, GridPos: at, Collapsed: &s.collapsed, Panels: &[]panelJSON{}}
}

func (p panel) height() int {
	switch {
	case p.tall != 0:
		return p.tall
	case p.kind == stat:
		return 4
	default:
		return 8
	}
}

func (p panel) json(id int, at gridPos, host string) panelJSON {
	source := prometheus()
	out := panelJSON{
		ID: id, Title: p.title, Description: p.about, Datasource: &source, GridPos: at,
		FieldConfig: &fieldConfig{Defaults: p.fields(), Overrides: []struct{}{}},
		Targets:     p.targets(host),
	}
	switch p.kind {
	case stat:
		out.Type, out.Options = "stat", statOptions()
	case table:
		out.Type, out.Options = "table", map[string]any{"showHeader": true, "cellHeight": "sm"}
		out.Transformations = []transformation{p.organized()}
	case timeSeries:
		out.Type, out.Options = "timeseries", timeSeriesOptions()
	}
	return out
}

func (p panel) targets(host string) []target {
	var out []target
	for i, q := range p.query {
		t := target{
			RefID: string(rune('A' + i)), Datasource: prometheus(), EditorMode: "code",
			Expr: strings.ReplaceAll(q.expr, "HOST", host), LegendFormat: q.legend,
		}
		switch p.kind {
		case table:
			t.Format, t.Instant = "table", true
		case stat:
			t.Instant = true
		case timeSeries:
			t.Range = true
		}
		out = append(out, t)
	}
	return out
}

func (p panel) fields() fieldDefaults {
	f := fieldDefaults{
		Unit:       p.unit,
		Min:        new(float64),
		Color:      colorMode{Mode: "thresholds"},
		Thresholds: thresholds{Mode: "absolute", Steps: p.steps()},
	}
	f.NoValue = p.none
	if p.max != 0 {
		f.Max = &p.max
	}
	if p.kind == timeSeries {
		f.Color.Mode = "palette-classic"
		f.Custom = p.drawing()
	}
	return f
}

func (p panel) steps() []step {
	switch {
	case p.warn != 0:
		return []step{{Color: "green"}, {Color: "red", Value: &p.warn}}
	case p.alarm != 0:
		return []step{{Color: "red"}, {Color: "green", Value: &p.alarm}}
	case p.kind == stat:
		return []step{{Color: "text"}}
	default:
		return []step{{Color: "green"}}
	}
}

func (p panel) drawing() map[string]any {
	stacking, fill, line := "none", 0, "off"
	if p.stack {
		stacking, fill = "normal", 30
	}
	if p.warn != 0 {
		line = "dashed"
	}
	return map[string]any{
		"drawStyle":       "line",
		"lineWidth":       1,
		"fillOpacity":     fill,
		"showPoints":      "never",
		"spanNulls":       false,
		"stacking":        map[string]any{"mode": stacking, "group": "A"},
		"thresholdsStyle": map[string]any{"mode": line},
	}
}

func statOptions() map[string]any {
	return map[string]any{
		"colorMode":     "value",
		"graphMode":     "none",
		"orientation":   "auto",
		"textMode":      "auto",
		"reduceOptions": map[string]any{"calcs": []string{"lastNotNull"}, "fields": "", "values": false},
	}
}

func timeSeriesOptions() map[string]any {
	return map[string]any{
		"legend":  map[string]any{"displayMode": "table", "placement": "right", "showLegend": true, "calcs": []string{"lastNotNull", "max"}},
		"tooltip": map[string]any{"mode": "multi", "sort": "desc"},
	}
}

// organized puts the columns of a table in an order that reads well, and leaves
// out what is the same in every row.
func (p panel) organized() transformation {
	options := organizeOptions{
		ExcludeByName: map[string]bool{"Time": true, "__name__": true, "job": true},
		IndexByName:   map[string]int{},
		RenameByName:  map[string]string{},
	}
	for i, name := range p.columns {
		options.IndexByName[name] = i
		if words := strings.ReplaceAll(name, "_", " "); words != name {
			options.RenameByName[name] = words
		}
	}
	if p.value == "" {
		options.ExcludeByName["Value"] = true
	} else {
		options.IndexByName["Value"], options.RenameByName["Value"] = len(p.columns), p.value
	}
	return transformation{ID: "organize", Options: options}
}
