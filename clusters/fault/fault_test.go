package fault_test

import (
	"errors"
	"fmt"
	"io/fs"
	"testing"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/clusters/fault"
)

func TestErrorSaysItsMendAndKeepsItsCause(t *testing.T) {
	err := fault.NewEnvironment(fs.ErrNotExist, "run `meshsim bundle build`")
	require.EqualError(t, err, "file does not exist\n  mend: run `meshsim bundle build`")
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.EqualError(t, fault.NewInvalid(errors.New("no such flag"), ""), "no such flag")
}

func TestKindIsTheOutermost(t *testing.T) {
	invalid := fault.NewInvalid(errors.New("bad"), "")
	cases := map[string]struct {
		err  error
		want fault.Kind
	}{
		"none":                {errors.New("plain"), 0},
		"nil":                 {nil, 0},
		"wrapped":             {fmt.Errorf("load x.yaml: %w", invalid), fault.Invalid},
		"a fault in a fault":  {fault.NewEnvironment(invalid, ""), fault.Environment},
		"joined with a plain": {errors.Join(errors.New("plain"), invalid), fault.Invalid},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) { require.Equal(t, c.want, fault.KindOf(c.err)) })
	}
}
