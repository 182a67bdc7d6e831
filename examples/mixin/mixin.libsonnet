// The rules and dashboards of this directory's neighbours as a monitoring mixin
// (https://monitoring.mixins.dev): they are imported as they are, and changed by
// _config.
local read(name) = std.parseYaml(name).groups;

{
  _config+:: {
    // The job of port_exporter, by which PortExporterDown and PortExporterAbsent know it.
    job: 'port_exporter',
    // What the alerts' dashboard_url begins with, as in 'https://grafana.example.com'.
    grafanaUrl: '',
    // Where the runbooks are.
    runbookUrl: 'https://github.com/port-exporter/port_exporter/blob/main/docs/runbooks/',
    // Alerts to leave out, by name.
    without: [],
    // Labels for each alert.
    labels: {},
    dashboardTags: ['port_exporter'],
  },

  local config = $._config,

  local groups = std.flattenArrays([
    read(importstr '../rules/listeners.yml'),
    read(importstr '../rules/connections.yml'),
    read(importstr '../rules/closed.yml'),
    read(importstr '../rules/limits.yml'),
    read(importstr '../rules/policy.yml'),
    read(importstr '../rules/probes.yml'),
    read(importstr '../rules/exporter.yml'),
    read(importstr '../rules/fleet.yml'),
  ]),

  local isAlert(rule) = std.objectHas(rule, 'alert'),

  local changed(rule) = if !isAlert(rule) then rule else rule {
    expr: std.strReplace(super.expr, '{job="port_exporter"}', '{job="%s"}' % config.job),
    labels+: config.labels,
    annotations+: {
      runbook_url: config.runbookUrl + std.split(super.runbook_url, '/docs/runbooks/')[1],
      dashboard_url: config.grafanaUrl + super.dashboard_url,
    },
  },

  local kept = [
    group { rules: [changed(rule) for rule in group.rules if !isAlert(rule) || !std.member(config.without, rule.alert)] }
    for group in groups
  ],

  // Groups stay whole: an alert comes after what it asks for.
  prometheusAlerts+:: { groups: [group for group in kept if std.length(std.filter(isAlert, group.rules)) > 0] },
  prometheusRules+:: { groups: [group for group in kept if std.length(std.filter(isAlert, group.rules)) == 0] },

  local tagged(dashboard) = dashboard {
    tags: config.dashboardTags,
    links: [link { tags: config.dashboardTags } for link in super.links],
  },

  grafanaDashboards+:: {
    'fleet.json': tagged(import '../dashboards/fleet.json'),
    'listeners-and-exposure.json': tagged(import '../dashboards/listeners-and-exposure.json'),
    'time-wait-and-connections-by-service.json': tagged(import '../dashboards/time-wait-and-connections-by-service.json'),
    'tcp-health.json': tagged(import '../dashboards/tcp-health.json'),
    'ephemeral-ports-and-limits.json': tagged(import '../dashboards/ephemeral-ports-and-limits.json'),
    'probes.json': tagged(import '../dashboards/probes.json'),
  },
}
