// Package browser holds the tests that open the report in a real browser: what a
// reader sees there no parser can tell. They are run by make test-report.
package browser
