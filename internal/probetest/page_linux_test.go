package probetest_test

import (
	"crypto/sha256"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/port-exporter/port_exporter/internal/porttest"
	"github.com/port-exporter/port_exporter/internal/web/status"
)

var pagePictures = flag.String("page.pictures", "", "a directory that the test of pictures of the page writes to; without it there are none")

// hostileTargets have names that would be a script, drive a terminal, or be wider than a
// telephone.
const hostileTargets = `
  - {address: "127.0.0.1:1", name: "<script>alert(1)</script>\u202e\u001b[2J", module: quick, labels: {team: "\"><img src=x onerror=alert(1)>"}}
  - {address: "127.0.0.1:2", name: "` + longName + `", module: quick}
`

const longName = "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn"

// faults is what of a page can be measured: each fault is a line.
const faults = `(() => {
  const out = [], all = selector => [...document.querySelectorAll(selector)];
  const root = document.documentElement;
  if (document.compatMode !== "CSS1Compat") out.push("quirks mode");
  if (!root.lang || !document.title) out.push("no language or no title");
  if (root.scrollWidth > root.clientWidth) out.push("scrolls sideways: " + root.scrollWidth + " of " + root.clientWidth);
  let level = 0;
  for (const h of all("h1,h2,h3,h4,h5,h6")) {
    const n = Number(h.tagName[1]);
    if (n > level + 1) out.push("heading " + h.textContent + " follows level " + level);
    level = n;
  }
  if (all("h1").length !== 1) out.push(all("h1").length + " headings of level 1");
  for (const table of all("table"))
    if (!table.caption || !table.caption.textContent.trim()) out.push("a table has no caption");
  for (const th of all("th")) if (!th.scope) out.push("no scope: " + th.textContent);
  for (const field of all("input,select,textarea"))
    if (!field.labels.length) out.push("no label: " + field.name);
  for (const meter of all("meter")) if (!meter.getAttribute("aria-label")) out.push("no label: " + meter.textContent);
  for (const a of all("a[href]")) if (!a.textContent.trim()) out.push("an empty link");
  for (const m of all(".mark")) if (!/[✗!?–✓]/.test(m.textContent)) out.push("a mark by colour only: " + m.textContent);
  if (all("script,[style],[onclick],[onload],[onerror],iframe,img").length) out.push("a script, a style or an image in the page");
  const ids = all("[id]").map(e => e.id);
  if (new Set(ids).size !== ids.length) out.push("an id stands twice");
  for (const e of all("[aria-labelledby]")) if (!document.getElementById(e.getAttribute("aria-labelledby"))) out.push("labelled by nothing");

  const parse = color => { const m = color.match(/[\d.]+/g).map(Number); return {rgb: m.slice(0, 3), alpha: m.length > 3 ? m[3] : 1}; };
  const light = rgb => { const [r, g, b] = rgb.map(c => (c /= 255) <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4); return .2126 * r + .7152 * g + .0722 * b; };
  const behind = e => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); if (c.alpha === 1) return c.rgb; } return [255, 255, 255]; };
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let checked = 0;
  const check = (e, style, text) => {
    const a = light(parse(style.color).rgb), b = light(behind(e));
    const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    checked++;
    if (ratio < 4.5) out.push("contrast " + ratio.toFixed(2) + ": " + text);
  };
  while (texts.nextNode()) {
    const e = texts.currentNode.parentElement, text = texts.currentNode.textContent.trim();
    if (text && !["METER", "OPTION"].includes(e.tagName)) check(e, getComputedStyle(e), text);
  }
  for (const e of all("td[data-label]")) check(e, getComputedStyle(e, "::before"), "label of a cell");
  for (const e of all("input,select,button")) check(e, getComputedStyle(e), e.name || e.textContent);
  for (const e of all("input")) check(e, getComputedStyle(e, "::placeholder"), "placeholder");
  if (checked < 10) out.push("only " + checked + " texts were checked");

  const link = document.querySelector("a[href]");
  link.focus({focusVisible: true});
  if (getComputedStyle(link).outlineStyle === "none") out.push("the focus cannot be seen");
  return out;
})()`

// TestPageInNamespace looks at the pages of a real host with a real browser: on a
// telephone and a wide screen, light and dark.
func TestPageInNamespace(t *testing.T) {
	openPageLoad(t)
	startPage(t, hostileTargets)
	b := porttest.NewBrowser(t)
	look := func(width int, theme, query string) {
		b.Look(width, theme)
		b.Open(pageAddress(query))
		var found []string
		b.Evaluate(faults, &found)
		for _, fault := range append(found, b.Complaints...) {
			t.Errorf("/%s, %d pixels, %s: %s", query, width, theme, fault)
		}
	}
	for _, theme := range []string{"light", "dark"} {
		look(400, theme, "")
		look(1400, theme, "")
	}
	pages := []string{"?q=nnnn&scope=any&verdict=attention&refresh=60", "listener?protocol=tcp&address=127.0.0.1&port=9000", "check?target=127.0.0.1:9000",
		"target?module=quick&target=127.0.0.1:2&name=" + longName}
	for _, query := range pages { // they have the same styles
		look(400, "dark", query)
	}
	checkLinks(t, b)
	checkThemes(t, b)
	checkPolicyOfPage(t, b)
}

// checkLinks follows every link of the page and of one of a target.
func checkLinks(t *testing.T, b *porttest.Browser) {
	t.Helper()
	followed := 0
	for _, query := range []string{"", "target?module=quick&target=127.0.0.1:25&name=mail"} {
		b.Open(pageAddress(query))
		var links []string
		b.Evaluate(`[...document.querySelectorAll("a[href]")].map(a => a.pathname + a.search)`, &links)
		for _, link := range slices.Compact(slices.Sorted(slices.Values(links))) {
			followed++
			if status, body := porttest.Get(t, porttest.ScrapeAddress, link); status != 200 {
				t.Errorf("/%s links to %s: %d %s", query, link, status, body)
			}
		}
	}
	if followed < 30 {
		t.Errorf("%d links", followed)
	}
}

// checkThemes checks that the look of a page differs by theme and width.
func checkThemes(t *testing.T, b *porttest.Browser) {
	t.Helper()
	type looks struct{ Page, Row string }
	at := func(width int, theme string) (l looks) {
		b.Look(width, theme)
		b.Evaluate(`({Page: getComputedStyle(document.documentElement).backgroundColor, Row: getComputedStyle(document.querySelector("tbody tr")).display})`, &l)
		return l
	}
	b.Open(pageAddress(""))
	wide, phone, dark := at(1400, "light"), at(400, "light"), at(1400, "dark")
	if wide.Row != "table-row" || phone.Row != "block" || wide.Page == dark.Page {
		t.Errorf("1400 pixels %+v, 400 pixels %+v, dark %+v", wide, phone, dark)
	}
}

// checkPolicyOfPage adds a script and a style to the page, which its policy forbids:
// the browser complains, as it would of ours.
func checkPolicyOfPage(t *testing.T, b *porttest.Browser) {
	t.Helper()
	var ran bool
	b.Evaluate(`(async () => {
		for (const [name, text] of [["script", "window.ran = true"], ["style", "body { color: red }"]]) {
			const e = document.createElement(name); e.textContent = text; document.head.append(e);
		}
		await new Promise(done => setTimeout(done, 100));
		return Boolean(window.ran);
	})()`, &ran)
	if ran || len(b.Complaints) < 2 {
		t.Errorf("a script ran: %t; the browser complains %d times: %v", ran, len(b.Complaints), b.Complaints)
	}
}

// pictureSum is a file beside the pictures that says what they are of.
const pictureSum = "page.sum"

// pageSum sums up what makes the page look as it does: its templates and styles, what the
// code makes of them (the page that the tests of package status record), and the host that
// the pictures are of.
func pageSum(t *testing.T) string {
	t.Helper()
	sum := sha256.New()
	err := fs.WalkDir(status.Assets(), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := fs.ReadFile(status.Assets(), path)
		fmt.Fprintf(sum, "%s %d\n%s", path, len(text), text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"internal/web/status/testdata/page.html", "internal/probetest/pageload_linux_test.go"} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		sum.Write(text)
	}
	return fmt.Sprintf("%x\n", sum.Sum(nil))
}

// TestPagePicturesInNamespace takes the pictures of the documents.
func TestPagePicturesInNamespace(t *testing.T) {
	if *pagePictures == "" {
		t.Skip("SKIP-PICTURES: takes pictures only when asked to, with -page.pictures")
	}
	openPageLoad(t)
	startPage(t, "")
	time.Sleep(2 * time.Second) // a SYN is sent again
	b := porttest.NewBrowser(t)
	for name, width := range map[string]int{"page": 1400, "page-phone": 400} {
		b.Look(width, "light")
		b.Open(pageAddress(""))
		height := 1400
		if width > 600 {
			b.Evaluate(`Math.ceil(document.querySelector("#targets").closest("section").getBoundingClientRect().bottom) + 24`, &height)
		}
		b.Picture(filepath.Join(*pagePictures, name+".png"), height)
	}
	if err := os.WriteFile(filepath.Join(*pagePictures, pictureSum), []byte(pageSum(t)), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestPagePicturesAreOfToday fails when the page has changed since its pictures were
// taken.
func TestPagePicturesAreOfToday(t *testing.T) {
	recorded, err := os.ReadFile(filepath.Join("docs", "images", pictureSum))
	if err != nil {
		t.Fatal(err)
	}
	if today := pageSum(t); string(recorded) != today {
		t.Errorf("the pictures are of another page: %s, today %s\nhint: make pictures (as root, with chromium and pngquant)", strings.TrimSpace(string(recorded)), today)
	}
}
