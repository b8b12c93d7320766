package fail_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"meshsim.dev/meshsim/fakeshop/fail"
)

func TestAnyErrorBecomesOneOfOurs(t *testing.T) {
	ours := fail.New(codes.NotFound, "product_not_found", "there is no product %q", "p")
	cases := []struct {
		name    string
		err     error
		code    codes.Code
		word    string
		message string
	}{
		{"one of ours stays", ours, codes.NotFound, "product_not_found", `there is no product "p"`},
		{"a wrapped one keeps its code and gets the longer message", fmt.Errorf("asking: %w", ours), codes.NotFound, "product_not_found", `asking: there is no product "p"`},
		{"a status keeps its code", status.Error(codes.Unavailable, "gone"), codes.Unavailable, "unavailable", "gone"},
		{"a context that ran out is a deadline", fmt.Errorf("x: %w", context.DeadlineExceeded), codes.DeadlineExceeded, "deadline_exceeded", "x: context deadline exceeded"},
		{"a context that was cancelled is cancelled", context.Canceled, codes.Canceled, "canceled", "context canceled"},
		{"anything else is our own bug", errors.New("oops"), codes.Internal, "internal", "oops"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got := fail.From(c.err)
			require.Equal(t, c.code, got.Code)
			require.Equal(t, c.word, got.Word())
			require.Equal(t, c.message, got.Error())
			require.Equal(t, c.code, status.Code(got))
		})
	}
}

func TestHopsAreAddedOnTheWayBack(t *testing.T) {
	require.NoError(t, fail.At("postgres", "reading", nil))
	cause := errors.New("refused")
	err := fail.At("inventory-management", "calling it", fail.At("postgres", "reading stock", cause))
	got := fail.From(err)
	require.Equal(t, "order-processing>inventory-management>postgres", got.Chain("order-processing"))
	require.Equal(t, "calling it: reading stock: refused", got.Error())
	require.ErrorIs(t, err, cause)
	require.Equal(t, []string{"a", "b"}, fail.SplitChain("a>b"))
	require.Empty(t, fail.SplitChain(""))
}

func TestFromNeverChangesTheErrorItWasGiven(t *testing.T) {
	first := fail.New(codes.Unavailable, "", "down")
	_ = fail.At("a", "calling", first)
	require.Empty(t, first.Hops)
	require.Equal(t, "down", first.Message)
}

func TestBusinessAnswersAreNoFailures(t *testing.T) {
	for code := codes.OK; code <= codes.Unauthenticated; code++ {
		business := map[codes.Code]bool{codes.OK: true, codes.InvalidArgument: true, codes.NotFound: true, codes.AlreadyExists: true, codes.FailedPrecondition: true}
		require.Equal(t, !business[code], fail.IsFailure(code), code.String())
		if code != codes.OK {
			require.NotEmpty(t, (&fail.Error{Code: code}).Word(), code.String())
		}
	}
}
