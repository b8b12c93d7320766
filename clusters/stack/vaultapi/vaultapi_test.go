package vaultapi

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"
)

func server(t *testing.T, status int, body string) (*Client, *http.Request) {
	t.Helper()
	seen := &http.Request{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		*seen = *r
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	}))
	t.Cleanup(s.Close)
	return New(s.URL+"/", s.Client()), seen
}

func TestARefusalTellsVaultsWordsAndNeverTheToken(t *testing.T) {
	c, seen := server(t, http.StatusForbidden, `{"errors":["1 error occurred:\n\t* permission denied\n\n"]}`)
	err := c.With("hvs.secret").Do(t.Context(), http.MethodPost, "secret/data/x", map[string]string{"k": "hunter2"}, nil)
	require.EqualError(t, err, "vault POST secret/data/x: 403: 1 error occurred: * permission denied")
	require.Equal(t, 403, StatusOf(err))
	require.Equal(t, "hvs.secret", seen.Header.Get("X-Vault-Token"))
	require.Equal(t, "/v1/secret/data/x", seen.URL.Path)
}

func TestAnAnswerThatIsNotWhatWasExpectedIsNotQuoted(t *testing.T) {
	c, _ := server(t, http.StatusOK, `{"root_token": ["hvs.secret"]}`)
	_, err := c.Init(t.Context())
	require.EqualError(t, err, "vault PUT sys/init: the answer is not what was expected")
}

func TestALoginWithoutATokenFails(t *testing.T) {
	c, _ := server(t, http.StatusOK, `{"auth":{}}`)
	_, err := c.Login(t.Context(), "kubernetes", "r", "jwt")
	require.EqualError(t, err, "vault POST auth/kubernetes/login: no token in the answer")
}

func TestSealStatusAndMountsAreRead(t *testing.T) {
	c, _ := server(t, http.StatusOK, `{"type":"awskms","initialized":true,"sealed":false,"data":{"pki/":{},"secret/":{}}}`)
	s, err := c.SealStatus(t.Context())
	require.NoError(t, err)
	require.Equal(t, SealStatus{Type: "awskms", Initialized: true}, s)
	mounts, err := c.Mounted(t.Context())
	require.NoError(t, err)
	require.Equal(t, map[string]bool{"pki/": true, "secret/": true}, mounts)
}

func TestAClientPrintsWithoutItsToken(t *testing.T) {
	c := New("https://vault:8200/", http.DefaultClient).With("hvs.secret")
	require.Equal(t, "vault at https://vault:8200", fmt.Sprintf("%v", c))
	require.NotContains(t, fmt.Sprintf("%+v %#v", c, c), "hvs.secret")
}
