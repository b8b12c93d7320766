package kms

import (
	"net/http"
	"regexp"
	"strings"
)

const algorithm = "AWS4-HMAC-SHA256"

var (
	credentialForm = regexp.MustCompile(`^[\w-]{3,128}/(\d{8})/[a-z0-9-]+/([a-z0-9-]+)/aws4_request$`)
	signatureForm  = regexp.MustCompile(`^[0-9a-f]{64}$`)
	dateForm       = regexp.MustCompile(`^\d{8}T\d{6}Z$`)
)

// checkAuthorization wants a SigV4 header of the right form. The signature is
// not verified: there are no accounts here, so there is no secret to verify with.
func checkAuthorization(r *http.Request) *apiError {
	header := r.Header.Get("Authorization")
	if header == "" {
		return newError("MissingAuthenticationTokenException", "Request is missing Authentication Token")
	}
	rest, ok := strings.CutPrefix(header, algorithm+" ")
	if !ok {
		return newError("IncompleteSignatureException", "Authorization header does not begin with "+algorithm)
	}
	fields := authorizationFields(rest)
	scope := credentialForm.FindStringSubmatch(fields["Credential"])
	switch {
	case scope == nil:
		return newError("IncompleteSignatureException", "Credential is not of the form KEY/DATE/REGION/SERVICE/aws4_request")
	case !signatureForm.MatchString(fields["Signature"]):
		return newError("IncompleteSignatureException", "Signature is not 64 hex digits")
	case !signs(fields["SignedHeaders"], "host"):
		return newError("IncompleteSignatureException", "SignedHeaders does not hold host")
	case !dateForm.MatchString(r.Header.Get("X-Amz-Date")):
		return newError("IncompleteSignatureException", "X-Amz-Date is missing or not of the form YYYYMMDDTHHMMSSZ")
	case !strings.HasPrefix(r.Header.Get("X-Amz-Date"), scope[1]):
		return newError("InvalidSignatureException", "Credential and X-Amz-Date name different days")
	case scope[2] != "kms":
		return newError("InvalidSignatureException", "Credential should be scoped to the service kms")
	}
	return nil
}

func authorizationFields(s string) map[string]string {
	fields := map[string]string{}
	for part := range strings.SplitSeq(s, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		fields[name] = value
	}
	return fields
}

func signs(signedHeaders, name string) bool {
	for h := range strings.SplitSeq(signedHeaders, ";") {
		if h == name {
			return true
		}
	}
	return false
}
