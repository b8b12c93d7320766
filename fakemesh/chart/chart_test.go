package chart

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"

	"meshsim.dev/meshsim/fakemesh/chart/charttest"
	"meshsim.dev/meshsim/fakemesh/injector"
)

const anchors = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"

// render gives the manifests by kind/name.
func render(t *testing.T, values map[string]any) (map[string]string, error) {
	t.Helper()
	return charttest.Render(t, FS, "mesh", values)
}

func decode[T any](t *testing.T, docs map[string]string, name string) *T {
	t.Helper()
	require.Contains(t, docs, name)
	v := new(T)
	require.NoError(t, yaml.UnmarshalStrict([]byte(docs[name]), v))
	return v
}

func TestTheNamesAreThoseOfTheContract(t *testing.T) {
	docs, err := render(t, map[string]any{"identityTrustAnchorsPEM": anchors})
	require.NoError(t, err)
	for name, containers := range map[string]map[string][]int32{
		"linkerd-identity":       {"identity": {8080, 9990}},
		"linkerd-destination":    {"destination": {8086, 9996}, "sp-validator": {8443, 9997}, "policy": {8090, 9990, 9443}},
		"linkerd-proxy-injector": {"proxy-injector": {8443, 9995}},
	} {
		d := decode[appsv1.Deployment](t, docs, "Deployment/"+name)
		got, named := map[string][]int32{}, map[string]bool{}
		for _, c := range d.Spec.Template.Spec.Containers {
			for _, p := range c.Ports {
				got[c.Name] = append(got[c.Name], p.ContainerPort)
				require.False(t, named[p.Name], "port names are a pod's, not a container's: %s", p.Name)
				named[p.Name] = true
			}
			require.Equal(t, "meshsim.local/fakemesh:0.1", c.Image)
			require.True(t, *c.SecurityContext.RunAsNonRoot)
			require.True(t, *c.SecurityContext.ReadOnlyRootFilesystem)
			require.False(t, *c.SecurityContext.AllowPrivilegeEscalation)
			require.Equal(t, []corev1.Capability{"ALL"}, c.SecurityContext.Capabilities.Drop)
			require.Equal(t, corev1.SeccompProfileTypeRuntimeDefault, c.SecurityContext.SeccompProfile.Type)
		}
		require.Equal(t, containers, got)
		require.Equal(t, name, d.Spec.Template.Spec.ServiceAccountName)
		require.EqualValues(t, 1, *d.Spec.Replicas)
	}
	for name, port := range map[string]int32{
		"linkerd-identity": 8080, "linkerd-identity-headless": 8080, "linkerd-dst": 8086, "linkerd-dst-headless": 8086,
		"linkerd-policy": 8090, "linkerd-sp-validator": 443, "linkerd-policy-validator": 443, "linkerd-proxy-injector": 443,
	} {
		s := decode[corev1.Service](t, docs, "Service/"+name)
		require.Equal(t, port, s.Spec.Ports[0].Port, name)
	}
	roots := decode[corev1.ConfigMap](t, docs, "ConfigMap/linkerd-identity-trust-roots")
	require.Equal(t, strings.TrimSpace(anchors), roots.Data["ca-bundle.crt"])
	require.NotContains(t, docs, "PodDisruptionBudget/linkerd-identity")
}

func TestTheInjectorUnderstandsTheConfigurationThatTheChartWrites(t *testing.T) {
	docs, err := render(t, map[string]any{
		"identityTrustAnchorsPEM": anchors,
		"image":                   map[string]any{"repository": "meshsim.local/fakemesh", "tag": "abc"},
		"proxy":                   map[string]any{"resources": map[string]any{"cpu": map[string]any{"request": "100m"}}},
	})
	require.NoError(t, err)
	cm := decode[corev1.ConfigMap](t, docs, "ConfigMap/linkerd-config")
	c, err := injector.ParseConfig([]byte(cm.Data["values"]))
	require.NoError(t, err)
	require.Equal(t, injector.Image{Repository: "meshsim.local/fakemesh", Tag: "abc", PullPolicy: "IfNotPresent"}, c.Image)
	require.Equal(t, "cluster.local", c.IdentityTrustDomain)
	require.Equal(t, "100m", c.Proxy.Resources.CPU.Request)
	require.True(t, c.Proxy.Await)
	require.Equal(t, "all-unauthenticated", c.Proxy.DefaultInboundPolicy)
}

func TestTheInjectorIsToldWhereItsControlPlaneIs(t *testing.T) {
	docs, err := render(t, map[string]any{"identityTrustAnchorsPEM": anchors})
	require.NoError(t, err)
	d := decode[appsv1.Deployment](t, docs, "Deployment/linkerd-proxy-injector")
	require.Equal(t, []string{"injector", "--namespace=" + d.Namespace}, d.Spec.Template.Spec.Containers[0].Args)
}

func TestEachValidatorHasItsWebhookServiceAndSecret(t *testing.T) {
	docs, err := render(t, map[string]any{"identityTrustAnchorsPEM": anchors, "webhookFailurePolicy": "Fail"})
	require.NoError(t, err)
	d := decode[appsv1.Deployment](t, docs, "Deployment/linkerd-destination")
	var mounted []string
	for _, v := range d.Spec.Template.Spec.Volumes {
		if v.Secret != nil {
			mounted = append(mounted, v.Secret.SecretName)
		}
	}
	require.Equal(t, []string{"linkerd-sp-validator-k8s-tls", "linkerd-policy-validator-k8s-tls"}, mounted)
	for name, resources := range map[string][]string{
		"linkerd-sp-validator":     {"serviceprofiles"},
		"linkerd-policy-validator": {"authorizationpolicies", "httproutes", "meshtlsauthentications", "networkauthentications", "serverauthorizations", "servers", "httproutes"},
	} {
		w := decode[admissionv1.ValidatingWebhookConfiguration](t, docs, "ValidatingWebhookConfiguration/"+name+"-webhook-config").Webhooks[0]
		require.Equal(t, name+".linkerd.io", w.Name)
		require.Equal(t, admissionv1.Fail, *w.FailurePolicy)
		require.Equal(t, name, w.ClientConfig.Service.Name)
		secret := decode[corev1.Secret](t, docs, "Secret/"+name+"-k8s-tls")
		require.Equal(t, w.ClientConfig.CABundle, secret.Data["tls.crt"])
		var got []string
		for _, r := range w.Rules {
			got = append(got, r.Resources...)
			require.Equal(t, []admissionv1.OperationType{admissionv1.Create, admissionv1.Update}, r.Operations)
		}
		require.Equal(t, resources, got)
		svc := decode[corev1.Service](t, docs, "Service/"+name)
		serves := false
		for _, c := range d.Spec.Template.Spec.Containers {
			for _, p := range c.Ports {
				serves = serves || p.Name == svc.Spec.Ports[0].TargetPort.StrVal
			}
		}
		require.True(t, serves, "a container has the port that Service %s leads to", name)
	}
}

func TestThePolicyControllerMayReadPoliciesAndWriteStatusesAndNoMore(t *testing.T) {
	docs, err := render(t, map[string]any{"identityTrustAnchorsPEM": anchors})
	require.NoError(t, err)
	allowed := map[string][]string{}
	for _, rule := range decode[rbacv1.ClusterRole](t, docs, "ClusterRole/linkerd-policy").Rules {
		for _, group := range rule.APIGroups {
			for _, resource := range rule.Resources {
				allowed[group+"/"+resource] = rule.Verbs
			}
		}
	}
	read := []string{"list", "watch"}
	require.Equal(t, map[string][]string{
		"/services": read, "/pods": read,
		"policy.linkerd.io/authorizationpolicies": read, "policy.linkerd.io/httproutes": read,
		"policy.linkerd.io/meshtlsauthentications": read, "policy.linkerd.io/networkauthentications": read,
		"policy.linkerd.io/serverauthorizations": read, "policy.linkerd.io/servers": read,
		"gateway.networking.k8s.io/httproutes":        read,
		"policy.linkerd.io/httproutes/status":         {"patch"},
		"gateway.networking.k8s.io/httproutes/status": {"patch"},
	}, allowed)
	b := decode[rbacv1.ClusterRoleBinding](t, docs, "ClusterRoleBinding/linkerd-destination-policy")
	require.Equal(t, "linkerd-policy", b.RoleRef.Name)
	require.Equal(t, "linkerd-destination", b.Subjects[0].Name)
}

func TestThePolicyControllerIsToldOfTheMesh(t *testing.T) {
	docs, err := render(t, map[string]any{
		"identityTrustAnchorsPEM": anchors, "clusterNetworks": "10.0.0.0/8", "identityTrustDomain": "mesh.example",
		"policyController": map[string]any{"probeNetworks": []string{"172.18.0.0/16", "10.1.0.0/16"}},
		"proxy":            map[string]any{"defaultInboundPolicy": "deny"},
	})
	require.NoError(t, err)
	d := decode[appsv1.Deployment](t, docs, "Deployment/linkerd-destination")
	require.Equal(t, []string{
		"policy", "--namespace=linkerd", "--trust-domain=mesh.example",
		"--identity=linkerd-identity-headless.linkerd.svc.cluster.local:8080", "--cluster-networks=10.0.0.0/8",
		"--probe-networks=172.18.0.0/16,10.1.0.0/16", "--default-policy=deny",
	}, d.Spec.Template.Spec.Containers[2].Args)
}

func TestTheWebhookFailsOpenOrClosedAndSparesTheStack(t *testing.T) {
	docs, err := render(t, map[string]any{"identityTrustAnchorsPEM": anchors, "webhookFailurePolicy": "Fail"})
	require.NoError(t, err)
	w := decode[admissionv1.MutatingWebhookConfiguration](t, docs, "MutatingWebhookConfiguration/linkerd-proxy-injector-webhook-config")
	require.Equal(t, admissionv1.Fail, *w.Webhooks[0].FailurePolicy)
	require.NotEmpty(t, w.Webhooks[0].ClientConfig.CABundle)
	require.Equal(t, []string{"pods", "services"}, w.Webhooks[0].Rules[0].Resources)
	require.Equal(t, []string{"kube-system", "cert-manager", "vault", "linkerd"}, w.Webhooks[0].NamespaceSelector.MatchExpressions[1].Values)
	secret := decode[corev1.Secret](t, docs, "Secret/linkerd-proxy-injector-k8s-tls")
	require.Equal(t, w.Webhooks[0].ClientConfig.CABundle, secret.Data["tls.crt"])
}

func TestWebhookCertificatesCanComeFromCertManager(t *testing.T) {
	docs, err := render(t, map[string]any{
		"identityTrustAnchorsPEM": anchors,
		"proxyInjector":           map[string]any{"externalSecret": true, "injectCaFrom": "linkerd/linkerd-proxy-injector"},
		"policyValidator":         map[string]any{"externalSecret": true, "injectCaFrom": "linkerd/linkerd-policy-validator"},
		"profileValidator":        map[string]any{"externalSecret": true, "injectCaFrom": "linkerd/linkerd-sp-validator"},
	})
	require.NoError(t, err)
	for _, name := range []string{"linkerd-policy-validator", "linkerd-sp-validator"} {
		v := decode[admissionv1.ValidatingWebhookConfiguration](t, docs, "ValidatingWebhookConfiguration/"+name+"-webhook-config")
		require.Equal(t, "linkerd/"+name, v.Annotations["cert-manager.io/inject-ca-from"])
		require.Empty(t, v.Webhooks[0].ClientConfig.CABundle)
		require.NotContains(t, docs, "Secret/"+name+"-k8s-tls")
	}
	w := decode[admissionv1.MutatingWebhookConfiguration](t, docs, "MutatingWebhookConfiguration/linkerd-proxy-injector-webhook-config")
	require.Equal(t, "linkerd/linkerd-proxy-injector", w.Annotations["cert-manager.io/inject-ca-from"])
	require.Empty(t, w.Webhooks[0].ClientConfig.CABundle)
	require.NotContains(t, docs, "Secret/linkerd-proxy-injector-k8s-tls")
}

func TestTheIssuerCanBeTheChartsAndTheAnchorsSomebodyElses(t *testing.T) {
	docs, err := render(t, map[string]any{"identity": map[string]any{
		"externalCA": true,
		"issuer":     map[string]any{"scheme": "linkerd.io/tls", "tls": map[string]any{"crtPEM": "CERT\n", "keyPEM": "KEY\n"}},
	}})
	require.NoError(t, err)
	require.NotContains(t, docs, "ConfigMap/linkerd-identity-trust-roots")
	secret := decode[corev1.Secret](t, docs, "Secret/linkerd-identity-issuer")
	require.Equal(t, map[string]string{"crt.pem": "CERT", "key.pem": "KEY"}, secret.StringData)
	require.NotContains(t, docs["ConfigMap/linkerd-config"], "KEY", "the key stands nowhere else")
	identity := decode[appsv1.Deployment](t, docs, "Deployment/linkerd-identity")
	require.Contains(t, identity.Spec.Template.Spec.Containers[0].Args, "--issuer-scheme=linkerd.io/tls")
}

func TestHighAvailabilityHasBudgetsAndAntiAffinity(t *testing.T) {
	docs, err := render(t, map[string]any{
		"identityTrustAnchorsPEM": anchors, "controllerReplicas": 3,
		"enablePodDisruptionBudget": true, "enablePodAntiAffinity": true,
	})
	require.NoError(t, err)
	for _, name := range []string{"linkerd-identity", "linkerd-dst", "linkerd-proxy-injector"} {
		require.Contains(t, docs, "PodDisruptionBudget/"+name)
	}
	d := decode[appsv1.Deployment](t, docs, "Deployment/linkerd-destination")
	require.EqualValues(t, 3, *d.Spec.Replicas)
	require.Equal(t, "destination", d.Spec.Template.Spec.Affinity.PodAntiAffinity.
		RequiredDuringSchedulingIgnoredDuringExecution[0].LabelSelector.MatchLabels["linkerd.io/control-plane-component"])
}

func TestADeploymentIsRolledAsTheValuesSay(t *testing.T) {
	for name, c := range map[string]struct {
		values      map[string]any
		unavailable intstr.IntOrString
		surge       *intstr.IntOrString
	}{
		"a single pod goes when its successor is ready": {map[string]any{}, intstr.FromInt32(0), nil},
		"of several one goes at a time":                 {map[string]any{"controllerReplicas": 3}, intstr.FromInt32(1), nil},
		"the values' own strategy": {
			map[string]any{"deploymentStrategy": map[string]any{"rollingUpdate": map[string]any{"maxUnavailable": 2, "maxSurge": "25%"}}},
			intstr.FromInt32(2), new(intstr.FromString("25%")),
		},
	} {
		t.Run(name, func(t *testing.T) {
			c.values["identityTrustAnchorsPEM"] = anchors
			docs, err := render(t, c.values)
			require.NoError(t, err)
			for _, part := range []string{"identity", "destination", "proxy-injector"} {
				d := decode[appsv1.Deployment](t, docs, "Deployment/linkerd-"+part)
				require.Equal(t, &appsv1.RollingUpdateDeployment{MaxUnavailable: &c.unavailable, MaxSurge: c.surge}, d.Spec.Strategy.RollingUpdate, part)
			}
		})
	}
}

func TestWhatTheStandInCannotDoIsRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		values map[string]any
		says   string
	}{
		"no anchors":     {map[string]any{}, "identityTrustAnchorsPEM is needed"},
		"another scheme": {map[string]any{"identityTrustAnchorsPEM": anchors, "identity": map[string]any{"issuer": map[string]any{"scheme": "spiffe"}}}, "only kubernetes.io/tls and linkerd.io/tls"},
		"no issuer":      {map[string]any{"identityTrustAnchorsPEM": anchors, "identity": map[string]any{"issuer": map[string]any{"scheme": "linkerd.io/tls"}}}, "identity.issuer.tls.crtPEM is needed"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := render(t, tc.values)
			require.ErrorContains(t, err, tc.says)
		})
	}
}
