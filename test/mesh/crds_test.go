//go:build conformance

package mesh

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"meshsim.dev/meshsim/clusters/kube"
)

var crdsAPI = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}

// planeCRDs checks which versions are served, and where the contract says so
// which one is stored.
func planeCRDs(ctx context.Context, l *lab) (string, error) {
	var seen []string
	for _, want := range []struct {
		name    string
		served  []string
		storage string
	}{
		{"servers.policy.linkerd.io", []string{"v1alpha1", "v1beta1"}, ""},
		{"serverauthorizations.policy.linkerd.io", []string{"v1alpha1", "v1beta1"}, ""},
		{"authorizationpolicies.policy.linkerd.io", []string{"v1alpha1"}, ""},
		{"meshtlsauthentications.policy.linkerd.io", []string{"v1alpha1"}, ""},
		{"networkauthentications.policy.linkerd.io", []string{"v1alpha1"}, ""},
		{"httproutes.policy.linkerd.io", []string{"v1alpha1", "v1beta1", "v1beta2", "v1beta3"}, "v1beta3"},
		{"httproutes.gateway.networking.k8s.io", []string{"v1beta1"}, ""},
		{"serviceprofiles.linkerd.io", []string{"v1alpha2"}, ""},
	} {
		crd, err := l.kube.Dynamic.Resource(crdsAPI).Get(ctx, want.name, metav1.GetOptions{})
		if err != nil {
			return strings.Join(seen, "; "), err
		}
		served, storage, err := crdVersions(crd)
		if err != nil {
			return strings.Join(seen, "; "), err
		}
		seen = append(seen, fmt.Sprintf("%s %v", want.name, served))
		for _, v := range want.served {
			if !slices.Contains(served, v) {
				return strings.Join(seen, "; "), fmt.Errorf("%s is not served at %s", want.name, v)
			}
		}
		if want.storage != "" && storage != want.storage {
			return strings.Join(seen, "; "), fmt.Errorf("%s is stored at %s", want.name, storage)
		}
	}
	return strings.Join(seen, "; "), nil
}

func crdVersions(crd *unstructured.Unstructured) (served []string, storage string, err error) {
	versions, _, err := unstructured.NestedSlice(crd.Object, "spec", "versions")
	for _, v := range versions {
		v, ok := v.(map[string]any)
		if !ok {
			continue
		}
		name, _ := v["name"].(string)
		if v["served"] == true {
			served = append(served, name)
		}
		if v["storage"] == true {
			storage = name
		}
	}
	return served, storage, err
}

func planeProtocols(ctx context.Context, l *lab) (string, error) {
	try := func(protocol string) error {
		objects, err := kube.Decode([]byte(serverYAML("any", "web", portHTTP, protocol)))
		if err != nil {
			return err
		}
		_, err = l.kube.DryRun(ctx, objects[0], l.ns)
		return err
	}
	protocols := []string{"unknown", "HTTP/1", "HTTP/2", "gRPC", "opaque", "TLS"}
	for _, p := range protocols {
		if err := try(p); err != nil {
			return "", fmt.Errorf("proxyProtocol %s: %w", p, err)
		}
	}
	err := try("FTP")
	if err == nil {
		return "", errors.New("proxyProtocol FTP was admitted")
	}
	if !apierrors.IsInvalid(err) && !apierrors.IsForbidden(err) && !apierrors.IsBadRequest(err) {
		return "", err
	}
	return strings.Join(protocols, ", ") + " admitted; FTP refused", nil
}
