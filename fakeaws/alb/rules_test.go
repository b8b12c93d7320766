package alb

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRequestsGoToTheMostExactRule(t *testing.T) {
	rules := []rule{
		newRule("", prefixPath, "/", "everything", ""),
		newRule("", prefixPath, "/api/orders", "orders", ""),
		newRule("", prefixPath, "/api/orders/archive/", "archive", ""),
		newRule("", exactPath, "/api/orders/health", "health", ""),
		newRule("", patternPath, "/shop.v1.ProductCatalog/*", "grpc", ""),
		newRule("", patternPath, "/img/?.png", "image", ""),
		newRule("*.shop.example", prefixPath, "/", "wildcard", ""),
		newRule("admin.shop.example", prefixPath, "/", "admin", ""),
	}
	sortRules(rules)
	for _, c := range []struct{ name, host, path, group string }{
		{"an exact path", "x", "/api/orders/health", "health"},
		{"a prefix itself", "x", "/api/orders", "orders"},
		{"below a prefix", "x", "/api/orders/7", "orders"},
		{"the longer of two prefixes", "x", "/api/orders/archive/7", "archive"},
		{"a prefix written with a slash, without it", "x", "/api/orders/archive", "archive"},
		{"half a path element is no prefix", "x", "/api/ordersheet", "everything"},
		{"a star takes anything", "x", "/shop.v1.ProductCatalog/GetProduct", "grpc"},
		{"a dot in a pattern is a dot", "x", "/shopxv1.ProductCatalog/GetProduct", "everything"},
		{"a question mark takes one character", "x", "/img/a.png", "image"},
		{"but not two", "x", "/img/ab.png", "everything"},
		{"a host with a port", "admin.shop.example:8080", "/api/orders", "admin"},
		{"a host in capitals", "ADMIN.shop.example", "/", "admin"},
		{"a wildcard host", "www.shop.example", "/api/orders", "wildcard"},
		{"a wildcard is one label", "a.b.shop.example", "/api/orders", "orders"},
		{"a wildcard is not no label", "shop.example", "/api/orders", "orders"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := match(rules, c.host, c.path)
			require.NotNil(t, got)
			require.Equal(t, c.group, got.group)
		})
	}
	require.Nil(t, match(rules[2:3], "x", "/elsewhere"))
}

func FuzzPattern(f *testing.F) {
	f.Add("/shop.v1.X/*", "/shop.v1.X/Get")
	f.Add("/?[a](", "/x[a](")
	f.Add("*\n\xff", "\n\xff")
	f.Fuzz(func(t *testing.T, pattern, path string) {
		r := newRule("", patternPath, pattern, "g", "s")
		// a pattern without wildcards is its own only match
		if !strings.ContainsAny(pattern, "*?") && validUTF8(pattern, path) && r.takesPath(path) != (pattern == path) {
			t.Fatalf("%q on %q", pattern, path)
		}
	})
}

func validUTF8(texts ...string) bool {
	for _, s := range texts {
		if strings.ToValidUTF8(s, "") != s {
			return false
		}
	}
	return true
}
