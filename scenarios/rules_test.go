package scenarios

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/clusters/fault"
)

func TestPathsFitTheirPatterns(t *testing.T) {
	for _, c := range []struct {
		pattern string
		fit     []string
		not     []string
	}{
		{"/", []string{"/"}, []string{"", "/a", "//"}},
		{"/api/orders", []string{"/api/orders"}, []string{"/api/orders/", "/api/order", "/api/orders/1", "api/orders", "/API/orders"}},
		{"/api/orders/", []string{"/api/orders/"}, []string{"/api/orders"}},
		{"/api/customers/*", []string{"/api/customers/c-1", "/api/customers/%20"}, []string{"/api/customers", "/api/customers/", "/api/customers/a/b"}},
		{"/a/*/c", []string{"/a/b/c"}, []string{"/a//c", "/a/b/d", "/a/b/c/d"}},
		{"/a/v*/x", []string{"/a/v/x", "/a/v12/x"}, []string{"/a/x/x"}},
		{"/img/*.png", []string{"/img/a.png", "/img/.png"}, []string{"/img/a.gif", "/img/a/b.png"}},
		{"/x/a*b*c", []string{"/x/abc", "/x/a12b34c", "/x/abbc"}, []string{"/x/acb", "/x/ab", "/x/bc"}},
		{"/static/**", []string{"/static", "/static/", "/static/a/b/c"}, []string{"/statics", "/stat"}},
		{"/**", []string{"/", "/a", "/a/b", "//"}, []string{"", "a"}},
	} {
		p, err := ParsePattern(c.pattern)
		require.NoError(t, err)
		require.Equal(t, c.pattern, p.String())
		for _, path := range c.fit {
			require.True(t, p.Matches([]byte(path)), "%s and %s", c.pattern, path)
		}
		for _, path := range c.not {
			require.False(t, p.Matches([]byte(path)), "%s and %s", c.pattern, path)
		}
	}
	for _, bad := range []string{"", "api", "/a?b", "/a#b", "/a b", "/**/a", "/a**", "/a/**x"} {
		_, err := ParsePattern(bad)
		require.Error(t, err, bad)
	}
}

func TestTheShopsOwnRulesKnowEveryRoute(t *testing.T) {
	rules, err := LoadRules("")
	require.NoError(t, err)
	require.Equal(t, "shop", rules.Name)
	for _, c := range []struct{ method, path, route string }{
		{"GET", "/api/catalog/products", "browse"}, {"HEAD", "/api/catalog/products/p-0001", "browse"}, {"GET", "/api/catalog/search", "search"},
		{"POST", "/api/configurations", "configure"}, {"POST", "/api/orders", "order"}, {"GET", "/api/customers/c-0001", "customer"},
		{"GET", "/api/recommendations", "recommend"}, {"POST", "/shop.v1.ProductCatalog/GetProduct", "grpc-get-product"},
		{"POST", "/shop.v1.InventoryManagement/GetStock", "grpc-stock"},
	} {
		i, ok := rules.Match([]byte(c.method), []byte(c.path))
		require.True(t, ok, c.path)
		require.Equal(t, c.route, rules.Rules[i].Route)
	}
	i, ok := rules.Match([]byte("PUT"), []byte("/static/app.js"))
	require.True(t, ok)
	require.Equal(t, "assets", rules.Rules[i].Drop)
	_, ok = rules.Match([]byte("DELETE"), []byte("/api/orders"))
	require.False(t, ok)
	require.Contains(t, rules.Words(), "catalog")
	require.NotContains(t, rules.Words(), "*")
}

const someRules = `apiVersion: meshsim.dev/v1alpha1
kind: TrafficRules
metadata: {name: mine}
spec:
  ndjson: {time: when, method: verb, path: http.target, status: code}
  rules:
  - {method: GET, path: /shop/*, route: browse}
`

func TestRulesAreStrict(t *testing.T) {
	rules, err := ParseRules("r.yaml", []byte(someRules))
	require.NoError(t, err)
	require.Equal(t, LogFields{"when", "verb", "http.target", "code"}, rules.Fields)
	for _, c := range []struct {
		name, rule string
		want       string
	}{
		{"no route", "{path: /a}", "r.yaml:8:5: a rule should have either a route or"},
		{"a route and a reason to drop", "{path: /a, route: browse, drop: x}", "either a route or"},
		{"an unknown route", "{path: /a, route: shoplift}", "route should be one of browse"},
		{"no path", "{route: browse}", `a rule needs the key "path"`},
		{"a path with a query", `{path: "/a?b", route: browse}`, "without query"},
		{"a method in small letters", "{method: get, path: /a, route: browse}", `method "get" should be capital letters`},
		{"an unknown key", "{path: /a, route: browse, weight: 3}", `unknown key "weight"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := ParseRules("r.yaml", []byte(someRules+"  - "+c.rule+"\n"))
			require.ErrorContains(t, err, c.want)
			require.Equal(t, fault.Invalid, fault.KindOf(err))
		})
	}
	_, err = ParseRules("r.yaml", []byte("apiVersion: meshsim.dev/v1alpha1\nkind: Scenario\nmetadata: {name: x}\nspec: {rules: []}\n"))
	require.ErrorContains(t, err, "r.yaml:2:7: kind should be one of TrafficRules")
	require.ErrorContains(t, err, "rules should be at least one")
	_, err = LoadRules(filepath.Join(t.TempDir(), "nope.yaml"))
	require.ErrorContains(t, err, "are not there")
	path := filepath.Join(t.TempDir(), "r.yaml")
	require.NoError(t, os.WriteFile(path, []byte(someRules), 0o600))
	_, err = LoadRules(path)
	require.NoError(t, err)
}

func FuzzParseRules(f *testing.F) {
	raw, err := shippedRules.ReadFile("rules/shop.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(raw), "GET", "/api/orders")
	f.Add(someRules, "POST", "/shop/%2e%2e//")
	f.Fuzz(func(t *testing.T, text, method, path string) {
		rules, err := ParseRules("r.yaml", []byte(text))
		if err != nil {
			if _, ok := errors.AsType[*Problems](err); !ok || fault.KindOf(err) != fault.Invalid {
				t.Fatalf("not a list of problems: %v", err)
			}
			return
		}
		if i, ok := rules.Match([]byte(method), []byte(path)); ok && (rules.Rules[i].Route == "") == (rules.Rules[i].Drop == "") {
			t.Fatalf("rule %d has neither or both", i)
		}
	})
}

func FuzzPattern(f *testing.F) {
	f.Add("/a/*/c*d/**", "/a/b/cxd/e")
	f.Add("/", "//")
	f.Fuzz(func(t *testing.T, pattern, path string) {
		p, err := ParsePattern(pattern)
		if err == nil && p.Matches([]byte(path)) && (len(path) == 0 || path[0] != '/') {
			t.Fatalf("%q fits %q", path, pattern)
		}
	})
}

func BenchmarkMatch(b *testing.B) {
	rules, err := LoadRules("")
	require.NoError(b, err)
	method, path := []byte("POST"), []byte("/shop.v1.InventoryManagement/GetStock")
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := rules.Match(method, path); !ok {
			b.Fatal("no rule")
		}
	}
}
