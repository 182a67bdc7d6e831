package porttest

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"
)

// Browser is a Chromium in the test's namespace with one page, driven by the DevTools
// protocol over a pipe: a socket would be dialled from another thread, which is in
// another namespace.
type Browser struct {
	// Complaints are what the browser has logged since the last Open: errors, and
	// what the policy of a page forbids.
	Complaints []string

	t       testing.TB
	to      *os.File
	answers chan answer
	session string
	last    int
}

// answer is an answer or an event of the protocol.
type answer struct {
	ID     int
	Method string
	Params json.RawMessage
	Result json.RawMessage
	Error  *struct{ Message string }
}

// browserPatience is how long the browser may take for one thing.
const browserPatience = time.Minute

// NewBrowser starts a browser that ends with the test, or skips it where there is none.
func NewBrowser(t testing.TB) *Browser {
	t.Helper()
	chromium := Program(t, "SKIP-CHROMIUM", "chromium", "chromium-browser", "google-chrome")
	fromUs, to := pipe(t)
	from, toUs := pipe(t)
	cmd := exec.Command(chromium, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
		"--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--disable-quic", "--disable-extensions", "--log-level=3", "--hide-scrollbars",
		"--remote-debugging-pipe", "--user-data-dir="+t.TempDir(), "about:blank")
	cmd.ExtraFiles = []*os.File{fromUs, toUs}
	Start(t, cmd)
	_, _ = fromUs.Close(), toUs.Close()
	b := &Browser{t: t, to: to, answers: make(chan answer, 1000)}
	go b.read(from)

	var target struct{ TargetID string }
	b.call("Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	var attached struct{ SessionID string }
	b.call("Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &attached)
	b.session = attached.SessionID
	for _, domain := range []string{"Page", "Runtime", "Log"} {
		b.call(domain+".enable", nil, nil)
	}
	return b
}

func pipe(t testing.TB) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	return r, w
}

// read reads messages, which end with a zero byte.
func (b *Browser) read(from *os.File) {
	defer close(b.answers)
	in := bufio.NewReader(from)
	for {
		text, err := in.ReadBytes(0)
		if err != nil {
			return
		}
		var a answer
		if json.Unmarshal(text[:len(text)-1], &a) == nil {
			b.answers <- a
		}
	}
}

// next returns the next message.
func (b *Browser) next() answer {
	b.t.Helper()
	select {
	case a, open := <-b.answers:
		if !open {
			b.t.Fatal("the browser has ended")
		}
		return a
	case <-time.After(browserPatience):
		b.t.Fatal("the browser does not answer")
	}
	return answer{}
}

// call calls a method and waits for its result.
func (b *Browser) call(method string, parameters map[string]any, result any) {
	b.t.Helper()
	b.last++
	message := map[string]any{"id": b.last, "method": method, "params": parameters}
	if parameters == nil {
		message["params"] = map[string]any{}
	}
	if b.session != "" {
		message["sessionId"] = b.session
	}
	text, err := json.Marshal(message)
	if err != nil {
		b.t.Fatal(err)
	}
	if _, err := b.to.Write(append(text, 0)); err != nil {
		b.t.Fatal(err)
	}
	for {
		a := b.next()
		b.note(a)
		if a.ID != b.last {
			continue
		}
		if a.Error != nil {
			b.t.Fatalf("%s: %s", method, a.Error.Message)
		}
		if result != nil {
			if err := json.Unmarshal(a.Result, result); err != nil {
				b.t.Fatal(err)
			}
		}
		return
	}
}

// note keeps what the browser complains of.
func (b *Browser) note(a answer) {
	switch a.Method {
	case "Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled":
		b.Complaints = append(b.Complaints, string(a.Params))
	}
}

// Look has pages be as wide as a device, with a theme: light or dark.
func (b *Browser) Look(width int, theme string) {
	b.t.Helper()
	b.call("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}, nil)
	b.call("Emulation.setEmulatedMedia", map[string]any{"features": []map[string]any{{"name": "prefers-color-scheme", "value": theme}}}, nil)
}

// Open opens a page and waits until all of it is there.
func (b *Browser) Open(url string) {
	b.t.Helper()
	b.Complaints = nil
	var opened struct{ ErrorText string }
	b.call("Page.navigate", map[string]any{"url": url}, &opened)
	if opened.ErrorText != "" {
		b.t.Fatalf("%s: %s", url, opened.ErrorText)
	}
	Await(b.t, "the page", func() bool {
		var state string
		b.Evaluate("document.readyState", &state)
		return state == "complete"
	})
}

// Evaluate evaluates an expression of JavaScript in the page, which may be a promise,
// and decodes its value.
func (b *Browser) Evaluate(expression string, value any) {
	b.t.Helper()
	var r struct {
		Result           struct{ Value json.RawMessage }
		ExceptionDetails json.RawMessage
	}
	b.call("Runtime.evaluate", map[string]any{"expression": expression, "returnByValue": true, "awaitPromise": true}, &r)
	if r.ExceptionDetails != nil {
		b.t.Fatalf("%s: %s", expression, r.ExceptionDetails)
	}
	if err := json.Unmarshal(r.Result.Value, value); err != nil {
		b.t.Fatalf("%s: %v: %s", expression, err, r.Result.Value)
	}
}

// Picture writes a picture of the page, from its top to a height in pixels.
func (b *Browser) Picture(path string, height int) {
	b.t.Helper()
	var size struct{ Width, Height int }
	b.Evaluate("({Width: document.documentElement.clientWidth, Height: document.documentElement.scrollHeight})", &size)
	var picture struct{ Data string }
	b.call("Page.captureScreenshot", map[string]any{
		"captureBeyondViewport": true, "clip": map[string]any{"x": 0, "y": 0, "width": size.Width, "height": min(size.Height, height), "scale": 1},
	}, &picture)
	data, err := base64.StdEncoding.DecodeString(picture.Data)
	if err == nil {
		err = os.WriteFile(path, data, 0o644)
	}
	if err != nil {
		b.t.Fatal(fmt.Errorf("picture: %w", err))
	}
}
