package chart

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// schemas are the chart's own of its values, and the part of it that a
// behaviour must fit.
var schemas = sync.OnceValues(func() (parts struct{ values, behaviour *jsonschema.Schema }, err error) {
	text, err := FS.ReadFile("values.schema.json")
	if err != nil {
		return parts, err
	}
	schema, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return parts, err
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("values.schema.json", schema); err != nil {
		return parts, err
	}
	if parts.values, err = c.Compile("values.schema.json"); err != nil {
		return parts, err
	}
	parts.behaviour, err = c.Compile("values.schema.json#/definitions/behaviour")
	return parts, err
})

// CheckBehaviour says whether the chart would take a service's behaviour, as it
// stands under the value behaviour or in a canary. The error names what is wrong
// by its place in the behaviour.
func CheckBehaviour(behaviour map[string]any) error {
	parts, err := schemas()
	if err != nil {
		return fmt.Errorf("reading the shop's schema: %w", err)
	}
	return fits(parts.behaviour, behaviour)
}

// CheckValues says whether the chart would take values. The error names what is
// wrong by its place in them.
func CheckValues(values map[string]any) error {
	parts, err := schemas()
	if err != nil {
		return fmt.Errorf("reading the shop's schema: %w", err)
	}
	return fits(parts.values, values)
}

func fits(schema *jsonschema.Schema, values map[string]any) error {
	text, err := json.Marshal(values)
	if err != nil {
		return err
	}
	plain, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return err
	}
	var wrong *jsonschema.ValidationError
	if err := schema.Validate(plain); errors.As(err, &wrong) {
		return innermost(wrong)
	} else if err != nil {
		return err
	}
	return nil
}

// innermost is what the first of the errors comes down to, in one line.
func innermost(e *jsonschema.ValidationError) error {
	for len(e.Causes) > 0 {
		e = e.Causes[0]
	}
	out := e.BasicOutput()
	what := "it does not fit"
	if out.Error != nil {
		what = out.Error.String()
	}
	if len(e.InstanceLocation) == 0 {
		return errors.New(what)
	}
	return fmt.Errorf("%s: %s", strings.Join(e.InstanceLocation, "."), what)
}
