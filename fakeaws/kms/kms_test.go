package kms

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var started = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func testKey(t testing.TB) *Key {
	t.Helper()
	key, err := OpenKey(t.TempDir(), func() time.Time { return started })
	require.NoError(t, err)
	return key
}

func testServer(t testing.TB, logs *bytes.Buffer) *Server {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	if logs != nil {
		log = slog.New(slog.NewJSONHandler(logs, nil))
	}
	return New(Options{Key: testKey(t), Region: "us-east-1", Account: "123456789012", Aliases: []string{"alias/vault"}, Log: log})
}

const authorization = "AWS4-HMAC-SHA256 Credential=AKIAEXAMPLE/20260301/us-east-1/kms/aws4_request, " +
	"SignedHeaders=content-length;content-type;host;x-amz-date;x-amz-target, " +
	"Signature=0000000000000000000000000000000000000000000000000000000000000000"

// request is shaped as the AWS SDK for Go makes it.
func request(operation, body string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
	r.Header.Set("Content-Type", "application/x-amz-json-1.1")
	r.Header.Set("X-Amz-Target", "TrentService."+operation)
	r.Header.Set("X-Amz-Date", "20260301T120000Z")
	r.Header.Set("Authorization", authorization)
	return r
}

func serve(s *Server, r *http.Request) (int, map[string]any) {
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	var out map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil {
		return w.Code, nil
	}
	return w.Code, out
}

func call(t *testing.T, s *Server, operation string, in any) (int, map[string]any) {
	t.Helper()
	body, err := json.Marshal(in)
	require.NoError(t, err)
	return serve(s, request(operation, string(body)))
}

type m = map[string]any

func TestTheKeyIsDescribedUnderEachOfItsNames(t *testing.T) {
	s := testServer(t, nil)
	arn := "arn:aws:kms:us-east-1:123456789012:"
	for _, name := range []string{s.key.ID, arn + "key/" + s.key.ID, "alias/vault", arn + "alias/vault"} {
		status, out := call(t, s, "DescribeKey", m{"KeyId": name})
		require.Equal(t, 200, status, name)
		meta := out["KeyMetadata"].(m)
		require.Equal(t, s.key.ID, meta["KeyId"])
		require.Equal(t, arn+"key/"+s.key.ID, meta["Arn"])
		require.Equal(t, "123456789012", meta["AWSAccountId"])
		require.Equal(t, float64(started.Unix()), meta["CreationDate"])
		require.Equal(t, true, meta["Enabled"])
		require.Equal(t, "ENCRYPT_DECRYPT", meta["KeyUsage"])
	}
}

func TestWhatIsEncryptedDecryptsWithoutNamingTheKey(t *testing.T) {
	s := testServer(t, nil)
	plain := []byte("a data key of thirty-two bytes!!")
	status, sealed := call(t, s, "Encrypt", m{"KeyId": "alias/vault", "Plaintext": plain})
	require.Equal(t, 200, status)
	require.Equal(t, s.KeyARN(), sealed["KeyId"])
	require.Equal(t, "SYMMETRIC_DEFAULT", sealed["EncryptionAlgorithm"])

	status, opened := call(t, s, "Decrypt", m{"CiphertextBlob": sealed["CiphertextBlob"]})
	require.Equal(t, 200, status)
	require.Equal(t, "YSBkYXRhIGtleSBvZiB0aGlydHktdHdvIGJ5dGVzISE=", opened["Plaintext"])
	require.Equal(t, s.KeyARN(), opened["KeyId"])
}

func TestABlobOpensOnlyWithItsEncryptionContext(t *testing.T) {
	s := testServer(t, nil)
	context := m{"app": "vault", "env": "prod"}
	_, sealed := call(t, s, "Encrypt", m{"KeyId": "alias/vault", "Plaintext": []byte("x"), "EncryptionContext": context})
	for _, c := range []struct {
		name    string
		context m
		status  int
	}{
		{"the same context", context, 200},
		{"no context", nil, 400},
		{"one pair missing", m{"app": "vault"}, 400},
		{"another value", m{"app": "vault", "env": "test"}, 400},
		{"the same letters cut otherwise", m{"app": "vaulte", "nv": "prod"}, 400},
	} {
		t.Run(c.name, func(t *testing.T) {
			status, out := call(t, s, "Decrypt", m{"CiphertextBlob": sealed["CiphertextBlob"], "EncryptionContext": c.context})
			require.Equal(t, c.status, status)
			if status != 200 {
				require.Equal(t, "InvalidCiphertextException", out["__type"])
			}
		})
	}
}

func TestADataKeyComesPlainAndSealed(t *testing.T) {
	s := testServer(t, nil)
	for _, c := range []struct {
		in   m
		size int
	}{
		{m{"KeyId": "alias/vault", "KeySpec": "AES_256"}, 32},
		{m{"KeyId": "alias/vault", "KeySpec": "AES_128"}, 16},
		{m{"KeyId": "alias/vault", "NumberOfBytes": 64}, 64},
	} {
		status, out := call(t, s, "GenerateDataKey", c.in)
		require.Equal(t, 200, status)
		var plain []byte
		require.NoError(t, json.Unmarshal([]byte(`"`+out["Plaintext"].(string)+`"`), &plain))
		require.Len(t, plain, c.size)
		_, opened := call(t, s, "Decrypt", m{"CiphertextBlob": out["CiphertextBlob"]})
		require.Equal(t, out["Plaintext"], opened["Plaintext"])
	}
}

func TestMistakesAreAnsweredAsAWSDoes(t *testing.T) {
	s := testServer(t, nil)
	foreign, err := testKey(t).seal([]byte("x"), nil)
	require.NoError(t, err)
	for _, c := range []struct {
		name, operation string
		in              m
		kind            string
	}{
		{"an unknown alias", "DescribeKey", m{"KeyId": "alias/other"}, "NotFoundException"},
		{"an unknown key", "Encrypt", m{"KeyId": "x", "Plaintext": []byte("x")}, "NotFoundException"},
		{"another account's ARN", "DescribeKey", m{"KeyId": "arn:aws:kms:us-east-1:999999999999:alias/vault"}, "NotFoundException"},
		{"no key id", "DescribeKey", m{}, "ValidationException"},
		{"no plaintext", "Encrypt", m{"KeyId": "alias/vault"}, "ValidationException"},
		{"too much plaintext", "Encrypt", m{"KeyId": "alias/vault", "Plaintext": make([]byte, 4097)}, "ValidationException"},
		{"another algorithm", "Encrypt", m{"KeyId": "alias/vault", "Plaintext": []byte("x"), "EncryptionAlgorithm": "RSAES_OAEP_SHA_256"}, "InvalidKeyUsageException"},
		{"no ciphertext", "Decrypt", m{}, "ValidationException"},
		{"nonsense for ciphertext", "Decrypt", m{"CiphertextBlob": []byte("nonsense")}, "InvalidCiphertextException"},
		{"another key's ciphertext", "Decrypt", m{"CiphertextBlob": foreign}, "InvalidCiphertextException"},
		{"another key's ciphertext under our name", "Decrypt", m{"CiphertextBlob": foreign, "KeyId": "alias/vault"}, "IncorrectKeyException"},
		{"a data key of no size", "GenerateDataKey", m{"KeyId": "alias/vault"}, "ValidationException"},
		{"a data key of two sizes", "GenerateDataKey", m{"KeyId": "alias/vault", "KeySpec": "AES_256", "NumberOfBytes": 32}, "ValidationException"},
		{"a data key of an unknown kind", "GenerateDataKey", m{"KeyId": "alias/vault", "KeySpec": "AES_512"}, "ValidationException"},
		{"a data key too long", "GenerateDataKey", m{"KeyId": "alias/vault", "NumberOfBytes": 1025}, "ValidationException"},
		{"an operation that is not served", "ScheduleKeyDeletion", m{"KeyId": "alias/vault"}, "UnknownOperationException"},
		{"a field of the wrong type", "DescribeKey", m{"KeyId": 7}, "SerializationException"},
	} {
		t.Run(c.name, func(t *testing.T) {
			status, out := call(t, s, c.operation, c.in)
			require.Equal(t, 400, status)
			require.Equal(t, c.kind, out["__type"])
			require.NotEmpty(t, out["message"])
		})
	}
}

func TestRequestsMustLookSigned(t *testing.T) {
	s := testServer(t, nil)
	replace := func(old, new string) func(*http.Request) {
		return func(r *http.Request) {
			r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), old, new, 1))
		}
	}
	for _, c := range []struct {
		name string
		edit func(*http.Request)
		kind string
	}{
		{"as the SDK signs", func(*http.Request) {}, ""},
		{"without spaces after the commas", replace(", ", ","), ""},
		{"no header", func(r *http.Request) { r.Header.Del("Authorization") }, "MissingAuthenticationTokenException"},
		{"another scheme", func(r *http.Request) { r.Header.Set("Authorization", "Bearer x") }, "IncompleteSignatureException"},
		{"a credential without scope", replace("/20260301/us-east-1/kms/aws4_request", ""), "IncompleteSignatureException"},
		{"a signature too short", replace("Signature=0", "Signature="), "IncompleteSignatureException"},
		{"host not signed", replace(";host;", ";"), "IncompleteSignatureException"},
		{"another service", replace("/kms/", "/s3/"), "InvalidSignatureException"},
		{"another day", replace("/20260301/", "/20260302/"), "InvalidSignatureException"},
		{"no date", func(r *http.Request) { r.Header.Del("X-Amz-Date") }, "IncompleteSignatureException"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := request("DescribeKey", `{"KeyId":"alias/vault"}`)
			c.edit(r)
			status, out := serve(s, r)
			if c.kind == "" {
				require.Equal(t, 200, status)
				return
			}
			require.Equal(t, 400, status)
			require.Equal(t, c.kind, out["__type"])
		})
	}
}

func TestOnlyTheProtocolIsServed(t *testing.T) {
	s := testServer(t, nil)
	for _, c := range []struct {
		name string
		edit func(*http.Request)
		kind string
	}{
		{"a GET", func(r *http.Request) { r.Method = http.MethodGet }, "UnknownOperationException"},
		{"another path", func(r *http.Request) { r.URL.Path = "/x" }, "UnknownOperationException"},
		{"another target", func(r *http.Request) { r.Header.Set("X-Amz-Target", "DynamoDB.Get") }, "UnknownOperationException"},
		{"another content type", func(r *http.Request) { r.Header.Set("Content-Type", "text/plain") }, "SerializationException"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := request("DescribeKey", `{"KeyId":"alias/vault"}`)
			c.edit(r)
			status, out := serve(s, r)
			require.Equal(t, 400, status)
			require.Equal(t, c.kind, out["__type"])
		})
	}
	status, out := serve(s, request("Encrypt", `{"KeyId":"`+strings.Repeat("x", maxRequest)+`"}`))
	require.Equal(t, 400, status)
	require.Equal(t, "ValidationException", out["__type"])
}

func TestSecretsStayOutOfTheLog(t *testing.T) {
	var logs bytes.Buffer
	s := testServer(t, &logs)
	_, sealed := call(t, s, "Encrypt", m{"KeyId": "alias/vault", "Plaintext": []byte("hush hush")})
	call(t, s, "Decrypt", m{"CiphertextBlob": sealed["CiphertextBlob"]})
	call(t, s, "Decrypt", m{"CiphertextBlob": []byte("hush hush")})
	require.Contains(t, logs.String(), `"operation":"Encrypt"`)
	material, err := json.Marshal(s.key.material[:])
	require.NoError(t, err)
	for _, secret := range []string{"hush", "aHVzaCBodXNo", strings.Trim(string(material), `"`), sealed["CiphertextBlob"].(string)} {
		require.NotContains(t, logs.String(), secret)
	}
}

func TestTheKeyOutlivesARestart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	first, err := OpenKey(dir, time.Now)
	require.NoError(t, err)
	blob, err := first.seal([]byte("kept"), nil)
	require.NoError(t, err)

	info, err := os.Stat(filepath.Join(dir, stateFile))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 1)

	second, err := OpenKey(dir, time.Now)
	require.NoError(t, err)
	require.Equal(t, first, second)
	plain, err := second.open(blob, nil)
	require.NoError(t, err)
	require.Equal(t, "kept", string(plain))
}

func TestADamagedKeyFileIsNotReplaced(t *testing.T) {
	for name, content := range map[string]string{
		"not JSON":       "secret!",
		"other version":  `{"version":2,"id":"46dc0594-b1df-4b2e-9530-bbeaa2595770"}`,
		"no id":          `{"version":1,"material":"AAAA"}`,
		"short material": `{"version":1,"id":"46dc0594-b1df-4b2e-9530-bbeaa2595770","material":"AAAA"}`,
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, stateFile)
			require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
			_, err := OpenKey(dir, time.Now)
			require.ErrorContains(t, err, path)
			require.NotContains(t, err.Error(), "secret!")
			kept, err := os.ReadFile(path)
			require.NoError(t, err)
			require.Equal(t, content, string(kept))
		})
	}
}

func FuzzOpenBlob(f *testing.F) {
	key := testKey(f)
	good, err := key.seal([]byte("plain"), m2("a", "b"))
	require.NoError(f, err)
	f.Add(good, "a", "b")
	f.Add(good[:headerSize], "a", "b")
	f.Add([]byte(blobMagic), "", "")
	f.Add(append([]byte(nil), make([]byte, 200)...), "a", "b")
	f.Fuzz(func(t *testing.T, blob []byte, name, value string) {
		plain, err := key.open(blob, m2(name, value))
		if err == nil && (!bytes.Equal(blob, good) || name != "a" || value != "b") {
			t.Fatalf("forged: %x opens to %q", blob, plain)
		}
	})
}

func m2(name, value string) map[string]string { return map[string]string{name: value} }

func FuzzRequests(f *testing.F) {
	s := testServer(f, nil)
	blob, err := s.key.seal([]byte("plain"), nil)
	require.NoError(f, err)
	sealed, err := json.Marshal(m{"CiphertextBlob": blob})
	require.NoError(f, err)
	f.Add("Decrypt", authorization, sealed)
	f.Add("Encrypt", authorization, []byte(`{"KeyId":"alias/vault","Plaintext":"eA=="}`))
	f.Add("DescribeKey", "AWS4-HMAC-SHA256 Credential", []byte(`{"KeyId":"arn:aws:kms:us-east-1:123456789012:"}`))
	f.Add("GenerateDataKey", authorization, []byte(`{"NumberOfBytes":-1}`))
	f.Fuzz(func(t *testing.T, operation, auth string, body []byte) {
		r := request(operation, string(body))
		r.Header.Set("Authorization", auth)
		status, out := serve(s, r)
		if status != 200 && (status != 400 || out["__type"] == "") {
			t.Fatalf("status %d, body %v", status, out)
		}
	})
}

func FuzzParseKey(f *testing.F) {
	f.Add([]byte(`{"version":1,"id":"46dc0594-b1df-4b2e-9530-bbeaa2595770","material":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if key, err := parseKey(data); err == nil && !uuidForm.MatchString(key.ID) {
			t.Fatalf("accepted the id %q", key.ID)
		}
	})
}
