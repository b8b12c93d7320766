package rest_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	"meshsim.dev/meshsim/fakeshop/fail"
	"meshsim.dev/meshsim/fakeshop/rest"
)

type body struct {
	ID    string `json:"id"`
	Count int    `json:"count"`
	Items []struct {
		Yes bool `json:"yes"`
	} `json:"items"`
}

// post decodes text as the edge does and returns the answer.
func post(text string) *httptest.ResponseRecorder {
	h := rest.Edge{Service: "order-processing", Pod: "pod-1"}.Handle(func(r *http.Request) (int, any, error) {
		var b body
		if err := rest.Decode(r, &b); err != nil {
			return 0, nil, err
		}
		return http.StatusCreated, b, nil
	})
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/", strings.NewReader(text)))
	return w
}

func TestABodyIsDecodedStrictly(t *testing.T) {
	cases := []struct {
		name, text string
		status     int
		message    string
	}{
		{"a right one is taken", `{"id":"a","count":2}`, 201, ""},
		{"white space after it is nothing", "{}\n\t ", 201, ""},
		{"nothing", ``, 400, "the body is empty, JSON is wanted"},
		{"no JSON", `id=a`, 400, "the body is not JSON: invalid character 'i' looking for beginning of value (byte 1)"},
		{"cut off", `{"id":"a"`, 400, "the body's JSON ends too early"},
		{"an unknown field", `{"ids":"a"}`, 400, `the body cannot be read: unknown field "ids"`},
		{"a number for text", `{"id":7}`, 400, "id: wants a string, not a JSON number"},
		{"text for a number", `{"count":"7"}`, 400, "count: wants a whole number that is not too large, not a JSON string"},
		{"a number too large", `{"count":1e30}`, 400, "count: wants a whole number that is not too large, not a JSON number 1e30"},
		{"a list for an object", `[]`, 400, "the body: wants an object, not a JSON array"},
		{"a wrong type inside", `{"items":[{"yes":1}]}`, 400, "items.yes: wants true or false, not a JSON number"},
		{"an object for a list", `{"items":{}}`, 400, "items: wants a list, not a JSON object"},
		{"two values", `{}{}`, 400, "the body holds more than one JSON value"},
		{"rubbish after it", `{}x`, 400, "the body holds more than one JSON value"},
		{"too large", `{"id":"` + strings.Repeat("a", rest.BodyLimit) + `"}`, 413, "the body is larger than 65536 bytes"},
		{"too large after the value", `{}` + strings.Repeat(" ", rest.BodyLimit), 413, "the body is larger than 65536 bytes"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			w := post(c.text)
			require.Equal(t, c.status, w.Code, w.Body)
			require.Equal(t, "pod-1", w.Header().Get("x-shop-pod"))
			require.Equal(t, "application/json", w.Header().Get("Content-Type"))
			if c.message == "" {
				return
			}
			var e rest.ErrorBody
			require.NoError(t, json.Unmarshal(w.Body.Bytes(), &e))
			require.Equal(t, c.message, e.Error)
			require.Empty(t, e.Hop, "a wrong request failed on no hop")
		})
	}
}

func TestErrorsAreAnsweredWithTheirStatus(t *testing.T) {
	inner := fail.At("inventory-management", "calling", fail.New(codes.Unavailable, "", "gone"))
	deep := fail.From(inner)
	deep.Pod = "inventory-7"
	cases := []struct {
		name   string
		err    error
		status int
		body   string
	}{
		{"not found", fail.New(codes.NotFound, "order_not_found", "none"), 404, `{"error":"none","code":"order_not_found","pod":"pod-1"}`},
		{"out of stock", fail.New(codes.FailedPrecondition, "out_of_stock", "none"), 409, `{"error":"none","code":"out_of_stock","pod":"pod-1"}`},
		{"payment declined", fail.New(codes.FailedPrecondition, "payment_declined", "no"), 402, `{"error":"no","code":"payment_declined","pod":"pod-1"}`},
		{"conflict", fail.New(codes.AlreadyExists, "", "other"), 409, `{"error":"other","code":"conflict","pod":"pod-1"}`},
		{"invalid configuration", fail.New(codes.FailedPrecondition, "invalid_configuration", "no"), 422, `{"error":"no","code":"invalid_configuration","pod":"pod-1"}`},
		{"policy denial", fail.New(codes.PermissionDenied, "", "no"), 403, `{"error":"no","code":"permission_denied","hop":"order-processing","pod":"pod-1"}`},
		{"a dead hop, reported from here", inner, 503, `{"error":"calling: gone","code":"unavailable","hop":"order-processing>inventory-management","pod":"pod-1"}`},
		{"a dead hop, reported from there", deep, 503, `{"error":"calling: gone","code":"unavailable","hop":"order-processing>inventory-management","pod":"inventory-7"}`},
		{"too late", fail.New(codes.DeadlineExceeded, "", "late"), 504, `{"error":"late","code":"deadline_exceeded","hop":"order-processing","pod":"pod-1"}`},
		{"overloaded", fail.New(codes.ResourceExhausted, "", "full"), 503, `{"error":"full","code":"overloaded","hop":"order-processing","pod":"pod-1"}`},
		{"to be tried again", fail.New(codes.Aborted, "", "again"), 503, `{"error":"again","code":"aborted","hop":"order-processing","pod":"pod-1"}`},
		{"left until its stock was gone", fail.New(codes.FailedPrecondition, "reservation_expired", "late"), 409, `{"error":"late","code":"reservation_expired","pod":"pod-1"}`},
		{"a payment that came to nothing", fail.New(codes.FailedPrecondition, "payment_unresolved", "no"), 402, `{"error":"no","code":"payment_unresolved","pod":"pod-1"}`},
		{"a payment that may come to something", fail.New(codes.Unavailable, "payment_pending", "wait"), 503, `{"error":"wait","code":"payment_pending","hop":"order-processing","pod":"pod-1"}`},
		{"a bug", errors.New("oops"), 500, `{"error":"oops","code":"internal","hop":"order-processing","pod":"pod-1"}`},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			w := httptest.NewRecorder()
			rest.Edge{Service: "order-processing", Pod: "pod-1"}.Fail(w, c.err)
			require.Equal(t, c.status, w.Code)
			require.Equal(t, c.body+"\n", w.Body.String())
		})
	}
}

func TestWhatCannotBeWrittenIsAnError(t *testing.T) {
	h := rest.Edge{}.Handle(func(*http.Request) (int, any, error) { return 200, func() {}, nil })
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", http.NoBody))
	require.Equal(t, 500, w.Code)
}

func FuzzDecode(f *testing.F) {
	for _, seed := range []string{`{"id":"a","count":2,"items":[{"yes":true}]}`, `{}`, ``, `{"id":`, `[]`, `nul`, "{}\x00", `{"count":1e400}`, `{"id":"\u0000\ud800"}`, `{"items":[[[[`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		w := post(text)
		switch w.Code {
		case http.StatusCreated:
			var any map[string]any
			require.NoError(t, json.Unmarshal([]byte(text), &any), "taken, so it is one JSON object")
		case http.StatusBadRequest, http.StatusRequestEntityTooLarge:
			var e rest.ErrorBody
			require.NoError(t, json.Unmarshal(w.Body.Bytes(), &e))
			require.NotEmpty(t, e.Error)
		default:
			t.Fatalf("status %d: %s", w.Code, w.Body)
		}
		_, err := io.Copy(io.Discard, w.Result().Body)
		require.NoError(t, err)
	})
}
