package policy

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/fakemesh/meshapi"
)

func prefix(p string) *meshapi.PathMatch { return &meshapi.PathMatch{Value: p} }
func exact(p string) *meshapi.PathMatch {
	return &meshapi.PathMatch{Kind: meshapi.PathMatch_EXACT, Value: p}
}
func regex(p string) *meshapi.PathMatch {
	return &meshapi.PathMatch{Kind: meshapi.PathMatch_REGEX, Value: p}
}

func TestWhatARequestMustBeLike(t *testing.T) {
	header := func(name, value string, isRegex bool) *meshapi.Match {
		return &meshapi.Match{Headers: []*meshapi.ValueMatch{{Name: name, Value: value, Regex: isRegex}}}
	}
	query := func(name, value string, isRegex bool) *meshapi.Match {
		return &meshapi.Match{Queries: []*meshapi.ValueMatch{{Name: name, Value: value, Regex: isRegex}}}
	}
	for name, tc := range map[string]struct {
		match   *meshapi.Match
		request string // method and target
		want    bool
	}{
		"nothing asked for":                       {&meshapi.Match{}, "GET /x", true},
		"the prefix itself":                       {&meshapi.Match{Path: prefix("/orders")}, "GET /orders", true},
		"a path below the prefix":                 {&meshapi.Match{Path: prefix("/orders")}, "GET /orders/1", true},
		"a longer word than the prefix":           {&meshapi.Match{Path: prefix("/orders")}, "GET /orders-old", false},
		"a prefix that ends with a slash":         {&meshapi.Match{Path: prefix("/orders/")}, "GET /orders/1", true},
		"that prefix without its slash":           {&meshapi.Match{Path: prefix("/orders/")}, "GET /orders", true},
		"the prefix of all":                       {&meshapi.Match{Path: prefix("/")}, "GET /x/y", true},
		"the exact path":                          {&meshapi.Match{Path: exact("/orders")}, "GET /orders?x=1", true},
		"a path below the exact one":              {&meshapi.Match{Path: exact("/orders")}, "GET /orders/", false},
		"an expression for the whole path":        {&meshapi.Match{Path: regex("/orders/[0-9]+")}, "GET /orders/12", true},
		"an expression for part of the path":      {&meshapi.Match{Path: regex("/orders/[0-9]+")}, "GET /orders/12/x", false},
		"an expression with a choice":             {&meshapi.Match{Path: regex("/a|/b")}, "GET /bc", false},
		"an escaped letter is another path":       {&meshapi.Match{Path: prefix("/orders")}, "GET /%6frders", false},
		"the method":                              {&meshapi.Match{Method: "POST"}, "POST /", true},
		"another method":                          {&meshapi.Match{Method: "POST"}, "GET /", false},
		"a header":                                {header("x-team", "green", false), "GET /", true},
		"a header's second value":                 {header("X-Team", "blue", false), "GET /", true},
		"a header's other value":                  {header("x-team", "red", false), "GET /", false},
		"a header by an expression":               {header("x-team", "gr.*n", true), "GET /", true},
		"a header by an expression for a part":    {header("x-team", "gr", true), "GET /", false},
		"the host as a header":                    {header("host", "shop.example:8080", false), "GET /", true},
		"a query":                                 {query("v", "2", false), "GET /?a=1&v=2", true},
		"a query's second value":                  {query("v", "3", false), "GET /?v=2&v=3", true},
		"a query's name in another case":          {query("V", "2", false), "GET /?v=2", false},
		"a query by an expression":                {query("v", "[0-9]", true), "GET /?v=2", true},
		"a query that is not there":               {query("v", "", false), "GET /?a=1", false},
		"all that is asked for":                   {&meshapi.Match{Path: prefix("/a"), Method: "PUT", Queries: []*meshapi.ValueMatch{{Name: "q", Value: "1"}}}, "PUT /a/b?q=1", true},
		"all but one that is asked for":           {&meshapi.Match{Path: prefix("/a"), Method: "PUT", Queries: []*meshapi.ValueMatch{{Name: "q", Value: "1"}}}, "PUT /a/b?q=2", false},
		"the target of a request to the server":   {&meshapi.Match{}, "OPTIONS *", true},
		"a prefix and a request to the server":    {&meshapi.Match{Path: prefix("/")}, "OPTIONS *", false},
		"a path in a target with a scheme":        {&meshapi.Match{Path: prefix("/orders")}, "GET http://shop.example/orders/1", true},
		"no path in a target with a scheme":       {&meshapi.Match{Path: prefix("/")}, "GET http://shop.example", true},
		"two slashes are no name and a path":      {&meshapi.Match{Path: prefix("/orders")}, "GET //shop.example/orders", false},
		"a path that climbs is taken as it comes": {&meshapi.Match{Path: prefix("/orders")}, "GET /x/../orders", false},
	} {
		t.Run(name, func(t *testing.T) {
			r := readRequest(t, tc.request, "shop.example:8080")
			list, err := compileMatches([]*meshapi.Match{tc.match})
			require.NoError(t, err)
			_, ok := list[0].match(&request{Request: r, path: rawPath(r)})
			require.Equal(t, tc.want, ok)
		})
	}
}

// readRequest is a request as a server reads it.
func readRequest(t *testing.T, line, host string) *http.Request {
	t.Helper()
	method, target, _ := strings.Cut(line, " ")
	r := httptest.NewRequest(method, target, nil)
	r.Host = host
	r.Header["X-Team"] = []string{"green", "blue"}
	return r
}

func TestTheClosestRuleCounts(t *testing.T) {
	rule := func(m ...*meshapi.Match) *meshapi.Rule { return &meshapi.Rule{Matches: m} }
	routes := []*meshapi.Route{
		{Resource: &meshapi.Resource{Name: "all"}, Rules: []*meshapi.Rule{{}}},
		{Resource: &meshapi.Resource{Name: "orders"}, Rules: []*meshapi.Rule{rule(&meshapi.Match{Path: prefix("/orders")})}},
		{Resource: &meshapi.Resource{Name: "orders again"}, Rules: []*meshapi.Rule{rule(&meshapi.Match{Path: prefix("/orders")})}},
		{Resource: &meshapi.Resource{Name: "one order"}, Rules: []*meshapi.Rule{rule(&meshapi.Match{Path: exact("/stock")}, &meshapi.Match{Path: exact("/orders/1")})}},
		{Resource: &meshapi.Resource{Name: "green orders"}, Rules: []*meshapi.Rule{rule(&meshapi.Match{
			Path: prefix("/green"), Headers: []*meshapi.ValueMatch{{Name: "x-team", Value: "green"}}})}},
		{Resource: &meshapi.Resource{Name: "green"}, Rules: []*meshapi.Rule{rule(&meshapi.Match{Path: prefix("/green")})}},
		{Resource: &meshapi.Resource{Name: "writes"}, Rules: []*meshapi.Rule{rule(&meshapi.Match{Path: prefix("/green"), Method: "POST"})}},
		{Resource: &meshapi.Resource{Name: "any name of example"}, Hosts: []string{"*.example"}, Rules: []*meshapi.Rule{rule(&meshapi.Match{Path: prefix("/named")})}},
		{Resource: &meshapi.Resource{Name: "the shop"}, Hosts: []string{"SHOP.example"}, Rules: []*meshapi.Rule{rule(&meshapi.Match{Path: prefix("/named")})}},
	}
	var list []route[string]
	for _, rt := range routes {
		c, err := compileRoute(rt, func(*meshapi.Rule) (string, error) { return rt.Resource.Name, nil })
		require.NoError(t, err)
		list = append(list, c)
	}
	for line, want := range map[string]string{
		"other:80 GET /":                          "all",
		"other GET /orders/2":                     "orders",
		"other GET /orders/1":                     "one order",
		"other GET /stock":                        "one order",
		"other GET /green":                        "green orders",
		"other POST /green":                       "green orders",
		"other GET /named/x":                      "all",
		"a.b.example GET /named/x":                "any name of example",
		"shop.example:8080 GET /named":            "the shop",
		"example GET /named":                      "all",
		"shop.example GET /orders":                "orders",
		"[::1]:80 GET /orders":                    "orders",
		"shop.example GET /named-but-not-a-route": "all",
	} {
		host, request0, _ := strings.Cut(line, " ")
		r := readRequest(t, request0, host)
		found, _ := find(list, &request{Request: r, path: rawPath(r)})
		require.NotNil(t, found, line)
		require.Equal(t, want, *found, line)
	}
	r := readRequest(t, "GET /x", "other")
	found, _ := find(list[1:], &request{Request: r, path: rawPath(r)})
	require.Nil(t, found)
}

func TestExpressionsThatWouldMatchMoreThanTheySayAreRefused(t *testing.T) {
	for _, expr := range []string{"a)|(b", "(", "[", strings.Repeat("a", maxRegex+1)} {
		_, err := whole(expr)
		require.Error(t, err, expr[:min(len(expr), 10)])
	}
}

func FuzzMatch(f *testing.F) {
	f.Add("/orders", "/orders/1?x=1", int32(0), "shop.example")
	f.Add("/o[a-z]+", "/orders", int32(2), "[::1]:80")
	f.Add("/", "*", int32(1), ":")
	f.Fuzz(func(t *testing.T, pattern, target string, kind int32, host string) {
		list, err := compileMatches([]*meshapi.Match{{Path: &meshapi.PathMatch{Kind: meshapi.PathMatch_Kind(kind % 3), Value: pattern}}})
		if err != nil {
			return
		}
		u, err := url.ParseRequestURI(target)
		if err != nil {
			return
		}
		r := &http.Request{Method: "GET", RequestURI: target, URL: u, Host: host}
		path := rawPath(r)
		_, ok := list[0].match(&request{Request: r, path: path})
		if ok && kind%3 == 0 && !strings.HasPrefix(path+"/", strings.TrimSuffix(pattern, "/")+"/") {
			t.Fatalf("prefix %q matched %q", pattern, path)
		}
		matchHost([]string{"*.example", host}, host)
	})
}
