// Package admit is the HTTPS side of the mesh's admission webhooks.
package admit

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"

	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Review decides on one object.
type Review func(ctx context.Context, req *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse

// maxReview is more than the API server stores of any object.
const maxReview = 8 << 20

// Handler speaks AdmissionReview for a Review.
func Handler(review Review, log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(rw, r.Body, maxReview))
		if err != nil {
			http.Error(rw, "the review cannot be read", http.StatusBadRequest)
			return
		}
		var asked admissionv1.AdmissionReview
		if err := json.Unmarshal(body, &asked); err != nil || asked.Request == nil {
			http.Error(rw, "the body is no admission review", http.StatusBadRequest)
			return
		}
		answer := review(r.Context(), asked.Request)
		answer.UID = asked.Request.UID
		rw.Header().Set("Content-Type", "application/json")
		out := admissionv1.AdmissionReview{TypeMeta: asked.TypeMeta, Response: answer}
		if err := json.NewEncoder(rw).Encode(out); err != nil {
			log.Warn("a review was not answered", "error", err)
		}
	})
}

// Refuse is the answer to an object that must not be; code is HTTP's.
func Refuse(code int32, err error) *admissionv1.AdmissionResponse {
	return &admissionv1.AdmissionResponse{Result: &metav1.Status{
		Status: metav1.StatusFailure, Message: err.Error(), Code: code,
	}}
}
