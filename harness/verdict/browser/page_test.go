//go:build browser

package browser

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/harness/verdict"
	"meshsim.dev/meshsim/harness/verdict/synthetic"
	"meshsim.dev/meshsim/results"
	"meshsim.dev/meshsim/results/report"
)

var (
	shots    = flag.String("shots", "", "write screenshots into this folder")
	requests = flag.Int("requests", 1_000_000, "how many the big run has")
)

// made keeps the runs' pages: a big run takes a while to make.
var made = struct {
	sync.Mutex
	pages map[string]string
}{pages: map[string]string{}}

// pageOf judges a made-up run and returns the path of its page.
func pageOf(t *testing.T, name string) string {
	t.Helper()
	made.Lock()
	defer made.Unlock()
	if path := made.pages[name]; path != "" {
		return path
	}
	o := map[string]synthetic.Options{
		"pass": {Seed: 1}, "fail": {Seed: 1, Careless: true}, "inconclusive": {Seed: 1, PerPhase: 1500},
		"big": {Seed: 2, Careless: true, PerPhase: *requests / 6, Rate: 400},
	}[name]
	root, err := os.MkdirTemp("", "meshsim-page-")
	require.NoError(t, err)
	folders = append(folders, root)
	f, err := synthetic.Write(root, o)
	require.NoError(t, err)
	v, err := verdict.Evaluate(f)
	require.NoError(t, err)
	require.NoError(t, report.Write(f, v))
	made.pages[name] = filepath.Join(f.Path, results.HTMLFile)
	return made.pages[name]
}

var folders []string

func TestMain(m *testing.M) {
	flag.Parse()
	code := m.Run()
	for _, f := range folders {
		os.RemoveAll(f)
	}
	os.Exit(code)
}

// action is a step in the browser that gives nothing back.
type action = chromedp.Action[chromedp.Void]

// visit is one opened page and what the browser said of it.
type visit struct {
	context.Context
	mu    sync.Mutex
	said  []string // errors of the page, its script and its policy
	asked []string // URLs other than the page itself
}

// open opens a run's page in a window of its own.
func open(t *testing.T, name string, wide, tall int64, before ...action) *visit {
	t.Helper()
	path := pageOf(t, name)
	options := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]), chromedp.NoSandbox, chromedp.WindowSize(int(wide), int(tall)))
	allocated, cancel := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(cancel)
	ctx, cancel := chromedp.NewContext(allocated)
	t.Cleanup(cancel)
	v := &visit{Context: ctx}
	require.NoError(t, chromedp.Listen(ctx, v.listen), "Chromium must be there: make test-report brings it")
	v.run(t,
		send(network.Enable, network.EnableParams{}), send(log.Enable, cdp.Empty{}),
		send(emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: wide, Height: tall, DeviceScaleFactor: 1}),
		send(page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: watchShifts}))
	v.run(t, before...)
	v.run(t, chromedp.Navigate("file://"+path), chromedp.WaitReady(chromedp.CSS("main")))
	return v
}

// send is a command of the browser's protocol as an action.
func send[P, R any](command cdp.Command[P, R], params P) action {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, command, params)
		return err
	})
}

// watchShifts sums what moved without anybody having asked for it.
const watchShifts = `window.shifted = 0;
new PerformanceObserver(l => { for (const e of l.getEntries()) if (!e.hadRecentInput) window.shifted += e.value; }).observe({type: "layout-shift", buffered: true});`

func (v *visit) listen(event any) {
	v.mu.Lock()
	defer v.mu.Unlock()
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		v.said = append(v.said, "exception: "+e.ExceptionDetails.Text)
	case *runtime.EventConsoleAPICalled:
		v.said = append(v.said, fmt.Sprintf("console %v", e.Type))
	case *log.EventEntryAdded:
		v.said = append(v.said, e.Entry.Text)
	case *network.EventRequestWillBeSent:
		if !strings.HasSuffix(e.Request.URL, results.HTMLFile) {
			v.asked = append(v.asked, e.Request.URL)
		}
	}
}

func (v *visit) run(t *testing.T, actions ...action) {
	t.Helper()
	require.NoError(t, chromedp.Do(v, actions...))
}

func get[T any](t *testing.T, v *visit, script string) T {
	t.Helper()
	result, err := chromedp.Run(v, chromedp.Evaluate[T](script))
	require.NoError(t, err)
	return result
}

// quiet checks that the page said nothing and asked for nothing.
func (v *visit) quiet(t *testing.T) {
	t.Helper()
	v.mu.Lock()
	defer v.mu.Unlock()
	require.Empty(t, v.said)
	require.Empty(t, v.asked)
}

func inColours(scheme string) action {
	return send(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
}

// shoot writes screenshots of the whole page and of what is seen of it first,
// where they are wanted.
func (v *visit) shoot(t *testing.T, name string) {
	t.Helper()
	if *shots == "" {
		return
	}
	for end, take := range map[string]chromedp.Action[[]byte]{"": chromedp.FullScreenshot(100), "-top": chromedp.CaptureScreenshot()} {
		picture, err := chromedp.Run(v, take)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(*shots, name+end+".png"), picture, 0o644))
	}
}

func TestAPageWithAMillionRequestsBehindItOpensInASecond(t *testing.T) {
	v := open(t, "big", 1280, 900)
	type timing struct{ Loaded, Painted float64 }
	got := get[timing](t, v, `({
		Loaded: performance.getEntriesByType("navigation")[0].loadEventEnd,
		Painted: (performance.getEntriesByName("first-contentful-paint")[0] || {startTime: 0}).startTime})`)
	t.Logf("loaded after %.0f ms, painted after %.0f ms", got.Loaded, got.Painted)
	require.Positive(t, got.Loaded)
	require.Less(t, got.Loaded, 1000.0)
	require.Less(t, got.Painted, 1000.0)
	shown := strings.ReplaceAll(get[string](t, v, `document.querySelector(".tile b").textContent`), ",", "")
	require.Equal(t, fmt.Sprint(*requests/6*6), shown, "as many requests as there are behind it")
	v.quiet(t)
}

func TestThePageSaysNothingAsksForNothingAndMovesNothing(t *testing.T) {
	for _, name := range []string{"pass", "fail", "inconclusive"} {
		for _, wide := range []int64{1280, 360} {
			t.Run(fmt.Sprintf("%s at %d", name, wide), func(t *testing.T) {
				v := open(t, name, wide, 800)
				v.run(t, chromedp.Sleep(300*time.Millisecond), chromedp.ScrollIntoView(chromedp.CSS("#again")), chromedp.ScrollIntoView(chromedp.CSS("svg.timeline")))
				box := get[[]float64](t, v, `(b => [b.x + b.width / 2, b.y + b.height / 3])(document.querySelector("svg.timeline").getBoundingClientRect())`)
				v.run(t, chromedp.MouseEvent(chromedp.MouseMoved, box[0], box[1]), chromedp.Sleep(200*time.Millisecond))
				require.Zero(t, get[float64](t, v, `window.shifted`), "nothing moves by itself")
				require.LessOrEqual(t, get[int](t, v, `document.documentElement.scrollWidth`), int(wide), "nothing sticks out sideways")
				v.quiet(t)
			})
		}
	}
}

func TestTheChartIsReadWithThePointerAndZoomedByDragging(t *testing.T) {
	v := open(t, "fail", 1280, 900)
	v.run(t, chromedp.ScrollIntoView(chromedp.CSS("svg.timeline")))
	box := get[[]float64](t, v, `(b => [b.x, b.y, b.width, b.height])(document.querySelector("svg.timeline").getBoundingClientRect())`)
	x, y := func(share float64) float64 { return box[0] + share*box[2] }, box[1]+0.3*box[3]
	v.run(t, chromedp.MouseEvent(chromedp.MouseMoved, x(0.5), y))
	require.Regexp(t, `^\d+:\d\d to \d+:\d\d: [\d,]+ requests`, get[string](t, v, `document.getElementById("readout").textContent`))
	require.Empty(t, get[string](t, v, `document.querySelector(".cursor").style.display`))
	v.run(t,
		chromedp.MouseEvent(chromedp.MousePressed, x(0.5), y, chromedp.ButtonLeft), chromedp.MouseEvent(chromedp.MouseMoved, x(0.6), y, chromedp.ButtonLeft),
		chromedp.MouseEvent(chromedp.MouseMoved, x(0.7), y, chromedp.ButtonLeft), chromedp.MouseEvent(chromedp.MouseReleased, x(0.7), y, chromedp.ButtonLeft))
	require.Regexp(t, `^matrix\(4\.\d+ 0 0 1 -`, get[string](t, v, `document.querySelector(".zoomed").getAttribute("transform")`))
	v.shoot(t, "zoomed")
	v.run(t, chromedp.Click(chromedp.CSS(`[data-zoom="all"]`)))
	require.Regexp(t, `^matrix\(1 0 0 1 0 0\)`, get[string](t, v, `document.querySelector(".zoomed").getAttribute("transform")`))
	require.Equal(t, "none", get[string](t, v, `getComputedStyle(document.querySelector("svg .h")).display`))
	v.run(t, chromedp.Click(chromedp.CSS(`label[for="look-h"]`)))
	require.Equal(t, "none", get[string](t, v, `getComputedStyle(document.querySelector("svg .q")).display`))
	require.NotEqual(t, "none", get[string](t, v, `getComputedStyle(document.querySelector("svg .h")).display`))
	v.shoot(t, "heat")
	v.quiet(t)
}

func TestTheKeyboardReachesEveryControl(t *testing.T) {
	v := open(t, "fail", 1280, 900)
	seen := map[string]bool{}
	for range 120 {
		v.run(t, chromedp.KeyEvent(kb.Tab))
		seen[get[string](t, v, `(e => e === document.body ? "" : e.dataset.zoom || e.id || e.getAttribute("aria-label") || e.tagName)(document.activeElement)`)] = true
		ring := get[string](t, v, `(e => e === document.body ? "" : getComputedStyle(e).outlineStyle + getComputedStyle(e.nextElementSibling || e).outlineStyle)(document.activeElement)`)
		require.NotEqual(t, "nonenone", ring, "who has the focus is seen")
	}
	require.True(t, seen["look-q"], seen)
	require.True(t, seen["in"], seen)
	require.True(t, seen["SUMMARY"], seen)
	require.True(t, seen["A"], seen)
	v.run(t, chromedp.Focus(chromedp.CSS(".chart .scroll")), chromedp.KeyEvent(kb.ArrowRight), chromedp.KeyEvent(kb.ArrowRight))
	first := get[string](t, v, `document.getElementById("readout").textContent`)
	require.Regexp(t, `^0:0\d to`, first)
	v.run(t, chromedp.KeyEvent(kb.End), chromedp.KeyEvent("+"), chromedp.KeyEvent("+"))
	require.NotEqual(t, first, get[string](t, v, `document.getElementById("readout").textContent`))
	require.Regexp(t, `^matrix\((4|4\.0+\d*|3\.999\d*) `, get[string](t, v, `document.querySelector(".zoomed").getAttribute("transform")`))
	v.run(t, chromedp.KeyEvent(kb.Escape))
	require.Regexp(t, `^matrix\(1 `, get[string](t, v, `document.querySelector(".zoomed").getAttribute("transform")`))
	v.run(t, chromedp.Focus(chromedp.CSS("#look-q")), chromedp.KeyEvent(kb.ArrowRight))
	require.True(t, get[bool](t, v, `document.getElementById("look-h").checked`))
	v.quiet(t)
}

// contrasts returns every text whose contrast with what is behind it is too low
// for WCAG 2.1 AA.
const contrasts = `(() => {
	const rgba = c => (c.match(/[\d.]+/g) || []).map(Number);
	const light = c => { const [r, g, b] = c.map(v => { v /= 255; return v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4; }); return .2126 * r + .7152 * g + .0722 * b; };
	const over = (top, under) => { const a = top.length > 3 ? top[3] : 1; return [0, 1, 2].map(i => top[i] * a + under[i] * (1 - a)); };
	const behind = e => { const layers = []; for (; e; e = e.parentElement) { const c = rgba(getComputedStyle(e).backgroundColor); if (c.length && (c.length < 4 || c[3] > 0)) { layers.push(c); if (c.length < 4 || c[3] === 1) break; } }
		return layers.reverse().reduce((under, top) => over(top, under), [255, 255, 255]); };
	const bad = [];
	const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
	for (let n; n = walk.nextNode();) {
		const e = n.parentElement, s = getComputedStyle(e);
		if (!n.textContent.trim() || ["SCRIPT", "STYLE", "title"].includes(e.tagName) || s.visibility === "hidden" || !e.getClientRects().length || e.closest(".aside")) continue;
		const svg = e.ownerSVGElement || e.tagName === "svg", under = behind(svg ? e.closest("section") || e.parentElement : e);
		const colour = over(rgba(svg ? s.fill : s.color), under), a = light(colour), b = light(under);
		const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05), big = parseFloat(s.fontSize) >= 24 || parseFloat(s.fontSize) >= 18.66 && s.fontWeight >= 700;
		if (ratio < (big ? 3 : 4.5)) bad.push(ratio.toFixed(2) + " " + e.tagName + "." + e.getAttribute("class") + ": " + n.textContent.trim().slice(0, 40));
	}
	return bad; })()`

func TestTextIsReadInLightAndInDark(t *testing.T) {
	for _, name := range []string{"fail", "pass", "inconclusive"} {
		for _, scheme := range []string{"light", "dark"} {
			t.Run(name+" in "+scheme, func(t *testing.T) {
				v := open(t, name, 1280, 900, inColours(scheme))
				v.shoot(t, name+"-"+scheme)
				get[bool](t, v, `document.querySelectorAll("details").forEach(d => d.open = true), true`)
				require.Empty(t, get[[]string](t, v, contrasts))
			})
		}
	}
}

func TestThePageIsWholeWithoutItsScript(t *testing.T) {
	v := open(t, "fail", 1280, 900, send(emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true}))
	text := get[string](t, v, `document.body.innerText`)
	for _, want := range []string{"5 of 11 budgets are broken", "Why requests failed", "Between services", "Certificates", "Run it again"} {
		require.Contains(t, text, want)
	}
	require.Equal(t, "hidden", get[string](t, v, `getComputedStyle(document.querySelector(".zoom")).visibility`), "what needs the script is not offered")
	v.quiet(t)
}

func TestThePageIsPrintedWithWhatIsFoldedAway(t *testing.T) {
	v := open(t, "fail", 1280, 900)
	paper, err := chromedp.Run(v, chromedp.PrintToPDF(chromedp.PDFPrintBackground()))
	require.NoError(t, err)
	require.Equal(t, "%PDF", string(paper[:4]))
	v.run(t, send(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Media: "print"}))
	require.Equal(t, "none", get[string](t, v, `getComputedStyle(document.querySelector(".zoom")).display`), "paper has no buttons")
	require.True(t, get[bool](t, v, `document.querySelector("details.printed").open`))
	v.shoot(t, "print")
}

func TestThePageFitsAPhone(t *testing.T) {
	for _, scheme := range []string{"light", "dark"} {
		v := open(t, "fail", 390, 844, inColours(scheme))
		require.LessOrEqual(t, get[int](t, v, `document.documentElement.scrollWidth`), 390)
		v.shoot(t, "phone-"+scheme)
		v.quiet(t)
	}
}
